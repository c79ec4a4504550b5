"""G.711 against the standard library's reference, and streams against the samples that must come out."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.protocol.realtime.audio import FORMATS, RATES_HZ, Ear, FormatName, Mouth, decode, encode

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

EVERY_SAMPLE = np.arange(65_536, dtype=np.uint16).view(np.int16)
EVERY_BYTE = bytes(range(256))


def test_g711_is_the_reference_bit_for_bit() -> None:
    samples = EVERY_SAMPLE.tobytes()
    assert encode("audio/pcmu", EVERY_SAMPLE) == audioop.lin2ulaw(samples, 2)
    assert encode("audio/pcma", EVERY_SAMPLE) == audioop.lin2alaw(samples, 2)
    assert decode("audio/pcmu", EVERY_BYTE).tobytes() == audioop.ulaw2lin(EVERY_BYTE, 2)
    assert decode("audio/pcma", EVERY_BYTE).tobytes() == audioop.alaw2lin(EVERY_BYTE, 2)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("model_hz", [16_000, 24_000])
def test_a_tone_survives_both_ways(name: FormatName, model_hz: int) -> None:
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(model_hz) / model_hz)).astype(np.int16)
    mouth, ear = Mouth(name, model_hz), Ear(name, model_hz)
    said = b"".join(mouth.say(frame) for frame in np.split(tone, 25)) + mouth.finish()
    assert len(said) == RATES_HZ[name] * len(encode(name, np.zeros(1, np.int16)))
    heard = np.frombuffer(ear.hear(said) + ear.finish(), "<i2").astype(float)
    assert len(heard) == model_hz
    middle = slice(model_hz // 10, -model_hz // 10)
    error = heard[middle] - tone[middle]
    assert np.sqrt((error**2).mean()) < 0.03 * 8000  # G.711 has 38 dB


@settings(max_examples=30)
@given(name=st.sampled_from(FORMATS), cuts=st.lists(st.integers(0, 4000), max_size=6))
def test_the_cuts_between_messages_are_not_heard(name: FormatName, cuts: list[int]) -> None:
    sound = np.random.default_rng(0).integers(0, 255, 4000, np.uint8).tobytes()
    ends = [0, *sorted(cuts), len(sound)]
    whole, parts = Ear(name, 16_000), Ear(name, 16_000)
    heard = b"".join(parts.hear(sound[a:b]) for a, b in itertools.pairwise(ends)) + parts.finish()
    assert heard == whole.hear(sound) + whole.finish()
