"""`meltproof plan`: arithmetic to follow, a source for every figure, a config that checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoscaling.planning.figures import KINDS, UnknownFigure, load_figures
from autoscaling.planning.plan import PlanInputs, plan
from serve_app.__main__ import main

FIGURES = load_figures()
LAUNCH = PlanInputs(700e6, 9, "sdxl-1024", "h200", 60)
ARGUMENTS = [
    *("plan", "--images-per-week", "700e6", "--peak-factor", "9", "--model", "sdxl-1024"),
    *("--gpu", "h200", "--p95-wait", "60"),
]
PAIRS = [(model, gpu) for model, rates in FIGURES.models.items() for gpu in rates]


def without(option: str) -> list[str]:
    """The arguments but for that option, which may be repeated."""
    at = ARGUMENTS.index(option) if option in ARGUMENTS else len(ARGUMENTS)
    return ARGUMENTS[:at] + ARGUMENTS[at + 2 :]


def values(inputs: PlanInputs) -> dict[str, float]:
    return {name: step.value for name, step in plan(inputs, FIGURES).items()}


def test_the_launch_by_hand() -> None:
    found = values(LAUNCH)
    assert found["mean"] == pytest.approx(1157.4, rel=1e-4)
    assert found["gpus_on_average"] == 503  # 1157.41 / (2.399 x 0.96) = 502.6
    assert found["gpus_at_peak"] == 4524  # 10416.7 / 2.30304 = 4523.0
    assert found["gpu_nodes_at_peak"] == 566
    assert found["gateways"] == 330  # 10416.7 x 0.019 / 0.6 = 329.9
    assert found["databases"] == 1  # 10416.7 / 10667 = 0.98
    assert found["write_ahead_log"] == pytest.approx(97.9, rel=1e-3)
    assert found["picture_space"] == 70
    assert found["gpu_hours"] == pytest.approx(84_429 * 1.15, rel=1e-4)
    assert found["energy_per_image"] == pytest.approx(0.1155, rel=1e-3)
    assert found["cost_per_image"] == pytest.approx(0.000555, rel=1e-3)


def test_every_figure_says_where_it_is_from() -> None:
    groups = [FIGURES.service, *FIGURES.gpus.values(), *FIGURES.models.values()]
    figures = [figure for group in groups for figure in group.values()]
    assert all(figure.kind in KINDS and len(figure.source) > 10 for figure in figures)
    used = {name for step in plan(LAUNCH, FIGURES).values() for name in step.figures}
    assert used == {*FIGURES.service, *FIGURES.gpus["h200"], "images_per_gpu_second"}


def test_a_wait_shorter_than_a_cold_start_keeps_the_peak() -> None:
    short = values(PlanInputs(700e6, 9, "sdxl-1024", "h200", 5))
    assert short["gpus_always_on"] == short["gpus_at_peak"]
    assert short["gpu_hours"] == short["gpus_at_peak"] * 168
    quick = PlanInputs(700e6, 9, "sdxl-1024", "h200", 5, given={"cold_start_seconds": 3})
    assert values(quick)["gpus_always_on"] == 503


def test_the_arithmetic_is_shown_with_its_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, "--set", "dollars_per_hour=2", "--images-per-job", "2"]) == 0
    told = capsys.readouterr().out
    assert "= (10,417 / 2.303) rounded up" in told
    assert "images per gpu second 2.399: estimate: MLPerf" in told
    assert "database core seconds 0.0009: measured: CPU of PostgreSQL" in told
    assert "dollars per hour 2: given: by you" in told
    assert "= 10,417 / 2\n" in told


@pytest.mark.parametrize(("model", "gpu"), PAIRS)
def test_what_is_planned_makes_a_config_that_checks(model: str, gpu: str, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    options = ["--images-per-week", "3e7", "--peak-factor", "9", "--p95-wait", "60"]
    assert main(["plan", "--model", model, "--gpu", gpu, *options, "--out", str(file)]) == 0
    assert main(["check", str(file), "--nodes", "40", "--cpus", "32", "--gpus", "8"]) == 0


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--images-per-week", "0", "above 0"),
        ("--images-per-week", "nan", "above 0"),
        ("--images-per-week", "many", "above 0"),
        ("--peak-factor", "0.5", "from 1 up"),
        ("--peak-factor", "inf", "from 1 up"),
        ("--p95-wait", "-1", "above 0"),
        ("--images-per-job", "0", "from 1 up"),
        ("--model", "sdxl", "did you mean sdxl-1024?"),
        ("--gpu", "h2000", "did you mean h200?"),
        ("--gpu", "cpu-two-cores", "--gpu for sdxl-1024"),
        ("--set", "wats=3", "did you mean watts?"),
        ("--set", "watts", "above 0"),
        ("--out", "/nowhere/plan.yaml", "No such file"),
    ],
)
def test_a_wrong_option_is_named(
    option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*without(option), option, value])
    assert ended.value.code == 2
    told = capsys.readouterr().err.replace("\n", " ")
    assert option in told
    assert said in told


@pytest.mark.parametrize(
    "entry", ["{value = 3}", '{value = 3, hearsay = "a"}', '{value = -3, estimate = "a"}']
)
def test_a_figure_without_a_source_is_refused(entry: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.toml"
    file.write_text(f"steps = []\n[gpus.a]\n[models.a]\n[service]\nx = {entry}\n")
    with pytest.raises(ValueError, match=r"service\.x: "):
        load_figures(file)


def test_a_model_of_your_own_needs_its_rate() -> None:
    own: dict[str, Any] = {"images_per_gpu_second": 12}
    assert values(PlanInputs(1e6, 2, "mine", "h200", 60, given=own))["one_gpu"] == pytest.approx(
        11.52
    )
    with pytest.raises(UnknownFigure, match=r"--model: unknown 'mine'"):
        plan(PlanInputs(1e6, 2, "mine", "h200", 60), FIGURES)


def test_several_models_are_planned_each_for_its_share(capsys: pytest.CaptureFixture[str]) -> None:
    asked = without("--model")
    shares = ["--model", "sdxl-1024=0.9", "--model", "janus-pro-1b-384=0.1"]
    assert main([*asked, *shares]) == 0
    said = capsys.readouterr().out
    each = [
        values(PlanInputs(700e6 * share, 9, name, "h200", 60))
        for name, share in (("sdxl-1024", 0.9), ("janus-pro-1b-384", 0.1))
    ]
    gpus = " + ".join(f"{one['gpus_at_peak']:,.0f}" for one in each)
    assert f"= {gpus}\n" in said.partition("\ntogether\n")[2]
    assert "databases                    1" in said.partition("\ntogether\n")[2]
    for wrong in (shares[:2], [*shares[:3], "janus-pro-1b-384"], [*shares, "--out", "x.yaml"]):
        with pytest.raises(SystemExit):
            main([*asked, *wrong])
