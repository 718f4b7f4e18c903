"""What a render that is dropped in the middle leaves in memory."""

from __future__ import annotations

import gc
from dataclasses import replace

import torch

from engine.decoder import Decoder
from engine.render import RenderSpec

DROPS = 1_000


def leaked_bytes(decoder: Decoder, spec: RenderSpec, drops: int = DROPS) -> int:
    """Bytes of tensors that are alive after so many renders were dropped in the middle, without the
    garbage collector."""
    _drop_one(decoder, spec, 0)
    gc.collect()
    gc.disable()
    try:
        before = _tensor_bytes()
        for seed in range(1, drops + 1):
            _drop_one(decoder, spec, seed)
        return _tensor_bytes() - before
    finally:
        gc.enable()


def _drop_one(decoder: Decoder, spec: RenderSpec, seed: int) -> None:
    render = decoder.begin(replace(spec, seed=seed), None)
    decoder.step([render])
    decoder.drop(render)


def _tensor_bytes() -> int:
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in gc.get_objects()
        if issubclass(type(tensor), torch.Tensor)  # isinstance asks modules that load lazily
    }
    return sum(storages.values())
