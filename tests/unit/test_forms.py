"""Forms, byte by byte, as clients write them."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from serve_app.config.sections import LimitsSection
from serve_app.orders.bodies import read_form
from serve_app.wire.errors import InvalidRequest

LIMITS = LimitsSection(body_bytes=1000, image_bytes=1000)
TYPE = "multipart/form-data; boundary=b"
FILE = b'Content-Disposition: form-data; name="image"; filename="a.png"'
TEXT = b'Content-Disposition: form-data; name="prompt"'

Read = tuple[dict[str, str], dict[str, list[tuple[str, bytes]]]]


def parts(*heads_and_data: tuple[bytes, bytes]) -> bytes:
    body = b"".join(b"--b\r\n%s\r\n\r\n%s\r\n" % part for part in heads_and_data)
    return body + b"--b--\r\n"


def read(body: bytes, content_type: str = TYPE, step: int = 10**6) -> Read:
    """Texts, and names and bytes of files; the body comes in pieces of `step` bytes."""
    pieces = [body[at : at + step] for at in range(0, len(body), step)]

    async def receive() -> Message:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def run() -> Read:
        head = [(b"content-type", content_type.encode("latin-1"))]
        request = Request({"type": "http", "method": "POST", "headers": head}, receive)
        async with read_form(request, LIMITS, 3) as form:
            files = {
                name: [(file.filename or "", await file.read()) for file in given]
                for name, given in form.files.items()
            }
            return dict(form.fields), files

    return asyncio.run(run())


GOOD = ({"prompt": "a fox"}, {"image": [("a.png", b"\x89PNG\r\n")]})
BODY = parts((TEXT, b"a fox"), (FILE, b"\x89PNG\r\n"))


@pytest.mark.parametrize("step", [1, 7, 10**6])
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (TYPE, BODY),
        ("Multipart/Form-Data; Boundary=b", BODY),
        ('multipart/form-data; boundary="b"', BODY),
        ("multipart/form-data;charset=utf-8;boundary=b", BODY),
        ("multipart/form-data; boundary=b; charset=ISO-8859-1", BODY),
        ('multipart/form-data; boundary="a b"', BODY.replace(b"--b", b"--a b")),
        (TYPE, b"\r\n" + BODY),
        (TYPE, BODY + b"an epilogue"),
        (TYPE, BODY.removesuffix(b"\r\n")),
        (TYPE, BODY.replace(b"Content-Disposition", b"content-disposition")),
        (TYPE, BODY.replace(b"Content-Disposition: ", b"CONTENT-DISPOSITION:")),
        (TYPE, BODY.replace(b"form-data; ", b"form-data;")),
        (TYPE, BODY.replace(FILE, FILE + b"\r\nContent-Type: image/png\r\nContent-Length: 6")),
        (TYPE, BODY.replace(FILE, FILE + b"\r\nContent-Transfer-Encoding: Binary")),
        (TYPE, BODY.replace(TEXT, TEXT + b"\r\nContent-Type: text/plain; charset=UTF-8")),
        (TYPE, BODY.replace(TEXT, TEXT + b"\r\nContent-Transfer-Encoding: 8bit")),
        (TYPE, BODY.replace(b'"image"', b'"image[]"')),
        (TYPE, BODY.replace(b'"image"', b'"image[0]"')),
        (TYPE, BODY.replace(b'"image"', b'"images"')),
        (TYPE, BODY.replace(b'"image"', b'"images[]"')),
        (TYPE, BODY.replace(b'"image"', b"image")),
        (TYPE, BODY.replace(b'filename="a.png"', b"filename*=UTF-8''a.png")),
        (TYPE, BODY.replace(b'"a.png"', b"\"a.png\"; filename*=UTF-8''b.png")),
        (TYPE, BODY.replace(b"--b--", b'--b\r\n%s\r\n\r\n\r\n--b--' % (
            b'Content-Disposition: form-data; name="mask"; filename=""'
        ))),
    ],
)  # fmt: skip
def test_the_same_form_in_many_hands(content_type: str, body: bytes, step: int) -> None:
    assert read(body, content_type, step) == GOOD


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (b"filename*=utf-8''na%C3%AFve%20%22.png", "naïve .png"),
        (b"filename*=\"utf-8''a.png\"", "a.png"),
        (b"filename*=utf-8''", "file"),
        (b'filename="C:\\\\fox\\\\a.png"', "a.png"),
        ('filename="名.png"'.encode(), "名.png"),
        (b'filename="a%22b;c.png"', "a%22b;c.png"),
        (b"filename=a.png", "a.png"),
    ],
)
def test_names_of_files(given: bytes, name: str) -> None:
    head = b'Content-Disposition: form-data; name="image"; ' + given
    assert read(parts((head, b"x"))) == ({}, {"image": [(name, b"x")]})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (BODY.replace(b"\r\n", b"\n"), "could not parse the form"),
        (BODY.replace(b"--b--", b"--b"), "ends before its last boundary"),
        (BODY.replace(b'name="image"; ', b""), '"name" must be provided'),
        (BODY.replace(FILE, FILE + b"\r\nContent-Transfer-Encoding: base64"), "as they are"),
        (BODY.replace(TEXT, TEXT + b"\r\ncontent-transfer-encoding: quoted-printable"), "as they"),
        (parts((TEXT, b"a"), (TEXT, b"b")), "'prompt' appears twice"),
        (parts(*[(FILE, b"x")] * 4), "Too many files"),
        (
            parts(*[(b'Content-Disposition: form-data; name="%d"' % n, b"") for n in range(65)]),
            "64",
        ),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        read(body)
