"""Tiny text encoders and their tokenizers, which read letters."""

from __future__ import annotations

import string
from typing import Any

import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def clip(suffix: str, hidden: int, projection: int | None = None) -> dict[str, Any]:
    """CLIP, with a projection of that width or without one."""
    characters = [chr(code) for code in range(33, 127)]
    vocab = {piece: i for i, piece in enumerate([*characters, *(c + "</w>" for c in characters)])}
    vocab |= {token: len(vocab) + i for i, token in enumerate(("<|startoftext|>", "<|endoftext|>"))}
    config = CLIPTextConfig(
        bos_token_id=len(vocab) - 2,
        eos_token_id=len(vocab) - 1,
        pad_token_id=len(vocab) - 1,
        hidden_size=hidden,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        vocab_size=len(vocab),
        projection_dim=projection or hidden,
    )
    kind = CLIPTextModelWithProjection if projection else CLIPTextModel
    return {
        f"text_encoder{suffix}": _loud(kind(config)),
        f"tokenizer{suffix}": CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77),
    }


def t5(suffix: str, width: int = 16) -> dict[str, Any]:
    """T5."""
    pieces = [*string.ascii_lowercase, *("▁" + letter for letter in string.ascii_lowercase)]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    vocab += [(piece, -2.0) for piece in pieces]
    config = T5Config(
        vocab_size=len(vocab), d_model=width, d_kv=8, d_ff=16, num_layers=2, num_heads=2
    )
    return {
        f"text_encoder{suffix}": _loud(T5EncoderModel(config)),
        f"tokenizer{suffix}": T5TokenizerFast(vocab=vocab, extra_ids=0),
    }


def qwen3(width: int = 16) -> dict[str, Any]:
    """Qwen3 with a chat template."""
    tokenizer, vocab = _letters("<|im_start|>", "<|im_end|>")
    config = Qwen3Config(
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        vocab_size=len(vocab),
        max_position_embeddings=1024,
    )
    return {"text_encoder": _loud(Qwen3Model(config)), "tokenizer": tokenizer}


def qwen_vl(width: int = 16) -> dict[str, Any]:
    """Qwen2.5-VL, which looks at pictures."""
    seen = [f"<|{name}|>" for name in ("vision_start", "vision_end", "image_pad", "video_pad")]
    tokenizer, vocab = _letters("<|im_start|>", "<|im_end|>", *seen)
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": width,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "vocab_size": len(vocab),
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [2, 1, 1],
            },
            "bos_token_id": vocab["<|endoftext|>"],
            "eos_token_id": vocab["<|im_end|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": width,
            "fullatt_block_indexes": [1],
        },
        vision_start_token_id=vocab["<|vision_start|>"],
        vision_end_token_id=vocab["<|vision_end|>"],
        image_token_id=vocab["<|image_pad|>"],
        video_token_id=vocab["<|video_pad|>"],
    )
    return {
        "text_encoder": _loud(Qwen2_5_VLForConditionalGeneration(config)),
        "tokenizer": tokenizer,
        "processor": Qwen2VLImageProcessorPil(),
    }


def _letters(*special: str) -> tuple[Qwen2Tokenizer, dict[str, int]]:
    """A tokenizer of bytes and these tokens, and its vocabulary."""
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(bytes_to_unicode().values()))}
    for token in ("<|endoftext|>", *special):
        vocab[token] = len(vocab)
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[], chat_template=CHAT)
    tokenizer.add_special_tokens({"additional_special_tokens": [*special]})
    return tokenizer, vocab


def _loud(model: Any) -> Any:
    """With embeddings so large that every letter matters."""
    for name, parameter in model.named_parameters():
        if "embed" in name or "shared" in name:
            torch.nn.init.normal_(parameter, std=1.0)
    return model.eval()
