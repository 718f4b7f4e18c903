"""From images a week to GPUs, databases and kilowatt-hours, step by step. Pure."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from autoscaling.planning.figures import Figure, PlanFigures, pick


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """What the operator asks for."""

    images_per_week: float
    peak_factor: float
    """Images a second at the peak, over the week's mean."""
    model: str
    gpu: str
    p95_wait: float
    images_per_job: float = 1.0
    given: Mapping[str, float] = field(default_factory=dict)
    """The operator's own figures, by name, before ours."""


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step: its value, the formula with its numbers, and the figures that are new in it."""

    name: str
    value: float
    unit: str
    arithmetic: str
    figures: Mapping[str, Figure]


def plan(inputs: PlanInputs, figures: PlanFigures) -> dict[str, PlanStep]:
    """Every step, by name, in order. Raises UnknownFigure."""
    known = _known(inputs, figures)
    values, steps = {name: figure.value for name, figure in known.items()}, {}
    told = {name for name, figure in known.items() if figure.kind == "asked"}
    for name, unit, formula in figures.steps:
        used = re.findall(r"[a-z_]\w+", formula)
        if "dollars_per_hour" in used and "dollars_per_hour" not in known:
            continue
        values[name] = _value(ast.parse(formula, mode="eval").body, values)
        new = {one: known[one] for one in used if one in known and one not in told}
        told |= new.keys()
        steps[name] = PlanStep(name, values[name], unit, _shown(formula, values), new)
    return steps


def _known(inputs: PlanInputs, figures: PlanFigures) -> dict[str, Figure]:
    known = {**figures.service, **figures.gpu(inputs.gpu)}
    names = {*known, "images_per_gpu_second", "dollars_per_hour"}
    for name, value in inputs.given.items():
        pick(dict.fromkeys(names), name, "--set")
        known[name] = Figure(value, "given", "by you")
    if "images_per_gpu_second" not in known:
        known["images_per_gpu_second"] = figures.rate(inputs.model, inputs.gpu)
    for name in ("images_per_week", "peak_factor", "p95_wait", "images_per_job"):
        known[name] = Figure(getattr(inputs, name), "asked", "")
    return known


SUMMED = (
    "peak", "gpus_on_average", "gpus_at_peak", "gpus_always_on", "gateways", "dispatchers",
    "peak_jobs", "connections", "gpu_hours", "energy",
)  # fmt: skip
"""Of several models that are planned each for itself, as each has decoders and dispatchers."""


def together(plans: Sequence[Mapping[str, PlanStep]]) -> dict[str, PlanStep]:
    """What several models take beside each other, behind one set of databases."""
    steps = {name: _summed(name, [one[name] for one in plans]) for name in SUMMED}
    jobs, one_database = steps["peak_jobs"].value, plans[0]["one_database"].value
    arithmetic = f"({number(jobs)} / {number(one_database)}) rounded up"
    databases = math.ceil(jobs / one_database)
    return steps | {"databases": PlanStep("databases", databases, "", arithmetic, {})}


def _summed(name: str, steps: Sequence[PlanStep]) -> PlanStep:
    arithmetic = " + ".join(number(step.value) for step in steps)
    return PlanStep(name, sum(step.value for step in steps), steps[0].unit, arithmetic, {})


_OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Gt: operator.gt,
}


def _value(node: ast.expr, known: Mapping[str, float]) -> float:
    """A formula of +, *, /, >, if-else and ceil."""
    match node:
        case ast.Name(id=name):
            return known[name]
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, known), _value(right, known))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _OPERATORS[type(op)](_value(left, known), _value(right, known))
        case ast.IfExp(test=test, body=body, orelse=other):
            return _value(body if _value(test, known) else other, known)
        case ast.Call(func=ast.Name(id="ceil"), args=[inner]):
            return math.ceil(_value(inner, known))
        case _:
            raise ValueError(f"not a formula: {ast.unparse(node)}")


def _shown(formula: str, values: Mapping[str, float]) -> str:
    """The formula with numbers: `10,417 / 2.19, rounded up`."""
    numbers = re.sub(
        r"[a-z_]\w+|\d+",
        lambda m: (
            m[0] if m[0] in ("ceil", "if", "else") else number(values.get(m[0]) or float(m[0]))
        ),
        formula,
    )
    return re.sub(r"ceil(\((?:[^()]|\([^()]*\))*\))", r"\1 rounded up", numbers).replace("*", "x")


def number(value: float) -> str:
    """As people read it: 1,157 and 0.0012."""
    if value >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"
