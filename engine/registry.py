"""Which families exist, by name: their decoders and their text encoders. Imports a family only when
it is asked for, so that the paced family's decoder never loads torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

from engine.decoder import Decoder
from engine.prompt_encoder import PromptEncoder

T = TypeVar("T")

FAMILIES = {
    "diffusers": "engine.decoders.diffusers.decoder:DiffusersDecoder",
    "janus": "engine.decoders.janus.decoder:JanusDecoder",
    "masked": "engine.decoders.masked:MaskedDecoder",
    "paced": "engine.decoders.paced:PacedDecoder",
}


class TextEncoders(NamedTuple):
    """What reads a family's prompts."""

    path: str
    options: tuple[str, ...] = ()
    """Those of the family's options that concern them, such as weights."""


PROMPT_ENCODERS = {
    "diffusers": TextEncoders(
        "engine.decoders.diffusers.prompts:DiffusersPromptEncoder",
        ("weights", "device", "dtype", "loras", "loras_loaded"),
    ),
    "janus": TextEncoders("engine.decoders.janus.prompts:JanusPrompts", ("weights",)),
    "masked": TextEncoders("engine.scene_encoder:SceneEncoder", ("weights",)),
    "paced": TextEncoders("engine.text:TextEncoder"),
    # a family with text encoders of its own names them here
}


class UnknownFamily(ValueError):
    """No family of this name; the message lists those that exist."""


def create_decoder(family: str, **options: object) -> Decoder:
    """A ready decoder. UnknownFamily for a wrong name, TypeError for an option it does not have,
    ValueError or OSError from the family for what it cannot use (a path, a device)."""
    path = _of(FAMILIES, family)
    decoder = _named(path)(**options)
    if not isinstance(decoder, Decoder):
        raise TypeError(f"{path} is not a Decoder")
    return decoder


def create_prompt_encoder(family: str, **options: object) -> PromptEncoder:
    """The family's text encoders, ready. options: as create_decoder takes them; those that do not
    concern text encoders are left out. Raises as create_decoder."""
    encoders = _of(PROMPT_ENCODERS, family)
    taken = {name: options[name] for name in encoders.options if name in options}
    encoder = _named(encoders.path)(**taken)
    if not isinstance(encoder, PromptEncoder):
        raise TypeError(f"{encoders.path} is not a PromptEncoder")
    return encoder


def _of(families: Mapping[str, T], family: str) -> T:
    try:
        return families[family]
    except KeyError:
        known = ", ".join(sorted(families))
        raise UnknownFamily(f"unknown family {family!r}; known: {known}") from None


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
