"""What the parts of the service tell of themselves, as metrics of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

from autoscaling.policy import Cause
from deployments.metrics import catalogue as c
from deployments.metrics.recorder import Metrics
from dispatch.metering import Interruption, LedgerTrouble, PreviewEnd, SettledImage
from engine.policy import Action, ScreenStage
from engine.scheduled_render import ScheduledRender
from engine.verdict import Verdict

NO_CATEGORY = "none"
"""Of a verdict that allows everything."""


class DispatchMetrics:
    """See dispatch.metering.Metering."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics = metrics
        self._model = model
        for counter in (c.IMAGES, c.INTERRUPTIONS, c.PREVIEWS, c.CHECKPOINT_BYTES):
            metrics.begin(counter, model)
        metrics.begin(c.LEDGER_ERRORS, c.Part.DISPATCHER)

    def settled(self, image: SettledImage) -> None:
        """See Metering."""
        self._metrics.add(c.IMAGES, self._model, image.outcome.state)
        for stage, seconds in image.times.seconds().items():
            self._metrics.observe(c.STAGE_SECONDS, self._model, stage, value=seconds)

    def interrupted(self, why: Interruption) -> None:
        """See Metering."""
        self._metrics.add(c.INTERRUPTIONS, self._model, why)

    def preview(self, end: PreviewEnd) -> None:
        """See Metering."""
        self._metrics.add(c.PREVIEWS, self._model, end)

    def checkpoint(self, size_bytes: int, *, stored: bool) -> None:
        """See Metering."""
        place = c.Place.BLOB if stored else c.Place.ROW
        self._metrics.add(c.CHECKPOINT_BYTES, self._model, place, amount=size_bytes)

    def trouble(self, kind: LedgerTrouble) -> None:
        """See Metering."""
        self._metrics.add(c.LEDGER_ERRORS, c.Part.DISPATCHER, kind)


class DecoderMetrics:
    """Of one decoder replica."""

    def __init__(self, metrics: Metrics, model: str, slots: int) -> None:
        self._metrics = metrics
        self._model = model
        self._slots = slots
        metrics.begin(c.SLOTS_RECLAIMED, model)

    def passed(self, batch: Sequence[ScheduledRender], seconds: float) -> None:
        """One pass of these is done. Called on the engine's thread."""
        width = len(batch)
        self._metrics.add(c.PASSES, self._model)
        self._metrics.add(c.STEPS, self._model, amount=width)
        self._metrics.observe(c.BATCH_WIDTH, self._model, value=width)
        self._metrics.observe(c.PASS_SECONDS, self._model, value=seconds)

    def show_slots(self, used: int) -> None:
        """As it is now."""
        self._metrics.show(c.SLOTS, self._model, "total", value=self._slots)
        self._metrics.show(c.SLOTS, self._model, "used", value=used)

    def reclaimed(self, slots: int) -> None:
        """Reservations whose dispatcher is gone."""
        self._metrics.add(c.SLOTS_RECLAIMED, self._model, amount=slots)


class ScalingCounts:
    """See autoscaling.policy.ScalingReport."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def wanted(self, application: str, deployment: str, replicas: int) -> None:
        """See ScalingReport."""
        self._metrics.show(c.SCALING_WANTED, application, deployment, value=replicas)

    def decided(self, application: str, deployment: str, cause: Cause, *, up: bool) -> None:
        """See ScalingReport."""
        direction = "up" if up else "down"
        self._metrics.add(c.SCALING_DECISIONS, application, deployment, direction, cause)

    def held(self, application: str, deployment: str) -> None:
        """See ScalingReport."""
        self._metrics.add(c.SCALING_HELD, application, deployment)


def count_verdict(metrics: Metrics, stage: ScreenStage, verdict: Verdict) -> None:
    """Once for each category that something is done about, or once for none."""
    acted = [(name, Action.BLOCK) for name in verdict.categories]
    acted += [(name, Action.FLAG) for name in verdict.flagged]
    for category, action in acted or [(NO_CATEGORY, Action.ALLOW)]:
        metrics.add(c.VERDICTS, stage, category, action)


def started(metrics: Metrics, part: c.Part, model: str, seconds: float) -> None:
    """A replica is ready, so long after its code began."""
    metrics.show(c.PROCESSES, part, value=1.0)
    metrics.observe(c.START_SECONDS, part, model, value=seconds)
