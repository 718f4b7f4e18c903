"""Request bodies as they come in, all of them bounded: in memory, on disk, and multipart forms."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast
from urllib.parse import unquote_to_bytes

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from serve_app.config.sections import LimitsSection
from serve_app.wire.errors import BodyTooLarge, BodyTooSlow, InvalidRequest, UnknownEncoding

DRAINED_BODIES = 8
SLOWEST_BYTES_PER_SECOND = 65_536
MOST_FIELDS = 64
ALIASES = {"images": "image"}
PLAIN_ENCODINGS = (b"binary", b"8bit", b"7bit")
"""Of parts, as some clients still send; RFC 7578 4.7 knows no other than bytes as they are."""
_LISTED = re.compile(r"\[[0-9]{0,4}\]\Z", re.ASCII)
_NAME = re.compile(rb";\s*filename\s*=", re.IGNORECASE)
_EXTENDED_NAME = re.compile(rb";\s*filename\*\s*=\s*\"?([^;\"]*)", re.IGNORECASE)
_LINES = re.compile(rb"""name="?purpose"?\r\n\r\nbatch\r\n|filename="[^"\r\n]*\.jsonl\"""")
LOOKED_AT_BYTES = 4096
"""Of a form's beginning: where its purpose, or the name of its file, says that it has lines."""
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


@dataclass(frozen=True, slots=True)
class Form:
    """A file input without a file is left out."""

    fields: dict[str, str] = field(default_factory=dict)
    """Texts by name."""
    files: dict[str, list[UploadFile]] = field(default_factory=dict)
    """By name, in order; `image[]`, `image[0]` and `images` count as `image`."""


async def read_body(request: Request, limits: LimitsSection) -> bytes:
    """The whole body. Raises BodyTooLarge and BodyTooSlow."""
    async with aclosing(body_chunks(request, limits, limits.body_bytes)) as chunks:
        return b"".join([chunk async for chunk in chunks])


def _check_encoding(request: Request) -> None:
    """Raises UnknownEncoding. Unpacked, a small body could have any size."""
    given = ",".join(request.headers.getlist("content-encoding"))
    for name in given.split(","):
        coding = name.strip().lower()
        if coding not in ("", "identity"):
            known = coding if re.fullmatch(r"[a-z0-9_-]{1,16}", coding) else "unknown"
            raise UnknownEncoding(
                f"A body with Content-Encoding: {known} is not read here. Send it as it is, "
                "without a Content-Encoding.",
                param="Content-Encoding",
            )


async def body_chunks(
    request: Request, limits: LimitsSection, most_bytes: int, lines_bytes: int = 0
) -> AsyncGenerator[bytes]:
    """The body as it comes. lines_bytes: how much more it may have when it begins as a form with a
    file of lines does. Raises UnknownEncoding, BodyTooLarge as soon as it is known to be too
    long, and BodyTooSlow; large bodies may take longer, as far as they keep coming. Not from
    Starlette's `stream`, whose end would be waited for with a timeout of its own.

    What comes beyond is read and dropped for a while, so that the client gets to see the answer.
    """
    _check_encoding(request)
    declared = request.headers.get("content-length", "")
    declared_bytes = int(declared) if declared.isdigit() else 0
    limit = _Limit(most_bytes, lines_bytes)
    size, too_large = 0, False
    patience = asyncio.get_running_loop().time() + limits.body_seconds
    more = True
    while more:
        try:
            async with asyncio.timeout_at(patience + size / SLOWEST_BYTES_PER_SECOND):
                message = await request.receive()
        except TimeoutError:
            raise BodyTooSlow from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        request.state.read_bytes = size
        limit.look_at(chunk, more)
        too_large = too_large or limit.passed_by(max(size, declared_bytes))
        if not too_large:
            yield chunk
        elif size > limit.most_bytes + DRAINED_BODIES * limits.body_bytes:
            break
    if too_large:
        raise BodyTooLarge(f"The request body is larger than {limit.most_bytes} bytes.")


class _Limit:
    """Of a body's size, in bytes: lines_bytes more where its beginning is that of a form with a
    file of lines. Chunks are as short as the network makes them, so no body is too large before
    its whole beginning is seen."""

    def __init__(self, most_bytes: int, lines_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._lines_bytes = lines_bytes
        self._beginning = b""

    def look_at(self, chunk: bytes, more: bool) -> None:
        """The next chunk; more: whether others follow."""
        if not self._lines_bytes:
            return
        self._beginning += chunk[: LOOKED_AT_BYTES - len(self._beginning)]
        has_lines = _LINES.search(self._beginning) is not None
        if has_lines or len(self._beginning) == LOOKED_AT_BYTES or not more:
            self.most_bytes += self._lines_bytes if has_lines else 0
            self._lines_bytes = 0

    def passed_by(self, size_bytes: int) -> bool:
        """Whether a body of that size is known to be too large."""
        return not self._lines_bytes and size_bytes > self.most_bytes


def is_form(request: Request) -> bool:
    """Whether the body says that it is multipart."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


def is_large(request: Request, limits: LimitsSection) -> bool:
    """Whether the body may not be kept in memory, by what it says of itself."""
    declared = request.headers.get("content-length", "")
    return not declared.isdigit() or int(declared) > limits.body_bytes


@asynccontextmanager
async def read_form(
    request: Request,
    limits: LimitsSection,
    most_files: int,
    large: int | None = None,
    lines_bytes: int = 0,
) -> AsyncGenerator[Form]:
    """The form; its files are gone afterwards. large: how many of the largest size they amount to
    together at most, if not all. lines_bytes: as of `body_chunks`. Raises InvalidRequest,
    BodyTooLarge, BodyTooSlow."""
    most_bytes = limits.body_bytes + (large or most_files) * limits.image_bytes
    chunks = body_chunks(request, limits, most_bytes, lines_bytes)
    parser = _Bounded(
        _boundary(request),
        chunks,
        max_files=most_files,
        max_fields=MOST_FIELDS,
        max_part_size=limits.body_bytes,
    )
    try:
        parsed = await parser.parse()
    except MultiPartException as error:
        message = f"We could not parse the form of your request: {error.message}"
        raise InvalidRequest(message, code="invalid_form") from None
    finally:
        await chunks.aclose()
    try:
        yield _sorted(parsed.multi_items())
    finally:
        await parsed.close()


@asynccontextmanager
async def on_disk(
    request: Request, limits: LimitsSection, most_bytes: int
) -> AsyncGenerator[UploadFile]:
    """A large body, which is gone afterwards. Raises BodyTooLarge, BodyTooSlow."""
    with SpooledTemporaryFile(max_size=MultiPartParser.spool_max_size) as spool:
        file = UploadFile(cast(BinaryIO, spool), size=0)
        async with aclosing(body_chunks(request, limits, most_bytes)) as chunks:
            async for chunk in chunks:
                await file.write(chunk)
        await file.seek(0)
        yield file


async def content(file: UploadFile, param: str, limits: LimitsSection) -> bytes:
    """The whole file. Raises InvalidRequest when it is too large or empty."""
    size = file.size or 0
    if size > limits.image_bytes:
        raise too_large(param, size, limits)
    return await file.read()


def too_large(param: str, size_bytes: int, limits: LimitsSection) -> InvalidRequest:
    """The refusal of a picture of so many bytes."""
    message = f"Invalid value for '{param}': {size_bytes} bytes, at most {limits.image_bytes}."
    return InvalidRequest(message, param=param, code="image_too_large")


class _Bounded(MultiPartParser):
    """Its text fields have `max_part_size` together, since they are kept in memory; and it has an
    end: of one that was cut off, the last picture would be missing unnoticed."""

    _text_bytes = 0
    _ended = False

    def on_headers_finished(self) -> None:
        part = self._current_part
        encoding = dict(part.item_headers).get(b"content-transfer-encoding", b"binary").strip()
        if encoding.lower() not in PLAIN_ENCODINGS:
            raise MultiPartException(
                "a part has another Content-Transfer-Encoding than binary: send its bytes as they "
                "are."
            )
        part.content_disposition = _named(part.content_disposition)
        super().on_headers_finished()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is None:
            self._text_bytes += end - start
            if self._text_bytes > self.max_part_size:
                raise MultiPartException(f"its fields have over {self.max_part_size} bytes.")
        super().on_part_data(data, start, end)

    def on_end(self) -> None:
        self._ended = True

    async def parse(self) -> FormData:
        parsed = await super().parse()
        if not self._ended:
            for file in self._files_to_close_on_error:
                file.close()
            raise MultiPartException("it ends before its last boundary.")
        return parsed


def _boundary(request: Request) -> Headers:
    """Of the headers what says where parts end: no charset but UTF-8 is read."""
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        message = "The Content-Type of a form must name its boundary, as RFC 2046 says."
        raise InvalidRequest(message, code="invalid_form")
    return Headers(raw=[(b"content-type", b'multipart/form-data; boundary="%s"' % boundary)])


def _sorted(items: list[tuple[str, UploadFile | str]]) -> Form:
    form = Form()
    for spelled, value in items:
        name = _LISTED.sub("", spelled)
        if isinstance(value, UploadFile):
            if value.filename or value.size:  # a browser sends an input without a file so
                form.files.setdefault(ALIASES.get(name, name), []).append(value)
        elif name in form.fields:
            raise InvalidRequest(f"'{name}' appears twice.", param=name)
        else:
            form.fields[name] = value
    return form


def _named(disposition: bytes | None) -> bytes | None:
    """With a plain filename where there is only an extended one (RFC 8187): forms may not have
    those (RFC 7578 4.2), but old clients send nothing else for a name that is not ASCII."""
    extended = _EXTENDED_NAME.search(disposition or b"")
    if disposition is None or extended is None or _NAME.search(disposition):
        return disposition
    name = unquote_to_bytes(extended[1].rpartition(b"'")[2]).translate(None, b'"\\\r\n')
    return disposition + b'; filename="%s"' % (name or b"file")
