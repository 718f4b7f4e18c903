"""Small classifiers with random weights, in the form in which real ones lie on disk."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

SIDE = 16
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
WORDS = (
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "fox", "gun", "nude", "woman", "photo", "of",
    "the", "harmless", "picture",
)  # fmt: skip


def save_text(folder: Path, labels: tuple[str, ...] = ("ok", "toxic"), **config: object) -> Path:
    """A BERT that reads windows of 32 tokens."""
    torch.manual_seed(1)
    named = dict(enumerate(labels))
    settings = BertConfig(
        vocab_size=len(WORDS), max_position_embeddings=32, id2label=named,
        label2id={name: at for at, name in named.items()}, initializer_range=1.0, **SMALL, **config,
    )  # fmt: skip
    BertForSequenceClassification(settings).save_pretrained(folder)
    _save_tokenizer(folder, 32)
    return folder


def save_picture(folder: Path, labels: tuple[str, ...] = ("normal", "nsfw", "gore")) -> Path:
    """A ViT that reads pictures of 16 x 16."""
    torch.manual_seed(2)
    named = dict(enumerate(labels))
    settings = ViTConfig(
        image_size=SIDE, patch_size=8, id2label=named,
        label2id={name: at for at, name in named.items()}, initializer_range=1.0, **SMALL,
    )  # fmt: skip
    ViTForImageClassification(settings).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    ViTImageProcessorPil(size=size).save_pretrained(folder)
    return folder


def save_clip(folder: Path) -> Path:
    """A CLIP of the same sizes."""
    torch.manual_seed(3)
    text = {"vocab_size": len(WORDS), "max_position_embeddings": 32, "eos_token_id": 3,
            "initializer_range": 1.0} | SMALL  # fmt: skip
    vision = {"image_size": SIDE, "patch_size": 8, "initializer_range": 1.0} | SMALL
    CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    ).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False).save_pretrained(folder)
    _save_tokenizer(folder, 32)
    return folder


def _save_tokenizer(folder: Path, longest: int) -> None:
    vocabulary = {word: at for at, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=longest,
    ).save_pretrained(folder)  # fmt: skip
