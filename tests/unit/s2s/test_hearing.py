"""What the last frames sound like: causal, of a window, and in a stream what it is in whole rows."""

import torch

from paluku.s2s.config import HearingConfig, S2SConfig
from paluku.s2s.hearing import Hearing
from paluku.s2s.model import S2SModel

K, V, T, W = 3, 7, 20, 4
CONFIG = S2SConfig(num_codebooks=K, codebook_size=V, text_vocab=11, dim=16, heads=2)


def hearing() -> Hearing:
    torch.manual_seed(0)
    made = Hearing(CONFIG, HearingConfig(window=W, dim=8, hidden=12))
    torch.nn.init.normal_(made.codes.table)
    return made.eval().requires_grad_(False)


HEARING = hearing()
CODES = torch.randint(0, V + 1, (2, K, T), generator=torch.Generator().manual_seed(1))
POSITION = torch.arange(T).expand(2, T)


def test_a_code_is_heard_for_as_long_as_the_window() -> None:
    other = CODES.clone()
    other[0, 1, 6] = (other[0, 1, 6] + 1) % V
    moved = (HEARING(CODES, POSITION).features - HEARING(other, POSITION).features).abs().sum(dim=2) > 0
    assert moved[0].nonzero().flatten().tolist() == [6, 7, 8, 9]
    assert not moved[1].any()


def test_nothing_is_heard_of_the_document_before() -> None:
    position = torch.where(POSITION < 7, POSITION, POSITION - 7)
    together = HEARING(CODES, position)
    apart = [HEARING(CODES[..., part], position[:, part]) for part in (slice(7), slice(7, None))]
    torch.testing.assert_close(together.features, torch.cat([each.features for each in apart], dim=1))
    torch.testing.assert_close(together.hidden, torch.cat([each.hidden for each in apart], dim=1))


def test_in_a_stream_it_hears_the_same_and_a_seat_that_waits_stays() -> None:
    expected = HEARING(CODES, POSITION).features
    state, mask = HEARING.init_state(2), torch.tensor([True, True])
    for t in range(6):
        torch.testing.assert_close(HEARING.step(state, CODES[..., t], mask), expected[:, t])
    waiting = state[1].clone()
    HEARING.step(state, CODES[..., 6], torch.tensor([True, False]))
    assert torch.equal(state[1], waiting)
    torch.testing.assert_close(HEARING.step(state, CODES[..., 7], mask)[0], expected[0, 7])


def test_a_seat_that_is_told_what_was_heard_goes_on_from_there() -> None:
    for frames in (0, 2, W - 1, 9):
        lived, told = HEARING.init_state(1), HEARING.init_state(1)
        for t in range(frames):
            HEARING.step(lived, CODES[:1, :, t], torch.tensor([True]))
        HEARING.remember_(told, CODES[0, :, :frames].T)
        torch.testing.assert_close(told, lived)


def test_frozen_it_hears_as_in_use_and_learns_nothing() -> None:
    torch.manual_seed(0)
    model = S2SModel(
        CONFIG.model_copy(update={"hearing": HearingConfig(window=W, dim=8, hidden=12, dropout=0.5)})
    )
    assert model.hearing is not None
    model.train()
    assert not torch.equal(*(model.hearing(CODES, POSITION).hidden for _ in range(2)))
    model.hearing.freeze()
    model.train()
    assert torch.equal(*(model.hearing(CODES, POSITION).hidden for _ in range(2)))
    learning = [name for name, weight in model.hearing.named_parameters() if weight.requires_grad]
    assert learning == ["out.weight"]
    assert model.temporal.training
