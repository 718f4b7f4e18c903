"""Which decoder families exist, by name. Imports a family only when it is asked for, so that the
paced family never loads torch."""

from __future__ import annotations

from importlib import import_module

from engine.decoder import Decoder

FAMILIES = {
    "masked": "engine.decoders.masked:MaskedDecoder",
    "paced": "engine.decoders.paced:PacedDecoder",
}


class UnknownFamily(ValueError):
    """No decoder family of this name; the message lists those that exist."""


def create_decoder(family: str, **options: object) -> Decoder:
    """A ready decoder. UnknownFamily for a wrong name, TypeError for an option it does not have,
    ValueError or OSError from the family for what it cannot use (a path, a device)."""
    try:
        module, _, name = FAMILIES[family].partition(":")
    except KeyError:
        known = ", ".join(sorted(FAMILIES))
        raise UnknownFamily(f"unknown decoder family {family!r}; known: {known}") from None
    decoder = getattr(import_module(module), name)(**options)
    if not isinstance(decoder, Decoder):
        raise TypeError(f"{FAMILIES[family]} is not a Decoder")
    return decoder
