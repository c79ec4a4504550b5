import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paluku import audio
from paluku.codec.native import NativeCodec
from paluku.errors import EvaluationError, StorageError
from paluku.evals.clips import Chosen, Clip, Ignored
from paluku.evals.codec import Judgement
from paluku.evals.codec_pictures import Axis, Point, codebooks_svg, curves_svg
from paluku.evals.codec_report import COLUMNS, SAMPLE_S, About, Findings, Sample, is_best, page
from paluku.evals.codec_results import (
    PRINTED,
    check_writable,
    depths_of,
    hash_of,
    kbps_of,
    metrics,
    printed,
    write,
)
from paluku.evals.rows import Row
from tests.fakes.codec import FakeCodec
from tests.fakes.speech import speech_like
from tests.fakes.training import TINY_CODEC

EVIL = '<script>alert("1")</script>\'&'
RATE_HZ = 16_000
VOID = {"meta", "img", "line", "br", "circle", "rect", "polyline", "polygon"}
ABOUT = About(codec="ours", hash="abc", licence="Apache-2.0", data="clips", command="run it", codebook_size=4)


class Reader(HTMLParser):
    """Checks that every tag is closed in its turn, and gathers tags and what a page refers to."""

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


def clip(name: str = "a.wav", seconds: float = 1.0, **names: str | None) -> Clip:
    about = {"language": "te", "speaker": "anu", "source": "made", "licence": "CC0-1.0", "text": None}
    return Clip(id=name, wave=speech_like(1, seconds), rate_hz=RATE_HZ, **(about | names))  # pyright: ignore[reportArgumentType]


def row(name: str, kbps: float, **columns: Any) -> dict[str, Any]:
    return Row(name=name, kbps=kbps, **({"language": "te", "clips": 1} | columns)).model_dump()


ROWS = [
    row("ours", 1.6, pesq=1.7, rtf_encode=0.01),
    row("ours", 3.2, pesq=2.4, rtf_encode=0.01, language="all", share_used=(1.0, 0.5), perplexity=(3.0, 1.0)),
    row("lyra", 3.2, pesq=2.2, language="all", rtf_encode=0.02),
    row("opus", 9.0, pesq=math.nan, language="all"),
]


def chosen(*clips: Clip) -> Chosen:
    return Chosen(list(clips), [], "d" * 16, len(clips), {"te": len(clips)})


def drawn(about: About, *clips: Clip, ignored: tuple[Ignored, ...] = ()) -> str:
    samples = [Sample(one, {"original": one.wave, about.codec: one.wave}, RATE_HZ) for one in clips]
    speakers = [row(about.codec, 3.2, speaker=clips[0].speaker, pesq=2.0)]
    rows = [each | {"name": about.codec if each["name"] == "ours" else each["name"]} for each in ROWS]
    return page(about, chosen(*clips), Findings(rows, speakers, samples, ignored))


def evil_page() -> str:
    words = dict.fromkeys(("language", "speaker", "source", "licence", "text"), EVIL)
    about = replace(
        ABOUT, codec=EVIL, hash=EVIL, licence=EVIL, data=EVIL, command=EVIL, facts={EVIL: EVIL}, notes=[EVIL]
    )
    return drawn(about, clip(EVIL, **words), ignored=(Ignored(EVIL, EVIL, EVIL),))


def test_text_from_data_stays_text() -> None:
    text = evil_page()
    reader = Reader(text)
    assert not reader.open
    assert "script" not in reader.tags
    assert text.count("&lt;script&gt;") > 15


def test_the_page_needs_nothing_but_itself_and_fits_both_lights() -> None:
    text = evil_page()
    reader = Reader(text)
    for reference in reader.references:
        assert reference.startswith("data:") or reference.removeprefix("#") in reader.ids
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_a_clip_is_heard_before_and_after_and_cut_where_it_is_long() -> None:
    text = drawn(ABOUT, clip(seconds=SAMPLE_S + 1, text="నమస్కారం"))
    tags = Reader(text).tags
    assert (tags.count("audio"), tags.count("img")) == (2, 2)
    assert f"{SAMPLE_S + 1:.1f} s, {SAMPLE_S:g} s here" in text
    assert '<p class="text" lang="te">నమస్కారం</p>' in text


def test_what_is_in_bold_is_the_best_at_as_few_bits() -> None:
    of_all = [each for each in ROWS if each["language"] == "all"]
    pesq, speed = (next(c for c in COLUMNS if c.key == key) for key in ("pesq", "rtf_encode"))
    assert [is_best(each, of_all, pesq) for each in of_all] == [True, False, False]
    louder = [*of_all, row("opus", 6.0, pesq=2.9, rtf_encode=0.001)]
    assert [is_best(each, louder, pesq) for each in louder] == [True, False, False, True]
    assert [is_best(each, louder, speed) for each in louder] == [False, False, False, True]


def test_the_golden_row_of_a_table() -> None:
    text = drawn(ABOUT, clip())
    assert (
        '<tr class="own"><th scope="row" class="word">ours</th><td>3.20</td><td>1</td>'
        '<td class="best">2.40</td><td class="best">0.0100</td></tr>' in text
    )
    assert '<th scope="row" class="word">opus</th><td>9.00</td><td>1</td><td>-</td><td>-</td>' in text
    assert "at least 50% of the entries used, perplexity at least 1 of 4" in text


def test_what_was_left_out_is_named_and_counted_beyond_a_hundred() -> None:
    some = tuple(Ignored(f"{n}.wav", "too_short", "0.3 s") for n in range(103))
    text = drawn(ABOUT, clip(), ignored=some)
    assert "0.wav" in text
    assert "102.wav" not in text
    assert "and 3 more" in text


def test_a_page_of_numbers_alone() -> None:
    text = page(ABOUT, chosen(clip()), Findings([row("ours", 3.2)]))
    assert not Reader(text).open
    for said in ("No judge gave a number", "None were kept", "Nothing was left out", "single speakers"):
        assert said in text


def test_a_curve_says_its_points_and_stays_inside() -> None:
    axis = Axis("PESQ", 1.0, 4.5)
    text = curves_svg(axis, {"ours": [Point(3.2, 2.4), Point(1.6, 1.7)], "<b>": [Point(12.0, 9.0)]}, "ours")
    assert "ours: 2.40 at 3.2 kbps, 1.70 at 1.6 kbps; &lt;b&gt;: 9.00 at 12 kbps" in text
    assert text.count('class="own"') == 1
    assert 'cy="10.0"' in text  # what is above the axis is drawn at its top


def test_codebook_bars_are_as_tall_as_their_shares() -> None:
    text = codebooks_svg((1.0, 0.5), (2.0, 1.0), 4)
    assert [part.split('"')[0] for part in text.split('height="')[1:]] == ["82.0", "41.0", "41.0", "20.5"]
    assert "0: 100% used, perplexity 2, 1: 50% used, perplexity 1" in text


def test_findings_begin_each_clip_with_its_original_at_the_judges_rate() -> None:
    one, other = replace(clip(), wave=speech_like(1, 1.0, 24_000), rate_hz=24_000), clip("b.wav")
    judgement = Judgement(waves={("made", "a.wav"): {"ours 3.2 kbps": np.zeros(RATE_HZ, np.float32)}})
    found = Findings.of(judgement, chosen(one, other))
    [sample] = found.samples
    assert list(sample.takes) == ["original", "ours 3.2 kbps"]
    assert {len(wave) for wave in sample.takes.values()} == {RATE_HZ}


def test_unless_asked_depths_are_those_of_the_compared_rates() -> None:
    codec = FakeCodec(num_codebooks=16)  # 0.2 kbps each
    assert depths_of(codec, ()) == (8, 16)
    assert depths_of(FakeCodec(num_codebooks=2, codebook_size=4), ()) == (2,)
    assert depths_of(codec, (16, 1, 16)) == (1, 16)
    assert kbps_of(codec, 8) == pytest.approx(1.6)
    with pytest.raises(EvaluationError, match="depth 17 cannot be judged: the codec has 16 codebooks"):
        depths_of(codec, (8, 17))


def test_metrics_are_named_by_measure_language_and_rate() -> None:
    found = metrics("ours", [*ROWS, row("Ly ra/2", 3.2, pesq=1.0)])
    assert found == {
        "pesq_te_1.6": 1.7,
        "rtf_encode_te_1.6": 0.01,
        "pesq_all_3.2": 2.4,
        "rtf_encode_all_3.2": 0.01,
        "share_used_least_all_3.2": 0.5,
        "perplexity_least_all_3.2": 1.0,
        "lyra/pesq_all_3.2": 2.2,
        "lyra/rtf_encode_all_3.2": 0.02,
        "Ly_ra_2/pesq_te_3.2": 1.0,
    }


def test_the_printed_line_has_the_agreed_keys_and_is_json_without_nan() -> None:
    said = json.loads(printed("ours", ROWS), parse_constant=pytest.fail)
    assert said["codec"] == "ours"
    assert [tuple(each) for each in said["rows"]] == [PRINTED] * len(ROWS)
    assert said["rows"][3]["pesq"] is None


def test_files_are_written_whole_and_hold_what_was_found(tmp_path: Path) -> None:
    one = clip("../../a.wav", speaker="../x/ y")
    findings = Findings(ROWS, samples=[Sample(one, {"ours 3.2 kbps": one.wave}, RATE_HZ)])
    written = write(tmp_path / "out", "<html>", ABOUT, findings)
    names = ["report.html", "rows.json", "samples/00_te_x_y/ours_3.2_kbps.flac"]
    assert [str(path.relative_to(tmp_path / "out")) for path in written] == names
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(written)
    assert len(audio.read(written[2])[0]) == RATE_HZ
    numbers = json.loads(written[1].read_text(), parse_constant=pytest.fail)
    assert (numbers["hash"], numbers["rows"][0]["pesq"]) == ("abc", 1.7)


def test_a_place_that_cannot_be_written_is_found_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="cannot be written"):
        check_writable(tmp_path / "file")
    with pytest.raises(StorageError, match="choose another --out"):
        write(tmp_path / "file", "", ABOUT, Findings(ROWS))


def test_a_codec_without_a_folder_is_named_by_its_weights(tmp_path: Path) -> None:
    codec = NativeCodec(TINY_CODEC)
    first = hash_of(codec, tmp_path)
    assert first == hash_of(codec, tmp_path)
    codec.to_latent.weight.data[0, 0, 0] += 1.0
    assert hash_of(codec, tmp_path) != first
