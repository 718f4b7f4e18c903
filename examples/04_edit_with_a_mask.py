"""Draw a part of a picture again: the mask is transparent where something new may stand, and
everything else stays as it is, to the last bit."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from openai import OpenAI
from PIL import Image

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="sk-local")
model = client.models.list().data[0].id


def save(name: str, b64: str | None) -> bytes:
    """Write the picture down."""
    data = base64.b64decode(b64 or "")
    Path(name).write_bytes(data)
    print(name)
    return data


first = client.images.generate(model=model, prompt="a green apple", size="512x512")
assert first.data
apple = save("apple.png", first.data[0].b64_json)

mask = Image.new("RGBA", (512, 512), "black")
mask.paste((0, 0, 0, 0), (0, 0, 512, 256))  # the upper half
hole = io.BytesIO()
mask.save(hole, "PNG")

edited = client.images.edit(
    model=model,
    image=("apple.png", apple, "image/png"),
    mask=("mask.png", hole.getvalue(), "image/png"),
    prompt="a red apple",
    size="512x512",
)
assert edited.data
assert edited.usage
save("apple-edited.png", edited.data[0].b64_json)
print(f"{edited.usage.output_tokens} cells were drawn again")
