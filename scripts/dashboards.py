"""Writes the Grafana dashboards, and the table of metrics in the docs.
To be run after a change here or of the catalogue. Tests compare the files with this."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, Row
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueGraphMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from deployments.metrics import catalogue as c
from deployments.metrics.catalogue import Metric, MetricKind

FOLDER = Path(__file__).resolve().parents[1] / "configs/monitoring/dashboards"
PAGE = Path(__file__).resolve().parents[1] / "docs/observability.md"
BEGIN, END = "<!-- catalogue -->", "<!-- end of the catalogue -->"
RATE = "$__rate_interval"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
PERCENTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Query:
    """rare: there is nothing to see until something has failed, scaled or been counted by hardware
    that not every machine has."""

    expression: str
    legend: str = ""
    rare: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """unit: as Grafana names it."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    help: str = ""


def total(counter: Metric) -> str:
    """As Prometheus has a counter's name."""
    return f"{counter.name}_total" if counter.kind is MetricKind.COUNTER else counter.name


def rate(counter: Metric, by: str = "", where: str = "") -> str:
    """Per second."""
    by = f" by ({by})" if by else ""
    return f"sum{by} (rate({total(counter)}{where}[{RATE}]))"


def most(gauge: Metric, by: str) -> str:
    """Of what several processes show the same of."""
    return f"max by ({by}) ({gauge.name})"


def percentiles(
    histogram: Metric, by: str, where: str = "", *, rare: bool = False
) -> tuple[Query, ...]:
    """By PERCENTILES."""
    buckets = f"sum by (le, {by}) (rate({histogram.name}_bucket{where}[{RATE}]))"
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return tuple(
        Query(f"histogram_quantile({p}, {buckets})", f"{legend} p{p * 100:g}", rare)
        for p in PERCENTILES
    )


def stage(name: str, what: str) -> Panel:
    """Of one stage of an image."""
    where = f'{{stage="{name}"}}'
    return Panel(f"{name}: {what}", "s", percentiles(c.STAGE_SECONDS, "model", where))


OVERVIEW: Mapping[str, tuple[Panel, ...]] = {
    "Now": (
        Panel("Orders accepted", "reqps", (
            Query(rate(c.ORDERS, where='{outcome="accepted"}'), "orders"),
        )),
        Panel("Images", "ops", (Query(rate(c.IMAGES, where='{outcome="succeeded"}'), "images"),)),
        Panel("Drain time", "s", (Query(most(c.DRAIN_SECONDS, "lane"), "{{lane}}"),),
              "Until all that waits and runs is drawn."),
        Panel("Slots used", "percentunit", (
            Query(
                f'sum({c.SLOTS.name}{{state="used"}}) / sum({c.SLOTS.name}{{state="total"}})',
                "used",
            ),
        )),
    ),
    "Heat": (
        Panel("Drain time and what is promised", "s", (
            Query(most(c.DRAIN_SECONDS, "lane"), "{{lane}}"),
            Query(most(c.PROMISED_WAIT_SECONDS, "lane"), "{{lane}} promised"),
        )),
        Panel("Waiting GPU-seconds", "s", (
            Query(most(c.WAITING_GPU_SECONDS, "lane, tier"), "{{lane}} {{tier}}"),
        )),
        Panel("Queued jobs", "short", (
            Query(most(c.QUEUED_JOBS, "lane, tier"), "{{lane}} {{tier}}"),
        )),
        Panel("Oldest wait", "s", (
            Query(most(c.OLDEST_WAIT_SECONDS, "lane, tier"), "{{lane}} {{tier}}"),
        )),
        Panel("GPU-seconds: arriving and drawn per second", "short", (
            Query(most(c.ARRIVAL_RATE, "lane"), "{{lane}} arriving"),
            Query(most(c.RENDER_RATE, "lane"), "{{lane}} drawn"),
        )),
        Panel("GPU-seconds that dispatchers hold", "s", (
            Query(most(c.RUNNING_GPU_SECONDS, "lane"), "{{lane}}"),
        )),
    ),
    "Orders": (
        Panel("Orders by outcome", "reqps", (Query(rate(c.ORDERS, "outcome"), "{{outcome}}"),)),
        Panel("Refusals by reason", "reqps", (Query(rate(c.REFUSALS, "reason"), "{{reason}}"),)),
        Panel("Waiting requests, and orders to be written down", "short", (
            Query(f"sum({c.WATCHERS.name})", "watchers"),
            Query(f"sum({c.ORDERS_WAITING.name})", "orders"),
        )),
        Panel("Images by outcome", "ops", (
            Query(rate(c.IMAGES, "model, outcome"), "{{model}} {{outcome}}"),
        )),
        Panel("Verdicts", "ops", (
            Query(rate(c.VERDICTS, "stage, action"), "{{stage}} {{action}}"),
        )),
        Panel("Ledger errors", "ops", (
            Query(rate(c.LEDGER_ERRORS, "part, kind"), "{{part}} {{kind}}"),
        )),
        Panel("Webhooks by outcome", "ops", (Query(rate(c.WEBHOOKS, "outcome"), "{{outcome}}"),)),
        Panel("Oldest webhook that is due", "s", (
            Query(f"max({c.WEBHOOK_OVERDUE_SECONDS.name})", "late by"),
        )),
    ),
    "Batches": (
        Panel("Batches that have not ended", "short", (
            Query(most(c.BATCHES, "lane, state"), "{{lane}} {{state}}"),
        )),
        Panel("Lines of these batches", "short", (
            Query(most(c.BATCH_LINES, "lane, state"), "{{lane}} {{state}}"),
        )),
        Panel("Batches that ended", "ops", (
            Query(rate(c.BATCHES_ENDED, "lane, outcome"), "{{lane}} {{outcome}}"),
        )),
    ),
    "Stages of an image": (
        stage("accept", "from the request to the ledger"),
        stage("queue", "until a dispatcher claims it"),
        stage("encode", "prompt encoder and prompt screen"),
        stage("first_pass", "until its first pass is done"),
        stage("render", "the passes after it"),
        stage("screen", "pixels, and their screen"),
        stage("finish", "the file"),
        stage("store", "the blob store"),
    ),
    "Scaling": (
        Panel("Replicas wanted", "short", (
            Query(
                most(c.SCALING_WANTED, "application, deployment"),
                "{{application}} {{deployment}}",
                rare=True,
            ),
        )),
        Panel("Decisions", "ops", (
            Query(
                rate(c.SCALING_DECISIONS, "deployment, direction, cause"),
                "{{deployment}} {{direction}}: {{cause}}",
                rare=True,
            ),
            Query(rate(c.SCALING_HELD, "deployment"), "{{deployment}} held", rare=True),
        )),
        Panel("Cold starts", "s", percentiles(c.START_SECONDS, "part, model", rare=True)),
        Panel("Processes", "short", (Query(f"sum by (part) ({c.PROCESSES.name})", "{{part}}"),)),
    ),
}  # fmt: skip

DECODERS: Mapping[str, tuple[Panel, ...]] = {
    "Passes": (
        Panel("Slots", "short", (
            Query(f"sum by (model, state) ({c.SLOTS.name})", "{{model}} {{state}}"),
        )),
        Panel("Passes of batches", "ops", (Query(rate(c.PASSES, "model"), "{{model}}"),)),
        Panel("Steps of images", "ops", (Query(rate(c.STEPS, "model"), "{{model}}"),)),
        Panel("Batch width", "short", (
            *percentiles(c.BATCH_WIDTH, "model"),
            Query(f"{rate(c.STEPS, 'model')} / {rate(c.PASSES, 'model')}", "{{model}} mean"),
        )),
        Panel("Seconds of a pass", "s", percentiles(c.PASS_SECONDS, "model")),
        Panel("Models without a decoder", "short", (
            Query(most(c.DECODERS_AWAY, "model"), "{{model}}"),
        )),
    ),
    "Interruptions and previews": (
        Panel("Interruptions", "ops", (
            Query(rate(c.INTERRUPTIONS, "model, reason"), "{{model}} {{reason}}"),
        )),
        Panel("Previews", "ops", (
            Query(rate(c.PREVIEWS, "model, outcome"), "{{model}} {{outcome}}"),
        )),
        Panel("Checkpoints", "Bps", (
            Query(rate(c.CHECKPOINT_BYTES, "model, place"), "{{model}} {{place}}"),
        )),
        Panel("Slots taken back", "short", (
            Query(
                f"sum by (model) (increase({total(c.SLOTS_RECLAIMED)}[1h]))", "{{model}} in an hour"
            ),
        )),
    ),
    "Node": (
        Panel("Watts", "watt", (
            Query(rate(c.ENERGY_JOULES, "instance, device"), "{{instance}} {{device}}", rare=True),
        ), "Absent where no counter may be read."),
        Panel("Joules an image", "joule", (
            Query(f"{rate(c.ENERGY_JOULES)} / {rate(c.IMAGES)}", "joules", rare=True),
        )),
        Panel("Certificate expires in", "s", (
            Query(f"min({c.CERTIFICATE_EXPIRES.name}) - time()", "signs pictures", rare=True),
        )),
    ),
}  # fmt: skip

DASHBOARDS: Mapping[str, tuple[str, Mapping[str, tuple[Panel, ...]]]] = {
    "meltproof-overview": ("Meltproof: overview", OVERVIEW),
    "meltproof-decoders": ("Meltproof: decoders", DECODERS),
}


def queries() -> Iterator[Query]:
    """Of all dashboards."""
    for _, rows in DASHBOARDS.values():
        for panels in rows.values():
            for panel in panels:
                yield from panel.queries


def asked(expression: str) -> str:
    """The expression with Grafana's own variables filled in."""
    return expression.replace(RATE, "1m")


def dashboards() -> Iterator[tuple[str, str]]:
    """Name and contents of each file."""
    for uid, (title, rows) in DASHBOARDS.items():
        built = (
            Dashboard(title)
            .uid(uid)
            .tags(["meltproof"])
            .refresh("15s")
            .time("now-1h", "now")
            .readonly()
            .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        )
        numbers = count(1)
        for name, panels in rows.items():
            built.with_row(Row(name).id(next(numbers)))
            for panel in panels:
                made = _stat(panel) if name == "Now" else _lines(panel)
                built.with_panel(made.id(next(numbers)))
        text = JSONEncoder(sort_keys=True, indent=1).encode(built.build())
        yield f"{uid}.json", json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"


def _lines(panel: Panel) -> timeseries.Panel:
    built = timeseries.Panel().title(panel.title).description(panel.help).unit(panel.unit).min(0)
    built.datasource(SOURCE).height(7).span(8).line_width(1).fill_opacity(8)
    built.legend(common.VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM))
    for letter, query in zip(ascii_uppercase, panel.queries, strict=False):
        built.with_target(_target(query).ref_id(letter))
    return built


def _stat(panel: Panel) -> stat.Panel:
    built = stat.Panel().title(panel.title).description(panel.help).unit(panel.unit)
    built.datasource(SOURCE).height(4).span(6).graph_mode(BigValueGraphMode.AREA)
    for letter, query in zip(ascii_uppercase, panel.queries, strict=False):
        built.with_target(_target(query).ref_id(letter))
    return built


def _target(query: Query) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expression).legend_format(query.legend)


def catalogue_table() -> str:
    """Every metric, for the docs."""
    rows = ["| metric | type | labels | what |", "| --- | --- | --- | --- |"]
    for one in c.CATALOGUE:
        kind = one.kind.value
        if one.kind is MetricKind.GAUGE:
            kind += f", {one.across.value.removeprefix('live')} over processes"
        labels = "; ".join(
            f"`{label.name}`" + (f": {', '.join(label.values)}" if len(label.values) < 12 else "")
            for label in one.labels
        )
        labels = labels.replace("`:  ", "`").replace("`: ;", "`;").removesuffix(": ")
        rows.append(f"| `{total(one)}` | {kind} | {labels} | {one.help} |")
    return "\n".join(rows)


def documented() -> str:
    """docs/observability.md with the table of now."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{catalogue_table()}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Write the files."""
    PAGE.write_text(documented())
    FOLDER.mkdir(exist_ok=True)
    for name, text in dashboards():
        (FOLDER / name).write_text(text)
        print(FOLDER / name)


if __name__ == "__main__":
    main()
