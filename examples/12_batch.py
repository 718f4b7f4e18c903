"""Order many pictures at once, to be drawn within a day in slots that nothing else wants."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="sk-local")

lines = [
    {
        "custom_id": name,
        "method": "POST",
        "url": "/v1/images/generations",
        "body": {"prompt": f"a {name}", "seed": 7},
    }
    for name in ("pear", "plum")
]
text = "\n".join(json.dumps(line) for line in lines)
file = client.files.create(file=("fruit.jsonl", text.encode()), purpose="batch")
batch = client.batches.create(
    input_file_id=file.id, endpoint="/v1/images/generations", completion_window="24h"
)
while batch.status not in ("completed", "failed", "expired", "cancelled"):
    time.sleep(1)
    batch = client.batches.retrieve(batch.id)
    print(batch.status, batch.request_counts)

if batch.errors is not None:  # refused whole: nothing was drawn
    print(*(f"line {e.line}: {e.message}" for e in batch.errors.data or []), sep="\n")
if batch.error_file_id is not None:
    print(client.files.content(batch.error_file_id).text)
if batch.output_file_id is not None:
    for row in client.files.content(batch.output_file_id).text.splitlines():
        answer = json.loads(row)
        picture = answer["response"]["body"]["data"][0]["b64_json"]
        Path(f"{answer['custom_id']}.png").write_bytes(base64.b64decode(picture))
        print(f"{answer['custom_id']}.png")
