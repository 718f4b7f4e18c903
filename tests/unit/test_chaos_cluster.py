"""What the proof of a cluster run computes from records, and the figures that it makes of them."""

from __future__ import annotations

from pathlib import Path

from engine.decoders.paced import PacedDecoder
from scripts.chaos_cluster.proof import Moved, Pass, moved, wrong_slots
from scripts.chaos_cluster.run import GOALS, Outcome, figures
from tests.stages.engine_kit import spec

LOST, OTHER = 1, 2
WANTED = {"a/0": 8, "b/0": 8}


def stream(image: str, pid: int, begins: float, numbers: range, fence: str = "1.1") -> list[Pass]:
    """A pass a second."""
    return [Pass(begins + i, pid, image, fence, number) for i, number in enumerate(numbers)]


def test_recovery_counts_from_the_kill_to_the_first_pass_elsewhere() -> None:
    made = stream("a/0", LOST, 10.0, range(1, 4)) + stream("a/0", OTHER, 17.5, range(4, 9))
    assert moved(made, {LOST}, at=12.5, wanted=WANTED) == [Moved("a/0", 5.0, lost=0)]


def test_passes_that_are_drawn_again_are_counted() -> None:
    made = stream("a/0", LOST, 10.0, range(1, 5)) + stream("a/0", OTHER, 17.0, range(2, 9))
    assert moved(made, {LOST}, at=13.5, wanted=WANTED) == [Moved("a/0", 3.5, lost=3)]


def test_an_image_that_is_not_drawn_again_is_seen() -> None:
    made = stream("a/0", LOST, 10.0, range(1, 4))
    assert moved(made, {LOST}, at=12.5, wanted=WANTED) == [Moved("a/0", None, lost=0)]


def test_images_elsewhere_and_those_that_were_done_have_not_moved() -> None:
    elsewhere = stream("a/0", OTHER, 10.0, range(1, 9))
    done = stream("b/0", LOST, 4.0, range(1, 9))
    assert moved(elsewhere + done, {LOST}, at=12.5, wanted=WANTED) == []


def test_a_cut_node_goes_on_drawing_and_does_not_count() -> None:
    cut = stream("a/0", LOST, 10.0, range(1, 6))
    made = cut + stream("a/0", OTHER, 15.0, range(4, 9), "1.2")
    (one,) = moved(sorted(made), {LOST}, at=12.5, wanted=WANTED)
    assert one.seconds == 2.5


def test_a_batch_wider_than_the_slots_is_seen() -> None:
    batch = [Pass(10.0, LOST, f"{image}/0", "1.1", 1) for image in "abc"]
    assert list(wrong_slots(batch, slots=3)) == []
    assert len(list(wrong_slots(batch, slots=2))) == 1


def test_one_stream_in_two_processes_is_seen() -> None:
    made = stream("a/0", LOST, 10.0, range(1, 4)) + stream("a/0", OTHER, 11.0, range(2, 4))
    assert len(list(wrong_slots(made, slots=4))) == 1


def outcome(stage: str, errors: int = 0, **numbers: float) -> Outcome:
    said = [(0.0, "sdk", "broken")] * errors
    return Outcome(stage, dict(numbers), {}, said, [], 9, 1.0)


def test_figures_are_the_worst_of_times_and_the_sum_of_counts() -> None:
    found = figures(
        [
            outcome("cut", partition_recovery_s=4.0, errors=1),
            outcome("cut-hearing", partition_recovery_s=6.0),
            outcome("roll-config", rolling_update_failed_requests=1),
            outcome(
                "roll-code", rolling_update_failed_requests=2, partition_recovery_s=float("nan")
            ),
        ]
    )
    assert found["partition_recovery_s"] == 6.0
    assert found["rolling_update_failed_requests"] == 3
    assert (found["lost"], found["client_errors"]) == (0, 1)
    assert found["db_failover_s"] is None, "its stage did not run"
    assert found.keys() >= GOALS.keys()


def test_decoders_write_down_each_pass_of_each_render(tmp_path: Path) -> None:
    decoder = PacedDecoder(0, 0, passes_folder=str(tmp_path))
    renders = [decoder.begin(spec(f"{job}/0/1.1", passes=2), None) for job in "ab"]
    for _ in range(2):
        decoder.step(renders)
    (record,) = tmp_path.iterdir()
    lines = [line.split() for line in record.read_text().splitlines()]
    assert [line[1:] for line in lines] == [
        ["a/0/1.1", "1"], ["b/0/1.1", "1"], ["a/0/1.1", "2"], ["b/0/1.1", "2"],
    ]  # fmt: skip
    assert lines[0][0] == lines[1][0] <= lines[2][0]
