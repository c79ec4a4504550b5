import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.tokens.text import PAD, CharTokenizer, TextStream, place

TOKENIZER = CharTokenizer()
TELUGU = st.text(st.characters(min_codepoint=0x0C00, max_codepoint=0x0C7F), min_size=1)


@settings(deadline=None)
@given(text=st.text())
def test_any_unicode_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@settings(deadline=None)
@given(text=TELUGU)
def test_telugu_takes_one_token_a_code_point(text: str) -> None:
    assert len(TOKENIZER.encode(text)) == len(text)


@settings(deadline=None)
@given(text=st.text(), gaps=st.lists(st.integers(0, 3), min_size=1))
def test_pads_between_tokens_change_nothing(text: str, gaps: list[int]) -> None:
    spread: list[int] = []
    for place_, token in enumerate(TOKENIZER.encode(text)):
        spread += [PAD] * gaps[place_ % len(gaps)] + [token]
    assert TOKENIZER.decode(spread) == text


@settings(deadline=None)
@given(text=st.text() | TELUGU)
def test_ids_are_in_the_vocabulary_and_none_is_pad(text: str) -> None:
    assert all(PAD < token < TOKENIZER.vocab_size for token in TOKENIZER.encode(text))


def test_golden_ids() -> None:
    assert TOKENIZER.vocab_size == 385
    assert TOKENIZER.encode("a ప") == [1 + 0x61, 1 + 0x20, 257 + 0x2A]
    assert TOKENIZER.encode("é") == [1 + 0xC3, 1 + 0xA9]


def test_a_character_comes_out_with_its_last_byte() -> None:
    stream = TextStream(TOKENIZER)
    assert [stream.feed(token) for token in (*TOKENIZER.encode("€"), PAD, *TOKENIZER.encode("హ"))] == [
        "",
        "",
        "€",
        "",
        "హ",
    ]


def test_a_cut_character_is_marked() -> None:
    first_byte = TOKENIZER.encode("€")[0]
    assert TOKENIZER.decode([first_byte]) == "\ufffd"
    assert TOKENIZER.decode([first_byte, *TOKENIZER.encode("హ")]) == "\ufffdహ"


def test_lone_surrogates_do_not_break_it() -> None:
    assert TOKENIZER.decode(TOKENIZER.encode("a\ud800b")) == "a?b"


@pytest.mark.parametrize("token", [-1, 385])
def test_an_unknown_id_is_refused(token: int) -> None:
    with pytest.raises(ValueError, match=r"outside \[0, 385\)"):
        TOKENIZER.decode([token])


def test_json_round_trip_names_the_same_tokenizer() -> None:
    tamil = CharTokenizer((0x0B80, 0x0BFF))
    assert CharTokenizer.from_json(tamil.to_json()) == tamil
    assert CharTokenizer.from_json(tamil.to_json()).digest() == tamil.digest() != TOKENIZER.digest()


@pytest.mark.parametrize("text", ["{}", "[1]", '{"tokenizer": "char", "version": 2, "block": [1, 2]}'])
def test_another_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="describes no character tokenizer"):
        CharTokenizer.from_json(text)


def test_broken_json_is_refused() -> None:
    with pytest.raises(json.JSONDecodeError):
        CharTokenizer.from_json("{")


@settings(deadline=None)
@given(count=st.integers(0, 30), start=st.integers(0, 20), speech=st.integers(0, 30), rest=st.integers(0, 10))
def test_every_token_has_a_frame_of_its_own_in_order_or_is_counted(
    count: int, start: int, speech: int, rest: int
) -> None:
    num_frames = start + speech + rest
    frames, cut = place(range(count), start, start + speech, num_frames)
    assert len(frames) + cut == count
    assert frames == sorted(set(frames))
    assert all(start <= frame < num_frames for frame in frames)
    assert cut == max(0, count - speech - rest)
    if count <= speech:
        assert all(frame < start + speech for frame in frames)


def test_tokens_are_spread_evenly() -> None:
    assert place([1, 2, 3], 10, 19, 100) == ([10, 13, 16], 0)


def test_too_many_tokens_go_on_past_the_speech_and_then_are_cut() -> None:
    assert place(range(6), 2, 4, 6) == ([2, 3, 4, 5], 2)
