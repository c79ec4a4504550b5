import logging
from typing import Any

import numpy as np
import pytest
import torch

from paluku.audio import to_flac
from paluku.errors import AudioError
from paluku.tokens.extract import dialogue_tokens
from paluku.tokens.text import PAD, CharTokenizer
from tests.fakes.codec import FakeCodec

CODEC, TOKENIZER, FRAME = FakeCodec(4, 32), CharTokenizer(), 640


def turn(role: str, text: str, start_s: float, end_s: float) -> dict[str, Any]:
    return {"role": role, "text": text, "start_s": start_s, "end_s": end_s}


def dialogue(samples: int = 10 * FRAME, rate_hz: int = 16_000, channels: int = 2, turns: Any = ()) -> dict:
    wave = np.random.default_rng(0).uniform(-1, 1, (samples, channels)).astype(np.float32)
    return {
        "id": "d1",
        "split": "train",
        "voice": "ravi",
        "style": "happy",
        "audio": to_flac(wave, rate_hz),
        "turns": list(turns),
    }


def test_both_channels_are_coded_in_frames() -> None:
    codes = torch.randint(0, 32, (2, 4, 6), generator=torch.Generator().manual_seed(0))
    row = dialogue() | {"audio": to_flac(CODEC.decode(codes)[:, 0].T.numpy(), 16_000)}
    tokens = dialogue_tokens(row, CODEC, TOKENIZER)
    assert tokens["num_frames"] == 6
    assert np.array_equal(tokens["agent_codes"].reshape(4, 6), codes[0].numpy())
    assert np.array_equal(tokens["user_codes"].reshape(4, 6), codes[1].numpy())
    assert [tokens[key] for key in ("id", "split", "voice", "style")] == ["d1", "train", "ravi", "happy"]


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (FRAME, 1), (FRAME + 1, 2)])
def test_a_part_of_a_frame_is_filled_with_silence(samples: int, frames: int) -> None:
    tokens = dialogue_tokens(dialogue(samples), CODEC, TOKENIZER)
    assert tokens["num_frames"] == len(tokens["text"]) == frames
    assert len(tokens["agent_codes"]) == 4 * frames


def test_the_agent_s_text_lies_within_its_speech() -> None:
    turns = [turn("user", "xyz", 0, 0.1), turn("agent", "అది", 0.12, 0.24), turn("agent", "ab", 0.28, 0.36)]
    text = dialogue_tokens(dialogue(turns=turns), CODEC, TOKENIZER)["text"]
    first, second = TOKENIZER.encode("అది"), TOKENIZER.encode("ab")
    assert text.tolist() == [PAD, PAD, PAD, *first, PAD, second[0], second[1], PAD]


def test_text_stops_at_the_next_turn_and_the_cut_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    turns = [turn("agent", "abcdef", 0.0, 0.08), turn("agent", "xy", 0.16, 0.24)]
    with caplog.at_level(logging.WARNING, "paluku.tokens"):
        text = dialogue_tokens(dialogue(turns=turns), CODEC, TOKENIZER)["text"]
    assert TOKENIZER.decode(text.tolist()) == "abcdxy"
    assert "text_tokens_cut=2" in caplog.text
    assert "abcd" not in caplog.text, "transcripts have no place in a log"


def test_a_turn_after_the_end_of_the_audio_has_no_frame() -> None:
    text = dialogue_tokens(dialogue(turns=[turn("agent", "ab", 9.0, 9.5)]), CODEC, TOKENIZER)["text"]
    assert not text.any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"rate_hz": 24_000}, "d1 has 24000 Hz, the codec takes 16000"), ({"channels": 1}, "d1 has 1 channels")],
)
def test_audio_that_does_not_fit_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        dialogue_tokens(dialogue(**wrong), CODEC, TOKENIZER)
