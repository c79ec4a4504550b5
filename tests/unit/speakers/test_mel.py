"""What a speaker encoder hears."""

import numpy as np
import pytest
import torch

from paluku.speakers.mel import LogMel, MelConfig, mel_filters
from tests.fakes.speakers import voice

CONFIG = MelConfig()


def test_a_tone_is_loudest_in_the_band_around_it() -> None:
    """Against a noise that comes first: what never changes is not heard."""
    torch.manual_seed(0)
    centres_hz = mel_filters(CONFIG).argmax(dim=1) * 8_000 / 256
    time_s = torch.arange(16_000) / 16_000
    for frequency_hz in (300.0, 1_000.0, 4_000.0):
        tone = torch.sin(2 * torch.pi * frequency_hz * time_s)
        heard = LogMel(CONFIG)(torch.cat((torch.randn(16_000), tone))[None, None])
        loudest = heard[0, :, -20].argmax()
        assert centres_hz[loudest] == pytest.approx(frequency_hz, rel=0.1)


def test_neither_level_nor_line_is_heard() -> None:
    """A fixed filter shifts every band by a constant; the mean over time takes it away."""
    wave = torch.from_numpy(voice(1, 0, 1.0, 16_000))[None, None]
    heard = LogMel(CONFIG)(wave)
    torch.testing.assert_close(LogMel(CONFIG)(wave * 0.01), heard, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(heard.mean(dim=-1), torch.zeros(1, 64), atol=1e-4, rtol=0)


def test_filters_overlap_to_one_between_the_first_and_the_last_peak() -> None:
    filters = mel_filters(CONFIG.model_copy(update={"bands": 20}))
    first, last = filters[0].argmax() + 1, filters[-1].argmax()
    torch.testing.assert_close(filters[:, first:last].sum(dim=0), torch.ones(last - first), atol=1e-4, rtol=0)


def test_silence_is_finite() -> None:
    assert torch.isfinite(LogMel(CONFIG)(torch.zeros(1, 1, 4_000))).all()


def test_frames_are_ten_milliseconds_apart() -> None:
    assert LogMel(CONFIG)(torch.from_numpy(np.zeros((2, 1, 512 + 9 * 160), np.float32))).shape == (2, 64, 10)
