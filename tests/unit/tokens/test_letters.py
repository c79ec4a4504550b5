"""Letters of the user's words, read off where the words end."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.tokens.letters import MOST_FRAMES, Letters, align
from paluku.tokens.text import PAD, default_tokenizer

TOKENIZER = default_tokenizer()
LETTERS = Letters(TOKENIZER)


def stream(frames: int, **words: int) -> np.ndarray:
    """`word=frame` at which it has been heard."""
    text = np.zeros(frames, np.int64)
    for word, frame in words.items():
        tokens = TOKENIZER.encode(" " + word)
        text[frame : frame + len(tokens)] = tokens
    return text


def spelled(letters: np.ndarray) -> str:
    return "".join(TOKENIZER.decode([int(letter)]) if letter else "-" for letter in letters)


def test_a_word_s_letters_fill_the_frames_before_its_tokens() -> None:
    assert spelled(LETTERS.heard(stream(14, మన=10))) == "----మమమననన----"


def test_a_word_begins_where_the_one_before_has_ended() -> None:
    assert spelled(LETTERS.heard(stream(16, మన=4, గల=12))) == "మమనన--గగగలలల----"
    assert spelled(LETTERS.heard(stream(16, మన=8, గల=12))) == "--మమమనననగగలల----"


def test_a_virama_takes_no_time_and_marks_no_letter() -> None:
    assert spelled(LETTERS.heard(stream(20, అమ్మ=12))) == "--అఅఅఅమమమమమమ--------"
    with_mark = stream(20, మన=10)
    with_mark[10 + len(TOKENIZER.encode(" మన"))] = TOKENIZER.encode("?")[0]
    assert np.array_equal(LETTERS.heard(with_mark), LETTERS.heard(stream(20, మన=10)))


def test_what_is_not_of_the_script_is_no_letter() -> None:
    assert not LETTERS.heard(stream(20, ok=12)).any()


@settings(deadline=None)
@given(seed=st.integers(0, 999), frames=st.integers(0, 60), share=st.floats(0, 1))
def test_any_stream_has_letters_of_the_block_no_longer_than_they_are_spoken(
    seed: int, frames: int, share: float
) -> None:
    random = np.random.default_rng(seed)
    text = np.where(random.random(frames) < share, random.integers(0, TOKENIZER.vocab_size, frames), PAD)
    letters = LETTERS.heard(text)
    assert letters.shape == text.shape
    heard = letters[letters != PAD]
    assert all(TOKENIZER.letter(TOKENIZER.decode([int(letter)])) == letter for letter in heard)
    if not text.any():
        assert not letters.any()
    lengths = sum(len(TOKENIZER.decode([int(token)])) for token in text[text != PAD])
    assert len(heard) <= (MOST_FRAMES + 1) * max(lengths, 1)


@settings(deadline=None)
@given(seed=st.integers(0, 999), length=st.integers(1, 3), spare=st.integers(0, 4))
def test_the_likeliest_way_through_a_word_is_found(seed: int, length: int, spare: int) -> None:
    frames, random = length + spare, np.random.default_rng(seed)
    log_probs = random.normal(size=(2, frames, 5))
    letters = random.integers(1, 5, (2, length))
    for found, nats, word in zip(align(log_probs, letters), log_probs, letters, strict=True):
        # Where each letter begins; before the first there is nothing.
        ways = [
            np.concatenate(([PAD] * starts[0], np.repeat(word, np.diff((*starts, frames))))).astype(int)
            for starts in itertools.combinations(range(frames), length)
        ]
        scores = [nats[np.arange(frames), way].sum() for way in ways]
        assert np.isclose(nats[np.arange(frames), found].sum(), max(scores))
        assert any(np.array_equal(found, way) for way in ways)


def test_words_lie_where_their_letters_are_heard() -> None:
    text = stream(30, మన=10, గల=22)
    words = LETTERS.words(text)
    assert [(word.start, word.end) for word in words] == [(4, 10), (16, 22)]
    for word in words:
        assert np.array_equal(word.spread(), LETTERS.heard(text)[word.start : word.end])
