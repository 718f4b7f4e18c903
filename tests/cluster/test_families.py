"""Two checkpoints of diffusers behind one URL of the real cluster, LoRAs mixed: whatever happens,
the official client gets the pictures that the stock pipelines draw."""

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
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from openai import BadRequestError, OpenAI
from PIL import Image

from jobs.job import Job, Render, RenderState
from jobs.sql.sql_ledger import SqlLedger
from serve_app.operate.serve_api import ServeApi
from tests.cluster.conftest import KEY, Running, beside, dsn, own_application, wait_until
from tests.families.checkpoints import EDGE, save
from tests.families.kit import loaded_by_user
from tests.families.lora_files import save_loras

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.usefixtures("at_rest"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning"),  # stock only
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
EDGES = {"xl": EDGE, "flux": 256}
"""Of a picture, where a test does not say another one: about the smallest that each model takes."""
OWN_SIZES = {"xl": f"{EDGE}x{EDGE}", "flux": "1024x1024"}
"""Up to which they draw any; checkpoints of FLUX name none, its pipeline does."""
Loras = tuple[tuple[str, float], ...]
INK, OIL = ("ink", 0.5), ("oil", -1.0)
MIXES: tuple[Loras, ...] = ((INK,), (), (OIL, INK))


@dataclass(frozen=True)
class Order:
    """A picture that is asked for."""

    model: str
    seed: int
    quality: str = "low"
    negative_prompt: str | None = None
    loras: Loras = ()
    other_edge: int | None = None

    @property
    def edge(self) -> int:
        """Width and height in pixels."""
        return self.other_edge or EDGES[self.model]

    @property
    def prompt(self) -> str:
        return f"a red fox number {'abcdefghijklm'[self.seed % 13]}"

    @property
    def asked(self) -> dict[str, Any]:
        """As arguments of the client."""
        more: dict[str, Any] = {"seed": self.seed}
        if self.negative_prompt is not None:
            more["negative_prompt"] = self.negative_prompt
        if self.loras:
            more["loras"] = [{"name": name, "weight": weight} for name, weight in self.loras]
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
    """The lane that draws with both checkpoints. stock: their pipelines, as a user loads them, once
    more with their LoRAs. weights: their folders."""

    cluster: Running
    client: OpenAI
    stock: dict[tuple[str, bool], Any]
    weights: dict[str, Path]

    def drawn(self, order: Order) -> NDArray[np.uint8]:
        """uint8 [height, width, 3]: what the client gets."""
        answer = self.client.images.generate(**order.asked)
        assert answer.data is not None
        return pixels(answer.data[0].b64_json)

    def wanted(self, order: Order) -> NDArray[np.uint8]:
        """The same from the stock pipeline."""
        more = {} if order.negative_prompt is None else {"negative_prompt": order.negative_prompt}
        pipe = self.stock[order.model, bool(order.loras)]
        if order.loras:
            names, weights = zip(*sorted(order.loras), strict=True)
            pipe.set_adapters(list(names), list(weights))
        out = pipe(
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
        found = self.jobs(order)
        assert len(found) <= 1, "one request is one job"
        return found[0].renders[0] if found else Render(0, RenderState.WAITING)

    def jobs(self, order: Order) -> list[Job]:
        """Those of it that were accepted."""
        with closing(SqlLedger(dsn(self.cluster))) as ledger:
            jobs = [job for job in ledger.recent("local", 100) if job.request.lane in QUEUES]
        asked = (order.model, order.seed)
        return [job for job in jobs if (job.request.model, job.request.seed) == asked]

    def available(self) -> dict[str, bool]:
        """By model, as the client sees it."""
        return {m.id: (m.model_extra or {})["available"] for m in self.client.models.list()}

    def said_of(self, deployment: str) -> str:
        """What Serve has to say about it."""
        found = ServeApi(self.cluster.dashboard).status()["applications"]["families"]
        return str(found["deployments"][deployment]["message"])


def pixels(png: str | None) -> NDArray[np.uint8]:
    """uint8 [height, width, 3] of a picture as the API sends it."""
    picture = Image.open(BytesIO(base64.b64decode(png or "")))
    assert (picture.format, picture.mode) == ("PNG", "RGB")
    return np.asarray(picture)


@pytest.fixture(scope="module")
def lane(cluster: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    folder = tmp_path_factory.mktemp("families")
    weights = {model: save(name, folder / model) for model, name in CLASSES.items()}
    loras = {
        model: save_loras(loaded_by_user(weights[model], name), name, folder / f"{model}-loras")
        for model, name in CLASSES.items()
    }
    second = own_application(cluster)
    second.update(name="families", route_prefix="/families")
    args = second["args"]
    for section in ("model", "qualities"):
        del args[section]
    args.update(
        lane="families",
        provenance="off",
        safety={"screens": [], "screen_at": [], "num_cpus": 0.05},
        encoder={"num_cpus": 0.05},
        decoder={"slots": 4, "num_cpus": 0.05},
        models=[
            {
                "name": model,
                "family": "diffusers",
                "size": f"{EDGES[model]}x{EDGES[model]}",
                "guidance": GUIDANCE[model],
                "options": {
                    "weights": str(weights[model]),
                    "threads": 1,
                    "row_chunk": 1,
                    "loras": {name: str(path) for name, path in loras[model].items()},
                },
                "qualities": STEPS[model],
            }
            for model in CLASSES
        ],
    )
    stock = {
        (model, with_loras): loaded_by_user(weights[model], name)
        for model, name in CLASSES.items()
        for with_loras in (False, True)
    }
    for model, files in loras.items():
        for name, path in files.items():
            stock[model, True].load_lora_weights(path, adapter_name=name, local_files_only=True)
    url = f"{cluster.api}/families/v1"
    with beside(cluster, second), OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
        found = Lane(cluster, client, stock, weights)
        wait_until(lambda: all(found.available().values()), "both models can draw")
        yield found


def test_both_are_listed_with_what_they_can_do(lane: Lane) -> None:
    models = {model.id: model.model_extra or {} for model in lane.client.models.list()}
    assert list(models) == ["xl", "flux"]
    for name, said in models.items():
        assert said["available"] is True
        assert said["capabilities"]["qualities"] == STEPS[name]
        assert said["capabilities"]["sizes"]["drawn"] == OWN_SIZES[name]
        assert said["capabilities"]["negative_prompt"] is (name == "xl")
        assert said["capabilities"]["edits"] is True
        assert said["capabilities"]["loras"] == ["ink", "oil"]


def test_what_decoders_measured_at_their_start_is_announced(lane: Lane) -> None:
    def announced() -> dict[str, dict[str, float]]:
        with closing(SqlLedger(dsn(lane.cluster))) as ledger:
            found = [model.announcement for model in ledger.models("families")]
        return {one.name: dict(one.measured) for one in found if one.measured}

    wait_until(lambda: announced().keys() == {*CLASSES}, "both have been asked")
    for numbers in announced().values():
        assert numbers["width"] == 1
        assert numbers["pass_seconds"] > 0
        assert numbers["load_seconds_per_gb"] > 0


def test_a_distilled_model_takes_no_negative_prompt(lane: Lane) -> None:
    with pytest.raises(BadRequestError) as refused:
        lane.drawn(Order("flux", 1, negative_prompt="snow"))
    assert refused.value.param == "negative_prompt"


def test_requests_side_by_side_get_the_stock_pictures(lane: Lane) -> None:
    """Of both models at once, with other prompts, seeds, step counts and LoRAs."""
    orders = [
        Order(
            model,
            10 * number + seed,
            quality,
            "snow" if seed == 3 and model == "xl" else None,
            loras=MIXES[(number + seed) % 3],
        )
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
    assert [preview.shape for preview in previews] == [(order.edge, order.edge, 3)] * 3
    assert len({preview.tobytes() for preview in previews}) == 3
    np.testing.assert_array_equal(final, lane.wanted(order))


@pytest.mark.slow
def test_a_decoder_that_is_lost_with_its_folder_costs_neither_model_a_pixel(lane: Lane) -> None:
    """The folder goes away, and the decoder goes on. It dies in the middle of long renders of both
    models; the next ones fail to start until the folder is back, and then the render goes on from
    its checkpoint. The other model just goes on."""
    killed = Order("flux", 80, LONG, other_edge=LARGE_EDGE, loras=(INK, OIL))
    other, waiting = Order("xl", 80, LONG, loras=(OIL,)), Order("flux", 81, loras=(INK,))
    folder = lane.weights["flux"]
    away = folder.with_name("away")
    with ThreadPoolExecutor(4) as clients:
        picture = clients.submit(lane.drawn, killed)
        wait_until(lambda: lane.render(killed).saved_passes, "it has a checkpoint")
        folder.rename(away)
        try:
            before = lane.render(killed).pass_no
            wait_until(lambda: lane.render(killed).pass_no > before, "the decoder goes on")
            [pid] = lane.cluster.pids("ServeReplica:families:Decoder-flux")
            os.kill(pid, signal.SIGSTOP)  # so that it is not done before the other one has begun
            beside_it = clients.submit(lane.drawn, other)
            wait_until(lambda: lane.render(other).pass_no, "the other model draws")
            os.kill(pid, signal.SIGKILL)
            saved, under_way = lane.render(killed), lane.render(other)
            assert (saved.state, under_way.state) == (RenderState.RENDERING, RenderState.RENDERING)
            wait_until(lambda: str(folder) in lane.said_of("Decoder-flux"), "no new one starts")
            wait_until(lambda: not lane.available()["flux"], "the model is not available")
            assert lane.available() == {"xl": True, "flux": False}
            late = clients.submit(lane.drawn, waiting)
            wait_until(lambda: lane.jobs(waiting), "an order for it is accepted, and waits")
        finally:
            away.rename(folder)
        furthest_back = saved.pass_no
        while not picture.done():
            furthest_back = min(furthest_back, lane.render(killed).pass_no)
            time.sleep(0.05)
        for order, drawn in ((killed, picture), (other, beside_it), (waiting, late)):
            np.testing.assert_array_equal(drawn.result(), lane.wanted(order), str(order))
            render = lane.render(order)
            assert (render.state, render.attempts) == (RenderState.SUCCEEDED, 0)
    assert furthest_back >= saved.saved_passes > 0, "no pass of the checkpoint is done again"
    wait_until(lambda: lane.available()["flux"], "the model is available again")
