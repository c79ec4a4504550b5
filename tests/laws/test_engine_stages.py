"""What a stage refuses, and what it leaves alone."""

import numpy as np
import pytest
import torch

from paluku.codec.native import NativeCodec, NativeCodecConfig, NetConfig
from paluku.codec.port import Codec
from paluku.streaming.engine import Engine
from paluku.streaming.ports import Batch, Conditions, History
from paluku.streaming.stages import ConverseStage, DecodeStage, EncodeStage, silence_codes
from tests.fakes.codec import FakeCodec
from tests.fakes.s2s import K, V, tiny_s2s

CODEC = FakeCodec(K, V)
SMALL = NetConfig(hidden=8, units=1)
SILENCE = np.zeros((1, 640), np.int16)
CODES = np.arange(K, dtype=np.int16)[None]


def seats(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def decode_stage(codec: Codec = CODEC) -> DecodeStage:
    stage = DecodeStage(codec, 2)
    stage.open(0, Conditions())
    stage.open(1, Conditions())
    return stage


def test_a_row_of_minus_ones_is_silence_and_leaves_the_seat_as_it_was() -> None:
    # The native codec: to the fake one, code 0 means "as before", so it would not notice a step of zeros.
    torch.manual_seed(0)
    codec = NativeCodec(NativeCodecConfig(latent_dim=8, encoder=SMALL, decoder=SMALL, num_codebooks=K)).eval()
    stepped, paused = decode_stage(codec), decode_stage(codec)
    for stage in (stepped, paused):
        stage.step(Batch(seats(0), CODES))
    nothing = Batch(seats(0), np.full((1, K), -1, np.int16))
    assert not paused.step(nothing).payload.any()
    after = stepped.step(Batch(seats(0), CODES)).payload
    assert after.any()
    assert np.array_equal(paused.step(Batch(seats(0), CODES)).payload, after)


def test_silence_and_sound_share_a_batch() -> None:
    both = Batch(seats(1, 0), np.concatenate([CODES, np.full((1, K), -1, np.int16)]))
    sound, silence = decode_stage().step(both).payload
    assert np.array_equal(sound, decode_stage().step(Batch(seats(1), CODES)).payload[0])
    assert not silence.any()


def test_encode_then_decode_is_the_codec_offline() -> None:
    pcm = (np.random.default_rng(0).standard_normal((6, 640)) * 5000).astype(np.int16)
    encode, decode = EncodeStage(CODEC, 2), decode_stage()
    encode.open(1, Conditions())
    streamed = [decode.step(encode.step(Batch(seats(1), frame[None]))).payload[0] for frame in pcm]
    wave = torch.from_numpy(pcm.reshape(1, 1, -1).astype(np.float32) / np.float32(32767))
    offline = CODEC.decode(CODEC.encode(wave))[0, 0]
    assert np.allclose(np.concatenate(streamed) / 32767, offline.numpy(), atol=1 / 32767)


def test_frames_that_cannot_be_written_to_are_taken() -> None:
    # What comes out of a message is read-only memory.
    frame = np.frombuffer(bytes(1280), np.int16)[None]
    stage = EncodeStage(CODEC, 1)
    stage.open(0, Conditions())
    assert stage.step(Batch(np.frombuffer(bytes(4), np.int32), frame)).payload.shape == (1, K)


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (Batch(seats(0), SILENCE[:, :320]), r"PCM must be int16 \[1, 640\], not int16 \[1, 320\]"),
        (Batch(seats(0), SILENCE.astype(np.float32)), r"not float32 \[1, 640\]"),
        (Batch(seats(0, 1), SILENCE), r"PCM must be int16 \[2, 640\], not int16 \[1, 640\]"),
        (Batch(np.zeros((1, 1), np.int32), SILENCE), r"seats must be integers \[N\], not int32 \[1, 1\]"),
        (Batch(np.zeros(1, np.float32), SILENCE), "seats must be integers"),
        (Batch(seats(2), SILENCE), "seat 2 is not open"),
        (Batch(seats(-1), SILENCE), "seat -1 is not open"),
        (Batch(seats(0, 0), np.repeat(SILENCE, 2, 0)), r"a seat comes twice in \[0, 0\]"),
    ],
)
def test_a_wrong_batch_is_refused_by_name(batch: Batch, says: str) -> None:
    stage = EncodeStage(CODEC, 3)
    stage.open(0, Conditions())
    stage.open(1, Conditions())
    with pytest.raises(ValueError, match=says):
        stage.step(batch)


@pytest.mark.parametrize("code", [V, -2])
def test_a_code_outside_the_codebook_is_refused(code: int) -> None:
    converse = ConverseStage(tiny_s2s(), 1)
    converse.open(0, Conditions())
    codes = CODES.copy()
    codes[0, 1] = code
    for stage in (decode_stage(), converse):
        with pytest.raises(ValueError, match=f"codes must lie in 0 to {V - 1}"):
            stage.step(Batch(seats(0), codes))


def test_a_row_with_one_missing_code_is_refused() -> None:
    codes = CODES.copy()
    codes[0, 2] = -1
    with pytest.raises(ValueError, match="codes must lie in"):
        decode_stage().step(Batch(seats(0), codes))


def test_only_an_open_seat_is_closed_and_only_one_that_exists_is_opened() -> None:
    for stage in (EncodeStage(CODEC, 1), DecodeStage(CODEC, 1), ConverseStage(tiny_s2s(), 1)):
        with pytest.raises(ValueError, match="seat 0 is not open"):
            stage.close(0)
        with pytest.raises(ValueError, match="seat 1 does not exist"):
            stage.open(1, Conditions())
        stage.open(0, Conditions())
        stage.close(0)
        with pytest.raises(ValueError, match="seat 0 is not open"):
            stage.close(0)


def test_a_seat_whose_owner_died_is_taken_over_fresh() -> None:
    stage, fresh = decode_stage(), decode_stage()
    stage.step(Batch(seats(0), CODES))
    stage.open(0, Conditions())
    assert np.array_equal(
        stage.step(Batch(seats(0), CODES)).payload, fresh.step(Batch(seats(0), CODES)).payload
    )


def test_stages_of_different_sizes_make_no_engine() -> None:
    with pytest.raises(ValueError, match=r"same number of seats, not \(1, 2, 1\)"):
        Engine(EncodeStage(CODEC, 1), ConverseStage(tiny_s2s(), 2), DecodeStage(CODEC, 1))


def converse_row(stage: ConverseStage) -> list[int]:
    return stage.step(Batch(seats(0), CODES)).payload[0].tolist()


def test_adjusting_changes_what_comes_and_forgets_nothing() -> None:
    before, after = Conditions(voice="priya", seed=1), Conditions(voice="ravi", style="happy", seed=2)
    stages = [ConverseStage(tiny_s2s(), 1) for _ in range(3)]
    for stage, opened in zip(stages, (before, before, after), strict=True):
        stage.open(0, opened)
    kept, adjusted, _ = stages
    first = [converse_row(stage) for stage in (kept, adjusted)]
    assert first[0] == first[1]
    adjusted.adjust(0, after)
    said = [[converse_row(stage) for _ in range(6)] for stage in stages]
    assert said[0] != said[1]
    assert said[1] != said[2], "it has lived a frame more"
    untouched = ConverseStage(tiny_s2s(), 1)
    untouched.open(0, before)
    untouched.adjust(0, after)
    assert [converse_row(untouched) for _ in range(6)] == said[2], "before the first frame it is as opening"


def test_only_an_open_seat_is_adjusted_or_primed() -> None:
    nothing = np.zeros((0, 0), np.int16)
    for stage in (EncodeStage(CODEC, 1), DecodeStage(CODEC, 1), ConverseStage(tiny_s2s(), 1)):
        with pytest.raises(ValueError, match="seat 0 is not open"):
            stage.adjust(0, Conditions())
        with pytest.raises(ValueError, match="seat 0 is not open"):
            stage.prime(0, History(0, nothing, nothing, nothing))


@pytest.mark.parametrize(
    ("user", "reply", "says"),
    [
        ((2, K), (2, K), r"must have the shapes \(\(2, 4\), \(2, 6\)\), not \(\(2, 4\), \(2, 4\)\)"),
        ((3, K), (2, 2 + K), r"not \(\(3, 4\), \(2, 6\)\)"),
    ],
)
def test_a_history_that_does_not_fit_is_refused(
    user: tuple[int, int], reply: tuple[int, int], says: str
) -> None:
    history = History(0, SILENCE, np.zeros(user, np.int16), np.zeros(reply, np.int16))
    for stage in (EncodeStage(CODEC, 1), DecodeStage(CODEC, 1), ConverseStage(tiny_s2s(), 1)):
        stage.open(0, Conditions())
        with pytest.raises(ValueError, match=says):
            stage.prime(0, history)


def test_silence_codes_are_where_silence_settles() -> None:
    torch.manual_seed(0)
    codec = NativeCodec(NativeCodecConfig(latent_dim=8, encoder=SMALL, decoder=SMALL, num_codebooks=K)).eval()
    stage = EncodeStage(codec, 1)
    stage.open(0, Conditions())
    told = [tuple(stage.step(Batch(seats(0), SILENCE)).payload[0].tolist()) for _ in range(20)]
    assert told[-1] == told[-2] == silence_codes(codec)
