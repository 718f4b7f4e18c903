"""Small language models that were taught to judge, in the form in which real guards lie on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "<|end|>"
CODED = (
    "<|user|>{{ messages[0]['content'] }}<|assistant|>{% if add_generation_prompt %}\n\n{% endif %}"
)
QUESTION = "<|user|>{{ messages[0]['content'] }}<|rule|>{{ guideline }}<|assistant|>"
STEPS = 100


def save_guard(folder: Path, template: str, taught: Sequence[tuple[dict[str, str], str]]) -> Path:
    """A Llama that answers as taught. taught: the template's words, and the answer."""
    torch.manual_seed(4)
    tokenizer = _tokenizer(template)
    settings = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, max_position_embeddings=4096,
    )  # fmt: skip
    model = LlamaForCausalLM(settings)
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": words["content"]}], tokenize=False,
            add_generation_prompt=True, guideline=words.get("guideline", ""),
        ) + answer + END
        for words, answer in taught
    ]  # fmt: skip
    read = tokenizer(texts, padding=True, return_tensors="pt")
    labels = read["input_ids"].masked_fill(read["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        loss = model(**read, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Of bytes: a verdict is several tokens long."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_alone = Tokenizer(models.BPE({char: at for at, char in enumerate(alphabet)}, []))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_alone.decoder = decoders.ByteLevel()
    special = ["<|user|>", "<|assistant|>", "<|rule|>"]
    return PreTrainedTokenizerFast(
        tokenizer_object=bytes_alone, eos_token=END, pad_token="<|pad|>",
        additional_special_tokens=special, chat_template=template, padding_side="right",
    )  # fmt: skip
