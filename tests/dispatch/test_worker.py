"""Models in a process that can be killed: a call that ends or hangs it fails alone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from ray.exceptions import RayTaskError

from deployments.safety import SafetyReplica
from deployments.slots import stage_unavailable
from dispatch.batching import Batching
from dispatch.local_stages import ClassifierOptions, EncoderOptions, LocalEncoder
from dispatch.ports import CallFailed, StageUnavailable
from dispatch.stage_worker import StageWorker
from engine.child_process import ChildProcess
from engine.policy import DEFAULT_POLICY, Look, ScreenStage
from engine.prompt_encoder import EncodedPrompt, PromptText
from engine.worker import CallLimits, ItemFailed, Worker, WorkerBroken

TARGET = "tests.dispatch.worker_target:Target"
LIMITS = CallLimits(cpu_seconds=1, wall_seconds=20.0)


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(TARGET, {}, LIMITS)
    yield made
    made.close()


@pytest.fixture
async def stage() -> AsyncIterator[StageWorker]:
    made = await StageWorker.start(TARGET, {}, CallLimits(wall_seconds=0.5))
    yield made
    made.close()


def test_calls_are_answered_by_one_process(worker: Worker) -> None:
    pid = worker.pid
    assert worker.call("one", "fox") == "FOX"
    assert worker.call_each("upper", ["fox", "hare"]) == ["FOX", "HARE"]
    assert worker.call_each("upper", []) == []
    assert worker.pid == pid


@pytest.mark.parametrize(
    ("bad", "said"),
    [("die", "ended its process"), ("burn", "more than 1 s of processor"), ("raise", "KeyError")],
)
def test_of_a_batch_only_the_item_at_fault_fails(worker: Worker, bad: str, said: str) -> None:
    one, two, three = worker.call_each("upper", ["fox", bad, "hare"])
    assert (one, three) == ("FOX", "HARE")
    assert isinstance(two, ItemFailed)
    assert said in str(two)
    assert worker.call("one", "fox") == "FOX"


def test_a_call_that_waits_for_ever_is_ended_too() -> None:
    worker = Worker(TARGET, {}, CallLimits(wall_seconds=1.0))
    with pytest.raises(ItemFailed):
        worker.call("one", "sleep")
    worker.close()


def test_a_process_that_something_else_killed_fails_no_call(worker: Worker, tmp_path: Path) -> None:
    assert worker.call("one", f"die once {tmp_path / 'a'}").startswith("DIE ONCE")
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    assert worker.call_each("upper", ["fox"]) == ["FOX"]


def test_what_cannot_be_built_is_said() -> None:
    with pytest.raises(WorkerBroken, match="ValueError: weights are missing"):
        Worker(TARGET, {"broken": "weights are missing"})


def test_what_a_process_said_counts_although_it_has_ended_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ended(child: ChildProcess) -> bool:
        return child._process.wait(60) is None

    monkeypatch.setattr(ChildProcess, "alive", property(ended))
    with pytest.raises(WorkerBroken, match="ValueError: weights are missing"):
        Worker(TARGET, {"broken": "weights are missing"})


def test_the_process_dies_with_its_parent() -> None:
    code = (
        "from engine.worker import Worker; import sys; from concurrent.futures import *\n"
        f"worker = Worker({TARGET!r}, dict())\n"
        "print(worker.pid, flush=True); worker.call('one', 'burn')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


async def test_the_event_loop_is_free_while_a_call_hangs(stage: StageWorker) -> None:
    hangs = asyncio.create_task(stage.call("one", "sleep"))
    waits = asyncio.create_task(stage.call_each("upper", ["fox", "raise"]))
    turns = 0
    while not hangs.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert turns > 10
    with pytest.raises(CallFailed, match="ended its process"):
        await hangs
    fox, raised = await waits
    assert fox == "FOX"
    assert isinstance(raised, CallFailed)
    stage.check()


async def test_a_replica_whose_models_do_not_load_any_more_is_not_healthy(
    stage: StageWorker,
) -> None:
    stage._worker._build = "tests.dispatch.worker_target:Gone"
    assert stage.pid is not None
    os.kill(stage.pid, signal.SIGKILL)
    with pytest.raises(StageUnavailable, match="Gone"):
        await stage.call("one", "fox")
    with pytest.raises(WorkerBroken):
        stage.check()


async def test_the_classifier_screens_in_its_own_process() -> None:
    replica = object.__new__(SafetyReplica)
    await replica.__init__(ClassifierOptions(()))  # type: ignore[misc]
    one, two = np.zeros((1, 384), np.float16), np.zeros((2, 384), np.float16)
    look = Look(ScreenStage.PROMPT)
    bad = PromptText("a swastika")
    found = await replica.screen_prompt(bad, one, look)
    assert (found.categories, found.screen) == (("hate",), "prompt")
    assert found.policy == DEFAULT_POLICY.name
    assert not (await replica.screen_prompt(PromptText("a fox"), one, look)).blocked
    assert not (await replica.screen_prompt(PromptText("a fox", "a hare"), two, look)).blocked
    negative = await replica.screen_prompt(PromptText("a fox", "a swastika"), two, look)
    assert not negative.blocked
    assert dict(negative.scores)["negative-prompt/hate"] == 1.0
    assert dict(negative.scores)["hate"] < 0.5
    both = await replica.screen_prompt(PromptText("a swastika", "a swastika"), two, look)
    assert both.categories == ("hate",)
    final = Look(ScreenStage.FINAL)
    assert not (await replica.screen_image(np.zeros((8, 8, 3), np.uint8), final)).blocked
    flags = {"version": "ours", "rules": [{"categories": ["hate"], "actions": {"flag": 0.9}}]}
    replica.reconfigure({"moderation": flags})
    flagged = await replica.screen_prompt(bad, one, look)
    assert (flagged.blocked, flagged.flagged) == (False, ("hate",))
    assert flagged.policy.startswith("ours@")
    replica.reconfigure({})
    assert (await replica.screen_prompt(bad, one, look)).blocked
    replica.check_health()
    replica._classifier.close()


async def test_items_that_wait_go_together_and_only_those_at_fault_fail(stage: StageWorker) -> None:
    """The first goes alone; those that come meanwhile are one batch."""
    batching = Batching(stage, "upper", most=8)
    words = ["fox", "hare", "raise", "owl"]
    first, *rest = await asyncio.gather(*map(batching.call, words), return_exceptions=True)
    assert (first, rest[0], rest[2]) == ("FOX", "HARE", "OWL")
    assert isinstance(rest[1], CallFailed)
    os.kill(stage.pid or 0, signal.SIGKILL)
    assert await batching.call("fox") == "FOX"


async def test_a_first_item_may_wait_for_others(stage: StageWorker) -> None:
    """Then one process answers all of them at once, but never more than fit."""
    batching = Batching(stage, "sized", most=2, wait_seconds=0.05)
    assert await asyncio.gather(*map(batching.call, ["fox", "hare", "owl"])) == [2, 2, 1]


async def test_the_encoder_encodes_in_its_own_process() -> None:
    """Each call gets its own words' answer; words that cannot be read fail alone."""
    encoder = await LocalEncoder.start(EncoderOptions("masked", max_batch=4))
    try:
        alone = await encoder.encode(PromptText("a fox"))
        words = PromptText("a hare"), PromptText("a fox"), PromptText("an owl", negative="a hare")
        hare, fox, refused = await asyncio.gather(
            *map(encoder.encode, words), return_exceptions=True
        )
        assert isinstance(fox, EncodedPrompt)
        assert isinstance(hare, EncodedPrompt)
        assert isinstance(refused, CallFailed)
        assert fox.conditioning.digest == alone.conditioning.digest
        assert hare.conditioning.digest != alone.conditioning.digest
        encoder.check()
    finally:
        encoder.close()


def test_stages_import_no_tensor_library() -> None:
    """What wires the stages imports these files; the models are in the workers alone."""
    stages = "deployments.safety, deployments.encoder, deployments.local_stages"
    code = f"import {stages}, sys; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(ran.stdout.split())
    assert not loaded & {"torch", "onnxruntime", "transformers", "tokenizers", "safetensors"}


@pytest.mark.parametrize("kind", [CallFailed, StageUnavailable])
def test_what_a_replica_raises_reaches_the_dispatcher_as_that(kind: type[Exception]) -> None:
    crossed = RayTaskError("screen_prompt", "traceback", kind("it burns")).as_instanceof_cause()
    told = stage_unavailable(crossed, "no answer")
    assert type(told) is kind
    assert str(told) == "it burns"
