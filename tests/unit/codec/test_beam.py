"""Beam search and refitting, against what is certain about them."""

import itertools

import torch

from paluku.codec.beam import beam_codes, refitted
from paluku.codec.quantizer import QuantizerConfig, ResidualQuantizer


def books(num: int, size: int, dim: int) -> torch.Tensor:
    return torch.randn(num, size, dim, generator=torch.Generator().manual_seed(0))


def latents(count: int, dim: int) -> torch.Tensor:
    return torch.randn(2, dim, count, generator=torch.Generator().manual_seed(1)) * 2


def left_over(x: torch.Tensor, codes: torch.Tensor, codebooks: torch.Tensor) -> torch.Tensor:
    sums = sum(book[row] for book, row in zip(codebooks, codes.unbind(1), strict=True))
    return (x.transpose(1, 2) - sums).square().sum(dim=2)


def test_a_beam_of_one_takes_the_nearest_entry_each_time() -> None:
    quantizer = ResidualQuantizer(4, 8, 5, QuantizerConfig())
    x = latents(30, 5)
    greedy = quantizer.encode(x)
    assert torch.equal(beam_codes(x, quantizer.codebooks, quantizer.norms, 1), greedy)


def test_a_beam_as_wide_as_all_codings_finds_the_best() -> None:
    codebooks, x = books(3, 4, 5), latents(6, 5)
    codes = beam_codes(x, codebooks, codebooks.square().sum(dim=2), 16)
    every = torch.tensor(list(itertools.product(range(4), repeat=3)))
    sums = sum(book[column] for book, column in zip(codebooks, every.T, strict=True))
    best = (x.transpose(1, 2)[:, :, None] - sums).square().sum(dim=3).amin(dim=2)
    torch.testing.assert_close(left_over(x, codes, codebooks), best, atol=1e-4, rtol=1e-4)


def test_a_wider_beam_leaves_less_over() -> None:
    codebooks, x = books(6, 8, 5), latents(200, 5)
    norms = codebooks.square().sum(dim=2)
    left = [left_over(x, beam_codes(x, codebooks, norms, beam), codebooks).mean() for beam in (1, 4, 16)]
    assert left[0] > left[1] > left[2]


def test_a_given_first_code_is_kept_and_the_others_code_what_it_leaves() -> None:
    codebooks, x = books(3, 4, 5), latents(6, 5)
    first = torch.randint(4, (2, 6), generator=torch.Generator().manual_seed(2))
    norms = codebooks.square().sum(dim=2)
    codes = beam_codes(x, codebooks, norms, 4, first)
    assert torch.equal(codes[:, 0], first)
    rest = x - codebooks[0][first].transpose(1, 2)
    assert torch.equal(codes[:, 1:], beam_codes(rest, codebooks[1:], norms[1:], 4))


def test_each_vector_s_codes_are_its_own() -> None:
    codebooks, x = books(4, 8, 5), latents(10, 5)
    norms = codebooks.square().sum(dim=2)
    whole = beam_codes(x, codebooks, norms, 4)
    assert torch.equal(whole[1:, :, 3:7], beam_codes(x[1:, :, 3:7], codebooks, norms, 4))


def test_refitting_recovers_the_codebooks_that_made_the_vectors() -> None:
    """Up to what the books can pass to one another: the sums are what counts."""
    truth, random = books(3, 4, 5), torch.Generator().manual_seed(3)
    codes = torch.randint(4, (400, 3), generator=random)
    vectors = torch.stack([book[column] for book, column in zip(truth, codes.T, strict=True)]).sum(dim=0)
    fitted = refitted(torch.zeros_like(truth), vectors, codes, {3: 1.0}, ridge=1e-6)
    sums = sum(book[column] for book, column in zip(fitted, codes.T, strict=True))
    torch.testing.assert_close(sums, vectors, atol=1e-3, rtol=1e-3)


def test_refitting_lowers_the_error_at_the_depths_that_count() -> None:
    codebooks, x = books(4, 8, 5), latents(300, 5)[:1]
    vectors = x[0].T
    codes = beam_codes(x, codebooks, codebooks.square().sum(dim=2), 2)[0].T
    depths = {2: 1.0, 4: 1.0}
    fitted = refitted(codebooks, vectors, codes, depths, ridge=1e-3)

    def error(of: torch.Tensor) -> float:
        parts = [
            (vectors - sum(of[k][codes[:, k]] for k in range(depth))).square().sum() * share
            for depth, share in depths.items()
        ]
        return float(sum(parts))

    assert error(fitted) < 0.9 * error(codebooks)


def test_an_entry_that_nothing_chose_stays() -> None:
    codebooks = books(2, 4, 5)
    fitted = refitted(codebooks, torch.randn(20, 5), torch.zeros(20, 2, dtype=torch.int64), {2: 1.0}, 1.0)
    torch.testing.assert_close(fitted[:, 1:], codebooks[:, 1:])
