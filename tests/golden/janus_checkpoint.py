"""A small Janus checkpoint with random weights, in the form in which the real ones lie on disk."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusImageProcessorPil,
    JanusProcessor,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from tests.golden.decoder_contract import BOI, BOS

PAD = 0
TEMPLATE = (
    "{% for message in messages %}<|User|>: {{ message['content'][0]['text'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|>:{% endif %}"
)


def save_tiny(folder: Path) -> Path:
    """4 x 4 tokens of 64, pictures of 16 x 16."""
    text = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )
    vision = JanusVisionConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        image_size=16,
        patch_size=4,
        projection_dim=32,
        num_image_tokens=16,
    )
    vq = JanusVQVAEConfig(
        num_embeddings=64,
        latent_channels=32,
        base_channels=32,
        channel_multiplier=[1, 1, 2],
        num_res_blocks=1,
        projection_dim=32,
        image_token_embed_dim=32,
    )
    save(folder, JanusConfig(text_config=text, vision_config=vision, vq_config=vq), std=0.25)
    save_processor(folder)
    return folder


def save(folder: Path, config: JanusConfig, std: float) -> None:
    """A model of random weights; `std` is that of all its matrices, so that every path matters."""
    torch.manual_seed(3)
    model = JanusForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=std)
    model.generation_config = GenerationConfig(
        bos_token_id=BOS, pad_token_id=PAD, eos_token_id=2, guidance_scale=5.0, max_length=64
    )
    model.generation_config.generation_kwargs = {"boi_token_id": BOI}
    model.save_pretrained(folder)


def save_processor(folder: Path) -> None:
    """A tokenizer of bytes, the template and the numbers of pictures."""
    special = ["<pad>", "<s>", "</s>", "<image_placeholder>", "<end_of_image>", "<begin_of_image>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=0, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([""], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BOS)]
    )
    JanusProcessor(
        image_processor=JanusImageProcessorPil(
            image_mean=[0.5, 0.4, 0.3], image_std=[0.5, 0.6, 0.7]
        ),
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token="<s>",
            eos_token="</s>",
            pad_token="<pad>",
            extra_special_tokens={
                "image_token": "<image_placeholder>",
                "boi_token": "<begin_of_image>",
                "eoi_token": "<end_of_image>",
            },
        ),
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
