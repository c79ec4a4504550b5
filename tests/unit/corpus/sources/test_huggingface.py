"""Data sets of the Hub: through `datasets` itself on published files, and with a Hub that breaks."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from paluku.corpus.download import NotFetched
from paluku.corpus.sources import huggingface
from paluku.corpus.sources.common_voice import CommonVoice, CommonVoiceConfig
from paluku.corpus.sources.huggingface import HubDataset, Row, fetch
from paluku.corpus.sources.indictts import IndicTts, IndicTtsConfig
from paluku.errors import CorpusError
from tests.unit.corpus.sources import trees

DATASET = HubDataset(repository="SPRINGLab/IndicTTS_Telugu")
FEATURES = {
    "audio": {"sampling_rate": 48_000, "_type": "Audio"},
    "text": {"dtype": "string", "_type": "Value"},
    "gender": {"names": ["female", "male"], "_type": "ClassLabel"},
}


def wav(seconds: float = 0.25) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(int(48_000 * seconds), np.float32), 48_000, format="WAV")
    return buffer.getvalue()


def parquet(path: Path, columns: dict[str, object], features: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(pa.table(columns).replace_schema_metadata(about), path)


def indictts(folder: Path) -> None:
    texts = ["పలుకు", "తేనె", "తల్లి"]
    audio = [{"bytes": wav(0.25 * number), "path": f"train_telugu_{number:05d}.wav"} for number in (1, 2, 3)]
    columns: dict[str, object] = {"audio": audio, "text": texts, "gender": pa.array([0, 1, 0], pa.int64())}
    parquet(folder / "data/train-00000-of-00001.parquet", columns, FEATURES)


def test_indictts_is_read_from_its_own_files_and_kept_as_published(tmp_path: Path) -> None:
    indictts(tmp_path / "published")
    source = IndicTts(IndicTtsConfig(folder=str(tmp_path)))
    listed = trees.by_id(source)
    assert list(listed) == ["audio/000000.wav", "audio/000001.wav", "audio/000002.wav"]
    assert [u.text for u in listed.values()] == ["పలుకు", "తేనె", "తల్లి"]
    assert [u.speaker for u in listed.values()] == [f"indictts_te_{g}" for g in ("female", "male", "female")]
    assert [u.duration_s for u in listed.values()] == [0.25, 0.5, 0.75]
    assert {(u.source, u.language, u.licence) for u in listed.values()} == {
        ("indictts", "te", "LicenseRef-IndicTTS")
    }
    assert (tmp_path / "audio/000001.wav").read_bytes() == wav(0.5)
    first = json.loads((tmp_path / "manifest.jsonl").read_text().split("\n")[0])
    assert first["sha256"] == hashlib.sha256(wav(0.25)).hexdigest()


def test_common_voice_through_the_hub(tmp_path: Path) -> None:
    clips = [
        ("a" * 128, "common_voice_te_2.mp3", "ఒకటి", "female"),
        ("b" * 128, "common_voice_te_1.mp3", "రెండు", ""),
    ]
    rows = [trees.common_voice_row(*clip) for clip in clips]
    columns: dict[str, object] = {name: [row[name] for row in rows] for name in trees.COMMON_VOICE_COLUMNS}
    columns["audio"] = [{"bytes": wav(), "path": row["path"]} for row in rows]
    features: dict[str, object] = {name: {"dtype": "string", "_type": "Value"} for name in columns} | {
        "audio": FEATURES["audio"]
    }
    # `datasets` knows train, validation and test by the names of files; Mozilla's dev is its validation.
    parquet(tmp_path / "dev/published/validation-00000-of-00001.parquet", columns, features)
    config = CommonVoiceConfig(folder=str(tmp_path), repository="x/common_voice_te", splits=("dev",))
    source = CommonVoice(config)
    listed = trees.by_id(source)
    assert [u.id for u in listed.values()] == ["common_voice_te_1", "common_voice_te_2"]
    assert listed["common_voice_te_2"].speaker == f"common_voice_{'a' * 16}"
    assert (listed["common_voice_te_2"].gender, listed["common_voice_te_1"].gender) == ("female", None)
    assert listed["common_voice_te_1"].text == "రెండు"
    with pytest.raises(CorpusError, match=rf"{tmp_path}/test holds no fetched x/common_voice_te/test"):
        list(CommonVoice(config.model_copy(update={"splits": ("dev", "test")})).iterate())


def rows(count: int = 5) -> list[Row]:
    return [{"audio": {"bytes": b"RIFF%d" % n, "path": "x.wav"}, "n": n} for n in range(count)]


def describe(row: Row, origin: str) -> Row:
    return {"source": "x", "speaker": "s", "licence": "MIT", "text": f"{row['n']}"}


class Hub:
    """Rows; each opening ends with an error after so many of them."""

    def __init__(
        self, breaks: list[int], error: Callable[[], Exception] = lambda: ConnectionError("gone")
    ) -> None:
        self.breaks, self.error, self.skipped = breaks, error, list[int]()

    def open_rows(self, dataset: HubDataset, skip: int) -> Iterator[Row]:
        self.skipped.append(skip)
        after = self.breaks.pop(0) if self.breaks else None
        for sent, row in enumerate(rows()[skip:]):
            if sent == after:
                raise self.error()
            yield row

    def fetch(self, folder: Path, dataset: HubDataset = DATASET, *, download: bool = True) -> None:
        fetch(dataset, folder, describe, download=download, open_rows=self.open_rows, sleep=lambda _: None)


def texts(folder: Path) -> list[str]:
    return [json.loads(line)["text"] for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_a_hub_that_breaks_is_continued_after_the_last_row(tmp_path: Path) -> None:
    hub = Hub([2, 1])
    hub.fetch(tmp_path)
    assert hub.skipped == [0, 2, 3]
    assert texts(tmp_path) == ["0", "1", "2", "3", "4"]
    hub.fetch(tmp_path, download=False)
    assert hub.skipped == [0, 2, 3]  # complete: nobody is asked


def test_errors_that_are_no_oserrors_are_the_networks_too(tmp_path: Path) -> None:
    import httpx

    Hub([1], lambda: httpx.ReadTimeout("slow")).fetch(tmp_path)
    assert len(texts(tmp_path)) == 5


def test_without_a_network_the_address_and_the_place_are_named(tmp_path: Path) -> None:
    hub = Hub([0] * 10)
    wanted = (
        rf"https://huggingface\.co/datasets/SPRINGLab/IndicTTS_Telugu cannot .* into {tmp_path}/published"
    )
    with pytest.raises(CorpusError, match=wanted):
        hub.fetch(tmp_path)
    assert len(hub.skipped) == huggingface.TRIES
    with pytest.raises(CorpusError, match=rf"set download: true, or put .* into {tmp_path}/published"):
        hub.fetch(tmp_path, download=False)


@pytest.mark.parametrize("damage", ["half a line", "no json", "no path", "no file", "short file"])
def test_what_a_killed_fetch_left_is_mended(tmp_path: Path, damage: str) -> None:
    with pytest.raises(CorpusError):
        Hub([3, 0, 0]).fetch(tmp_path)
    if damage == "half a line":
        manifest = tmp_path / "manifest.jsonl"
        manifest.write_bytes(manifest.read_bytes()[:-9])
    elif damage in ("no json", "no path"):
        manifest = tmp_path / "manifest.jsonl"
        lines = manifest.read_bytes().splitlines(keepends=True)
        damaged = b'{"path": \xff\n' if damage == "no json" else b'{"bytes": 5}\n'
        manifest.write_bytes(b"".join([*lines[:2], damaged]))
    elif damage == "no file":
        (tmp_path / "audio/000002.wav").unlink()
    else:
        (tmp_path / "audio/000002.wav").write_bytes(b"R")
    hub = Hub([])
    hub.fetch(tmp_path)
    assert hub.skipped == [2]
    assert texts(tmp_path) == ["0", "1", "2", "3", "4"]
    assert (tmp_path / "audio/000002.wav").read_bytes() == b"RIFF2"


def test_a_look_fetches_nothing(tmp_path: Path) -> None:
    config = IndicTtsConfig(folder=str(tmp_path / "c"), download=True, only_look=True)
    with pytest.raises(NotFetched, match="SPRINGLab/IndicTTS_Telugu/train to be fetched"):
        list(IndicTts(config).iterate())
    assert not (tmp_path / "c").exists()


def test_a_folder_holds_one_data_set(tmp_path: Path) -> None:
    Hub([]).fetch(tmp_path)
    other = DATASET.model_copy(update={"revision": "abc"})
    with pytest.raises(
        CorpusError, match=r"holds .*\(revision None\), not .*\(revision abc\); give another folder"
    ):
        Hub([]).fetch(tmp_path, other)


def test_a_split_that_is_not_there_is_no_trouble_of_the_network(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"Bad split: dev.*check the name, subset and split"):
        Hub([0], lambda: ValueError("Bad split: dev")).fetch(tmp_path)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (
            {"audio": {"bytes": wav(), "path": "a.wav"}, "text": "x", "gender": None},
            "row 0 of .* has no text or no gender",
        ),
        ({"audio": None, "text": "x", "gender": "male"}, "row 0 of .* has no sound"),
    ],
)
def test_a_row_that_lacks_something_is_named(tmp_path: Path, row: Row, complaint: str) -> None:
    source = IndicTts(
        IndicTtsConfig(folder=str(tmp_path / "c"), download=True), lambda dataset, skip: iter([row])
    )
    with pytest.raises(CorpusError, match=complaint):
        list(source.iterate())


def test_rows_that_only_say_where_the_sound_lies_are_followed(tmp_path: Path) -> None:
    trees.sound(tmp_path / "far.flac")
    row = {"audio": {"bytes": None, "path": str(tmp_path / "far.flac")}, "text": "x", "gender": "male"}
    source = IndicTts(
        IndicTtsConfig(folder=str(tmp_path / "c"), download=True), lambda dataset, skip: iter([row])
    )
    (utterance,) = source.iterate()
    assert (utterance.id, utterance.duration_s) == ("audio/000000.flac", 0.5)
