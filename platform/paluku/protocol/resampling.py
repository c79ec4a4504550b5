"""Rate conversion of a stream, sample for sample: as much comes out as went in, a millisecond or two later.

`soxr.ResampleStream` works through FFT blocks: at its high quality it hands out 30 ms of sound at a time,
between 16 and 24 kHz 33 ms late, between 8 and 16 kHz 89 ms (measured). That is more than a frame. This is
a polyphase FIR filter instead (Crochiere and Rabiner 1983, "Multirate Digital Signal Processing", ch. 4).
"""

import math

import numpy as np

from paluku.units import MS_PER_S

# Zero crossings of the sinc on each side. The filter's delay is this many samples of the slower rate:
# 3 ms at 8 kHz, 1.5 ms at 16 kHz. Together with the window: flat to 0.83 of the slower Nyquist frequency.
CROSSINGS = 24
_ROLLOFF = 0.92
_KAISER_BETA = 6.8  # 70 dB of stopband attenuation (Kaiser 1974)
# Taps are whole multiples of this: products with int16 and their sums are then exact in float64, in
# whatever order they are added, so the result is the same to the bit however the stream is cut.
_TAP_STEP = 2.0**-20


class Resampler:
    """One channel from one rate to another. State: the last few samples, and a position."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        common = math.gcd(from_hz, to_hz)
        self._up, self._down = to_hz // common, from_hz // common
        self._phases = _phases(self._up, self._down)  # [up, taps], newest sample first
        taps = self._phases.shape[1]
        self._recent = np.zeros(taps - 1)  # the samples before the next one
        self._position = 0  # of the next output, in 1 / up samples after the next input
        self.delay_ms = 0.0 if self._up == self._down else CROSSINGS / min(from_hz, to_hz) * MS_PER_S

    def push(self, pcm: np.ndarray) -> np.ndarray:
        """int16 `[S]` to int16 `[S']`: after n samples in all, ceil(n * up / down) have come out in all."""
        if self._up == self._down:
            return pcm
        sound = np.concatenate([self._recent, pcm.astype(np.float64)])
        taps = self._phases.shape[1]
        count = max(0, -(-(len(pcm) * self._up - self._position) // self._down))
        out = np.empty(count)
        windows = np.lib.stride_tricks.sliding_window_view(sound, taps) if len(pcm) else None
        for first in range(min(self._up, count)):
            assert windows is not None
            index, phase = divmod(self._position + first * self._down, self._up)
            out[first :: self._up] = (windows[index :: self._down] @ self._phases[phase])[
                : len(range(first, count, self._up))
            ]
        self._position += count * self._down - len(pcm) * self._up
        self._recent = sound[len(sound) - (taps - 1) :]
        return np.clip(np.rint(out), -32768, 32767).astype(np.int16)


def _phases(up: int, down: int) -> np.ndarray:
    """The filter, cut into `up` phases `[up, taps]`, oldest sample first."""
    slower = max(up, down)  # in samples of the common rate, one of the slower rate's
    half = CROSSINGS * slower
    time = np.arange(-half, half + 1)
    sinc = np.sinc(_ROLLOFF * time / slower) * np.kaiser(2 * half + 1, _KAISER_BETA)
    padded = np.pad(sinc, (0, -len(sinc) % up)).reshape(-1, up).T  # [up, taps]: h[phase + tap * up]
    unity = padded / padded.sum(axis=1, keepdims=True)
    return np.ascontiguousarray(np.round(unity / _TAP_STEP)[:, ::-1] * _TAP_STEP)
