import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.s2s.sampling import GOLDEN, gumbel, mix, sample


def unsigned(x: torch.Tensor) -> int:
    return int(x) % 2**64


def drawn(logits: list[float], seats: int, temperature: float, top_k: int, streams: int = 1) -> torch.Tensor:
    """One token for each of many seeds."""
    noise = gumbel(torch.arange(seats), torch.zeros(seats, dtype=torch.int64), streams, len(logits))[:, 0]
    return sample(
        torch.tensor(logits).expand(seats, -1),
        noise,
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


def test_noise_has_the_gumbel_distribution() -> None:
    noise = gumbel(torch.arange(200), torch.arange(200), 3, 50).flatten().double()
    assert noise.isfinite().all()
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.02)  # Euler's constant
    assert float(noise.var()) == pytest.approx(1.6449, abs=0.05)  # pi^2 / 6
    assert float((noise < 0).double().mean()) == pytest.approx(0.3679, abs=0.01)  # 1 / e


def test_noise_is_independent_over_seed_step_stream_and_candidate() -> None:
    seeds = torch.arange(40).repeat_interleave(40)
    noise = gumbel(seeds, torch.arange(40).repeat(40), 4, 8).unflatten(0, (40, 40))
    assert len(noise.unique()) > 0.995 * noise.numel()
    for dim in range(4):
        neighbours = noise.narrow(dim, 0, noise.shape[dim] - 1), noise.narrow(dim, 1, noise.shape[dim] - 1)
        pair = torch.stack([part.flatten() for part in neighbours])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.02


@settings(deadline=None)
@given(seed=st.integers(-(2**63), 2**63 - 1), step=st.integers(0, 2**40))
def test_noise_of_a_seat_depends_on_nothing_but_its_place(seed: int, step: int) -> None:
    alone = gumbel(torch.tensor([seed]), torch.tensor([step]), 3, 5)
    among = gumbel(torch.tensor([1, seed, 2]), torch.tensor([9, step, 3]), 3, 5)
    assert torch.equal(alone[0], among[1])
    more = gumbel(torch.tensor([seed]), torch.tensor([step]), 4, 9)
    assert torch.equal(alone[0], more[0, :3, :5])


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


def test_temperature_zero_is_the_arg_max() -> None:
    assert set(drawn([0.1, 0.3, 0.2], 200, 0.0, top_k=0).tolist()) == {1}


def test_settings_are_each_seat_s_own() -> None:
    noise = torch.tensor([[0.0, 9.0, 0.0]]).expand(3, -1)
    logits = torch.tensor([[2.0, 0.0, 1.0]]).expand(3, -1)
    chosen = sample(logits, noise, torch.tensor([1.0, 0.0, 1.0]), torch.tensor([3, 3, 2]))
    assert chosen.tolist() == [1, 0, 0]
