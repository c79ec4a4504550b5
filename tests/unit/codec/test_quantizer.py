"""Residual quantisation against references, and what its codebooks learn."""

import numpy as np
import pytest
import torch
from torch import Tensor

from paluku.codec.quantizer import (
    QuantizerConfig,
    ResidualQuantizer,
    histogram,
    kmeans,
    nearest,
    perplexity,
    share_used,
)

K, V, D = 3, 8, 4


@pytest.fixture
def quantizer() -> ResidualQuantizer:
    torch.manual_seed(0)
    return ResidualQuantizer(K, V, D, QuantizerConfig())


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(5, D, 6, generator=torch.Generator().manual_seed(1))


def all_codebooks(batch: int) -> Tensor:
    return torch.full((batch,), K)


def test_codes_are_those_of_greedy_nearest_neighbours(quantizer: ResidualQuantizer, latents: Tensor) -> None:
    books = quantizer.codebooks.double().numpy()
    codes = quantizer.encode(latents).numpy()
    for b, t in np.ndindex(5, 6):
        residual = latents[b, :, t].double().numpy()
        for k in range(K):
            expected = np.argmin([np.linalg.norm(residual - entry) for entry in books[k]])
            assert codes[b, k, t] == expected
            residual = residual - books[k][expected]


def test_decoding_sums_the_entries(quantizer: ResidualQuantizer, latents: Tensor) -> None:
    codes = quantizer.encode(latents)
    decoded = quantizer.decode(codes[:, :2])
    expected = quantizer.codebooks[0][codes[2, 0, 3]] + quantizer.codebooks[1][codes[2, 1, 3]]
    torch.testing.assert_close(decoded[2, :, 3], expected)


def test_quantising_again_changes_nothing_where_codebooks_nest(quantizer: ResidualQuantizer) -> None:
    """Corners of a cube, an eighth the size at each stage: a sum lies nearest to its own first corner."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    cube = torch.cat([corners, torch.zeros(V, 1)], dim=1)
    quantizer.codebooks.copy_(torch.stack([cube / 8**k for k in range(K)]))
    quantizer.measure_()
    codes = torch.randint(V, (4, K, 10), generator=torch.Generator().manual_seed(2))
    assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)


def test_entries_that_moved_are_measured_anew(quantizer: ResidualQuantizer, latents: Tensor) -> None:
    """By whatever moved them: the search needs the entries' lengths."""
    fresh = ResidualQuantizer(K, V, latents.shape[1], quantizer.config)
    for change in (
        lambda: fresh.initialise_(latents),
        lambda: fresh.learn_(fresh(latents, torch.full((len(latents),), K))),
        lambda: fresh.load_state_dict(quantizer.state_dict()),
        lambda: fresh.keep_(K - 1),
    ):
        change()
        torch.testing.assert_close(fresh.norms, fresh.codebooks.square().sum(dim=2))


def test_training_uses_as_many_codebooks_as_each_example_is_given(
    quantizer: ResidualQuantizer, latents: Tensor
) -> None:
    quantized = quantizer(latents, torch.tensor([1, 2, 3, 1, 2]))
    codes = quantizer.encode(latents)
    for example, count in enumerate([1, 2, 3, 1, 2]):
        expected = quantizer.decode(codes[example : example + 1, :count])[0]
        torch.testing.assert_close(quantized.latents[example], expected)
        assert quantized.used[:, example].tolist() == [k < count for k in range(K)]


def test_gradients_pass_straight_through(quantizer: ResidualQuantizer, latents: Tensor) -> None:
    latents.requires_grad_(True)
    weight = torch.randn_like(latents)
    (quantizer(latents, all_codebooks(5)).latents * weight).sum().backward()
    torch.testing.assert_close(latents.grad, weight)


def test_commitment_draws_latents_to_the_nearest_entry(quantizer: ResidualQuantizer, latents: Tensor) -> None:
    """With one codebook of `K`: `mean((z - e)^2) / K`, whose gradient is `2 (z - e) / (N K)`."""
    latents.requires_grad_(True)
    commitment = quantizer(latents, torch.ones(5, dtype=torch.int64)).commitment
    commitment.backward()
    error = latents.detach() - quantizer.decode(quantizer.encode(latents.detach())[:, :1])
    torch.testing.assert_close(commitment.detach(), error.square().mean() / K)
    torch.testing.assert_close(latents.grad, 2 * error / (latents.numel() * K))


def test_without_memory_an_entry_becomes_the_mean_of_what_chose_it(latents: Tensor) -> None:
    quantizer = ResidualQuantizer(K, V, D, QuantizerConfig(decay=0))
    before = quantizer.codebooks.clone()
    quantized = quantizer(latents, torch.tensor([1, 1, 3, 3, 3]))
    quantizer.learn_(quantized)
    vectors, chosen = latents.transpose(1, 2).flatten(0, 1), quantized.codes[:, 0].flatten()
    for entry in range(V):
        members = vectors[chosen == entry]
        expected = members.mean(dim=0) if len(members) else before[0, entry]
        torch.testing.assert_close(quantizer.codebooks[0, entry], expected)
    # The third codebook learns only from the examples that used it.
    assert float(quantizer.counts[2].sum()) == 3 * 6


def test_the_moving_average_weighs_the_past_by_its_decay(latents: Tensor) -> None:
    quantizer = ResidualQuantizer(1, 1, D, QuantizerConfig(decay=0.75))
    quantizer.codebooks.fill_(2.0), quantizer.sums.fill_(2.0 * 30), quantizer.counts.fill_(30)
    quantizer.learn_(quantizer(latents, torch.ones(5, dtype=torch.int64)))
    expected = 0.75 * 2.0 + 0.25 * latents.mean(dim=(0, 2))
    torch.testing.assert_close(quantizer.codebooks[0, 0], expected)


def test_dead_entries_come_back_as_data(latents: Tensor) -> None:
    quantizer = ResidualQuantizer(1, V, D, QuantizerConfig(decay=0, revive_every=1))
    quantizer.codebooks[0, 1:] += 100  # nothing chooses them
    quantizer.learn_(quantizer(latents, torch.ones(5, dtype=torch.int64)))
    vectors = latents.transpose(1, 2).flatten(0, 1)
    revived = quantizer.codebooks[0, 1:]
    assert torch.equal(torch.cdist(revived, vectors).amin(dim=1), torch.zeros(V - 1))
    assert len(revived.unique(dim=0)) == V - 1
    torch.testing.assert_close(quantizer.sums, quantizer.codebooks * quantizer.counts[..., None])


def test_initialising_lowers_the_error_with_every_codebook(
    quantizer: ResidualQuantizer, latents: Tensor
) -> None:
    random_error = (quantizer.decode(quantizer.encode(latents)) - latents).square().mean()
    quantizer.initialise_(latents)
    codes = quantizer.encode(latents)
    errors = [(quantizer.decode(codes[:, :k]) - latents).square().mean() for k in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.1 * random_error


def test_kmeans_finds_clusters_and_counts_them() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    spread = torch.randn(60, 2, generator=torch.Generator().manual_seed(3)) * 0.1
    vectors = centres.repeat_interleave(20, dim=0) + spread
    found, counts = kmeans(vectors, 3, rounds=10, seed=1)
    order = nearest(centres, found)
    torch.testing.assert_close(found[order], vectors.view(3, 20, 2).mean(dim=1))
    assert counts.tolist() == [20, 20, 20]


def test_kmeans_of_fewer_vectors_than_centres_repeats_them() -> None:
    found, counts = kmeans(torch.tensor([[1.0], [2.0]]), 5, rounds=2, seed=0)
    assert found.shape == (5, 1)
    assert set(found.flatten().tolist()) == {1.0, 2.0}
    assert counts.sum() == 2


def test_use_is_counted_per_codebook() -> None:
    codes = torch.tensor([[[0, 1, 2, 3], [2, 2, 2, 2]], [[0, 1, 2, 3], [2, 2, 2, 2]]])
    counts = histogram(codes, 8)
    assert counts.tolist() == [[2, 2, 2, 2, 0, 0, 0, 0], [0, 0, 8, 0, 0, 0, 0, 0]]
    torch.testing.assert_close(perplexity(counts), torch.tensor([4.0, 1.0]))
    torch.testing.assert_close(share_used(counts), torch.tensor([0.5, 0.125]))


def test_more_rows_than_codebooks_are_refused(quantizer: ResidualQuantizer) -> None:
    with pytest.raises(AssertionError, match="4 rows of codes, 3 codebooks"):
        quantizer.decode(torch.zeros(1, 4, 1, dtype=torch.int64))
