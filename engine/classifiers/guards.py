"""Language models that judge prompts: those that write `safe`, or `unsafe` and codes of what is
wrong (Llama Guard), and those that say Yes or No about one guideline (ShieldGemma).

The checkpoint's own chat template words the question. Verdicts are read from the probabilities of
the first word, so that there is a score and not a mere answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.classifiers.checkpoint import ClassifierSpec, check_folder
from engine.classifiers.hugging_face import LOCAL, load_network
from engine.disguise import undisguised
from engine.model_directory.json_file import ModelRefused
from engine.policy import Category, Scores, calibrated, joined
from engine.prompt_encoder import Embeddings

MOST_BLANKS = 4
"""Tokens of white space before the verdict."""
MOST_CODE_TOKENS = 24
LONGEST = 2_048
"""Tokens of one window of a prompt."""
_CODE = re.compile(r"[A-Za-z]{1,4}[0-9]{1,3}")


class _Guard:
    """A loaded model and its template. ModelRefused when it cannot be loaded whole."""

    def __init__(self, spec: ClassifierSpec) -> None:
        check_folder(spec)
        self.spec = spec
        self.model = load_network(AutoModelForCausalLM, spec, dtype="auto")  # bf16 as published
        self._tokenizer = AutoTokenizer.from_pretrained(spec.path, **LOCAL)
        if not self._tokenizer.chat_template:
            raise ModelRefused(f"{spec.path}: has no chat template; a guard is asked through it")

    def score(self, prompts: Sequence[str], embeddings: Embeddings) -> list[Scores]:
        """See PromptClassifier; the embeddings are not read. One prompt after the other: a guard
        takes a second or more for each on a CPU."""
        with torch.inference_mode():
            return [self._joined(undisguised(prompt)) for prompt in prompts]

    def _joined(self, prompt: str) -> Scores:
        return joined(self._judged(window) for window in self._windows(prompt))

    def _judged(self, prompt: str) -> Scores:
        raise NotImplementedError

    def _windows(self, prompt: str) -> Iterator[str]:
        """A prompt longer than a guard reads, in parts that overlap."""
        read = self._tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if len(read) <= LONGEST:
            yield prompt
            return
        for at in range(0, len(read), LONGEST - LONGEST // 8):
            yield self._tokenizer.decode(read[at : at + LONGEST])

    def _asked(self, prompt: str, **wording: str) -> Tensor:
        """[1, length]: the template with the prompt as what a user said."""
        said = [{"role": "user", "content": prompt}]
        text = self._tokenizer.apply_chat_template(
            said, tokenize=False, add_generation_prompt=True, **wording
        )
        read: Tensor = self._tokenizer(text, add_special_tokens=False, return_tensors="pt")[
            "input_ids"
        ]
        return read

    def _tokens(self, word: str) -> Tensor:
        """Ids of all tokens that a model may begin that word with."""
        vocabulary = range(len(self._tokenizer))
        begun = [self._tokenizer.decode([number]).strip() for number in vocabulary]
        found = [number for number, text in enumerate(begun) if text and word.startswith(text)]
        if not found:
            raise ModelRefused(f"{self.spec.path}: its tokenizer cannot write {word!r}; "
                               "name another kind or another folder")  # fmt: skip
        return torch.tensor(found)

    def _of(self, shares: dict[Category, float]) -> Scores:
        threshold = self.spec.threshold
        of = tuple((name, calibrated(share, threshold)) for name, share in shares.items())
        return Scores(of, self.spec.name)


class CodedGuard(_Guard):
    """Writes `safe`, or `unsafe` and then codes such as S1,S10. The probability of `unsafe` is the
    score of every category that a code means, also where `safe` is likelier: the codes that it
    would write are read in any case. Codes that no label names count as the label `unsafe`, where
    there is one."""

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__(spec)
        self._means = dict(spec.labels)
        self._safe, self._unsafe = self._tokens("safe"), self._tokens("unsafe")
        both = torch.isin(self._safe, self._unsafe)
        if both.all():
            raise ModelRefused(f"{spec.path}: its tokenizer does not tell 'safe' from 'unsafe'")
        self._safe = self._safe[~both]

    def _judged(self, prompt: str) -> Scores:
        reading = _Reading(self.model, self._asked(prompt))
        for _ in range(MOST_BLANKS):
            if self._tokenizer.decode([reading.likeliest]).strip():
                break
            reading.go_on(reading.likeliest)
        unsafe = reading.shares[self._unsafe].sum().item()
        safe = reading.shares[self._safe].sum().item()
        share = unsafe / max(unsafe + safe, 1e-12)
        reading.go_on(int(self._unsafe[reading.shares[self._unsafe].argmax()]))
        meant = {self._means.get(code, self._means.get("unsafe")) for code in self._codes(reading)}
        return self._of({category: share for category in meant if category is not None})

    def _codes(self, reading: _Reading) -> list[str]:
        """What follows `unsafe`; an unnamed one if nothing does."""
        written: list[int] = []
        while len(written) < MOST_CODE_TOKENS and reading.likeliest not in self._ends:
            written.append(reading.likeliest)
            reading.go_on(reading.likeliest)
        return _CODE.findall(self._tokenizer.decode(written)) or [""]

    @property
    def _ends(self) -> set[int]:
        known = self.model.generation_config.eos_token_id, self._tokenizer.eos_token_id
        return {one for ids in known for one in (ids if isinstance(ids, list) else [ids]) if one}


class QuestionGuard(_Guard):
    """Asked about each guideline, which is a label of the config, whether the prompt violates it:
    the template words that as `guideline`. The probability of Yes against No is the score."""

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__(spec)
        self._yes, self._no = self._tokens("Yes"), self._tokens("No")

    def _judged(self, prompt: str) -> Scores:
        found: dict[Category, float] = {}
        for guideline, category in self.spec.labels:
            if category is not None:
                shares = _Reading(self.model, self._asked(prompt, guideline=guideline)).shares
                yes, no = shares[self._yes].sum().item(), shares[self._no].sum().item()
                found[category] = max(found.get(category, 0.0), yes / max(yes + no, 1e-12))
        return self._of(found)


class _Reading:
    """A model that has read so far. `shares`: [vocabulary], of the next token."""

    def __init__(self, model: Any, read: Tensor) -> None:
        self._model = model
        self._memory: Any = None
        self._read(read)

    @property
    def likeliest(self) -> int:
        """The next token by the model."""
        return int(self.shares.argmax())

    def go_on(self, token: int) -> None:
        """That one is written."""
        self._read(torch.tensor([[token]]))

    def _read(self, read: Tensor) -> None:
        answer = self._model(input_ids=read, past_key_values=self._memory, use_cache=True)
        self._memory = answer.past_key_values
        self.shares: Tensor = answer.logits[0, -1].float().softmax(dim=-1)
