import logging
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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


def spoken(text: str, *words: tuple[str, float, float], kind: str = "turn") -> dict[str, Any]:
    told = [{"text": word, "start_s": start_s, "end_s": end_s} for word, start_s, end_s in words]
    return turn("agent", text, words[0][1], words[-1][2]) | {"words": told, "kind": kind, "is_timed": True}


def text_of(*turns: dict[str, Any], frames: int = 20) -> list[int]:
    return dialogue_tokens(dialogue(frames * FRAME, turns=turns), CODEC, TOKENIZER)["text"].tolist()


def test_a_word_s_text_begins_where_the_word_does() -> None:
    text = text_of(spoken("ab, cd", ("ab,", 0.04, 0.24), ("cd", 0.4, 0.6)))
    a, b, comma, blank, c, d = TOKENIZER.encode("ab, cd")
    # Five frames for four tokens; then a pause; then five frames for two.
    assert text[:11] == [PAD, a, b, comma, blank, PAD, PAD, PAD, PAD, PAD, c]
    assert text[10:15] == [c, PAD, d, PAD, PAD]


def test_words_of_a_turn_without_punctuation_are_found_in_its_text() -> None:
    text = text_of(spoken("«ab» cd!", ("ab", 0.0, 0.2), ("cd", 0.4, 0.6)))
    assert TOKENIZER.decode(text) == "«ab» cd!"
    assert text[10] == TOKENIZER.encode("c")[0]


def test_a_hasty_word_delays_the_next_and_no_text_is_lost() -> None:
    text = text_of(spoken("abcdef gh", ("abcdef", 0.0, 0.08), ("gh", 0.08, 0.2)))
    assert text[:9] == TOKENIZER.encode("abcdef gh")


def test_a_cut_turn_has_only_its_spoken_words() -> None:
    cut = spoken("ab cd", ("ab", 0.0, 0.12), ("cd", 0.16, 0.28), kind="cut")
    assert TOKENIZER.decode(text_of(cut, spoken("ef", ("ef", 0.4, 0.5)))) == "ab cdef"


def test_words_that_are_not_in_the_text_leave_it_spread_over_the_turn() -> None:
    known, unknown = (spoken("abcd", (word, 0.0, 0.32)) for word in ("abcd", "wxyz"))
    assert text_of(unknown) == text_of(known)


def test_the_words_of_users_are_not_written() -> None:
    heard = spoken("హా", ("హా", 0.0, 0.2), kind="backchannel") | {"role": "user"}
    assert not any(text_of(heard))


@given(st.data())
def test_text_is_written_in_order_and_no_word_before_it_is_spoken(data: st.DataObject) -> None:
    words = data.draw(st.lists(st.text("abcఅది", min_size=1, max_size=6), min_size=1, max_size=5))
    edges = sorted(data.draw(st.lists(st.floats(0, 2), min_size=2 * len(words), max_size=2 * len(words))))
    timed = [(w, edges[2 * k], edges[2 * k + 1]) for k, w in enumerate(words)]
    text = text_of(spoken(" ".join(words), *timed), frames=100)
    assert TOKENIZER.decode(text) == " ".join(words)
    written = [frame for frame, token in enumerate(text) if token != PAD]
    first = 0
    for word, start_s, _ in timed:
        assert written[first] >= round(start_s * 25)
        first += len(TOKENIZER.encode(word)) + 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"rate_hz": 24_000}, "d1 has 24000 Hz, the codec takes 16000"), ({"channels": 1}, "d1 has 1 channels")],
)
def test_audio_that_does_not_fit_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        dialogue_tokens(dialogue(**wrong), CODEC, TOKENIZER)
