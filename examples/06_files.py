"""Keep a picture on the server once, and name it in as many edits as you like."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import httpx
from openai import OpenAI
from PIL import Image, ImageDraw

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="sk-local")

disc = Image.new("RGB", (512, 512), "white")
ImageDraw.Draw(disc).ellipse((96, 96, 416, 416), fill="#f0c020")
own = io.BytesIO()
disc.save(own, "JPEG")
kept = client.files.create(
    file=("disc.jpg", own.getvalue(), "image/jpeg"),
    purpose="vision",
    expires_after={"anchor": "created_at", "seconds": 3600},
)
print(f"{kept.id}: {kept.bytes} bytes until {kept.expires_at}")

for prompt in ("an orange", "a red apple"):
    answer = httpx.post(  # in JSON pictures have names instead of bytes
        "http://127.0.0.1:8000/v1/images/edits",
        headers={"Authorization": "Bearer sk-local"},
        json={"images": [{"file_id": kept.id}], "prompt": prompt, "seed": 7},
        timeout=600,
    ).raise_for_status()
    name = f"{prompt.split()[-1]}.png"
    Path(name).write_bytes(base64.b64decode(answer.json()["data"][0]["b64_json"]))
    print(name)

print([file.id for file in client.files.list()])
client.files.delete(kept.id)
