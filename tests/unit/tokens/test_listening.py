"""Recordings of single utterances as dialogues in which nobody answers."""

from typing import Any

import numpy as np
import torch

from paluku.audio import to_flac
from paluku.tokens.extract import HEARD_AFTER, dialogue_tokens
from paluku.tokens.listening import LEAD_S, listened
from paluku.tokens.text import PAD, TextTokenizer
from paluku.voices import VOICES
from tests.fakes.codec import FakeCodec
from tests.fakes.speech import speech_like

CODEC, TOKENIZER, RATE_HZ = FakeCodec(4, 32), TextTokenizer(), 16_000
LEAD_FRAMES = round(LEAD_S * CODEC.frame_rate_hz)


def utterance(text: str | None, seconds: float = 2.0, name: str = "u1") -> dict[str, Any]:
    audio = to_flac(speech_like(1, seconds, RATE_HZ)[:, None], RATE_HZ)
    return {"id": name, "split": "train", "audio": audio, "text": text}


def tokens_of(row: dict[str, Any]) -> dict[str, Any]:
    return dialogue_tokens(listened(row, TOKENIZER, CODEC.frame_rate_hz), CODEC, TOKENIZER)


def test_our_side_is_silent_and_says_nothing() -> None:
    tokens = tokens_of(utterance("ఒకటి రెండు మూడు"))
    silence = CODEC.encode(torch.zeros(1, 1, tokens["num_frames"] * CODEC.frame_samples))[0].numpy()
    assert np.array_equal(tokens["agent_codes"].reshape(silence.shape), silence)
    assert not tokens["text"].any()


def test_every_word_stands_after_it_was_said_and_none_is_cut() -> None:
    text = "ఒకటి రెండు మూడు నాలుగు"
    heard = tokens_of(utterance(text))["user_text"]
    assert TOKENIZER.decode(heard.tolist()) == f" {text}"
    assert not heard[: LEAD_FRAMES + HEARD_AFTER].any()


def test_a_long_text_finds_room_after_a_short_sound() -> None:
    text = "అ" * 200  # a token each
    assert TOKENIZER.decode(tokens_of(utterance(text, 0.5))["user_text"].tolist()) == f" {text}"


def test_without_a_transcript_there_is_sound_alone() -> None:
    row = listened(utterance(None), TOKENIZER, CODEC.frame_rate_hz)
    assert row["turns"] == []
    assert set(tokens_of(utterance(None))["user_text"].tolist()) == {PAD}


def test_who_is_silent_is_drawn_among_all_voices() -> None:
    rows = [listened(utterance("అ", 0.1, f"u{n}"), TOKENIZER, 25.0)["voice"] for n in range(40)]
    assert set(rows) == set(VOICES)
