"""Keep changing a picture, step by step, without sending it back; walk its history; go back."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx

client = httpx.Client(
    base_url="http://127.0.0.1:8000/v1",
    headers={"Authorization": "Bearer sk-local"},
    timeout=600,
)


def drawn(path: str, **fields: Any) -> dict[str, Any]:
    """The picture of one request, with its id."""
    answer = client.post(path, json=fields).raise_for_status().json()
    picture: dict[str, Any] = answer["data"][0]
    return picture


def save(name: str, picture: dict[str, Any]) -> None:
    """Write it down."""
    Path(name).write_bytes(base64.b64decode(picture["b64_json"]))
    print(name, picture["id"], picture.get("revised_prompt", ""))


plain = drawn("/images/generations", prompt="a strawberry", seed=7)
save("strawberry-1.png", plain)
more = {"seed": 7, "strength": 0.9}
blue = drawn(f"/images/{plain['id']}/tweaks", delta="on a blue background", **more)
save("strawberry-2.png", blue)
variation = drawn(f"/images/{blue['id']}/tweaks", strength=0.3, seed=11)
save("strawberry-3.png", variation)
yellow = drawn(f"/images/{plain['id']}/tweaks", delta="on a yellow background", **more)
save("strawberry-4.png", yellow)  # to undo is to go on from an earlier one

history = client.get(f"/images/{variation['id']}/lineage").raise_for_status().json()
for step in [*history["ancestors"], history["image"]]:
    print(step["id"], step["prompt"])
