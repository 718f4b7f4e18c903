"""Watch a picture go from blurry to clear: three previews, then the picture."""

from __future__ import annotations

import base64
from pathlib import Path

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="sk-local")
stream = client.images.generate(
    model=client.models.list().data[0].id,
    prompt="a strawberry",
    quality="high",
    stream=True,
    partial_images=3,
)
for event in stream:
    if event.type == "image_generation.partial_image":
        name = f"strawberry-preview-{event.partial_image_index}.png"
    else:
        name = "strawberry.png"
    Path(name).write_bytes(base64.b64decode(event.b64_json))
    print(name)
