import numpy as np
import pytest

from paluku.corpus.preparation.spectra import FRAMES_AT_ONCE, power_spectra


@pytest.mark.parametrize("num_frames", [1, FRAMES_AT_ONCE, 2 * FRAMES_AT_ONCE + 1])
def test_blocks_are_the_spectra_of_all_frames_to_the_bit(num_frames: int) -> None:
    size, hop = 256, 64
    wave = np.random.default_rng(num_frames).standard_normal(size + hop * num_frames - 1, np.float32)
    window = np.hanning(size).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop]
    whole = np.fft.rfft(frames * window, axis=1)
    blocks = list(power_spectra(wave, window, hop))
    assert all(len(block) == FRAMES_AT_ONCE for block in blocks[:-1])
    assert np.array_equal(np.concatenate(blocks), whole.real**2 + whole.imag**2)
    assert len(whole) == num_frames
