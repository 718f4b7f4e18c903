"""What text encoders read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PromptText:
    """The words of a request."""

    prompt: str
    negative: str | None = None
    """What the picture should not show."""

    def digest(self, encoder: str) -> str:
        """sha256 (hex) of these words and the identity of the `encoder` that reads them."""
        return hashlib.sha256(
            json.dumps([encoder, self.prompt, self.negative]).encode()
        ).hexdigest()
