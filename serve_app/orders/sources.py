"""From what a client calls a picture to its bytes, as untrusted as they came."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.datastructures import UploadFile

from jobs.blobs.store import BlobMissing
from jobs.blobs.threads import in_store
from jobs.files import VISION, StoredFile
from jobs.job import Job, Render, RenderState, parse_image_id
from jobs.request import Tenant
from serve_app.orders.app_state import AppState
from serve_app.orders.bodies import content
from serve_app.orders.pictures import picture
from serve_app.wire.data_urls import data_of, is_data_url
from serve_app.wire.edits import EditBody, ImageRef
from serve_app.wire.errors import ImageExpired, InvalidRequest, NotFound
from serve_app.wire.models import Models, ServedModel

COMPANIONS = ("mask", "markup")
FILE_ID = re.compile(r"file-[0-9a-f]{32}")

MOST_URLS = 3
"""Behind which pictures of one request are fetched: all of them are held in memory."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FoundPicture:
    """A picture that a client named or sent."""

    data: bytes
    """As untrusted as they came."""
    size: tuple[int, int] | None = None
    """Where it is known."""
    parent: str | None = None
    """Image id of one that was drawn here."""
    tokens: bytes | None = None
    """Of one that was drawn here."""


Given = UploadFile | ImageRef | FoundPicture


class ToFetch(Exception):
    """Pictures are behind these URLs: by role, each with the parameter that names it."""

    def __init__(self, urls: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(urls)
        self.urls = urls


async def in_turn(
    state: AppState, tenant: Tenant, prepare: Callable[[Mapping[str, bytes]], Awaitable[T]]
) -> T:
    """What `prepare` makes of pictures that were fetched, at first of none, when it is the tenant's
    turn. It raises ToFetch when it needs some: these come before the next turn, in which it begins
    anew. Raises TooManyWaiting, InvalidRequest."""
    weight, remote = state.config.tiers[tenant.tier].weight, state.config.limits.remote_images
    try:
        async with state.inputs.turn(tenant.id, weight):
            return await prepare({})
    except ToFetch as missing:
        urls = missing.urls
    async with (
        state.remote_images.fetched(tenant.id, urls, remote) as fetched,
        state.inputs.turn(tenant.id, weight),
    ):
        return await prepare(fetched)


@dataclass(frozen=True, slots=True)
class Pictures:
    """What came with one request, by role: `image` and those after it, `mask`, `markup`."""

    given: Mapping[str, Given]
    params: Mapping[str, str]
    """By role, the parameter that names the picture."""
    fetched: Mapping[str, bytes] = field(default_factory=dict)
    """Those that were behind URLs."""

    @property
    def images(self) -> list[str]:
        """Roles of those to be changed or looked at, in order."""
        return [role for role in self.given if role not in COMPANIONS]

    def check_fetched(self) -> None:
        """Raises ToFetch for those that must be fetched and were not, InvalidRequest for more of
        them than one request may have."""
        urls = {
            role: (self.params[role], one.image_url)
            for role, one in self.given.items()
            if isinstance(one, ImageRef) and one.image_url and not is_data_url(one.image_url)
        }
        if len(urls) > MOST_URLS:
            param = next(iter(urls.values()))[0]
            message = f"At most {MOST_URLS} pictures are fetched for a request; send files instead."
            raise InvalidRequest(message, param=param, code="too_many_images")
        if urls.keys() - self.fetched.keys():
            raise ToFetch(urls)

    async def find(self, state: AppState, tenant: str, role: str) -> FoundPicture:
        """One of them. Raises InvalidRequest, NotFound, ImageExpired, naming its parameter."""
        if role in self.fetched:
            return FoundPicture(self.fetched[role])
        return await find(state, tenant, self.given[role], self.params[role])


async def find(state: AppState, tenant: str, given: Given, param: str) -> FoundPicture:
    """A picture that needs not be fetched. Raises InvalidRequest, NotFound, ImageExpired, naming
    `param`."""
    if isinstance(given, FoundPicture):
        return given
    if isinstance(given, UploadFile):
        return FoundPicture(await content(given, param, state.config.limits))
    if given.file_id is not None:
        return await _by_id(state, tenant, given.file_id, param)
    url, most_bytes = given.image_url or "", state.config.limits.image_bytes
    return FoundPicture(await asyncio.to_thread(data_of, url, param, most_bytes))


async def own_image(state: AppState, tenant: str, image_id: str) -> tuple[Job, Render]:
    """The tenant's drawn picture; another tenant's does not exist. Raises NotFound."""
    parsed = parse_image_id(image_id)
    job = await state.ledger.get(parsed[0]) if parsed else None
    if parsed is None or job is None or job.request.tenant != tenant:
        raise no_image()
    return job, finished_image(job, parsed[1])


def finished_image(job: Job, index: int) -> Render:
    """One of the job's drawn pictures. Raises NotFound."""
    for render in job.renders:
        if render.index == index and render.state is RenderState.SUCCEEDED:
            return render
    raise no_image()


async def drawn(state: AppState, job: Job, render: Render, image_id: str) -> FoundPicture:
    """That picture, to go on from. Raises ImageExpired."""
    if render.blob is None:
        raise ImageExpired
    try:
        data = await picture(state, render)
    except BlobMissing:
        raise ImageExpired from None
    size = (job.request.width, job.request.height)
    return FoundPicture(data, size, image_id, render.checkpoint)


async def editing_model(state: AppState, tenant: str, body: EditBody, image: Given) -> ServedModel:
    """Which model draws the edit: the one that is named, or that which drew the picture. Raises
    NotFound, NoModel."""
    models = state.models
    if body.model is None and isinstance(image, ImageRef) and len(models.all) > 1:
        parsed = parse_image_id(image.file_id or "")
        job = await state.ledger.get(parsed[0]) if parsed else None
        if job is not None and job.request.tenant == tenant:
            return same_model(models, job)
    return models.named(body.model)


def same_model(models: Models, job: Job) -> ServedModel:
    """The model that drew the job; where it is gone, the one that is meant by requests that name
    none. Raises NoModel."""
    return models.known(job.request.model) or models.named(None)


async def _by_id(state: AppState, tenant: str, file_id: str, param: str) -> FoundPicture:
    """A file of the tenant, or a picture that was drawn for it."""
    try:
        if file_id.startswith("img_"):
            job, render = await own_image(state, tenant, file_id)
            return await drawn(state, job, render, file_id)
        file = await own_file(state, tenant, file_id)
        if file.purpose != VISION:
            raise no_file(param)
        data = await in_store(state.blobs.get, file.blobs[0])
        return FoundPicture(data, (file.width, file.height))
    except BlobMissing:
        raise no_file(param) from None
    except (NotFound, ImageExpired) as problem:
        problem.param = param
        raise


async def own_file(state: AppState, tenant: str, file_id: str) -> StoredFile:
    """The tenant's file; another tenant's does not exist. Raises NotFound."""
    known = FILE_ID.fullmatch(file_id)
    file = await state.ledger.file(tenant, file_id) if known else None
    if file is None:
        raise no_file()
    return file


def no_image() -> NotFound:
    """Of an unknown id, another tenant's, or one that is not drawn yet."""
    return NotFound("That image does not exist, or not yet.", code="image_not_found")


def no_file(param: str | None = None) -> NotFound:
    """Of an unknown id, or another tenant's."""
    return NotFound("There is no such file.", param=param, code="file_not_found")
