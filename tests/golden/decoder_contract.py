"""What every decoder family promises, as one suite. A family runs it by subclassing
`DecoderContract` in its own test module and giving it a `make_decoder` fixture.

The engine is stepped by hand, so that who joins and leaves at which pass is exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from engine.decoder import Decoder, DecodeState, Plan
from engine.engine import DecoderEngine
from engine.render import Checkpoint, Conditioning, Pixels, RenderSpec, RenderUpdate, UpdateKind
from engine.scene import SceneCodes

PASSES = 6
BOS, BOI = 1, 5
"""Text tokens that begin a prompt, and the picture, of the tiny checkpoints in these tests."""
CONCEPTS = 12
"""That a tiny model remembers."""


def conditioning(prompt: int, length: int = 5) -> Conditioning:
    """A made-up prompt, as the encoders of all families together would give it."""
    random = np.random.default_rng(prompt)
    pooled = random.normal(0, 0.5, (length, 384)).astype(np.float16).mean(axis=0)
    input_ids = np.array([BOS, *random.integers(6, 300, length), BOI])
    scene = SceneCodes(((prompt % CONCEPTS, prompt % 5 - 1, 1 + prompt % 3),), prompt % 4 - 1)
    return Conditioning.from_numpy(
        f"{prompt} {length}",
        pooled=pooled,
        input_ids=input_ids,
        **scene.arrays(),
    )


def spec(render_id: str = "mine", seed: int = 7, passes: int = PASSES, **more: Any) -> RenderSpec:
    more.setdefault("conditioning", conditioning(seed))
    return RenderSpec(render_id, seed=seed, passes=passes, **more)


@dataclass
class Heard:
    """Everything that an engine said, by render."""

    updates: dict[str, list[RenderUpdate]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, update: RenderUpdate) -> None:
        self.updates[update.render_id].append(update)

    def kinds(self, render_id: str) -> list[UpdateKind]:
        return [update.kind for update in self.updates[render_id]]

    def checkpoints(self, render_id: str) -> dict[int, bytes]:
        """Packed checkpoint by pass number."""
        return {u.pass_no: u.checkpoint for u in self.updates[render_id] if u.checkpoint}

    def pixels(self, render_id: str) -> Pixels:
        (done,) = (u for u in self.updates[render_id] if u.kind is UpdateKind.DONE)
        assert done.pixels is not None
        return done.pixels


def draw(decoder: Decoder, *specs: RenderSpec, slots: int = 8) -> Heard:
    """All of these to their end, in one batch where the keys agree."""
    heard = Heard()
    engine = DecoderEngine(decoder, slots, heard)
    for each in specs:
        assert engine.add(each)
    assert engine.drain()
    engine.stop()
    return heard


def assert_same(heard: Heard, other: Heard, render_id: str = "mine") -> None:
    """The same tokens after every pass that both have seen, and the same picture."""
    ours, theirs = heard.checkpoints(render_id), other.checkpoints(render_id)
    common = ours.keys() & theirs.keys()
    assert {k: ours[k] for k in common} == {k: theirs[k] for k in common}
    np.testing.assert_array_equal(heard.pixels(render_id), other.pixels(render_id))


class Poisoned:
    """A decoder whose pass raises when one render is in it, with half of the rows done already."""

    def __init__(self, decoder: Decoder, render_id: str, from_pass: int) -> None:
        self._decoder = decoder
        self._render_id = render_id
        self._from_pass = from_pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def step(self, batch: Sequence[DecodeState]) -> None:
        if any(self._is_poison(render) for render in batch):
            healthy = [render for render in batch if not self._is_poison(render)]
            self._decoder.step(healthy[: (len(healthy) + 1) // 2])
            raise RuntimeError("poison")
        self._decoder.step(batch)

    def _is_poison(self, render: DecodeState) -> bool:
        return render.spec.render_id == self._render_id and render.pass_no >= self._from_pass


class Rare:
    """A decoder whose plan asks for no checkpoint but those that leaving and the last pass need.
    `held`: states that it has begun and not dropped."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.held: list[DecodeState] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def plan(self, spec: RenderSpec) -> Plan:
        return replace(self._decoder.plan(spec), checkpoint_seconds=1e9)

    def begin(self, spec: RenderSpec, checkpoint: Checkpoint | None) -> DecodeState:
        self.held.append(self._decoder.begin(spec, checkpoint))
        return self.held[-1]

    def drop(self, render: DecodeState) -> None:
        self.held = [state for state in self.held if state is not render]
        self._decoder.drop(render)


class DecoderContract:
    @pytest.fixture
    def make_decoder(self) -> Callable[[], Decoder]:
        raise NotImplementedError("a family gives its own")

    @pytest.fixture
    def decoder(self, make_decoder: Callable[[], Decoder]) -> Decoder:
        return make_decoder()

    def test_speaks_the_protocol(self, decoder: Decoder) -> None:
        assert isinstance(decoder, Decoder)
        assert decoder.plan(spec()).passes == PASSES

    def test_every_pass_is_a_small_checkpoint(self, decoder: Decoder) -> None:
        heard = draw(decoder, spec())
        assert heard.kinds("mine") == [
            UpdateKind.ACCEPTED,
            *[UpdateKind.PASS] * PASSES,
            UpdateKind.DONE,
        ]
        checkpoints = heard.checkpoints("mine")
        assert list(checkpoints) == list(range(1, PASSES + 1))
        assert len(set(checkpoints.values())) == PASSES
        assert max(map(len, checkpoints.values())) <= 4096

    def test_the_picture_has_the_promised_size(self, decoder: Decoder) -> None:
        width, height = decoder.picture_size
        heard = draw(decoder, spec(preview_after=(1,)))
        preview = heard.updates["mine"][1].preview
        assert preview is not None
        for pixels in (preview, heard.pixels("mine")):
            assert pixels.shape == (height, width, 3)
            assert pixels.dtype == np.uint8

    def test_the_seed_decides_the_picture(self, decoder: Decoder) -> None:
        prompt = conditioning(1)
        first, again, other = (
            draw(decoder, spec(seed=seed, conditioning=prompt)) for seed in (7, 7, 8)
        )
        assert_same(first, again)
        assert (first.pixels("mine") != other.pixels("mine")).any()

    def test_the_prompt_decides_the_picture(self, decoder: Decoder) -> None:
        one, other = (draw(decoder, spec(conditioning=conditioning(prompt))) for prompt in (1, 2))
        assert (one.pixels("mine") != other.pixels("mine")).any()

    def test_alone_equals_in_a_busy_batch(self, decoder: Decoder) -> None:
        """Others join before, with and after it, with other guidance, passes and prompt lengths."""
        alone = draw(decoder, spec())
        heard = Heard()
        engine = DecoderEngine(decoder, 4, heard)
        engine.add(spec("early", 1, 3, guidance=1.0, conditioning=conditioning(1, 9)))
        engine.step()
        engine.add(spec("other", 2, 9, guidance=5.0, conditioning=conditioning(2, 1)))
        engine.add(spec())
        engine.step()
        engine.step()
        engine.add(spec("late", 3, 2, guidance=1.5, preview_after=(1,)))
        engine.step()
        engine.abort("other")
        engine.add(spec("later", 4, 1))
        assert engine.drain()
        engine.stop()
        assert_same(heard, alone)

    def test_restored_at_any_pass_equals_uninterrupted(
        self, make_decoder: Callable[[], Decoder]
    ) -> None:
        whole = draw(make_decoder(), spec())
        fresh = make_decoder()
        for pass_no, checkpoint in whole.checkpoints("mine").items():
            heard = draw(fresh, spec(checkpoint=checkpoint), spec("neighbour", 9, 2))
            assert heard.updates["mine"][0].pass_no == pass_no
            assert list(heard.checkpoints("mine")) == list(range(pass_no + 1, PASSES + 1))
            assert_same(heard, whole)

    def test_abort_frees_the_slot_at_the_next_boundary(self, decoder: Decoder) -> None:
        heard = Heard()
        engine = DecoderEngine(decoder, 2, heard)
        engine.add(spec("gone", 1))
        engine.add(spec())
        engine.step()
        said = len(heard.updates["gone"])
        engine.abort("gone")
        engine.step()
        assert engine.free_slots == 1
        assert engine.add(spec("next", 3))
        assert engine.drain()
        engine.stop()
        assert len(heard.updates["gone"]) == said
        assert heard.kinds("next")[-1] is UpdateKind.DONE
        assert_same(heard, draw(decoder, spec()))

    def test_a_poison_render_fails_alone(self, decoder: Decoder) -> None:
        specs = [spec(), spec("poison", 2), spec("third", 3, 4), spec("fourth", 4)]
        poisoned: Any = Poisoned(decoder, "poison", from_pass=2)
        heard = draw(poisoned, *specs)
        assert heard.kinds("poison")[-1] is UpdateKind.FAILED
        assert heard.updates["poison"][-1].error == "RuntimeError: poison"
        assert list(heard.checkpoints("poison")) == [1, 2]
        for each in specs:
            if each.render_id != "poison":
                assert_same(heard, draw(decoder, each), each.render_id)

    def test_rare_checkpoints_change_nothing(self, decoder: Decoder) -> None:
        """Also of one that leaves, and goes on beside others."""
        rare: Any = Rare(decoder)
        heard = Heard()
        engine = DecoderEngine(rare, 2, heard)
        engine.add(spec())
        engine.add(spec("other", 2))
        for _ in range(3):
            engine.step()
        engine.leave("mine")
        engine.step()
        left = heard.updates["mine"][-1]
        assert (left.kind, left.pass_no) == (UpdateKind.LEFT, 4)
        assert engine.drain()
        engine.stop()
        assert list(heard.checkpoints("other")) == [PASSES]
        assert_same(heard, draw(decoder, spec("other", 2)), "other")
        again = draw(rare, spec(checkpoint=left.checkpoint), spec("third", 3))
        assert list(again.checkpoints("mine")) == [PASSES]
        assert_same(again, draw(decoder, spec()))
        assert rare.held == [], "every state was dropped"

    def test_previews_change_nothing(self, decoder: Decoder) -> None:
        watched = draw(decoder, spec(preview_after=tuple(range(1, PASSES + 1))))
        previews = [u.pass_no for u in watched.updates["mine"] if u.preview is not None]
        assert previews == list(range(1, PASSES)), "the last pass has the picture itself"
        assert_same(watched, draw(decoder, spec()))

    def test_a_checkpoint_is_a_copy(self, decoder: Decoder) -> None:
        render = decoder.begin(spec(), None)
        decoder.step([render])
        taken = decoder.checkpoint(render)
        before = taken.to_bytes()
        decoder.step([render])
        assert taken.to_bytes() == before
        assert decoder.checkpoint(render).to_bytes() != before

    def test_a_checkpoint_of_another_model_begins_again(self, decoder: Decoder) -> None:
        whole = draw(decoder, spec())
        mine = Checkpoint.from_bytes(whole.checkpoints("mine")[3])
        assert mine.model == decoder.model
        foreign = replace(mine, model=mine.model + "-other").to_bytes()
        heard = draw(decoder, spec(checkpoint=foreign))
        assert heard.updates["mine"][0].pass_no == 0
        assert list(heard.checkpoints("mine")) == list(range(1, PASSES + 1))
        assert_same(heard, whole)

    @pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
    def test_a_damaged_checkpoint_begins_again(self, decoder: Decoder, damage: str) -> None:
        whole = draw(decoder, spec())
        mine = Checkpoint.from_bytes(whole.checkpoints("mine")[3])
        damaged = {
            "cut": replace(mine, state=mine.state[:-1]).to_bytes(),
            "empty": replace(mine, state=b"").to_bytes(),
            "noise": b"\xff" * 40,
        }[damage]
        heard = draw(decoder, spec(checkpoint=damaged))
        assert list(heard.checkpoints("mine")) == list(range(1, PASSES + 1))
        assert_same(heard, whole)

    def test_what_it_cannot_draw_is_rejected_by_name(self, decoder: Decoder) -> None:
        heard = Heard()
        engine = DecoderEngine(decoder, 1, heard)
        engine.add(spec(passes=0))
        assert engine.drain()
        engine.stop()
        last = heard.updates["mine"][-1]
        assert (last.kind, last.rejected) == (UpdateKind.FAILED, True)
        assert "passes" in (last.error or "")
