"""LoRAs of text encoders: each prompt is read with those of its request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from engine.decoders.diffusers import lora_file
from engine.decoders.diffusers.loras import LoraPool, mixed
from engine.render import LoraUse


class TextLoras:
    """Of those that a model has, the ones that also change text encoders, and how."""

    def __init__(self, pipe: Any, listed: Mapping[str, str | Path], max_loaded: int) -> None:
        """As LoraPool, which reads the same files for the denoiser. WeightsError."""
        files = {name: lora_file.find(name, Path(path), pipe) for name, path in listed.items()}
        changed = {name: lora_file.text_parts(name, file) for name, file in files.items()}
        self._names = {
            part: [name for name in files if part in changed[name]]
            for part in sorted({part for parts in changed.values() for part in parts})
        }
        self._pools = {
            part: LoraPool(pipe, part, {name: files[name] for name in names}, max_loaded)
            for part, names in self._names.items()
        }

    @contextmanager
    def applied(self, loras: Sequence[LoraUse]) -> Iterator[str]:
        """Inside, prompts are read with these, of which those that change no text encoder say
        nothing. Yields what identifies the others: files and weights, "" for none. Raises
        RenderRejected, OSError for a file that is gone."""
        identities = []
        with ExitStack() as applying:
            for part, pool in self._pools.items():
                hold = pool.hold([use for use in loras if use.name in self._names[part]])
                if hold.loras:
                    identities.append(f"{part}={hold.identity}")
                    applying.enter_context(mixed([(1, hold)]))
            yield ";".join(identities)
