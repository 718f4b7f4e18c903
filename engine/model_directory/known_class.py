"""What the reader must be told of a class, because no file of the directory says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.model_directory.json_file import ModelRefused


@dataclass(frozen=True, slots=True)
class Abilities:
    """What requests for a model may ask for."""

    generate: bool = True
    edit: bool = False
    """A picture as a whole."""
    inpaint: bool = False
    """The part of a picture that a mask names."""
    references: int = 0
    """Pictures that the model looks at, at most."""
    control: bool = False
    """A control picture: edges, depth, poses."""
    negative_prompt: bool = False
    lora: bool = False


@dataclass(frozen=True, slots=True)
class KnownClass:
    """A pipeline class of diffusers, or a model class of transformers, that a family here runs."""

    family: str
    """Of engine.registry."""
    architecture: str
    denoiser: str = "transformer"
    """The component that runs in every pass."""
    step: int = 16
    """Pixels by which width and height must be divisible."""
    rows: int = 1
    """Of a render in one forward: 2 where guidance doubles it; 1 where it takes another forward."""
    abilities: Abilities = field(default_factory=Abilities)


def known_class(source: Path, class_name: str, known: Mapping[str, KnownClass]) -> KnownClass:
    """The class's row. ModelRefused, listing those that are run; `source` names the file."""
    if (row := known.get(class_name)) is None:
        raise ModelRefused(
            f"{source}: class {class_name[:80]!r} is not run here; those that are: "
            f"{', '.join(sorted(known))}"
        )
    return row
