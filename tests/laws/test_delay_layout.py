"""Laws of the delay layout."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.tokens.layout import acoustic_delays, delay, undelay

PAD = 9
DELAYS = st.lists(st.integers(0, 4), min_size=1, max_size=4)


def codes_of(frames: int, codebooks: int) -> torch.Tensor:
    return torch.arange(2 * codebooks * frames).reshape(2, codebooks, frames) % PAD


@settings(deadline=None)
@given(delays=DELAYS, frames=st.integers(0, 6))
def test_undelay_is_the_inverse(delays: list[int], frames: int) -> None:
    codes = codes_of(frames, len(delays))
    assert torch.equal(undelay(delay(codes, delays, PAD), delays), codes)


@settings(deadline=None)
@given(delays=DELAYS, frames=st.integers(0, 6))
def test_pads_are_the_places_that_stand_for_no_frame(delays: list[int], frames: int) -> None:
    positions = delay(codes_of(frames, len(delays)), delays, PAD)
    assert positions.shape[-1] == frames + max(delays)
    padded = (positions == PAD).sum(dim=(0, 2)).tolist()
    assert padded == [2 * max(delays)] * len(delays)


@settings(deadline=None)
@given(delays=DELAYS, frames=st.integers(1, 6), cut=st.integers(0, 6))
def test_the_layout_of_a_beginning_is_the_beginning_of_the_layout(
    delays: list[int], frames: int, cut: int
) -> None:
    codes, cut = codes_of(frames, len(delays)), min(cut, frames)
    beginning = delay(codes[..., :cut], delays, PAD)[..., :cut]
    assert torch.equal(delay(codes, delays, PAD)[..., :cut], beginning)


def test_worked_example() -> None:
    codes = torch.tensor([[[1, 2, 3], [4, 5, 6], [7, 8, 0]]])
    assert acoustic_delays(3, 1) == (0, 1, 1)
    assert delay(codes, (0, 1, 1), PAD).tolist() == [[[1, 2, 3, 9], [9, 4, 5, 6], [9, 7, 8, 0]]]


def test_too_few_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="1 positions hold no frame at a delay of 2"):
        undelay(torch.zeros(1, 2, 1, dtype=torch.int64), (0, 2))
