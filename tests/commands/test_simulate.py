"""`meltproof simulate` as an operator runs it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from serve_app.__main__ import main
from serve_app.config.serve_file import load_serve_config, parse_serve_config
from serve_app.operate.simulated import Assumptions, simulated

PACED = "configs/paced.yaml"
LANES = "configs/two-lanes.yaml"


def trace(folder: Path) -> Path:
    """A hundred requests in twenty seconds."""
    path = folder / "trace.csv"
    rows = "".join(f"{n / 5},tenant-{n % 7},free,{1 + n % 4}\n" for n in range(100))
    path.write_text("seconds,tenant,tier,images\n" + rows, encoding="utf-8")
    return path


def test_the_same_seed_writes_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []
    for run in ("one", "two"):
        folder = tmp_path / run
        folder.mkdir()
        given = ["simulate", PACED, "--trace", str(trace(tmp_path)), "--failures-per-hour", "200"]
        assert main([*given, "--json", str(folder / "f"), "--chrome-trace", str(folder / "t")]) == 0
        written.append(
            (capsys.readouterr().out, *(p.read_bytes() for p in sorted(folder.iterdir())))
        )
    assert written[0] == written[1]


def test_a_run_is_told_as_table_json_plot_and_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"--json": "f.json", "--plot": "p.png", "--chrome-trace": "t.json"}
    files = [text for option, name in names.items() for text in (option, str(tmp_path / name))]
    given = ["simulate", PACED, "--trace", str(trace(tmp_path)), "--compare", PACED]
    assert main([*given, *files]) == 0
    assert "wait p95, s" in capsys.readouterr().out

    ours, other = json.loads((tmp_path / "f.json").read_text())["runs"]
    assert ours == other
    assert ours["tiers"]["free"]["jobs"] == 100
    assert ours["all"]["pictures"] == 250
    assert ours["all"]["unfinished"] == 0
    with Image.open(tmp_path / "p.png") as plot:
        assert plot.size[0] > 1000
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    drawn = [event for event in events if event["name"].startswith("job ")]
    assert len(drawn) == 250
    slots = sorted((e["pid"], e["tid"], e["ts"], e["ts"] + e["dur"]) for e in drawn)
    for one, after in pairwise(slots):
        assert one[:2] != after[:2] or one[3] <= after[2], "two renders in one slot"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([PACED, "--trace", "no.csv"], "no.csv: cannot be read"),
        ([LANES, "--scenario", "step"], "has the queues chat (meltproof-paced), api (meltproof-"),
        ([LANES, "--scenario", "step", "--lane", "x"], "has no queue and no model 'x'"),
        ([LANES, "--scenario", "step", "--lane", "meltproof-paced"], "has several models 'melt"),
        ([PACED, "--scenario", "step", "--compare", "kpa"], "kpa: no such file, nor one of ray-"),
        (
            ["configs/paced-autoscaling.yaml", "--scenario", "step", "--compare", PACED],
            "args.tiers: has no 'plus'",
        ),
        (["no.yaml", "--scenario", "step"], "no.yaml: cannot be read"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_a_line(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *given]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("bad", ["-1", "9:8", "nan", "soon"])
def test_a_cold_start_must_make_sense(bad: str) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", PACED, "--scenario", "step", f"--cold-start={bad}"])


def test_rivals_and_the_optimum_stand_beside_the_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["simulate", "configs/paced-autoscaling.yaml", "--trace", str(trace(tmp_path))]
    assert main([*given, "--compare", "knative", "static", "--optimum", "--cold-start", "2"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["paced-autoscaling", "knative", "static"]
    over = next(row.split()[-3:] for row in rows if "over the optimum" in row)
    assert all(float(ratio) > 0 for ratio in over)
    assert float(over[0]) <= float(over[2])


def test_the_launch_day_of_the_examples_costs_what_it_says() -> None:
    path = Path("examples/launch-day.yaml")
    file = parse_serve_config(load_serve_config(path), str(path))
    run = simulated(path, file, None, Assumptions(nodes=7))
    assert run.lane.picture_seconds == pytest.approx(20, rel=1e-3)
    assert (run.lane.min_replicas, run.lane.max_replicas, run.lane.nodes) == (4, 240, 7)
    assert (set(run.lane.tiers), run.wait_seconds) == ({"free", "plus", "pro"}, 60)
    assert run.new_policy is not None
