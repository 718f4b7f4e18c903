"""Be told when a picture is done, instead of asking: a receiver of webhooks that believes nothing
that the OpenAI SDK has not verified.

It runs on the machine of the service, whose config lets deliveries go there (configs/laptop.yaml:
`webhooks.networks`). Elsewhere the URL is https, by name. See docs/webhooks.md.
"""

from __future__ import annotations

import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import openai

SERVICE = "http://127.0.0.1:8000"
KEY = "sk-local"

client = openai.OpenAI(base_url=f"{SERVICE}/v1", api_key=KEY)
events: queue.Queue[dict] = queue.Queue()
secret = ""


class Receiver(BaseHTTPRequestHandler):
    """Verifies, keeps the event, and answers at once: the work is done afterwards."""

    seen: set[str] = set()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = client.webhooks.unwrap(body, dict(self.headers), secret=secret)
        except openai.InvalidWebhookSignatureError:
            self.send_response(400)
        else:
            if event.id not in self.seen:  # an event may be delivered more than once
                self.seen.add(event.id)
                events.put(event.to_dict())
            self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()

endpoint = client.webhooks.create(
    name="example",
    url=f"http://127.0.0.1:{server.server_port}/webhooks",
    event_types=["image.generation.completed", "image.generation.failed"],  # type: ignore[list-item]
)
secret = endpoint.signing_secret  # keep it: it is shown this once
try:
    order = httpx.post(
        f"{SERVICE}/v1/images/generations",
        json={"prompt": "a red fox", "size": "512x512"},
        headers={"authorization": f"Bearer {KEY}", "prefer": "respond-async"},
    ).raise_for_status()
    print("ordered", order.json()["id"])
    while True:
        event = events.get(timeout=120)
        print("told:", event["type"], event["data"]["id"])
        if event["data"]["id"] == order.json()["id"]:
            break
    assert event["type"] == "image.generation.completed", event
    job = httpx.get(
        f"{SERVICE}/v1/jobs/{event['data']['id']}", headers={"authorization": f"Bearer {KEY}"}
    ).json()
    Path("fox.png").write_bytes(httpx.get(job["images"][0]["url"]).content)
    print("fox.png")
finally:
    client.webhooks.delete(endpoint.id)
    server.shutdown()
