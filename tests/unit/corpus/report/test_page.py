import base64
import re
from html.parser import HTMLParser

import pyarrow as pa
import pytest

from paluku import audio
from paluku.corpus.report.inspect import Rejects, summarise
from paluku.corpus.report.page import SAMPLE_S, Heading, page
from paluku.corpus.shards import SCHEMAS, Kind
from paluku.errors import AudioError
from tests.fakes.folders import RATE_HZ, dialogue, tone, turn, utterance

EVIL = '<script>alert("1")</script>\'&'
HEADING = Heading(EVIL, "abc", "0" * 64)
VOID = {"meta", "img", "line", "br"}


class Reader(HTMLParser):
    """Checks that every tag is closed in its turn, and gathers what a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def drawn(kind: Kind, rows: list[dict[str, object]], rejects: Rejects | None = None) -> str:
    table = pa.Table.from_pylist(rows, schema=SCHEMAS[kind])
    return page(HEADING, summarise(kind, [table]), rejects or Rejects(), rows)


def evil_pages() -> dict[str, str]:
    words = dict.fromkeys(
        ("id", "text", "language", "speaker", "gender", "source", "licence", "origin"), EVIL
    )
    rejects = Rejects()
    rejects.add([{"id": EVIL, "source": EVIL, "reason": EVIL, "detail": EVIL, "duration_s": 1.0}])
    turns = [turn(EVIL, 0.0, 1.0, EVIL, EVIL), turn("user", 0.5, 2.0, EVIL)]
    names = dict.fromkeys(("id", "voice", "style", "user_voice", "source", "augmentation", "licence"), EVIL)
    return {
        "utterances": drawn("utterances", [utterance(0, **words)], rejects),
        "dialogues": drawn("dialogues", [dialogue(0, turns=turns, intents=[EVIL], **names)], rejects),
    }


@pytest.mark.parametrize("kind", ["utterances", "dialogues"])
def test_text_from_data_stays_text(kind: str) -> None:
    text = evil_pages()[kind]
    reader = Reader(text)
    assert not reader.open
    assert "script" not in reader.tags
    assert "<script" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("kind", ["utterances", "dialogues"])
def test_the_page_needs_nothing_but_itself(kind: str) -> None:
    reader = Reader(evil_pages()[kind])
    assert reader.references
    for reference in reader.references:
        assert reference.startswith("data:") or reference.removeprefix("#") in reader.ids


def test_a_player_holds_the_shards_own_bytes() -> None:
    row = utterance(0, 2.0)
    (sound,) = re.findall(r'src="data:audio/flac;base64,([^"]+)"', drawn("utterances", [row]))
    assert base64.b64decode(sound) == row["audio"]


def test_of_a_long_sample_only_the_beginning_is_in_the_page() -> None:
    long = audio.to_flac(tone(SAMPLE_S + 5, channels=2), RATE_HZ)
    row = dialogue(0, audio=long, turns=[turn("user", SAMPLE_S + 1, SAMPLE_S + 2, text="later")])
    text = drawn("dialogues", [row])
    (sound,) = re.findall(r'src="data:audio/flac;base64,([^"]+)"', text)
    wave, rate_hz = audio.read(base64.b64decode(sound))
    assert wave.shape == (round(SAMPLE_S * rate_hz), 2)
    assert f"{SAMPLE_S + 5:.1f} s, the first {SAMPLE_S:.0f} s here" in text


def test_sound_that_cannot_be_decoded_is_named() -> None:
    with pytest.raises(AudioError, match=r"the sound of corpus/0000 cannot be decoded"):
        drawn("utterances", [utterance(0, audio=b"fLaC and nothing more")])


def test_pictures_say_in_words_what_they_show() -> None:
    text = drawn("utterances", [utterance(n, 1.0 + n) for n in range(3)])
    assert "Duration: median" in text
    pictures = re.findall(r"<(?:svg|img|audio)[^>]*>", text)
    assert all("aria-label=" in tag or "alt=" in tag for tag in pictures)
