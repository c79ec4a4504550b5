import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.nn.attention import (
    CausalSelfAttention,
    filled,
    since_start,
    sliding_window,
    within_documents,
    write_,
)
from paluku.nn.rope import Rotary, rotate

E = 16


def heads(seed: int, length: int = 1) -> torch.Tensor:
    return torch.randn(1, 1, length, E, generator=torch.Generator().manual_seed(seed))


def product(query_at: int, key_at: int) -> float:
    rotary = Rotary(E)
    query = rotate(heads(0), rotary(torch.tensor([[query_at]])))
    key = rotate(heads(1), rotary(torch.tensor([[key_at]])))
    return float((query * key).sum())


@settings(deadline=None)
@given(start=st.integers(0, 2**62), distance=st.integers(0, 5000))
def test_only_the_distance_matters_at_any_position(start: int, distance: int) -> None:
    # Float32 angles would be wrong by whole turns long before 2**62.
    assert product(start + distance, start) == pytest.approx(product(distance, 0), abs=2e-5)


def test_a_large_base_turns_slowly() -> None:
    rotation = Rotary(E, base=1e6)(torch.tensor([[1000]]))
    angle = 1000 * 1e6 ** (-2 * 3 / E)
    assert float(rotation.cos[0, 0, 3]) == pytest.approx(math.cos(angle), abs=1e-5)


def test_distance_does_matter() -> None:
    assert abs(product(3, 0) - product(0, 0)) > 0.1


def test_rotation_is_the_paper_s() -> None:
    # Equation 34 with base 10000: pair i turns by position * 10000^(-2 i / E).
    rotation = Rotary(E)(torch.tensor([[0, 1, 100]]))
    for i in range(E // 2):
        for place, position in enumerate((0, 1, 100)):
            angle = position * 10_000 ** (-2 * i / E)
            assert float(rotation.cos[0, place, i]) == pytest.approx(math.cos(angle), abs=1e-4)
            assert float(rotation.sin[0, place, i]) == pytest.approx(math.sin(angle), abs=1e-4)


def test_rotation_keeps_length() -> None:
    x = heads(2, length=5)
    turned = rotate(x, Rotary(E)(torch.arange(5)[None] * 1000))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_the_ring_fills_from_slot_zero_and_stays_full() -> None:
    seen = filled(torch.tensor([0, 1, 3, 4, 1000]), 4)
    assert seen.tolist() == [[True, False, False, False], [True, True, False, False], *[[True] * 4] * 3]


def test_a_frame_sees_itself_and_the_window_before() -> None:
    assert sliding_window(4, 2, torch.device("cpu")).int().tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 1, 1],
    ]


def test_a_run_of_one_number_is_a_document() -> None:
    documents = torch.tensor([[3, 3, 3, 4, 4, -1], [-1, 0, 0, 2, 1, 1]])
    assert since_start(documents).tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 1, 0, 0, 1]]


def test_a_frame_sees_the_window_of_its_own_document() -> None:
    positions = torch.tensor([[0, 1, 2, 0, 1]])
    assert within_documents(positions, 2)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]


def test_writing_touches_one_slot_of_the_seats_that_run() -> None:
    ring = torch.zeros(2, 1, 3, 1)
    write_(ring, torch.full((2, 1, 1), 7.0), torch.tensor([4, 5]), torch.tensor([True, False]))
    assert ring.flatten(1).tolist() == [[0, 7, 0], [0, 0, 0]]


@pytest.mark.parametrize("window", [3, 7, 20])
def test_attention_equals_the_textbook_formula(window: int) -> None:
    # softmax(q k^T / sqrt(E)) v over the window, one query and one head at a time.
    torch.manual_seed(0)
    layer, x = CausalSelfAttention(32, 2, window), torch.randn(1, 7, 32)
    rotation = Rotary(E)(torch.arange(7)[None])
    projected = layer.project_in(x).unflatten(-1, (3, 2, E))[0]
    rows = []
    for t in range(7):
        mixed = []
        for h in range(2):
            queries, keys = (rotate(projected[:, part, h][None, None], rotation)[0, 0] for part in (0, 1))
            past = slice(max(0, t - window + 1), t + 1)
            weights = torch.exp(keys[past] @ queries[t] / math.sqrt(E))
            mixed.append(weights / weights.sum() @ projected[past, 2, h])
        rows.append(torch.cat(mixed))
    expected = torch.stack(rows) @ layer.project_out.weight.T
    torch.testing.assert_close(layer(x, rotation)[0], expected, atol=1e-5, rtol=1e-4)
