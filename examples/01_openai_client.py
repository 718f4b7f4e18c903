"""A picture through the unmodified official OpenAI client. Start the service with `make run`."""

from __future__ import annotations

import base64
from pathlib import Path

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="sk-local")
model = client.models.list().data[0].id
answer = client.images.generate(model=model, prompt="a red fox", size="512x512")

assert answer.data
picture = base64.b64decode(answer.data[0].b64_json or "")
Path("fox.png").write_bytes(picture)
print(f"fox.png: {len(picture)} bytes from {model}")
