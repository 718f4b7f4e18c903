"""Arrivals from files and scenarios: what is read, what is refused and how that is said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from autoscaling.simulator.scenarios import SCENARIOS, arrivals
from autoscaling.simulator.traces import TraceError, read_trace
from autoscaling.simulator.workload import Arrival
from jobs.tiers import Tier

TIERS = {"free": Tier(), "plus": Tier(4), "pro": Tier(8)}


def trace(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_plain_trace_counts_from_its_first_row(tmp_path: Path) -> None:
    path = trace(tmp_path, "seconds,tenant,tier,images\n10,a,free,1\n10.5,b,pro,4\n")
    assert read_trace(path, TIERS) == [
        Arrival(0.0, "a", "free", 1),
        Arrival(0.5, "b", "pro", 4),
    ]


def test_bare_times_get_tenants_by_seed(tmp_path: Path) -> None:
    rows = "".join(f"2023-11-16 18:17:03.{n:03}9600,{n},10\n" for n in range(900))
    path = trace(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    found = read_trace(path, TIERS, seed=1)
    assert [round(arrival.at, 3) for arrival in found] == [n / 1000 for n in range(900)]
    assert {arrival.tier for arrival in found} == set(TIERS)
    assert found == read_trace(path, TIERS, seed=1)
    assert found != read_trace(path, TIERS, seed=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "trace.csv:1: header: needs a column seconds or TIMESTAMP"),
        ("a,b\n1,2\n", "trace.csv:1: header: needs a column seconds or TIMESTAMP"),
        ("seconds,who\n1,2\n", "trace.csv:1: header: unknown column 'who'"),
        ("seconds\n", "trace.csv:2: no rows"),
        ("seconds,tenant\n1,a\n2,\n", "trace.csv:3: tenant: is empty"),
        ("seconds,tenant\n1,a\n2\n", "trace.csv:3: tenant: is empty"),
        ("seconds,tenant\n1,a\n2,b,c\n", "trace.csv:3: more fields than the header"),
        ("seconds\n1\nnan\n", "trace.csv:3: seconds: must be finite, not nan"),
        ("seconds\n1\nsoon\n", "trace.csv:3: seconds: is not a number: 'soon'"),
        ("seconds\n2\n1\n", "trace.csv:3: seconds: is earlier than the row before"),
        ("seconds,tier\n1,gold\n", "trace.csv:2: tier: unknown tier 'gold', known: free, plus"),
        ("seconds,images\n1,0\n", "trace.csv:2: images: must be a whole number from 1 to 10"),
        ("TIMESTAMP\nyesterday\n", "trace.csv:2: TIMESTAMP: is not a time such as"),
    ],
)
def test_a_bad_trace_is_refused_with_file_line_and_field(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(TraceError) as refused:
        read_trace(trace(tmp_path, text), TIERS)
    assert said in str(refused.value)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"no\.csv: cannot be read: No such file"):
        read_trace(tmp_path / "no.csv", TIERS)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match=r"bytes\.csv: not a CSV file"):
        read_trace(tmp_path / "bytes.csv", TIERS)


def test_launch_day_asks_for_23_gpus_on_average_and_200_at_its_peak() -> None:
    day = SCENARIOS["launch-day"]
    found = arrivals(day, TIERS, 0, peak_gpus=1, picture_seconds=20)
    by_minute = Counter({int(arrival.at // 60): 0 for arrival in found})
    for arrival in found:
        by_minute[int(arrival.at // 60)] += arrival.images
    assert 20 * sum(by_minute.values()) / day.duration_seconds == pytest.approx(23, abs=1.5)
    assert 20 * max(by_minute.values()) / 60 == pytest.approx(200, rel=0.15)
    newcomers = Counter(arrival.tenant for arrival in found if arrival.newcomer)
    assert len(newcomers) == 1000
    assert set(newcomers.values()) == {3}


def test_a_few_tenants_ask_for_most_and_pay_for_it() -> None:
    found = arrivals(SCENARIOS["step"], TIERS, 0, peak_gpus=50, picture_seconds=2)
    asked = Counter(arrival.tenant for arrival in found)
    ranked = [count for _, count in asked.most_common()]
    assert sum(ranked[:42]) / len(found) == pytest.approx(0.28, abs=0.03)
    tiers = {arrival.tenant: arrival.tier for arrival in found}
    assert tiers[asked.most_common(1)[0][0]] == "pro"
    assert Counter(tiers.values()).most_common(1)[0][0] == "free"


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_is_in_order_and_the_same_for_the_same_seed(name: str) -> None:
    scenario = SCENARIOS[name]
    one, again, other = (
        arrivals(scenario, TIERS, seed, peak_gpus=2, picture_seconds=8) for seed in (5, 5, 6)
    )
    assert one == again != other
    assert one == sorted(one, key=lambda arrival: arrival.at)
    assert one[-1].at < scenario.duration_seconds
