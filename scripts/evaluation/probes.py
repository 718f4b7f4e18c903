"""The prompts that the model is asked, from scripts/probes; none was read by any training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PROBES = Path(__file__).resolve().parents[1] / "probes"


@dataclass(frozen=True, slots=True)
class Probe:
    """prompt: without the brackets of its decisive words. fields: what else its line says."""

    prompt: str
    fields: tuple[str, ...]

    def concepts(self, names: Sequence[str], at: int = 0) -> list[int]:
        """The rows of the concepts that a field allows."""
        return [names.index(name.strip()) for name in self.fields[at].split(" / ")]


def probes(name: str) -> list[Probe]:
    """Of one file, such as "paraphrases"."""
    return list(_read(PROBES / f"{name}.txt"))


def _read(path: Path) -> Iterator[Probe]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            prompt, *fields = (part.strip() for part in line.split("|"))
            bare = prompt.replace("[", "").replace("]", "")
            yield Probe(bare, tuple(fields))
