"""Where an untrusted picture says it is from: both layers, read in a process that can do nothing
else. Blocking; call it from a thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.intake import Intake, unless_refused
from engine.provenance.manifest import ManifestFound, State
from engine.provenance.pattern import MarkKey
from engine.provenance.watermark import FoundMark
from engine.untrusted.frames import Head, Message

STATES: tuple[State, ...] = ("trusted", "valid", "invalid", "not_present")
MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Checked:
    """mark: None where none of the keys' is found."""

    manifest: ManifestFound
    mark: FoundMark | None


class Checks(Intake):
    """See Intake: it starts its process, and ends it in `close`."""

    module = "engine.provenance.child"

    def check(self, data: bytes, keys: Sequence[MarkKey], anchors: bytes) -> Checked:
        """A picture's two layers. Refused for a file that is no picture."""
        named = [(key.id, key.secret.hex()) for key in keys]
        return self._ask(
            {"verb": "check", "keys": named}, {"image": data, "anchors": anchors}, _read
        )


def _read(answer: Message) -> Checked:
    """The child may be controlled by its input: only what has the right form is taken over."""
    head, _ = unless_refused(answer)
    match head:
        case {"manifest": {"state": state, "ancestors": int(ancestors)} as told, "mark": mark}:
            known = next((one for one in STATES if one == state), None)
            if known is None:
                raise ValueError(f"a manifest in an unknown state {state!r}")
            manifest = ManifestFound(
                state=known,
                issuer=_text(told, "issuer"),
                model=_text(told, "model"),
                generated_at=_text(told, "generated_at"),
                source_type=_text(told, "source_type"),
                ancestors=ancestors,
                problems=tuple(map(str, told.get("problems") or ()))[:MOST_PROBLEMS],
            )
            return Checked(manifest, _mark(mark))
        case _:
            raise ValueError("an answer without both layers")


def _mark(told: object) -> FoundMark | None:
    match told:
        case None:
            return None
        case {"key_id": str(key_id), "scale": float(scale), "score": float(score)}:
            return FoundMark(key_id, scale, score)
        case _:
            raise ValueError("a mark without its key")


def _text(told: Head, name: str) -> str | None:
    value = told.get(name)
    return value[:255] if isinstance(value, str) else None
