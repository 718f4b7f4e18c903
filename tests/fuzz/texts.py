"""Where a client can say a text: every field, and names that are none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx

ORDER = {"prompt": "a red fox", "quality": "low"}
LATER = {"prefer": "respond-async"}

Say = Callable[[httpx.Client, str], httpx.Response]


def _json(path: str, said: Callable[[str], Mapping[str, Any]]) -> Say:
    def say(client: httpx.Client, text: str) -> httpx.Response:
        body = json.dumps({**ORDER, **said(text)})  # with escapes: surrogates can be alone
        headers = {**LATER, "content-type": "application/json"}
        return client.post(path, content=body, headers=headers)

    return say


def _form(client: httpx.Client, path: str, *parts: bytes) -> httpx.Response:
    body = b"".join(b"--b\r\nContent-Disposition: form-data; %s\r\n" % part for part in parts)
    headers = {**LATER, "content-type": "multipart/form-data; boundary=b"}
    return client.post(path, content=body + b"--b--\r\n", headers=headers)


def _text_of_a_form(client: httpx.Client, text: str) -> httpx.Response:
    said = text.encode("utf-8", "surrogatepass")
    image = b'name="image"; filename="a"\r\n\r\nno picture\r\n'
    return _form(client, "/v1/images/edits", b'name="prompt"\r\n\r\n%s\r\n' % said, image)


def _filename(client: httpx.Client, text: str) -> httpx.Response:
    name = text[:1000].encode("utf-8", "surrogatepass")
    file = b'name="file"; filename="%s"\r\n\r\nno picture\r\n' % name
    return _form(client, "/v1/files", b'name="purpose"\r\n\r\nvision\r\n', file)


def _turn(client: httpx.Client, text: str) -> httpx.Response:
    tool = {"type": "image_generation", "quality": "low"}
    said = {"tools": [tool], "background": True, "metadata": {"text": text[:512]}}
    headers = {"content-type": "application/json"}
    return client.post(
        "/v1/responses", content=json.dumps({**said, "input": text}), headers=headers
    )


def _call(client: httpx.Client, text: str) -> httpx.Response:
    call = {"type": "image_generation_call", "id": text, "result": text}
    body = {"tools": [{"type": "image_generation"}], "background": True}
    said = json.dumps({**body, "input": [call, {"role": "user", "content": "at night"}]})
    headers = {"content-type": "application/json"}
    return client.post("/v1/responses", content=said, headers=headers)


GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
PLACES: Mapping[str, Say] = {
    "prompt": _json(GENERATIONS, lambda text: {"prompt": text}),
    "negative_prompt": _json(GENERATIONS, lambda text: {"negative_prompt": text}),
    "a LoRA": _json(GENERATIONS, lambda text: {"loras": [{"name": text}]}),
    "user": _json(GENERATIONS, lambda text: {"user": text[:512], "safety_identifier": text[:512]}),
    "size": _json(GENERATIONS, lambda text: {"size": text}),
    "model": _json(GENERATIONS, lambda text: {"model": text}),
    "output_format": _json(GENERATIONS, lambda text: {"output_format": text}),
    "a field's name": _json(GENERATIONS, lambda text: {text: 1}),
    "image": _json(EDITS, lambda text: {"image": text}),
    "a data: URL": _json(EDITS, lambda text: {"images": [{"image_url": f"data:{text},{text}"}]}),
    "base64": _json(EDITS, lambda text: {"image": f"data:;base64,{text}"}),
    "file_id": _json(EDITS, lambda text: {"images": [{"file_id": text}]}),
    "delta": _json("/v1/images/img_none/tweaks", lambda text: {"delta": text}),
    "a turn": _turn,
    "a call that is sent back": _call,
    "the prompt of a form": _text_of_a_form,
    "filename": _filename,
}
