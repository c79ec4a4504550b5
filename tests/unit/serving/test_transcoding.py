"""A frame of the client's is a frame of the model's, in any encoding at any rate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.protocol.messages import Encoding, ViolationError
from paluku.protocol.opus import OpusEncoder
from paluku.serving.transcoding import Transcoder
from tests.fuzz import deep

MODEL_HZ, MODEL_FRAME = 16_000, 640
WIRES: list[tuple[Encoding, int, int]] = [
    ("pcm16", 8_000, 320),
    ("pcm16", 16_000, 640),
    ("pcm16", 24_000, 960),
    ("pcm16", 48_000, 1_920),
    ("opus", 24_000, 960),
    ("opus", 48_000, 1_920),
]


def client_sound(encoding: Encoding, rate_hz: int, frame: np.ndarray) -> bytes:
    return OpusEncoder(rate_hz).encode(frame) if encoding == "opus" else frame.astype("<i2").tobytes()


@pytest.mark.parametrize(("encoding", "rate_hz", "frame_samples"), WIRES)
def test_frames_are_frames_on_both_sides(encoding: Encoding, rate_hz: int, frame_samples: int) -> None:
    transcoder = Transcoder(encoding, rate_hz, MODEL_HZ)
    assert transcoder.frame_samples(MODEL_FRAME) == frame_samples
    back = Transcoder(encoding, rate_hz, MODEL_HZ)
    for _ in range(5):
        sound = client_sound(encoding, rate_hz, np.zeros(frame_samples, np.int16))
        assert len(transcoder.incoming(sound)) == 2 * MODEL_FRAME
        reply = transcoder.outgoing(np.full(MODEL_FRAME, 100, np.int16))
        assert len(back.incoming(reply)) == 2 * MODEL_FRAME  # what it says, it understands
        assert encoding == "opus" or len(reply) == 2 * frame_samples


def test_the_models_own_rate_passes_untouched() -> None:
    transcoder = Transcoder("pcm16", MODEL_HZ, MODEL_HZ)
    sound = np.random.default_rng(0).integers(-32768, 32768, MODEL_FRAME).astype("<i2")
    assert transcoder.incoming(sound.tobytes()) == sound.tobytes()
    assert transcoder.outgoing(sound) == sound.tobytes()
    assert not transcoder.keeps_state
    assert transcoder.delay_ms == 0


def test_the_delay_is_the_filters_and_the_codecs() -> None:
    # 24 samples of the slower rate; libopus' lookahead
    assert Transcoder("pcm16", 8_000, MODEL_HZ).delay_ms == 3.0
    assert Transcoder("opus", 48_000, MODEL_HZ).delay_ms == 1.5 + 6.5


@pytest.mark.parametrize(
    ("encoding", "client_hz", "model_hz", "frame"),
    [("pcm16", 8_000, 44_100, 1_764), ("opus", 24_000, 16_000, 1_280)],
)
def test_frames_that_do_not_fit_are_refused(
    encoding: Encoding, client_hz: int, model_hz: int, frame: int
) -> None:
    # 40 ms of 44.1 kHz are 320 samples of 8 kHz: that fits; 80 ms are no Opus frame of sphn's.
    transcoder = Transcoder(encoding, client_hz, model_hz)
    if encoding == "pcm16":
        assert transcoder.frame_samples(frame) == 320
        frame += 1
    with pytest.raises(ViolationError, match="use pcm16 at") as violation:
        transcoder.frame_samples(frame)
    assert violation.value.code == "wrong_rate"


@deep
@given(st.sampled_from(WIRES), st.lists(st.binary(max_size=200), max_size=6))
def test_any_sound_is_taken_or_named(wire: tuple[Encoding, int, int], messages: list[bytes]) -> None:
    encoding, rate_hz, _ = wire
    transcoder, codes = Transcoder(encoding, rate_hz, MODEL_HZ), []
    for message in messages:
        try:
            pcm = transcoder.incoming(message)
        except ViolationError as violation:
            codes.append(violation.code)
        else:
            assert len(pcm) % 2 == 0
            assert len(pcm) <= 2 * max(MODEL_HZ * 120 // 1_000, len(message) + 1)
    assert set(codes) <= {"bad_sound" if encoding == "opus" else "odd_bytes"}
