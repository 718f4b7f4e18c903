"""How the janus family reads a prompt: text tokens, in the template of its checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from transformers import JanusProcessor

from engine.decoder import OtherEncoder, RenderRejected
from engine.decoders.janus.folder import JanusFolder
from engine.prompt_encoder import PromptText
from engine.render import Conditioning

PROMPT_TOKENS = 256
"""Most tokens of a prompt with its template."""
WORD_TOKENS = 224
"""Tokens of a prompt's own words that are read; the others are cut off."""


class JanusPrompts:
    """prompt -> Conditioning. weights: the checkpoint's folder, of which the tokenizer and the
    processor's files are read.

    "input_ids", int64 [length]: the template with the words, up to the token after which the
    picture begins."""

    def __init__(self, weights: Path | str) -> None:
        """OSError or ValueError for a folder that cannot be used."""
        folder = JanusFolder.open(Path(weights))
        self._processor = JanusProcessor.from_pretrained(folder.path, local_files_only=True)
        template = self._processor.chat_template
        if not template:
            raise ValueError(f"{folder.path}: no chat template; add the checkpoint's own")
        tokenizer = (folder.path / "tokenizer.json").read_bytes()
        digest = hashlib.sha256(tokenizer + template.encode()).hexdigest()
        self.model = f"janus-prompts:{digest[:16]}:1"

    def encode(self, prompts: Sequence[PromptText]) -> list[Conditioning]:
        """One conditioning a prompt, in order. ValueError for a negative prompt."""
        return [self._encode(prompt) for prompt in prompts]

    def _encode(self, prompt: PromptText) -> Conditioning:
        if prompt.negative is not None:
            raise ValueError("negative_prompt must be left out: this model reads none")
        content = [{"type": "text", "text": self._words(prompt.prompt)}]
        text = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        ids = self._processor(text=text, generation_mode="image", return_tensors="np")["input_ids"]
        return Conditioning.from_numpy(prompt.digest(self.model), input_ids=ids[0].astype("<i8"))

    def _words(self, prompt: str) -> str:
        """What is read of the prompt; it names no token that has a meaning of its own."""
        tokenizer = self._processor.tokenizer
        for special in tokenizer.get_added_vocab():
            prompt = prompt.replace(special, " ")
        ends = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
        offsets = ends["offset_mapping"][:WORD_TOKENS]
        return prompt[: offsets[-1][1]] if offsets else ""


def input_ids(conditioning: Conditioning) -> list[int]:
    """The tokens of a prompt. OtherEncoder when it has none, RenderRejected for too many."""
    if "input_ids" not in conditioning.tensors:
        raise OtherEncoder("conditioning must hold input_ids: encode the prompt again")
    ids = conditioning.numpy("input_ids")
    if not 2 <= ids.size <= PROMPT_TOKENS:
        raise RenderRejected(f"prompt must have 2 to {PROMPT_TOKENS} tokens, got {ids.size}")
    return [int(token) for token in ids]
