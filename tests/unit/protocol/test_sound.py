"""Sound on the wire: PCM16, Opus packets, and conversion between rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.protocol.messages import ViolationError
from paluku.protocol.opus import MAX_PACKET_BYTES, OPUS_DELAY_MS, OpusDecoder, OpusEncoder
from paluku.protocol.resampling import Resampler
from paluku.protocol.sound import Pcm16
from tests.fuzz import deep

RATES_HZ = [
    (8_000, 16_000),
    (24_000, 16_000),
    (48_000, 16_000),
    (16_000, 8_000),
    (16_000, 24_000),
    (16_000, 48_000),
]


def tone(rate_hz: int, hertz: float, seconds: float = 0.5, late_s: float = 0.0) -> np.ndarray:
    time_s = np.arange(round(rate_hz * seconds)) / rate_hz - late_s
    return 8_000 * np.sin(2 * np.pi * hertz * time_s)


def pcm(wave: np.ndarray) -> np.ndarray:
    return np.rint(wave).astype(np.int16)


def rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave.astype(float)))))


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES_HZ)
def test_a_tone_comes_out_the_stated_delay_later_and_60_db_clean(from_hz: int, to_hz: int) -> None:
    resampler = Resampler(from_hz, to_hz)
    out = resampler.push(pcm(tone(from_hz, 1_000)))
    expected = tone(to_hz, 1_000, late_s=resampler.delay_ms / 1_000)
    settled = to_hz // 50
    assert rms(out[settled:] - expected[settled:]) < rms(expected) / 1_000


@pytest.mark.parametrize("from_hz", [24_000, 48_000])
def test_what_the_slower_rate_cannot_hold_is_gone(from_hz: int) -> None:
    assert rms(Resampler(from_hz, 16_000).push(pcm(tone(from_hz, 9_000)))[400:]) < 8

    # the same at a rate that can hold it passes
    assert rms(Resampler(from_hz, 16_000).push(pcm(tone(from_hz, 6_000)))[400:]) > 5_600


@given(st.sampled_from(RATES_HZ), st.lists(st.integers(0, 700), max_size=12), st.integers(0, 2**31))
def test_a_stream_is_the_same_to_the_bit_however_it_is_cut(
    rates_hz: tuple[int, int], cuts: list[int], seed: int
) -> None:
    sound = np.random.default_rng(seed).integers(-32768, 32768, sum(cuts)).astype(np.int16)
    whole = Resampler(*rates_hz).push(sound)
    resampler = Resampler(*rates_hz)
    parts = [resampler.push(part) for part in np.split(sound, np.cumsum(cuts))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(whole) == -(-len(sound) * rates_hz[1] // rates_hz[0])


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES_HZ)
def test_one_frame_warms_the_filter_up(from_hz: int, to_hz: int) -> None:
    sound = np.random.default_rng(0).integers(-32768, 32768, from_hz // 25 * 6).astype(np.int16)
    frame = from_hz // 25
    resumed = Resampler(from_hz, to_hz).push(sound[3 * frame :])
    np.testing.assert_array_equal(
        resumed[to_hz // 25 :], Resampler(from_hz, to_hz).push(sound)[4 * to_hz // 25 :]
    )


def test_full_scale_is_clipped_not_wrapped() -> None:
    square = np.repeat(np.array([32767, -32768] * 20, np.int16), 40)
    out = Resampler(16_000, 48_000).push(square).astype(int)
    assert np.abs(np.diff(out)).max() < 40_000


@pytest.mark.parametrize("rate_hz", [24_000, 48_000])
def test_opus_says_the_same_a_lookahead_later(rate_hz: int) -> None:
    rng = np.random.default_rng(0)
    speech = np.convolve(rng.standard_normal(rate_hz * 6 // 5), np.hanning(rate_hz // 2_000), "same") * 1_000
    samples = rate_hz * 40 // 1_000
    encoder, decoder = OpusEncoder(rate_hz), OpusDecoder(rate_hz)
    packets = [encoder.encode(frame) for frame in pcm(speech).reshape(-1, samples)]
    heard = [decoder.decode(packet) for packet in packets]
    assert {len(frame) for frame in heard} == {samples}
    out = np.concatenate(heard).astype(float)
    filter_ms = 1.0 if rate_hz == 48_000 else 0.0  # it is encoded at 24 kHz
    late = round(rate_hz * (OPUS_DELAY_MS + filter_ms) / 1_000)
    half = slice(rate_hz // 2, rate_hz)  # libopus needs a little to find its mode
    likeness = [np.corrcoef(out[late + shift :][half], speech[half])[0, 1] for shift in range(-40, 41)]
    assert max(likeness) > 0.8
    assert abs(int(np.argmax(likeness)) - 40) <= rate_hz // 8_000


@pytest.mark.parametrize("packet", [b"", b"\xff", b"\x03", bytes(MAX_PACKET_BYTES + 1)])
def test_what_is_no_opus_packet_is_a_violation(packet: bytes) -> None:
    with pytest.raises(ViolationError) as violation:
        OpusDecoder(24_000).decode(packet)
    assert violation.value.code == "bad_sound"


PACKET = OpusEncoder(24_000).encode(pcm(tone(24_000, 300, 0.04)))


@deep
@given(
    st.lists(
        st.binary(max_size=300)
        | st.builds(bytes.__add__, st.integers(0, 255).map(lambda toc: bytes([toc])), st.binary(max_size=40))
        | st.builds(
            lambda cut, more: PACKET[:cut] + more, st.integers(0, len(PACKET)), st.binary(max_size=9)
        ),
        max_size=6,
    )
)
def test_any_packets_are_sound_or_a_violation(packets: list[bytes]) -> None:
    decoder, codes = OpusDecoder(24_000), []
    for packet in packets:
        try:
            sound = decoder.decode(packet)
        except ViolationError as violation:
            codes.append(violation.code)
        else:
            assert sound.dtype == np.int16
            assert len(sound) <= 24_000 * 120 // 1_000  # RFC 6716: no packet is longer than 120 ms
    assert set(codes) <= {"bad_sound"}


def test_half_a_sample_is_a_violation() -> None:
    with pytest.raises(ViolationError) as violation:
        Pcm16().decode(b"\0\0\0")
    assert violation.value.code == "odd_bytes"
    assert Pcm16().decode(b"\x01\x02").tolist() == [0x0201]
    assert Pcm16().encode(np.array([0x0201], np.int16)) == b"\x01\x02"
