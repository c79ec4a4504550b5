import math

import pytest
import torch

from paluku.s2s.losses import stream_names, stream_sums, total
from paluku.s2s.model import Logits

B, K, T, V, TEXT = 2, 3, 5, 7, 11


def inputs(seed: int = 0) -> tuple[Logits, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random logits and targets; acoustic codebooks delayed by one; the second row ends after 3 frames."""
    generator = torch.Generator().manual_seed(seed)
    logits = Logits(
        torch.randn(B, T, TEXT, generator=generator, requires_grad=True),
        torch.randn(B, K, T, V, generator=generator, requires_grad=True),
    )
    text = torch.randint(0, TEXT, (B, T), generator=generator)
    own = torch.randint(0, V, (B, K, T), generator=generator)
    own[:, 1:, 0] = V
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    return logits, text, own, valid


def test_it_is_the_sum_of_minus_log_probabilities() -> None:
    logits, text, own, valid = inputs()
    logits = Logits(*(part.detach() for part in logits))
    sums, counts = stream_sums(logits, text, own, valid)
    expected = [0.0] * (1 + K)
    for b in range(B):
        for t in range(5 if b == 0 else 3):
            expected[0] -= float(logits.text[b, t].log_softmax(0)[text[b, t]])
            for k in range(K):
                if k == 0 or t > 0:
                    expected[1 + k] -= float(logits.codes[b, k, t].log_softmax(0)[own[b, k, t]])
    torch.testing.assert_close(sums, torch.tensor(expected))
    assert counts.tolist() == [8, 8, 6, 6]


def test_masked_positions_have_a_gradient_of_exactly_zero() -> None:
    logits, text, own, valid = inputs()
    total(stream_sums(logits, text, own, valid).sums, text_weight=0.7).backward()
    moved_text = logits.text.grad.abs().sum(dim=-1) > 0
    moved_codes = logits.codes.grad.abs().sum(dim=-1) > 0
    assert torch.equal(moved_text, valid)
    assert torch.equal(moved_codes, valid[:, None] & (own < V))
    assert not logits.codes.grad[:, 1:, 0].any()
    assert not logits.codes.grad[1, :, 3:].any()


def test_masked_targets_do_not_matter() -> None:
    logits, text, own, valid = inputs()
    other_text, other_own = text.clone(), own.clone()
    other_text[1, 3:] = 0
    other_own[1, :, 3:] = 1
    assert torch.equal(
        stream_sums(logits, text, own, valid).sums, stream_sums(logits, other_text, other_own, valid).sums
    )


def test_a_model_that_knows_nothing_has_the_entropy_of_the_vocabulary() -> None:
    _, text, own, valid = inputs()
    zeros = Logits(torch.zeros(B, T, TEXT), torch.zeros(B, K, T, V))
    sums, counts = stream_sums(zeros, text, own, valid)
    assert (sums / counts).tolist() == pytest.approx([math.log(TEXT), *[math.log(V)] * K])


def test_the_total_weighs_text_against_the_mean_of_the_codebooks() -> None:
    assert float(total(torch.tensor([3.0, 1.0, 2.0, 6.0]), text_weight=0.5)) == 1.5 + 3.0


def test_streams_are_named_text_first() -> None:
    assert stream_names(2) == ["text", "codes_0", "codes_1"]
