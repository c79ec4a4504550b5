"""The same sound is found again whatever was done to it, other sound is not, and order decides."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from paluku.corpus.preparation.fingerprint import MAX_DIFFERING_BITS, NUM_BYTES, Duplicates, fingerprint
from tests.fakes.speech import speech_like

RATE_HZ = 16_000
LENGTHS_S = (1.5, 2.5, 9.0)


def coded(wave: np.ndarray, form: str) -> np.ndarray:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, RATE_HZ, format=form)
    buffer.seek(0)
    return soundfile.read(buffer, dtype="float32")[0]


def noisy(wave: np.ndarray, ratio_db: float) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(len(wave))
    return (wave + noise * np.sqrt(np.square(wave).mean()) * 10 ** (-ratio_db / 20)).astype(np.float32)


def narrowed(wave: np.ndarray) -> np.ndarray:
    return soxr.resample(soxr.resample(wave, RATE_HZ, 8_000), 8_000, RATE_HZ)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gain": lambda wave: 0.1 * wave,
    "noise at 30 dB": lambda wave: noisy(wave, 30),
    "FLAC": lambda wave: coded(wave, "FLAC"),
    "MP3": lambda wave: coded(wave, "MP3"),
    "telephone": narrowed,
    "100 ms later": lambda wave: np.pad(wave, (1_600, 0)),
    "silence": lambda wave: np.pad(wave, (4_000, 7_000)),
    "all": lambda wave: coded(noisy(0.3 * np.pad(wave, (1_600, 500)), 30), "MP3"),
}


def differing(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one[2:]) ^ int.from_bytes(other[2:])).bit_count()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("length_s", LENGTHS_S)
def test_a_changed_copy_is_found(change: str, length_s: float) -> None:
    for seed in range(4):
        wave = speech_like(seed, length_s)
        index = Duplicates()
        assert index.add(fingerprint(wave, RATE_HZ), "first") is None
        assert index.add(fingerprint(CHANGES[change](wave), RATE_HZ), "copy") == "first"


def test_a_copy_at_another_rate_is_found() -> None:
    wave = speech_like(1, 3.0)
    index = Duplicates()
    index.add(fingerprint(wave, RATE_HZ), "first")
    assert index.add(fingerprint(soxr.resample(wave, RATE_HZ, 44_100), 44_100), "copy") == "first"


def test_other_sound_of_the_same_length_is_not() -> None:
    marks = [fingerprint(speech_like(seed, 3.0), RATE_HZ) for seed in range(30)]
    index = Duplicates()
    assert [index.add(mark, str(number)) for number, mark in enumerate(marks)] == [None] * 30
    least = min(differing(a, b) for i, a in enumerate(marks) for b in marks[:i])
    assert least > MAX_DIFFERING_BITS


def test_a_part_of_a_recording_is_no_duplicate() -> None:
    wave = speech_like(2, 6.0)
    index = Duplicates()
    index.add(fingerprint(wave, RATE_HZ), "whole")
    assert index.add(fingerprint(wave[: 3 * RATE_HZ], RATE_HZ), "half") is None


@pytest.mark.parametrize("num_samples", [0, 1, 800, 16_000])
def test_it_has_one_size_for_any_wave(num_samples: int) -> None:
    assert fingerprint(np.zeros(num_samples, np.float32), RATE_HZ) == bytes(NUM_BYTES)
    assert len(fingerprint(speech_like(0, 1.0)[:num_samples], RATE_HZ)) == NUM_BYTES


def test_the_first_of_several_is_named_and_duplicates_are_not_kept() -> None:
    mark = fingerprint(speech_like(0, 2.0), RATE_HZ)
    index = Duplicates()
    assert [index.add(mark, name) for name in "abc"] == [None, "a", "a"]
    assert len(index) == 1


def turned(mark: bytes, bits: set[int]) -> bytes:
    return mark[:2] + (int.from_bytes(mark[2:]) ^ sum(1 << bit for bit in bits)).to_bytes(NUM_BYTES - 2)


@given(st.binary(min_size=NUM_BYTES, max_size=NUM_BYTES), st.sets(st.integers(0, 239), max_size=80))
def test_bits_turned_outside_one_key_are_found_up_to_the_limit(mark: bytes, bits: set[int]) -> None:
    index = Duplicates()
    index.add(mark, "first")  # bits 240 to 255 are its first key
    assert (index.add(turned(mark, bits), "copy") == "first") == (len(bits) <= MAX_DIFFERING_BITS)


@given(st.integers(0, 2_000), st.integers(0, 2_000))
def test_lengths_may_differ_a_little(one: int, other: int) -> None:
    index = Duplicates()
    index.add(one.to_bytes(2, "big") + bytes(32), "first")
    is_same = index.add(other.to_bytes(2, "big") + bytes(32), "copy") == "first"
    assert is_same == (abs(one - other) <= max(30, 0.05 * max(one, other)))
