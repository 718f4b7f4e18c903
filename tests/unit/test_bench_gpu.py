"""The bench for GPUs runs, on a CPU with shapes that are tiny."""

from __future__ import annotations

import json

import pytest

from scripts.bench_gpu import main

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def test_every_part_draws_and_its_last_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tiny", "--device", "cpu", "--images", "2", "--slots", "2"])
    *_, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert [row["name"] for row in found["ceilings"]] == [
        "GEMM of 256", "memory, read and written"
    ]  # fmt: skip
    for part in ("sdxl", "dit", "janus"):
        drawn = [row for row in found[part] if "images_per_s" in row]
        assert len(drawn) == (4 if part == "janus" else 6), found[part]
        assert all(row["images_per_s"] > 0 and row["peak_gib"] > 0 for row in drawn)


def test_without_a_gpu_it_says_what_can_be_tried(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--device", "cpu"])
    assert "--tiny tries the script on a CPU" in capsys.readouterr().err
