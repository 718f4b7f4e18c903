"""Hand in a job and come back later: nothing accepted is lost, whatever restarts meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

ENDED = {"succeeded", "failed", "blocked", "cancelled", "expired"}

client = httpx.Client(
    base_url="http://127.0.0.1:8000", headers={"Authorization": "Bearer sk-local"}
)
job = client.post(
    "/v1/images/generations",
    json={"prompt": "a birthday cake", "n": 2, "seed": 7},
    headers={"Prefer": "respond-async"},
).raise_for_status()
address = job.headers["location"]

while (state := client.get(address).raise_for_status().json())["state"] not in ENDED:
    print(f"{state['state']}: {state['passes_done']}/{state['passes_total']} passes")
    time.sleep(0.5)

for image in state["images"]:
    if image["state"] == "succeeded":
        name = f"cake-{image['index']}.png"
        Path(name).write_bytes(client.get(f"{address}/images/{image['index']}").content)
        print(name)
    else:
        print(image["error"]["message"])
