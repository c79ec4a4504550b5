import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.errors import CheckpointError
from paluku.tokens.text import (
    PAD,
    STRETCH,
    TextStream,
    TextTokenizer,
    default_tokenizer,
    place,
    read_tokenizer,
)

SHIPPED, BYTES = default_tokenizer(), TextTokenizer()
TELUGU = st.text(st.characters(min_codepoint=0x0C00, max_codepoint=0x0C7F), min_size=1)
SPOKEN = st.lists(
    st.sampled_from(["నమస్కారం,", "మీరు", "ఎలా", "ఉన్నారు?", "ఫోన్\u200cలో", "ok", "«హా»", "<pad>", "<0xE0>"])
)
TEXT = st.text() | TELUGU | SPOKEN.map(" ".join)


@settings(deadline=None)
@given(text=TEXT, tokenizer=st.sampled_from([SHIPPED, BYTES]))
def test_any_text_comes_back(text: str, tokenizer: TextTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(deadline=None)
@given(text=TEXT, gaps=st.lists(st.integers(0, 3), min_size=1))
def test_pads_between_tokens_change_nothing(text: str, gaps: list[int]) -> None:
    spread: list[int] = []
    for place_, token in enumerate(SHIPPED.encode(text)):
        spread += [PAD] * gaps[place_ % len(gaps)] + [token]
    assert SHIPPED.decode(spread) == text


@settings(deadline=None)
@given(text=TEXT)
def test_ids_are_in_the_vocabulary_and_none_is_pad(text: str) -> None:
    assert all(PAD < token < SHIPPED.vocab_size for token in SHIPPED.encode(text))


@settings(deadline=None)
@given(words=st.lists(TEXT.map(lambda text: "".join(text.split())).filter(bool), min_size=1))
def test_the_tokens_of_a_text_are_those_of_its_words(words: list[str]) -> None:
    stretches = [words[0], *(f" {word}" for word in words[1:])]
    assert SHIPPED.encode(" ".join(words)) == [t for stretch in stretches for t in SHIPPED.encode(stretch)]


@settings(deadline=None)
@given(text=TEXT)
def test_a_stream_gives_the_text_without_looking_back(text: str) -> None:
    stream, said = TextStream(SHIPPED), ""
    for token in SHIPPED.encode(text):
        said += stream.feed(token)
        assert text.startswith(said)
    assert said == text
    assert stream.finish() == ""


@given(text=TEXT)
def test_stretches_are_all_of_the_text(text: str) -> None:
    assert "".join(STRETCH.findall(text)) == text


def test_golden_ids() -> None:
    assert SHIPPED.vocab_size == 1024
    assert SHIPPED.digest() == "4a2a0b05d2ef0295", (
        "the weights that are shipped know these tokens by their ids"
    )
    for tokenizer in (SHIPPED, BYTES):
        assert tokenizer.encode("a.") == [1 + 0x61, 1 + 0x2E]
        assert tokenizer.encode("é") == [1 + 0xC3, 1 + 0xA9]
        assert tokenizer.encode("ఋ") == [257 + 0x0B]
    spoken = [SHIPPED.spelling(token).decode() for token in SHIPPED.encode(" మీరు ఎలా ఉన్నారు? ok")]
    assert spoken == [" మీరు", " ఎలా", " ఉ", "న్నారు", "?", " ", "o", "k"]


def test_the_joiner_within_words_is_part_of_a_token() -> None:
    assert len(SHIPPED.encode("\u200c")) == 1
    assert len(SHIPPED.encode(" ఫోన్\u200cలో")) == 1


def test_a_character_comes_out_with_its_last_byte() -> None:
    stream = TextStream(SHIPPED)
    tokens = (*SHIPPED.encode("é"), PAD, *SHIPPED.encode("హ"))
    assert [stream.feed(token) for token in tokens] == ["", "é", "", "హ"]


def test_a_cut_character_is_marked() -> None:
    first_byte = SHIPPED.encode("é")[0]
    assert SHIPPED.decode([first_byte]) == "\ufffd"
    assert SHIPPED.decode([first_byte, *SHIPPED.encode("హ")]) == "\ufffdహ"


def test_lone_surrogates_do_not_break_it() -> None:
    assert SHIPPED.decode(SHIPPED.encode("a\ud800b")) == "a?b"


@pytest.mark.parametrize("token", [-1, 1024])
def test_an_unknown_id_is_refused(token: int) -> None:
    with pytest.raises(ValueError, match=r"outside \[0, 1024\)"):
        SHIPPED.decode([token])


def test_json_round_trip_names_the_same_tokenizer() -> None:
    tamil = TextTokenizer(((257, 258),), (0x0B80, 0x0BFF))
    assert TextTokenizer.from_json(tamil.to_json()) == tamil == pickle.loads(pickle.dumps(tamil))
    assert TextTokenizer.from_json(tamil.to_json()).digest() == tamil.digest() != SHIPPED.digest()
    assert tamil.encode("\u0b80\u0b81\u0b80") == [257 + 128, 257]


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        ([[385, 257]], "does not know yet"),
        ([[0, 257]], "does not know yet"),
        ([[257, 258], [257, 258]], "two merges give the same token"),
        ([[257]], "is no pair of ids"),
    ],
)
def test_merges_that_cannot_be_are_refused(merges: list, message: str) -> None:
    described = {"tokenizer": "bpe", "version": 1, "block": [0x0C00, 0x0C7F], "merges": merges}
    with pytest.raises(ValueError, match=message):
        TextTokenizer.from_json(json.dumps(described))


@pytest.mark.parametrize("text", ["{}", "[1]", '{"tokenizer": "char", "version": 1, "block": [3072, 3199]}'])
def test_another_tokenizer_is_refused(text: str, tmp_path) -> None:
    with pytest.raises(ValueError, match="describes no BPE tokenizer"):
        TextTokenizer.from_json(text)
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"cannot be read as a tokenizer .* jobs/train_tokenizer\.py"):
        read_tokenizer(tmp_path / "tokenizer.json")


def test_broken_json_is_refused() -> None:
    with pytest.raises(json.JSONDecodeError):
        TextTokenizer.from_json("{")


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
