"""Two checkpoints of diffusers behind one URL of the real cluster: whatever happens, the official
client gets the pictures that the stock pipelines draw."""

from __future__ import annotations

import base64
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from openai import BadRequestError, OpenAI
from PIL import Image

from jobs.job import Render, RenderState
from jobs.sql.sql_ledger import SqlLedger
from tests.cluster.conftest import KEY, Running, beside, dsn, own_application, wait_until
from tests.families.checkpoints import EDGE, save
from tests.families.kit import loaded_by_user

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.usefixtures("at_rest"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
CLASSES = {"xl": "StableDiffusionXLPipeline", "flux": "FluxPipeline"}
QUEUES = ("families", "families/flux")
GUIDANCE = {"xl": 5.0, "flux": 3.5}
STEPS = {
    "xl": {"low": 4, "medium": 9, "high": 15, "xhigh": 21, "max": 400},
    "flux": {"low": 3, "medium": 7, "high": 16, "xhigh": 24, "max": 400},
}
LONG, LARGE_EDGE = "max", 512
"""Such a render of FLUX takes several times the seconds that lie between two checkpoints."""
SIZE = f"{EDGE}x{EDGE}"
OWN_SIZES = {"xl": SIZE, "flux": "1024x1024"}
"""Up to which they draw any; checkpoints of FLUX name none, its pipeline does."""


@dataclass(frozen=True)
class Order:
    """A picture that is asked for."""

    model: str
    seed: int
    quality: str = "low"
    negative_prompt: str | None = None
    edge: int = EDGE

    @property
    def prompt(self) -> str:
        return f"a red fox number {'abcdefghijklm'[self.seed % 13]}"

    @property
    def asked(self) -> dict[str, Any]:
        """As arguments of the client."""
        more: dict[str, Any] = {"seed": self.seed}
        if self.negative_prompt is not None:
            more["negative_prompt"] = self.negative_prompt
        return {
            "model": self.model,
            "prompt": self.prompt,
            "size": f"{self.edge}x{self.edge}",
            "quality": self.quality,
            "output_format": "png",
            "extra_body": more,
        }


@dataclass(frozen=True)
class Lane:
    """The lane that draws with both checkpoints. stock: their pipelines, as a user loads them."""

    cluster: Running
    client: OpenAI
    stock: dict[str, Any]

    def drawn(self, order: Order) -> NDArray[np.uint8]:
        """uint8 [height, width, 3]: what the client gets."""
        answer = self.client.images.generate(**order.asked)
        assert answer.data is not None
        return pixels(answer.data[0].b64_json)

    def wanted(self, order: Order) -> NDArray[np.uint8]:
        """The same from the stock pipeline."""
        more = {} if order.negative_prompt is None else {"negative_prompt": order.negative_prompt}
        out = self.stock[order.model](
            order.prompt,
            num_inference_steps=STEPS[order.model][order.quality],
            guidance_scale=GUIDANCE[order.model],
            generator=torch.Generator().manual_seed(order.seed),
            width=order.edge,
            height=order.edge,
            **more,
        )
        return np.asarray(out.images[0])

    def render(self, order: Order) -> Render:
        """As the ledger has it now; one that waits where there is none yet."""
        with closing(SqlLedger(dsn(self.cluster))) as ledger:
            jobs = [job for job in ledger.recent("local", 100) if job.request.lane in QUEUES]
        asked = (order.model, order.seed)
        found = [job for job in jobs if (job.request.model, job.request.seed) == asked]
        assert len(found) <= 1, "one request is one job"
        return found[0].renders[0] if found else Render(0, RenderState.WAITING)


def pixels(png: str | None) -> NDArray[np.uint8]:
    """uint8 [height, width, 3] of a picture as the API sends it."""
    picture = Image.open(BytesIO(base64.b64decode(png or "")))
    assert (picture.format, picture.mode) == ("PNG", "RGB")
    return np.asarray(picture)


@pytest.fixture(scope="module")
def lane(cluster: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    folder = tmp_path_factory.mktemp("families")
    weights = {model: save(name, folder / model) for model, name in CLASSES.items()}
    second = own_application(cluster)
    second.update(name="families", route_prefix="/families")
    args = second["args"]
    for section in ("model", "qualities"):
        del args[section]
    args.update(
        lane="families",
        safety={"screens": [], "screen_at": [], "num_cpus": 0.05},
        encoder={"num_cpus": 0.05},
        decoder={"slots": 4, "num_cpus": 0.05},
        models=[
            {
                "name": model,
                "family": "diffusers",
                "size": SIZE,
                "guidance": GUIDANCE[model],
                "options": {"weights": str(weights[model]), "threads": 1, "row_chunk": 1},
                "qualities": STEPS[model],
            }
            for model in CLASSES
        ],
    )
    stock = {model: loaded_by_user(weights[model], name) for model, name in CLASSES.items()}
    url = f"{cluster.api}/families/v1"
    with beside(cluster, second), OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:

        def available() -> bool:
            return all((m.model_extra or {})["available"] for m in client.models.list())

        wait_until(available, "both models can draw")
        yield Lane(cluster, client, stock)


def test_both_are_listed_with_what_they_can_do(lane: Lane) -> None:
    models = {model.id: model.model_extra or {} for model in lane.client.models.list()}
    assert list(models) == ["xl", "flux"]
    for name, said in models.items():
        assert said["available"] is True
        assert said["capabilities"]["qualities"] == STEPS[name]
        assert said["capabilities"]["sizes"]["drawn"] == OWN_SIZES[name]
        assert said["capabilities"]["negative_prompt"] is (name == "xl")
        assert said["capabilities"]["edits"] is True


def test_a_distilled_model_takes_no_negative_prompt(lane: Lane) -> None:
    with pytest.raises(BadRequestError) as refused:
        lane.drawn(Order("flux", 1, negative_prompt="snow"))
    assert refused.value.param == "negative_prompt"


def test_requests_side_by_side_get_the_stock_pictures(lane: Lane) -> None:
    """Of both models at once, with other prompts, seeds and step counts."""
    orders = [
        Order(model, 10 * number + seed, quality, "snow" if seed == 3 and model == "xl" else None)
        for number, quality in enumerate(("low", "medium", "high", "xhigh"), 1)
        for model in CLASSES
        for seed in (1, 3)
    ]
    with ThreadPoolExecutor(len(orders)) as clients:
        pictures = list(clients.map(lane.drawn, orders))
    for order, picture in zip(orders, pictures, strict=True):
        np.testing.assert_array_equal(picture, lane.wanted(order), str(order))
    assert len({picture.tobytes() for picture in pictures}) == len(orders)


@pytest.mark.parametrize("model", CLASSES)
def test_a_streamed_picture_comes_after_its_previews(lane: Lane, model: str) -> None:
    order = Order(model, 70, "high")
    stream = lane.client.images.generate(**order.asked, stream=True, partial_images=3)
    events = list(stream)
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    *previews, final = [pixels(event.b64_json) for event in events]
    assert [preview.shape for preview in previews] == [(EDGE, EDGE, 3)] * 3
    assert len({preview.tobytes() for preview in previews}) == 3
    np.testing.assert_array_equal(final, lane.wanted(order))


def test_a_killed_decoder_costs_neither_model_a_pixel(lane: Lane) -> None:
    """It dies in the middle of long renders of both: its own goes on in the next process from its
    checkpoint, the other model's just goes on."""
    killed, other = Order("flux", 80, LONG, edge=LARGE_EDGE), Order("xl", 80, LONG)
    with ThreadPoolExecutor(4) as clients:
        picture = clients.submit(lane.drawn, killed)
        wait_until(lambda: lane.render(killed).saved_passes, "it has a checkpoint")
        [pid] = lane.cluster.pids("ServeReplica:families:Decoder-flux")
        os.kill(pid, signal.SIGSTOP)  # so that it is not done before the other one has begun
        beside_it = clients.submit(lane.drawn, other)
        wait_until(lambda: lane.render(other).pass_no, "the other model draws")
        os.kill(pid, signal.SIGKILL)
        saved, under_way = lane.render(killed), lane.render(other)
        assert (saved.state, under_way.state) == (RenderState.RENDERING, RenderState.RENDERING)
        wanted = clients.map(lane.wanted, (killed, other))
        furthest_back = saved.pass_no
        while not picture.done():
            furthest_back = min(furthest_back, lane.render(killed).pass_no)
            time.sleep(0.05)
        for ours, stock in zip((picture.result(), beside_it.result()), wanted, strict=True):
            np.testing.assert_array_equal(ours, stock)
    assert furthest_back >= saved.saved_passes > 0, "no pass of the checkpoint is done again"
    for order in (killed, other):
        render = lane.render(order)
        assert (render.state, render.attempts) == (RenderState.SUCCEEDED, 0)
