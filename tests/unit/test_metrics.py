"""What is counted, by how many processes, with which labels, and where it is read."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deployments.metrics import catalogue as c
from deployments.metrics import exporter, shared_values
from deployments.metrics.energy import CpuEnergy
from deployments.metrics.exporter import Exporter
from deployments.metrics.process import MetricsPlace, metrics_at
from deployments.metrics.recorder import Metrics
from deployments.metrics.reports import DispatchMetrics, ScalingCounts, count_verdict
from deployments.metrics.shared_values import SharedValues
from dispatch.metering import Interruption, LedgerTrouble, PreviewEnd, SettledImage
from dispatch.stage_times import Passed, StageTimes
from engine.policy import ScreenStage
from engine.verdict import Verdict
from jobs.batches import OPEN, BatchState, OpenBatches
from jobs.job import Job, RenderState
from jobs.lease import Outcome
from serve_app.batches.feeder import show_open
from serve_app.operate.local_cluster import free_port
from serve_app.wire import errors
from tests.stages.ledger_kit import wait_until, wish
from tests.stages.metrics_kit import all_samples, samples

CHILD = """
import sys, time
from pathlib import Path
from deployments.metrics import catalogue as c, exporter
from deployments.metrics.process import MetricsPlace, metrics_at
exporter.RETRY_SECONDS = 0.05
metrics = metrics_at(MetricsPlace(sys.argv[1], "127.0.0.1", int(sys.argv[2])))
metrics.add(c.PASSES, "m", amount=float(sys.argv[3]))
metrics.observe(c.BATCH_WIDTH, "m", value=2)
metrics.show(c.SLOTS, "m", "total", value=4)
metrics.show(c.DECODERS_AWAY, "m", value=float(sys.argv[3]))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def values(tmp_path: Path) -> Iterator[SharedValues]:
    opened = SharedValues(tmp_path / "values")
    yield opened
    opened.close()


def started(directory: Path, port: int, passes: int) -> subprocess.Popen[str]:
    """A process that has counted so many passes."""
    arguments = [sys.executable, "-c", CHILD, str(directory), str(port), str(passes)]
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def killed(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGKILL)
        child.communicate()


def page(port: int) -> str:
    """As a scrape gets it; nothing while no process has the port."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    except httpx.TransportError:
        return ""


def test_processes_of_a_node_are_one_page_whichever_of_them_dies(tmp_path: Path) -> None:
    port = free_port()
    first = started(tmp_path, port, 3)
    second = started(tmp_path, port, 4)
    try:
        wait_until(lambda: 'passes_total{model="m"} 7.0' in page(port), "both are on it")
        assert 'slots{model="m",state="total"} 8.0' in page(port)
        assert 'decoders_away{model="m"} 4.0' in page(port)
        killed(first)  # which had the port
        wait_until(lambda: page(port), "the other one has it now")
        assert 'passes_total{model="m"} 7.0' in page(port)
        assert 'batch_width_bucket{le="2.0",model="m"} 2.0' in page(port)
        assert 'slots{model="m",state="total"} 4.0' in page(port)
        files = sorted(tmp_path.iterdir())
        third = started(tmp_path, port, 5)  # goes on with what the first one had counted
        try:
            assert 'passes_total{model="m"} 12.0' in page(port)
            assert sorted(tmp_path.iterdir()) == files
        finally:
            killed(third)
    finally:
        killed(first)
        killed(second)


def test_a_file_that_was_torn_begins_anew(values: SharedValues, tmp_path: Path) -> None:
    Metrics(values).add(c.PASSES, "m")
    values.close()
    (tmp_path / "values" / "counter_0.db").write_bytes(b"\xff" * shared_values.FILE_BYTES)
    again = SharedValues(tmp_path / "values")
    Metrics(again).add(c.PASSES, "m")
    assert samples(again)("meltproof_passes_total", model="m") == 1.0
    again.close()
    values.__init__(tmp_path / "closed")  # type: ignore[misc]  # for the fixture to close


def test_a_disk_without_room_is_no_metrics_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "posix_fallocate", full)
    metrics = metrics_at(MetricsPlace(str(tmp_path / "full"), "127.0.0.1", free_port()))
    metrics.add(c.PASSES, "m")
    (tmp_path / "file").touch()
    metrics_at(MetricsPlace(str(tmp_path / "file" / "below"), "127.0.0.1", 1)).add(c.PASSES, "m")


def test_what_a_client_sends_is_no_label(values: SharedValues) -> None:
    metrics = Metrics(values)
    for number in range(3000):
        metrics.add(c.REFUSALS, f'"}}\n{number}')
        metrics.add(c.PASSES, f"model {number}")
        metrics.observe(c.STAGE_SECONDS, f"model {number}", f"stage {number}", value=1.0)
    shown = samples(values)
    assert shown("meltproof_refusals_total", reason="other") == 3000.0
    assert shown("meltproof_passes_total", model="other") == 3000.0 - c.MOST_VALUES
    assert shown("meltproof_stage_seconds_count", model="other", stage="other") is not None
    assert len(all_samples(values)) < 2 * shared_values.SERIES


def test_a_file_takes_no_series_without_end(
    values: SharedValues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_values, "SERIES", 3)
    for reason in c.REASONS:
        Metrics(values).add(c.REFUSALS, reason)
    assert len(all_samples(values)) == 3


def test_labels_are_those_of_the_catalogue_and_kinds_too(values: SharedValues) -> None:
    metrics = Metrics(values)
    with pytest.raises(ValueError, match="zip"):
        metrics.add(c.PASSES)
    with pytest.raises(ValueError, match="is a counter, no gauge"):
        metrics.show(c.PASSES, "m", value=1.0)


def test_files_have_no_holes_and_every_series_fits(values: SharedValues) -> None:
    for file in values.live_files():
        assert file.stat().st_blocks * 512 >= shared_values.FILE_BYTES, file
    longest = "x" * 64
    metrics = Metrics(values)
    for number in range(shared_values.SERIES):
        metrics.show(
            c.Metric(f"meltproof_{number:0>40}", c.MetricKind.GAUGE, "h" * 90, (c.MODEL, c.LANE)),
            longest, longest, value=1.0,
        )  # fmt: skip
    (file,) = (file for file in values.live_files() if "livemax" in file.name)
    assert file.stat().st_size == shared_values.FILE_BYTES, "it has grown into a hole"


def test_the_catalogue_keeps_to_the_names_of_the_trade() -> None:
    assert len({one.name for one in c.CATALOGUE}) == len(c.CATALOGUE) > 30
    for one in c.CATALOGUE:
        assert re.fullmatch(r"meltproof_[a-z_]+", one.name)
        assert not one.name.endswith("_total"), "prometheus_client adds it"
        assert one.help.endswith(".")
        assert len(one.help) <= 100
        names = [label.name for label in one.labels]
        assert not {"tenant", "user", "key", "job", "prompt", "le", "pid"} & {*names}
        assert bool(one.buckets) is (one.kind is c.MetricKind.HISTOGRAM)
        assert list(one.buckets) == sorted(one.buckets)
        if one.kind is c.MetricKind.HISTOGRAM and one is not c.BATCH_WIDTH:
            assert one.name.endswith("_seconds")


def test_every_error_code_has_a_reason_of_its_own() -> None:
    def codes(of: type[errors.ApiError]) -> set[str]:
        mine = {of.code} if of.code else set()
        return mine.union(*(codes(one) for one in of.__subclasses__()))

    assert codes(errors.ApiError) <= {*c.REASONS}


def test_a_settled_image_is_timed_stage_by_stage(values: SharedValues) -> None:
    metering = DispatchMetrics(Metrics(values), "m")
    job = Job.queued("1", wish(), 0.0, None)
    times = StageTimes.of(job, 0.3, attempts=0)
    times = StageTimes(times.accepted, times.claimed).passed(Passed.ENCODED, 0.32)
    image = SettledImage(job, 0, Outcome(RenderState.SUCCEEDED), times, 1.0)
    metering.settled(image)
    metering.interrupted(Interruption.PREEMPTED)
    metering.preview(PreviewEnd.LATE)
    metering.checkpoint(1000, stored=True)
    metering.trouble(LedgerTrouble.LEASE_LOST)
    shown = samples(values)
    of_queue = {"model": "m", "stage": "queue"}
    assert shown("meltproof_stage_seconds_sum", **of_queue) == pytest.approx(0.3)
    assert shown("meltproof_stage_seconds_bucket", **of_queue, le="0.25") == 0.0
    assert shown("meltproof_stage_seconds_bucket", **of_queue, le="0.5") == 1.0
    assert shown("meltproof_stage_seconds_count", model="m", stage="encode") == 1.0
    assert shown("meltproof_stage_seconds_count", model="m", stage="store") is None
    assert shown("meltproof_images_total", model="m", outcome="succeeded") == 1.0
    assert shown("meltproof_interruptions_total", model="m", reason="preempted") == 1.0
    assert shown("meltproof_previews_total", model="m", outcome="late") == 1.0
    assert shown("meltproof_checkpoint_bytes_total", model="m", place="blob") == 1000.0
    assert shown("meltproof_ledger_errors_total", part="dispatcher", kind="lease_lost") == 1.0


def test_a_verdict_counts_once_for_each_category_that_something_is_done_about(
    values: SharedValues,
) -> None:
    metrics = Metrics(values)
    both = Verdict(True, ("sexual", "minors"), flagged=("weapons",))
    count_verdict(metrics, ScreenStage.FINAL, both)
    count_verdict(metrics, ScreenStage.PREVIEW, Verdict(blocked=False))
    found = {tuple(sample.labels.values()) for sample in all_samples(values)}
    assert {frozenset(one) for one in found} == {
        frozenset({"final", "sexual", "block"}),
        frozenset({"final", "minors", "block"}),
        frozenset({"final", "weapons", "flag"}),
        frozenset({"preview", "none", "allow"}),
    }


def test_scaling_decisions_have_bounded_causes(values: SharedValues) -> None:
    counts = ScalingCounts(Metrics(values))
    counts.wanted("a", "Decoder", 3)
    counts.decided("a", "Decoder", c.Cause.BURST, up=True)
    counts.held("a", "Decoder")
    shown, of = samples(values), {"application": "a", "deployment": "Decoder"}
    assert shown("meltproof_scaling_wanted", **of) == 3.0
    assert shown("meltproof_scaling_held_total", **of) == 1.0
    decided = shown("meltproof_scaling_decisions_total", **of, direction="up", cause="burst")
    assert decided == 1.0


def test_energy_is_read_where_it_may_be_and_goes_on_when_a_counter_wraps(tmp_path: Path) -> None:
    package, part = tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:0:0"
    for folder, used in ((package, 9_000_000), (part, 1_000_000)):
        folder.mkdir()
        (folder / "energy_uj").write_text(f"{used}\n")
        (folder / "max_energy_range_uj").write_text("10000000\n")
    energy = CpuEnergy(tmp_path)
    assert energy.joules() == {"cpu0": 0.0}
    (package / "energy_uj").write_text("9500000\n")
    assert energy.joules() == {"cpu0": 0.5}
    (package / "energy_uj").write_text("1500000\n")
    assert energy.joules() == {"cpu0": 2.5}
    (package / "energy_uj").unlink()  # as good as one that may not be read
    assert CpuEnergy(tmp_path).joules() == {}


def test_a_port_of_another_program_stops_nothing(
    values: SharedValues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "RETRY_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        serving = Exporter(values, "127.0.0.1", port)
        Metrics(values).add(c.PASSES, "m")
    wait_until(lambda: "meltproof_passes_total" in page(port), "it is served once that has gone")
    serving.stop()


def test_open_batches_are_shown_and_then_no_more(values: SharedValues) -> None:
    found = {
        BatchState.IN_PROGRESS: OpenBatches(2, lines=10, completed=3, failed=1),
        BatchState.CANCELLING: OpenBatches(1, lines=5, completed=2),
    }
    show_open(Metrics(values), "chat", found)
    shown = samples(values)
    states = [shown("meltproof_batches", lane="chat", state=state) for state in OPEN]
    assert states == [0.0, 2.0, 0.0, 1.0]
    lines = ("waiting", "completed", "failed")
    found_lines = [shown("meltproof_batch_lines", lane="chat", state=state) for state in lines]
    assert found_lines == [9.0, 5.0, 1.0]
    show_open(Metrics(values), "chat", {})
    assert {samples(values)("meltproof_batches", lane="chat", state=one) for one in OPEN} == {0.0}
