"""Rows of the janus family's cache stay compact, and keep what was written to them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from engine.decoder import OutOfMemory
from engine.decoders.janus.cache import BLOCK, Row, RowCache, TokenPlaces
from engine.decoders.janus.folder import JanusFolder
from engine.decoders.janus.network import JanusNetwork
from tests.golden.janus_checkpoint import save_tiny

CPU = torch.device("cpu")


def cache(rows: int = 6) -> RowCache:
    return RowCache(2, (rows, 2, BLOCK, 4), torch.float32, CPU)


def write(cache: RowCache, row: Row, *numbers: float) -> None:
    """These tokens, one number for every key and its negative for every value."""
    for number in numbers:
        at, rows = torch.tensor([row.position]), torch.tensor([row.index])
        only = slice(row.index, row.index + 1)
        new = torch.full((1, 2, 1, 4), float(number))
        for layer in range(2):
            TokenPlaces(cache, rows, at, only, row.position).update(new, -new, layer)
        row.position += 1


def read(cache: RowCache, row: Row) -> list[float]:
    """What `write` wrote, wherever the row lies now."""
    held = [stored[row.index, :, : row.position] for stored in (*cache.keys, *cache.values)]
    first = held[0][0, :, 0]
    assert all((each.abs() == first[None, :, None]).all() for each in held)
    return [float(number) for number in first]


def filled(cache: RowCache, count: int) -> list[Row]:
    rows = [cache.take() for _ in range(count)]
    for number, row in enumerate(rows, start=1):
        write(cache, row, *[10 * number + i for i in range(number)])
    return rows


def expect(cache: RowCache, rows: Sequence[Row], numbers: Sequence[int]) -> None:
    assert sorted(row.index for row in rows) == list(range(len(cache.in_use)))
    assert [cache.in_use[row.index] for row in rows] == list(rows)
    for row, number in zip(rows, numbers, strict=True):
        assert read(cache, row) == [10 * number + i for i in range(number)]


@pytest.mark.parametrize("leaves", range(4))
def test_when_one_leaves_the_last_takes_its_place(leaves: int) -> None:
    kept = cache()
    rows = filled(kept, 4)
    kept.release(rows.pop(leaves))
    expect(kept, rows, [number for number in range(1, 5) if number != leaves + 1])


@pytest.mark.parametrize("front", [(0,), (3,), (1, 3), (3, 2), (0, 1, 2, 3), (2, 0, 3)])
def test_any_rows_come_to_the_front(front: tuple[int, ...]) -> None:
    kept = cache()
    rows = filled(kept, 4)
    kept.bring_to_front([rows[i] for i in front])
    assert {rows[i].index for i in front} == set(range(len(front)))
    expect(kept, rows, [1, 2, 3, 4])


def test_a_new_row_is_empty_even_where_there_was_no_number() -> None:
    kept = cache(rows=1)
    row = kept.take()
    write(kept, row, float("nan"))
    kept.release(row)
    assert not kept.keys[0][kept.take().index].isnan().any()


def test_a_full_cache_says_so() -> None:
    kept = cache(rows=1)
    kept.take()
    with pytest.raises(OutOfMemory, match="all 1 rows"):
        kept.take()


def test_a_token_sees_those_before_it_in_its_row() -> None:
    kept = cache()
    at = torch.tensor([0, 3])
    mask = TokenPlaces(kept, torch.tensor([0, 1]), at, slice(2), 3).mask(torch.float32)
    assert mask.shape == (2, 1, 1, BLOCK)
    assert (mask == 0).sum(dim=-1).flatten().tolist() == [1, 4]
    assert mask[1, 0, 0, 4:].isneginf().all()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> JanusNetwork:
    torch.set_num_threads(1)
    folder = JanusFolder.open(save_tiny(tmp_path_factory.mktemp("janus")))
    return JanusNetwork(folder, CPU, torch.float32)


def run(network: JanusNetwork, cache: RowCache, rows: Sequence[int], at: Sequence[int]) -> Tensor:
    """Read token number i % 64 at each position i of these rows; one row: attend that one alone."""
    one = len(set(rows)) == 1
    only = slice(rows[0], rows[0] + 1) if one else slice(len(rows))
    places = TokenPlaces(cache, torch.tensor(rows), torch.tensor(at), only, max(at))
    with torch.inference_mode():
        return network.read(network.embeddings[[each % 64 for each in at]], places)


def test_read_at_once_equals_token_by_token_to_the_last_bit(network: JanusNetwork) -> None:
    """Prompts of a render that goes on are read at once: its keys must be as if it never left."""
    length = 150
    at_once, one_by_one = network.cache(8, length), network.cache(8, length)
    run(network, at_once, [0] * length, range(length))
    for position in range(length):
        run(network, one_by_one, range(8), [position] * 8)
    for stored in ("keys", "values"):
        for whole, parts in zip(getattr(at_once, stored), getattr(one_by_one, stored), strict=True):
            assert torch.equal(whole[0], parts[0])


@pytest.mark.parametrize("width", [4, 5, 8, 16])
def test_neighbours_change_nothing_to_the_last_bit(network: JanusNetwork, width: int) -> None:
    alone, company = network.cache(4, 40), network.cache(width, 200)
    for position in range(40):
        hidden = run(network, alone, range(4), [position, 0, 0, 0])
        at = [position, *[(position * 7 + i) % 190 for i in range(1, width)]]
        assert torch.equal(run(network, company, range(width), at)[0], hidden[0])
