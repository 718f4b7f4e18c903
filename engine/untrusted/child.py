"""The server that forks a child for each call, and the child: it locks itself in, decodes, ends.

A child has one socket and can open nothing more, no environment, no rights to gain, and little
memory; the server, which may fork, reads nothing that a client has sent. Started and asked by
engine.intake; dies with the thread that started it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import socket
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BytesIO

from PIL import ExifTags, Image, ImageCms

from engine.untrusted.budget import Budget, Refused
from engine.untrusted.compact import compact
from engine.untrusted.decode import SRGB, decode
from engine.untrusted.frames import Head, Message, receive, send
from engine.untrusted.place import place, reference
from engine.untrusted.syscalls import confine

NOBODY = 65534
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
PICTURES = 3
FILES = 3

Verbs = Mapping[str, Callable[[Head, dict[str, bytes], Budget], Message]]


def main(argument: str) -> None:
    """See serve."""
    serve(argument, VERBS)


def serve(argument: str, verbs: Verbs) -> None:
    """argument: the budget as JSON. Standard input is a socket: each message on it ends the child
    before and starts the next, to talk over the file descriptor that comes along; until it ends."""
    budget = Budget(**json.loads(argument))
    warnings.simplefilter("ignore")
    _rehearse(budget)
    _limit(budget, files=FILES + 1)
    gc.freeze()  # pages that the collector does not write to are not copied for a child
    control, child = socket.socket(fileno=0), 0
    while True:
        _, files, _, _ = socket.recv_fds(control, 1, 1)
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        if not files:
            return
        child = _fork(files[0], budget, verbs)


def _fork(file: int, budget: Budget, verbs: Verbs) -> int:
    child = os.fork()
    if not child:
        try:
            _serve_one(file, budget, verbs)
        finally:
            os._exit(0)
    os.close(file)
    return child


def _serve_one(file: int, budget: Budget, verbs: Verbs) -> None:
    """The child: one request on a socket, one answer."""
    os.dup2(file, 0)  # in place of the server's own
    os.close(file)
    requests, answers = open(0, "rb", closefd=False), open(0, "wb", closefd=False)  # noqa: SIM115
    _lock_in(budget)
    head, parts = receive(requests, PICTURES * budget.file_bytes)
    send(answers, *answer(head, parts, budget, verbs))


def answer(head: Head, parts: list[bytes], budget: Budget, verbs: Verbs) -> Message:
    """What is said to one request: pictures, or why there are none."""
    verb = verbs[head["verb"]]
    try:
        return verb(head, dict(zip(head["fields"], parts, strict=True)), budget)
    except Refused as refused:
        said = {"field": refused.field, "code": refused.code, "message": str(refused)}
        return {"refused": said}, []


def _normalise(head: Head, files: dict[str, bytes], budget: Budget) -> Message:
    ((field, data),) = files.items()
    picture = decode(data, field, budget)
    return {}, [_png(picture)]


def _keep(head: Head, files: dict[str, bytes], budget: Budget) -> Message:
    ((field, data),) = files.items()
    picture = decode(data, field, budget)
    return {"size": picture.size}, [compact(picture, data, field)]


def _canvas(head: Head, files: dict[str, bytes], budget: Budget) -> Message:
    placed = place(files, head["size"], head["small_size"], head["grid"], budget)
    redraw = b"" if placed.redraw is None else placed.redraw
    return {}, [_png(placed.canvas), _png(placed.small), redraw]


def _reference(head: Head, files: dict[str, bytes], budget: Budget) -> Message:
    small, size = reference(files, head["most_pixels"], budget)
    return {"size": size}, [_png(small)]


def _png(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _rehearsed(head: Head, files: dict[str, bytes], budget: Budget) -> Message:
    _rehearse(budget)  # a lock that keeps pictures out is noticed at the start
    return {}, []


VERBS: Verbs = {
    "rehearse": _rehearsed,
    "normalise": _normalise,
    "keep": _keep,
    "canvas": _canvas,
    "reference": _reference,
}


def _rehearse(budget: Budget) -> None:
    """Some pictures of each kind through everything: whatever loads late is loaded now."""
    exif, profile = Image.Exif(), ImageCms.ImageCmsProfile(SRGB).tobytes()
    exif[ExifTags.Base.Orientation] = 6
    head: Head = {"size": (8, 8), "small_size": (4, 4), "grid": (2, 2)}
    for kind, mode in (("PNG", "RGB"), ("PNG", "LA"), ("JPEG", "CMYK"), ("WEBP", "RGBA")):
        for past in ({}, {"exif": exif, "icc_profile": profile}):
            file = BytesIO()
            Image.new(mode, (8, 4)).save(file, kind, **past)
            for verb in (_normalise, _keep):
                verb({}, {"image": file.getvalue()}, budget)
            _canvas(head, {"image": file.getvalue()}, budget)
    for broken in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF    WEBP"):
        answer({"verb": "normalise", "fields": ["image"]}, [broken], budget, VERBS)


def _lock_in(budget: Budget) -> None:
    """Give up what a decoder does not need, for good where the system lets us."""
    resource.setrlimit(resource.RLIMIT_CPU, (budget.cpu_seconds, budget.cpu_seconds))
    confine(_limit(budget, files=FILES))


def _limit(budget: Budget, files: int) -> ctypes.CDLL:
    """What the server does without, too; files: that may be open."""
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
        (resource.RLIMIT_NOFILE, files),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    return libc
