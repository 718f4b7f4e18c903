"""The process that decodes: locks itself in, then answers one picture after the other.

It has its three pipes and can open nothing more, no environment, no rights to gain, and little
memory. Started and asked by engine.intake; dies with the thread that started it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO

from PIL import ExifTags, Image, ImageCms

from engine.untrusted.budget import Budget, Refused
from engine.untrusted.decode import SRGB, decode
from engine.untrusted.frames import Head, Message, receive, send
from engine.untrusted.place import place
from engine.untrusted.syscalls import confine

NOBODY = 65534
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
PICTURES = 3


def main(argument: str) -> None:
    """argument: the budget as JSON. Requests on stdin, answers on stdout, until stdin ends."""
    budget = Budget(**json.loads(argument))
    warnings.simplefilter("ignore")
    _rehearse(budget)
    _lock_in(budget)
    _rehearse(budget)  # a lock that keeps pictures out is noticed now
    send(sys.stdout.buffer, {"ready": True})
    while True:
        try:
            head, parts = receive(sys.stdin.buffer, PICTURES * budget.file_bytes)
        except EOFError:
            return
        _allow_cpu(budget.cpu_seconds)
        send(sys.stdout.buffer, *answer(head, parts, budget))


def answer(head: Head, parts: list[bytes], budget: Budget) -> Message:
    """What is said to one request: pictures, or why there are none."""
    verb: Callable[..., Message] = {"normalise": _normalise, "canvas": _canvas}[head["verb"]]
    try:
        return verb(head, dict(zip(head["fields"], parts, strict=True)), budget)
    except Refused as refused:
        said = {"field": refused.field, "code": refused.code, "message": str(refused)}
        return {"refused": said}, []


def _normalise(head: Head, files: dict[str, bytes], budget: Budget) -> Message:
    ((field, data),) = files.items()
    picture = decode(data, field, budget)
    return {}, [_png(picture)]


def _canvas(head: Head, files: dict[str, bytes], budget: Budget) -> Message:
    placed = place(files, head["size"], head["small_size"], head["grid"], budget)
    redraw = b"" if placed.redraw is None else placed.redraw
    return {}, [_png(placed.canvas), _png(placed.small), redraw]


def _png(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _rehearse(budget: Budget) -> None:
    """Some pictures of each kind through everything: whatever loads late is loaded now."""
    exif, profile = Image.Exif(), ImageCms.ImageCmsProfile(SRGB).tobytes()
    exif[ExifTags.Base.Orientation] = 6
    head: Head = {"size": (8, 8), "small_size": (4, 4), "grid": (2, 2)}
    for kind, mode in (("PNG", "RGB"), ("PNG", "LA"), ("JPEG", "CMYK"), ("WEBP", "RGBA")):
        for past in ({}, {"exif": exif, "icc_profile": profile}):
            file = BytesIO()
            Image.new(mode, (8, 4)).save(file, kind, **past)
            _normalise({}, {"image": file.getvalue()}, budget)
            _canvas(head, {"image": file.getvalue()}, budget)
    for broken in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF    WEBP"):
        answer({"verb": "normalise", "fields": ["image"]}, [broken], budget)


def _lock_in(budget: Budget) -> None:
    """Give up what a decoder does not need, for good where the system lets us."""
    if os.getuid() == 0:
        with suppress(OSError):  # a container without another user
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # forgotten when the user changes
    for limit, most in (
        (resource.RLIMIT_AS, budget.memory_bytes),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    confine(libc)


def _allow_cpu(seconds: int) -> None:
    """For the picture to come; who takes more is killed."""
    spent = int(time.process_time()) + 1
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, most))
