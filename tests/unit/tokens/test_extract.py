import logging
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paluku.audio import to_flac
from paluku.errors import AudioError
from paluku.tokens.extract import HEARD_AFTER, dialogue_tokens, rows_of_tokens
from paluku.tokens.text import PAD, TextTokenizer
from tests.fakes.codec import FakeCodec

CODEC, TOKENIZER, FRAME = FakeCodec(4, 32), TextTokenizer(), 640  # one token a Telugu character


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


@pytest.mark.parametrize("batch_s", [0.0, 0.7, 2.0, 100.0])
def test_dialogues_coded_together_have_the_codes_they_have_alone(batch_s: float) -> None:
    rows = [dialogue(samples) | {"id": f"d{samples}"} for samples in (3000, 9001, 640, 5 * FRAME, 7000)]
    together = list(rows_of_tokens(rows, CODEC, TOKENIZER, batch_s))
    for row, tokens in zip(rows, together, strict=True):
        alone = dialogue_tokens(row, CODEC, TOKENIZER)
        assert tokens["id"] == row["id"]
        assert tokens["num_frames"] == alone["num_frames"]
        for name in ("agent_codes", "user_codes"):
            assert np.array_equal(tokens[name], alone[name])


def test_a_batch_holds_no_more_than_is_asked_for() -> None:
    seen: list[tuple[int, ...]] = []

    class Watched(FakeCodec):
        def encode(self, wave: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(wave.shape))
            return super().encode(wave)

    frames = [10, 10, 5, 20, 10, 60, 1]
    list(rows_of_tokens([dialogue(n * FRAME) for n in frames], Watched(4, 32), TOKENIZER, batch_s=60 / 25))
    assert seen == [
        (6, 1, 10 * FRAME),
        (2, 1, 20 * FRAME),
        (2, 1, 10 * FRAME),
        (2, 1, 60 * FRAME),
        (2, 1, FRAME),
    ]


def test_a_turn_without_words_is_spread_over_its_speech() -> None:
    turns = [turn("user", "xyz", 0, 0.1), turn("agent", "అది", 0.12, 0.28), turn("agent", "a", 0.32, 0.4)]
    text = text_of(*turns, frames=10)
    assert text == [PAD, PAD, PAD, *TOKENIZER.encode(" అది"), PAD, *TOKENIZER.encode(" a")]


def test_text_stops_at_the_next_turn_and_the_cut_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    turns = [turn("agent", "abcdef", 0.0, 0.08), turn("agent", "xy", 0.16, 0.24)]
    with caplog.at_level(logging.WARNING, "paluku.tokens"):
        text = text_of(*turns, frames=10)
    assert TOKENIZER.decode(text) == " abc xy"
    assert "stream=text tokens_cut=3" in caplog.text
    assert "abc" not in caplog.text, "transcripts have no place in a log"


def test_a_turn_after_the_end_of_the_audio_has_no_frame() -> None:
    assert not any(text_of(turn("agent", "ab", 9.0, 9.5)))
    assert not any(heard_of(turn("user", "ab", 9.0, 9.5)))


def spoken(
    text: str, *words: tuple[str, float, float], kind: str = "turn", role: str = "agent"
) -> dict[str, Any]:
    told = [{"text": word, "start_s": start_s, "end_s": end_s} for word, start_s, end_s in words]
    return turn(role, text, words[0][1], words[-1][2]) | {"words": told, "kind": kind, "is_timed": True}


def heard(text: str, *words: tuple[str, float, float], kind: str = "turn") -> dict[str, Any]:
    return spoken(text, *words, kind=kind, role="user")


def text_of(*turns: dict[str, Any], frames: int = 20) -> list[int]:
    return dialogue_tokens(dialogue(frames * FRAME, turns=turns), CODEC, TOKENIZER)["text"].tolist()


def heard_of(*turns: dict[str, Any], frames: int = 20) -> list[int]:
    return dialogue_tokens(dialogue(frames * FRAME, turns=turns), CODEC, TOKENIZER)["user_text"].tolist()


def test_a_word_s_text_begins_where_the_word_does() -> None:
    text = text_of(spoken("ab, cd", ("ab,", 0.04, 0.24), ("cd", 0.4, 0.6)))
    assert text[1:5] == TOKENIZER.encode(" ab,")
    assert text[10:13] == TOKENIZER.encode(" cd")
    assert not any([*text[:1], *text[5:10], *text[13:]])


def test_words_of_a_turn_without_punctuation_are_found_in_its_text() -> None:
    text = text_of(spoken("«ab» (cd)!", ("ab", 0.0, 0.2), ("cd", 0.48, 0.6)))
    assert TOKENIZER.decode(text) == " «ab» (cd)!"
    assert TOKENIZER.decode(text[:12]) == " «ab»"


def test_a_hasty_word_delays_the_next_and_no_text_is_lost() -> None:
    text = text_of(spoken("abcdef gh", ("abcdef", 0.0, 0.08), ("gh", 0.08, 0.2)))
    assert text[:10] == TOKENIZER.encode(" abcdef gh")


def test_a_cut_turn_has_only_its_spoken_words() -> None:
    cut = spoken("ab cd", ("ab", 0.0, 0.12), ("cd", 0.16, 0.28), kind="cut")
    assert TOKENIZER.decode(text_of(cut, spoken("ef", ("ef", 0.44, 0.5)))) == " ab cd ef"


def test_words_that_are_not_in_the_text_leave_it_to_the_turn() -> None:
    unknown = spoken("abcd", ("wxyz", 0.08, 0.4))
    assert text_of(unknown) == text_of(turn("agent", "abcd", 0.08, 0.4))
    assert heard_of(unknown | {"role": "user"})[10 + HEARD_AFTER :][:5] == TOKENIZER.encode(" abcd")


def test_each_side_has_its_own_text() -> None:
    turns = heard("హా", ("హా", 0.0, 0.2), kind="backchannel"), spoken("ab", ("ab", 0.08, 0.3))
    assert TOKENIZER.decode(text_of(*turns)) == " ab"
    assert TOKENIZER.decode(heard_of(*turns)) == " హా"


def test_a_user_s_turns_keep_their_frames_and_what_they_ask() -> None:
    turns = [
        turn("user", "కల", 0.05, 0.1) | {"kind": "turn"},
        turn("agent", "సరే", 0.1, 0.2) | {"kind": "turn"},
        turn("user", "హా", 0.15, 0.18) | {"kind": "backchannel"},
        turn("user", "మల", 0.21, 9.9) | {"kind": "interruption"},
    ]
    asked = dialogue(10 * FRAME, turns=turns) | {"intents": ["a.b", "c.d"]}
    found = dialogue_tokens(asked, CODEC, TOKENIZER)["user_turns"]
    told = [(each["text"], each["intent"], each["start"], each["end"]) for each in found]
    assert told == [("కల", "a.b", 1, 3), ("హా", "", 3, 5), ("మల", "c.d", 5, 10)]
    unknown = dialogue_tokens(asked | {"intents": []}, CODEC, TOKENIZER)["user_turns"]
    assert [each["intent"] for each in unknown] == ["", "", ""]


def test_a_user_s_word_is_written_two_frames_after_it_ended() -> None:
    text = heard_of(heard("ab cd", ("ab", 0.0, 0.2), ("cd", 0.25, 0.41)))
    # 0.2 s is the end of five frames: it is frame 5 that comes next. 0.41 s lies in frame 10.
    assert HEARD_AFTER == 2
    assert text[7:10] == TOKENIZER.encode(" ab")
    assert text[13:16] == TOKENIZER.encode(" cd")
    assert sum(token != PAD for token in text) == 6


def test_what_a_user_says_last_is_cut_where_the_frames_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "paluku.tokens"):
        text = heard_of(heard("abcd", ("abcd", 0.0, 0.64)))
    assert TOKENIZER.decode(text) == " a"
    assert "stream=user_text tokens_cut=3" in caplog.text


@given(st.data())
def test_text_is_written_in_order_no_word_before_it_is_spoken_and_none_before_it_was_heard(
    data: st.DataObject,
) -> None:
    words = data.draw(st.lists(st.text("abcఅది", min_size=1, max_size=6), min_size=1, max_size=5))
    edges = sorted(data.draw(st.lists(st.floats(0, 2), min_size=2 * len(words), max_size=2 * len(words))))
    timed = [(w, edges[2 * k], edges[2 * k + 1]) for k, w in enumerate(words)]
    said, understood = spoken(" ".join(words), *timed), heard(" ".join(words), *timed)
    for text, earliest in (
        (text_of(said, frames=100), [round(start_s * 25) for _, start_s, _ in timed]),
        (heard_of(understood, frames=100), [end_s * 25 + HEARD_AFTER for _, _, end_s in timed]),
    ):
        assert TOKENIZER.decode(text) == "".join(f" {word}" for word in words)
        written = [frame for frame, token in enumerate(text) if token != PAD]
        first = 0
        for word, frame in zip(words, earliest, strict=True):
            assert written[first] >= frame
            first += len(TOKENIZER.encode(f" {word}"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"rate_hz": 24_000}, "d1 has 24000 Hz, the codec takes 16000"), ({"channels": 1}, "d1 has 1 channels")],
)
def test_audio_that_does_not_fit_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        dialogue_tokens(dialogue(**wrong), CODEC, TOKENIZER)
