"""Which updates of a render are worth a message to whoever draws it for somebody. Pure."""

from __future__ import annotations

from engine.render import RenderUpdate, UpdateKind

TELL_SECONDS = 0.15
"""Slower passes are told one by one."""


def worth_telling(update: RenderUpdate, passes: int, since_told_seconds: float) -> bool:
    """Every pass on its own would cost a fast decoder more than drawing it. What is held back, and
    drawn again if this process dies at once, is less than TELL_SECONDS of work."""
    routine = update.kind is UpdateKind.PASS and update.preview is None and update.pass_no < passes
    return not routine or since_told_seconds >= TELL_SECONDS
