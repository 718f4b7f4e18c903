"""Merging calls and splitting answers, without a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetOutput
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import Tensor

from engine.decoders.diffusers.merge import group_key, mapped, merged, split
from engine.decoders.diffusers.table import MergeRule

PLAIN = MergeRule()


def rows(count: int, *shape: int, start: float = 0.0) -> Tensor:
    """Each row full of its own number."""
    numbers = torch.arange(count, dtype=torch.float32) + start
    return numbers.view(count, *(1 for _ in shape)).expand(count, *shape).clone()


def test_rows_stand_behind_each_other_and_one_timestep_is_for_all_of_its_rows() -> None:
    one = {"sample": rows(2, 4), "timestep": torch.tensor(7), "guidance": None}
    other = {"sample": rows(1, 4, start=9), "timestep": torch.tensor([3]), "guidance": None}
    found = merged([one, {**other, "timestep": torch.tensor(3)}], PLAIN)
    assert found["sample"][:, 0].tolist() == [0, 1, 9]
    assert found["timestep"].tolist() == [7, 7, 3]
    assert found["guidance"] is None


def test_a_tensor_for_all_rows_of_a_call_is_repeated() -> None:
    one = {"x": rows(2, 4), "t": torch.tensor([5.0])}
    assert group_key(one, PLAIN) == group_key({"x": rows(1, 4), "t": torch.tensor([6.0])}, PLAIN)
    assert merged([one, {"x": rows(1, 4), "t": torch.tensor([6.0])}], PLAIN)["t"].tolist() == [
        5,
        5,
        6,
    ]


def test_nested_arguments_are_merged_entry_by_entry() -> None:
    one = {
        "sample": rows(1, 2),
        "added": {"ids": rows(1, 3)},
        "residuals": [rows(1, 2), rows(1, 1)],
    }
    found = merged([one, one], PLAIN)
    assert found["added"]["ids"].shape == (2, 3)
    assert [each.shape for each in found["residuals"]] == [(2, 2), (2, 1)]


def test_shared_tensors_stay_as_they_are() -> None:
    rule = MergeRule(shared=frozenset({"ids"}))
    one = {"sample": rows(1, 2), "ids": rows(5, 3)}
    assert merged([one, one], rule)["ids"] is one["ids"]


def test_a_tensor_that_no_rule_knows_keeps_its_call_alone() -> None:
    one, other = ({"sample": rows(1, 2), "ids": rows(5, 3)} for _ in range(2))
    assert group_key(one, PLAIN) != group_key(other, PLAIN)


def test_ragged_text_is_padded_and_gets_a_mask() -> None:
    rule = MergeRule(ragged={"text": "mask"})
    long = {"x": rows(1, 2), "text": rows(1, 4, 2, start=1), "mask": None}
    short = {"x": rows(1, 2), "text": rows(1, 3, 2, start=2), "mask": torch.ones(1, 3).bool()}
    assert group_key(long, rule) == group_key(short, rule)
    found = merged([long, short], rule)
    assert found["text"][:, :, 0].tolist() == [[1, 1, 1, 1], [2, 2, 2, 0]]
    assert found["mask"].tolist() == [[True] * 4, [True, True, True, False]]
    assert merged([long, long], rule)["mask"] is None


def test_lists_of_rows_are_joined_whatever_their_sizes() -> None:
    rule = MergeRule(per_row=frozenset({"x"}), answers_per_row=True)
    one, other = {"x": [torch.zeros(2)]}, {"x": [torch.ones(3), torch.ones(1)]}
    assert group_key(one, rule) == group_key(other, rule)
    assert [len(each) for each in merged([one, other], rule)["x"]] == [2, 3, 1]
    parts = split(([torch.zeros(2), torch.ones(3), torch.ones(1)],), [1, 2], rule)
    assert [[len(row) for row in part[0]] for part in parts] == [[2], [3, 1]]


@pytest.mark.parametrize(
    "form",
    [
        lambda t: t,
        lambda t: (t,),
        lambda t: (t, None),
        lambda t: Transformer2DModelOutput(sample=t),
        lambda t: ControlNetOutput(down_block_res_samples=(t, t), mid_block_res_sample=t),
        lambda t: ([t, t], t),
    ],
)
def test_every_form_of_answer_is_split_in_its_form(form: Any) -> None:
    whole = form(rows(3, 2))
    first, second = split(whole, [1, 2], PLAIN)
    assert type(first) is type(second) is type(whole)
    tensors: list[list[Tensor]] = [[], []]
    for part, found in zip((first, second), tensors, strict=True):
        mapped(part, lambda tensor, found=found: found.append(tensor) or tensor)
    assert all(tensor[:, 0].tolist() == [0] for tensor in tensors[0])
    assert all(tensor[:, 0].tolist() == [1, 2] for tensor in tensors[1])


def test_answers_are_copies() -> None:
    """The next forward may write to the same memory, as CUDA graphs do."""
    answer = rows(2, 2)
    parts = split((answer,), [1, 1], PLAIN)
    answer.fill_(99)
    assert [part[0][0, 0].item() for part in parts] == [0, 1]
