import math

import pytest
import torch
from torch import Tensor

from paluku.s2s.losses import MASKED, StreamWeights, says_something, stream_names, tally, targets, total
from paluku.s2s.model import Logits
from paluku.tokens.batches import TokenBatch

B, K, T, V, TEXT = 2, 3, 5, 7, 11
PLAIN = StreamWeights(pad=1.0, silence=1.0)
# Both rows hold a document; the first row another one from its fourth frame on; the second ends early.
DOCUMENT = torch.tensor([[0, 0, 0, 1, 1], [2, 2, 2, -1, -1]])
INSIDE = DOCUMENT >= 0
FIRSTS = torch.tensor([[True, False, False, True, False], [True, False, False, False, False]])


def inputs(at: Tensor | None = None) -> tuple[Logits, TokenBatch, Tensor]:
    """Random logits and targets; acoustic codebooks delayed by one in every document."""
    generator = torch.Generator().manual_seed(0)
    positions = B * T if at is None else len(at)

    def logits(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, requires_grad=True)

    text, user_text = torch.randint(0, 3, (2, B, T), generator=generator)
    own = torch.randint(0, V, (B, K, T), generator=generator)
    own[:, 1:][FIRSTS[:, None].expand(B, K - 1, T)] = V
    own[(~INSIDE)[:, None].expand(B, K, T)] = V
    codes, rows = torch.zeros(B, K, T, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    batch = TokenBatch(codes, codes, text, user_text, DOCUMENT, rows, rows)
    return Logits(logits(B, T, TEXT), logits(B, T, TEXT), logits(positions, K, V)), batch, own


def test_it_is_the_sum_of_minus_log_probabilities() -> None:
    logits, batch, own = inputs()
    found = tally(logits, targets(batch, own, None, V, PLAIN))
    expected = [0.0] * (2 + K)
    for b, t in INSIDE.nonzero().tolist():
        expected[0] -= float(logits.text[b, t].log_softmax(0)[batch.text[b, t]].detach())
        expected[1] -= float(logits.user_text[b, t].log_softmax(0)[batch.user_text[b, t]].detach())
        for k in range(K):
            if k == 0 or not FIRSTS[b, t]:
                expected[2 + k] -= float(logits.codes[b * T + t, k].log_softmax(0)[own[b, k, t]].detach())
    torch.testing.assert_close(found.loss.detach(), torch.tensor(expected))
    torch.testing.assert_close(found.nats, torch.tensor(expected))
    assert found.answers.tolist() == [8, 8, 8, 5, 5]


def test_masked_positions_have_a_gradient_of_exactly_zero() -> None:
    logits, batch, own = inputs()
    total(tally(logits, targets(batch, own, None, V, StreamWeights())).loss, PLAIN, K).backward()
    for text in (logits.text, logits.user_text):
        assert torch.equal(text.grad.abs().sum(dim=-1) > 0, INSIDE)
    moved = logits.codes.grad.abs().sum(dim=-1) > 0
    assert torch.equal(moved, (own < V).transpose(1, 2).flatten(0, 1))


def test_masked_targets_and_infinite_logits_there_do_not_matter() -> None:
    logits, batch, own = inputs()
    expected = tally(logits, targets(batch, own, None, V, PLAIN))
    other = batch._replace(
        text=torch.where(INSIDE, batch.text, 9), user_text=torch.where(INSIDE, batch.user_text, 9)
    )
    with torch.no_grad():
        logits.text[~INSIDE] = torch.inf
    found = tally(logits, targets(other, own, None, V, PLAIN))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_codes_are_judged_at_the_positions_asked_for() -> None:
    at = torch.tensor([0, 2, 6, 9])
    logits, batch, own = inputs(at)
    asked = targets(batch, own, at, V, PLAIN)
    assert asked.codes.tolist() == [
        [own[0, 0, 0], MASKED, MASKED],
        own[0, :, 2].tolist(),
        own[1, :, 1].tolist(),
        [MASKED] * 3,
    ]
    assert tally(logits, asked).answers.tolist() == [8, 8, 3, 2, 2]


def test_frames_without_text_and_without_sound_count_less() -> None:
    text = torch.zeros(1, 60, dtype=torch.int64)
    text[0, 20] = 4
    codes, none = torch.zeros(1, K, 60, dtype=torch.int64), torch.zeros_like(text)
    rows = torch.zeros(1, dtype=torch.int64)
    batch = TokenBatch(codes, codes, text, none, none, rows, rows)
    asked = targets(batch, codes, None, V, StreamWeights(pad=0.25, silence=0.5))
    # Sound from 5 frames before the token to 25 after it: 31 frames; 29 are silent.
    assert asked.total_weights().tolist() == [1 + 59 / 4, 60 / 4, *[31 + 29 / 2] * K]


def test_a_document_s_sound_is_its_own() -> None:
    text, document = torch.tensor([[0, 3, 0, 0, 0, 0]]), torch.tensor([[0, 0, 1, 1, -1, -1]])
    assert says_something(text, document).tolist() == [[True, True, False, False, False, False]]
    assert says_something(text.flip(1), document).tolist() == [[False, False, False, False, True, True]]


def test_right_tokens_are_counted_where_there_is_text() -> None:
    logits, batch, own = inputs()
    sure = torch.nn.functional.one_hot(batch.text, TEXT).float()
    sure[0, 0] = 0.0
    sure[0, 0, TEXT - 1] = 1.0
    batch.text[0, 0] = 2
    found = tally(logits._replace(text=sure), targets(batch, own, None, V, PLAIN))
    spoken = int(((batch.text > 0) & INSIDE).sum())
    assert (found.right[0], found.judged[0]) == (spoken - 1, spoken)


def test_a_model_that_knows_nothing_has_the_entropy_of_the_vocabulary() -> None:
    _, batch, own = inputs()
    zeros = Logits(torch.zeros(B, T, TEXT), None, torch.zeros(B * T, K, V))
    found = tally(zeros, targets(batch, own, None, V, PLAIN, user_text=False))
    assert (found.nats / found.answers).tolist() == pytest.approx([math.log(TEXT), *[math.log(V)] * K])


def test_the_total_weighs_texts_against_the_codebooks() -> None:
    weights = StreamWeights(text=0.5, user_text=0.25, first_code=3.0)
    means = torch.tensor([3.0, 4.0, 1.0, 2.0, 6.0])
    assert float(total(means, weights, 3)) == pytest.approx(1.5 + 1.0 + (3 + 2 + 6) / 5)
    assert float(total(means[[0, 2, 3, 4]], weights, 3)) == pytest.approx(1.5 + 11 / 5)


def test_streams_are_named_texts_first() -> None:
    assert stream_names(2) == ["text", "user_text", "codes_0", "codes_1"]
    assert stream_names(1, user_text=False) == ["text", "codes_0"]
