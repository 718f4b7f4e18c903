"""The sandboxed process that checks untrusted pictures: decoded and searched for a watermark, their
manifests read. See engine.untrusted.child, whose server this is, with one verb more."""

from __future__ import annotations

from dataclasses import asdict
from io import BytesIO

import numpy as np
from PIL import Image

from engine.provenance.manifest import check
from engine.provenance.pattern import MarkKey
from engine.provenance.watermark import detect, mark
from engine.untrusted.budget import Budget
from engine.untrusted.child import VERBS, serve
from engine.untrusted.decode import decode
from engine.untrusted.frames import Head, Message


def main(argument: str) -> None:
    """See engine.untrusted.child."""
    _rehearse()
    serve(argument, {**VERBS, "check": _check})


def _check(head: Head, files: dict[str, bytes], budget: Budget) -> Message:
    data = files["image"]
    picture = np.asarray(decode(data, "image", budget))
    found = detect(picture, [MarkKey(name, bytes.fromhex(secret)) for name, secret in head["keys"]])
    told = {"manifest": asdict(check(data, files["anchors"]))}
    return {**told, "mark": None if found is None else asdict(found)}, []


def _rehearse() -> None:
    """Whatever loads late is loaded now: later the process can open no file."""
    key, file = MarkKey("rehearsal", b""), BytesIO()
    picture = mark(np.full((160, 160, 3), 200, np.uint8), key)
    Image.fromarray(picture).save(file, "PNG")
    detect(picture, [key])
    check(file.getvalue())
