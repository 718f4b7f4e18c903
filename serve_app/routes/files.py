"""Pictures to be named in edits, and files of lines for batches: OpenAI's File objects."""

from __future__ import annotations

import logging
import re

from fastapi import APIRouter
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from engine.intake import kind_of
from jobs.blobs.parts import PartsWriter
from jobs.blobs.store import BlobMissing
from jobs.blobs.threads import in_store
from jobs.files import (
    BATCH,
    PART_BYTES,
    SHOWN,
    VISION,
    FileRoom,
    StoredFile,
    new_file_id,
    part_key,
    part_sizes,
)
from jobs.ledger_errors import QuotaExceeded
from jobs.request import Tenant
from serve_app.config.cluster import ClusterConfig
from serve_app.delivery.pieces import StoredBlob, stored
from serve_app.orders.app_state import AppState, app_state_of
from serve_app.orders.bodies import Form, content, is_form, is_large, read_form
from serve_app.orders.callers import charge_rows, limit_of, poller_of
from serve_app.orders.pictures import MEDIA_TYPES, paced_response
from serve_app.orders.responses import json_response
from serve_app.orders.sources import FILE_ID, no_file, own_file
from serve_app.orders.submission import check_upload
from serve_app.uploads.inputs import Upload
from serve_app.wire.errors import InvalidRequest, Unavailable
from serve_app.wire.files import (
    LEAST_SECONDS,
    MOST_LISTED,
    DeletedBody,
    FileBody,
    FilesBody,
    file_body,
    files_body,
)
from serve_app.wire.operations import FILE, TEXT, answer, link, media, operation, query

router = APIRouter()
log = logging.getLogger(__name__)

HEAD_BYTES = 64
"""They say what kind of picture it is."""
FIELDS = frozenset({"purpose", "expires_after[anchor]", "expires_after[seconds]"})
LINKS = (("file", "getFile"), ("content", "getFileContent"), ("delete", "deleteFile"))
PAGE = (
    query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_LISTED}),
    query("order", {"type": "string", "enum": ["desc"]}),
    query("purpose", TEXT),
    query("after", {"type": "string", "pattern": "^file-[0-9a-f]{32}$"}),
)
JSONL = "application/jsonl"
CONTENT = {200: media("The file", dict.fromkeys([*MEDIA_TYPES.values(), JSONL], FILE))}


@router.post("/v1/files")
@operation(
    "createFile",
    {200: answer(FileBody, **{name: link(to, file_id="$response.body#/id") for name, to in LINKS})},
    *(400, 408, 413, 415),
)
async def create(request: Request) -> Response:
    """Keep a picture, to name it in edits, upright, of its kind, without metadata; or the lines of
    a batch."""
    tenant = await poller_of(request)
    state = app_state_of(request)
    config = state.config
    refused = await _refusal(state, tenant)
    if not is_form(request):
        raise InvalidRequest("Send a file as multipart/form-data.", code="invalid_form")
    async with (
        state.inputs.arriving(tenant.id, is_large(request, config.limits)),
        read_form(
            request, config.limits, most_files=1, lines_bytes=config.limits.batch_bytes
        ) as form,
    ):
        if refused is not None and form.fields.get("purpose") != BATCH:
            raise refused
        life_seconds = _life_seconds(form, config.retention.files_seconds)
        if "file" not in form.files:
            message = "Missing required parameter: 'file'."
            raise InvalidRequest(message, param="file", code="missing_required_parameter")
        (upload,) = form.files["file"]
        if form.fields["purpose"] == BATCH:
            return json_response(file_body(await _keep_lines(state, tenant, upload, life_seconds)))
        async with state.inputs.turn(tenant.id, config.tiers[tenant.tier].weight):
            data = await content(upload, "file", config.limits)
            picture = await state.inputs.keep(data, "file")
            stored = await state.inputs.store(
                tenant.id,
                {"picture": picture.data},
                (picture.width, picture.height),
                life_seconds,
                upload=Upload(_filename(upload.filename), len(data), _room(config, tenant.tier)),
            )
    return json_response(file_body(stored))


@router.get("/v1/files")
@operation("listFiles", {200: answer(FilesBody)}, 400, parameters=PAGE)
async def recent(request: Request) -> Response:
    """Your files, newest first."""
    tenant = await poller_of(request)
    asked = request.query_params
    limit = limit_of(request, 100, MOST_LISTED)
    if asked.get("order", "desc") != "desc":
        raise InvalidRequest("'order' can only be desc: newest first.", param="order")
    found: list[StoredFile] = []
    if (purpose := asked.get("purpose", "")) in SHOWN | {""}:
        after = asked.get("after")
        if after is not None and not FILE_ID.fullmatch(after):
            raise InvalidRequest("'after' must be the id of a file.", param="after")
        found = await app_state_of(request).ledger.files(tenant.id, limit + 1, after, purpose)
        charge_rows(request, tenant, len(found))
    return json_response(files_body(found, limit))


@router.get("/v1/files/{file_id}")
@operation("getFile", {200: answer(FileBody)}, 404)
async def show(request: Request, file_id: str) -> Response:
    """One file."""
    return json_response(file_body(await _own_file(request, file_id)))


@router.get("/v1/files/{file_id}/content")
@operation("getFileContent", CONTENT, 404)
async def download(request: Request, file_id: str) -> Response:
    """The picture as it is kept, a PNG, JPEG or WebP; or the lines."""
    state, file = app_state_of(request), await _own_file(request, file_id)
    if file.purpose != VISION:
        headers = {"content-disposition": f'attachment; filename="{file.id}.jsonl"'}
        sized = zip(file.blobs, part_sizes(file.bytes), strict=True)
        parts = [StoredBlob(key, size, base64=False) for key, size in sized]
        return paced_response(state, file.tenant, parts, headers, JSONL)
    key = file.blobs[0]
    try:
        head = await in_store(state.blobs.read, key, 0, HEAD_BYTES)
        part = await in_store(stored, state.blobs, key, base64=False)
    except BlobMissing:
        raise no_file() from None
    kind = kind_of(head, "file").lower()
    headers = {"content-disposition": f'attachment; filename="{file.id}.{kind}"'}
    return paced_response(state, file.tenant, [part], headers, f"image/{kind}")


@router.delete("/v1/files/{file_id}")
@operation("deleteFile", {200: answer(DeletedBody)}, 404)
async def delete(request: Request, file_id: str) -> Response:
    """Delete a file; edits that were ordered with it go on."""
    file = await _own_file(request, file_id)
    await app_state_of(request).ledger.drop_file(file.tenant, file.id)
    deleted: DeletedBody = {"id": file.id, "object": "file", "deleted": True}
    return json_response(deleted)


async def _own_file(request: Request, file_id: str) -> StoredFile:
    """The tenant's file; another tenant's does not exist. Raises Unauthorized, NotFound."""
    tenant = await poller_of(request)
    return await own_file(app_state_of(request), tenant.id, file_id)


async def _refusal(state: AppState, tenant: Tenant) -> Exception | None:
    """Why no picture could be made of an upload today; lines of a batch count in no day. Raises
    NotYetOpen."""
    try:
        await check_upload(state, tenant)
    except QuotaExceeded as refused:
        return refused
    return None


async def _keep_lines(
    state: AppState, tenant: Tenant, upload: UploadFile, life_seconds: float
) -> StoredFile:
    """Part by part, from where the upload was spooled. Raises InvalidRequest, FilesFull, and
    Unavailable when the disk is full."""
    limits, size = state.config.limits, upload.size or 0
    if not 0 < size <= limits.batch_bytes:
        message = f"Invalid value for 'file': {size} bytes, 1 to {limits.batch_bytes}."
        raise InvalidRequest(message, param="file", code="invalid_file_size")
    file_id = new_file_id()
    keys = tuple(part_key(file_id, number) for number in range(len(part_sizes(size))))
    file = StoredFile(
        id=file_id, tenant=tenant.id, purpose=BATCH, filename=_filename(upload.filename),
        bytes=size, width=0, height=0, blobs=keys, created_at=0.0, expires_at=life_seconds,
    )  # fmt: skip
    kept = await state.ledger.add_file(file, FileRoom(limits.files, limits.batch_files_bytes))
    try:
        writer = PartsWriter(state.blobs, file_id)
        while data := await upload.read(PART_BYTES):
            await writer.write(data)
        await writer.close()
    except OSError as error:
        log.warning("lines of a batch could not be stored: %s", error)
        await state.ledger.drop_file(tenant.id, file_id)
        raise Unavailable from None
    return kept


def _life_seconds(form: Form, most_seconds: float) -> float:
    """How long the file is to be kept. Raises InvalidRequest for anything wrong beside the file."""
    fields = {name: text for name, text in form.fields.items() if text or name not in FIELDS}
    if "file" in fields:
        message = "Invalid value for 'file': a text; send a file, its part with a filename."
        raise InvalidRequest(message, param="file", code="invalid_type")
    for name in (fields.keys() - FIELDS) | (form.files.keys() - {"file"}):
        message = f"Unknown parameter: '{name}'."
        raise InvalidRequest(message, param=name, code="unknown_parameter")
    if fields.get("purpose") not in (VISION, BATCH):
        message = (
            "Invalid value for 'purpose': 'vision' for a picture, 'batch' for a batch's lines."
        )
        raise InvalidRequest(message, param="purpose")
    if not fields.keys() & {"expires_after[anchor]", "expires_after[seconds]"}:
        return most_seconds
    if fields.get("expires_after[anchor]") != "created_at":
        message = "Invalid value for 'expires_after[anchor]': must be 'created_at'."
        raise InvalidRequest(message, param="expires_after[anchor]")
    text, most = fields.get("expires_after[seconds]", ""), max(LEAST_SECONDS, int(most_seconds))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not LEAST_SECONDS <= int(text) <= most:
        message = f"Invalid value for 'expires_after[seconds]': {LEAST_SECONDS} to {most}."
        raise InvalidRequest(message, param="expires_after[seconds]")
    return float(text)


def _room(config: ClusterConfig, tier: str) -> FileRoom:
    limits = config.limits
    return FileRoom(limits.files, limits.files_bytes, config.tiers[tier].newcomer_files_bytes)


def _filename(given: str | None) -> str:
    """What can be shown of it; nothing is ever opened by it."""
    return "".join(filter(str.isprintable, given or ""))[:255] or "image"
