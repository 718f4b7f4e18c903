"""A picture as a conversation: the official client's Responses API, three turns and one undone."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="sk-local")
TOOLS: list[Any] = [{"type": "image_generation", "size": "512x512", "seed": 7}]


def save(name: str, response: Any) -> None:
    """Write the picture down, or say why there is none."""
    [call] = response.output
    if call.result is None:
        raise SystemExit(f"{response.status}: {call.error}")
    Path(name).write_bytes(base64.b64decode(call.result))
    print(name, response.id, call.revised_prompt)


apple = client.responses.create(input="a red apple", tools=TOOLS)
save("apple-1.png", apple)
blue = client.responses.create(
    input="on a blue background", tools=TOOLS, previous_response_id=apple.id
)
save("apple-2.png", blue)

# Streamed, with previews as they come.
with client.responses.stream(
    model=apple.model,
    input="with a green leaf",
    tools=[{**TOOLS[0], "partial_images": 2}],
    previous_response_id=blue.id,
) as stream:
    for event in stream:
        if event.type == "response.image_generation_call.partial_image":
            print("preview", event.partial_image_index)
    save("apple-3.png", stream.get_final_response())

# To undo is to go on from an earlier response. In the background: ask until it is over.
yellow = client.responses.create(
    input="on a yellow background", tools=TOOLS, previous_response_id=apple.id, background=True
)
while yellow.status in ("queued", "in_progress"):
    time.sleep(0.5)
    yellow = client.responses.retrieve(yellow.id)
save("apple-4.png", yellow)
