"""The processor of Qwen2.5-VL without its part for videos, which needs torchvision."""

from __future__ import annotations

from typing import Any

from transformers import Qwen2VLProcessor

PICTURES_AND_WORDS = "Qwen2VLProcessor"
"""The class in model_index.json for which it is loaded."""


class PictureProcessor(Qwen2VLProcessor):  # type: ignore[misc]  # transformers is untyped
    """Words and pictures as the stock class makes numbers of them. transformers reads the parts to
    load off the arguments of `__init__`."""

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None
    ) -> None:
        super().__init__(image_processor, tokenizer, None, chat_template)
