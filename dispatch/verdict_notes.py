"""Verdicts on their way into the audit log: those of an image go there with its outcome, what is
left (of jobs that go elsewhere, of previews judged too late) with the next heartbeat.

Owned by the dispatcher's event loop. As many wait as images are in flight and previews of them
were screened since the last heartbeat.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from engine.policy import Action, ScreenStage
from engine.prompt_encoder import PromptText
from engine.render import Pixels
from engine.verdict import Verdict
from jobs.client.async_ledger import AsyncAuditLog
from jobs.job import Job
from jobs.ledger_errors import LedgerError
from jobs.verdicts import VerdictNote


@dataclass(frozen=True, slots=True)
class Screened:
    """One thing that was looked at. sha256: of it, in hex. pass_no: of a preview."""

    stage: ScreenStage
    verdict: Verdict
    sha256: str
    pass_no: int | None = None


async def screened_picture(
    stage: ScreenStage, verdict: Verdict, pixels: Pixels, pass_no: int | None = None
) -> Screened:
    """Of a picture. Hashes it on another thread."""
    return Screened(stage, verdict, await asyncio.to_thread(_sha256, pixels), pass_no)


def screened_words(verdict: Verdict, words: PromptText) -> Screened:
    """Of a prompt, with a NUL between it and a negative one."""
    text = "\0".join(words.texts).encode("utf-8", "surrogatepass")
    return Screened(ScreenStage.PROMPT, verdict, hashlib.sha256(text).hexdigest())


def _sha256(pixels: Pixels) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


class VerdictNotes:
    """keep_words: with the prompts themselves."""

    def __init__(self, keep_words: bool = False) -> None:
        self._keep_words = keep_words
        self._pending: list[VerdictNote] = []

    def add(self, job: Job, index: int | None, screened: Screened) -> None:
        """A verdict on an image, or on what its order came with (index None)."""
        self._pending.append(self._note(job, index, screened))

    def of(self, job_id: str, index: int) -> tuple[VerdictNote, ...]:
        """Take those that go with the outcome of an image, and of its order's words and source
        whatever no image has taken yet."""
        ours: list[VerdictNote] = []
        others: list[VerdictNote] = []
        for note in self._pending:
            goes = note.job_id == job_id and note.index in (None, index)
            (ours if goes else others).append(note)
        self._pending = others
        return tuple(ours)

    def give_back(self, notes: Iterable[VerdictNote]) -> None:
        """They could not be written."""
        self._pending = [*notes, *self._pending]

    async def flush(self, ledger: AsyncAuditLog) -> None:
        """Write what there is. Raises LedgerUnavailable, and keeps it."""
        notes, self._pending = self._pending, []
        if not notes:
            return
        try:
            await ledger.log_verdicts(notes)
        except LedgerError:
            self.give_back(notes)
            raise

    def _note(self, job: Job, index: int | None, screened: Screened) -> VerdictNote:
        verdict, request = screened.verdict, job.request
        action = (
            Action.BLOCK if verdict.blocked else Action.FLAG if verdict.flagged else Action.ALLOW
        )
        return VerdictNote(
            lane=request.lane,
            tenant=request.tenant,
            job_id=job.id,
            index=index,
            stage=screened.stage,
            action=action,
            tier=request.tier,
            user=request.user,
            pass_no=screened.pass_no,
            sha256=screened.sha256,
            categories=verdict.categories if verdict.blocked else verdict.flagged,
            scores=verdict.scores,
            policy=verdict.policy,
            screen=verdict.screen,
            words=request.prompt if self._keep_words else None,
        )
