import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.s2s.sampling import GOLDEN, MOST_TOP_K, UNIFORM_BITS, among_words, mix, sample, uniform


def unsigned(x: torch.Tensor) -> int:
    return int(x) % 2**64


def drawn(logits: list[float], seats: int, temperature: float, top_k: int) -> torch.Tensor:
    """One token for each of many seeds."""
    return sample(
        torch.tensor(logits).expand(seats, -1),
        uniform(torch.arange(seats), torch.zeros(seats, dtype=torch.int64), 1)[:, 0],
        torch.full((seats,), temperature),
        torch.full((seats,), top_k),
    )


def test_mix_is_splitmix64() -> None:
    # The reference implementation's first three outputs from seed 0 (prng.di.unimi.it/splitmix64.c).
    states = torch.tensor([0, GOLDEN, 2 * GOLDEN % 2**64])
    assert [unsigned(x) for x in mix(states)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_chance_is_uniform_and_never_one() -> None:
    chance = uniform(torch.arange(200), torch.arange(200), 50).flatten().double()
    assert 0 <= float(chance.min()) < 1e-3
    assert 1 - 1e-3 < float(chance.max()) <= 1 - 2.0**-UNIFORM_BITS
    counts = torch.histc(chance, 10, 0.0, 1.0) / chance.numel()
    torch.testing.assert_close(counts, torch.full((10,), 0.1).double(), atol=0.01, rtol=0)


def test_chance_is_independent_over_seed_step_and_stream() -> None:
    seeds = torch.arange(60).repeat_interleave(60)
    chance = uniform(seeds, torch.arange(60).repeat(60), 4).unflatten(0, (60, 60))
    assert len(chance.unique()) > 0.99 * chance.numel()
    for dim in range(3):
        steps = chance.shape[dim] - 1
        pair = torch.stack([chance.narrow(dim, first, steps).flatten() for first in (0, 1)])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.03


@settings(deadline=None)
@given(seed=st.integers(-(2**63), 2**63 - 1), step=st.integers(0, 2**40))
def test_the_chance_of_a_seat_depends_on_nothing_but_its_place(seed: int, step: int) -> None:
    alone = uniform(torch.tensor([seed]), torch.tensor([step]), 3)
    among = uniform(torch.tensor([1, seed, 2]), torch.tensor([9, step, 3]), 3)
    assert torch.equal(alone[0], among[1])
    assert torch.equal(alone[0], uniform(torch.tensor([seed]), torch.tensor([step]), 4)[0, :3])


@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=300),
    chance=st.sampled_from([0.0, 0.5, 1 - 2.0**-UNIFORM_BITS]),
    temperature=st.sampled_from([0.1, 1.0, 3.0]),
    top_k=st.integers(0, 5),
)
@settings(deadline=None)
def test_what_is_drawn_is_always_among_the_likeliest(
    logits: list[float], chance: float, temperature: float, top_k: int
) -> None:
    row = torch.tensor([logits])
    token = int(sample(row, torch.tensor([chance]), torch.tensor([temperature]), torch.tensor([top_k])))
    kept = len(logits) if top_k == 0 else min(top_k, len(logits))
    assert 0 <= token < len(logits)
    assert logits[token] >= sorted(logits, reverse=True)[kept - 1]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_with_softmax_s_shares(temperature: float) -> None:
    logits = [1.0, 0.0, -1.0, 2.0]
    shares = drawn(logits, 20_000, temperature, top_k=0).bincount(minlength=4) / 20_000
    expected = (torch.tensor(logits) / temperature).softmax(dim=0)
    torch.testing.assert_close(shares, expected, atol=0.012, rtol=0)


def test_only_the_likeliest_are_drawn() -> None:
    counts = drawn([0.0, 0.4, 0.1, 0.3], 500, 1.0, top_k=2).bincount(minlength=4)
    assert counts[[0, 2]].tolist() == [0, 0]
    assert counts[[1, 3]].min() > 100


@pytest.mark.parametrize("top_k", [-1, 0, 4, 99])
def test_a_top_k_outside_the_vocabulary_keeps_all(top_k: int) -> None:
    assert set(drawn([0.0] * 4, 500, 1.0, top_k).tolist()) == {0, 1, 2, 3}


def test_the_largest_top_k_is_exact_and_a_larger_one_keeps_all() -> None:
    logits = [1.0] * MOST_TOP_K + [0.9] * 20
    assert drawn(logits, 4_000, 1.0, MOST_TOP_K).max() < MOST_TOP_K
    assert drawn(logits, 4_000, 1.0, MOST_TOP_K + 1).max() >= MOST_TOP_K


def test_temperature_zero_is_the_arg_max() -> None:
    assert set(drawn([0.1, 0.3, 0.2], 200, 0.0, top_k=0).tolist()) == {1}


def test_settings_are_each_seat_s_own() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0]]).expand(3, -1)
    chance = torch.full((3,), 1 - 2.0**-UNIFORM_BITS)  # the last candidate there is
    chosen = sample(logits, chance, torch.tensor([1.0, 0.0, 1.0]), torch.tensor([3, 3, 1]))
    assert chosen.tolist() == [2, 0, 0]


def test_of_so_many_words_silence_is_none() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0], [9.0, 3.0, 1.0, 2.0], [0.0, 3.0, 1.0, 2.0]])
    kept = among_words(logits, torch.tensor([1, 2, 0]), silence=0)
    assert kept.isfinite().tolist() == [
        [True, True, False, False],
        [True, True, False, True],
        [True, True, True, True],
    ]
    assert torch.equal(kept[kept.isfinite()], logits[kept.isfinite()])


def test_with_one_word_when_to_speak_is_drawn_and_what_is_not() -> None:
    logits = torch.tensor([1.0, 1.5, 1.4, 0.0]).expand(4000, -1)
    words = among_words(logits, torch.ones(4000, dtype=torch.int64), silence=0)
    chance = uniform(torch.arange(4000), torch.zeros(4000, dtype=torch.int64), 1)[:, 0]
    drawn = sample(words, chance, torch.ones(4000), torch.zeros(4000, dtype=torch.int64))
    assert set(drawn.tolist()) == {0, 1}
    assert (drawn == 0).float().mean() == pytest.approx(1 / (1 + 2.718281828**0.5), abs=0.03)
