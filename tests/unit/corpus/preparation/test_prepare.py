"""One recording in, its utterances out: cut, judged, levelled, named, and the same bytes every time."""

import io
from typing import Any

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from paluku.corpus.media import Decoded
from paluku.corpus.preparation.fingerprint import fingerprint
from paluku.corpus.preparation.loudness import integrated_lufs
from paluku.corpus.preparation.prepare import Preparation, Prepared, prepare, spoken_text
from paluku.corpus.preparation.quality import Limits, Reject
from paluku.corpus.preparation.segments import SegmentSettings
from paluku.corpus.utterance import Utterance
from tests.fakes.speech import LevelDetector, speech_like

RATE_HZ = 16_000
CONFIG = Preparation(segments=SegmentSettings(max_s=8.0))
COLUMNS = [
    *("id", "audio", "sample_rate_hz", "num_samples", "text", "language", "speaker", "gender", "source"),
    *("licence", "origin", "start_s", "end_s", "source_rate_hz", "snr_db", "bandwidth_hz"),
    *("clipped_share", "silence_share", "loudness_lufs", "gain_db", "fingerprint"),
]


def silence(duration_s: float) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(round(duration_s * RATE_HZ))
    return (1e-4 * noise).astype(np.float32)


def recorded(*parts: np.ndarray, clipped_share: float = 0.0) -> Decoded:
    wave = np.concatenate(parts)
    return Decoded(wave=wave, source_rate_hz=44_100, channels=2, clipped_share=clipped_share)


def utterance(**values: Any) -> Utterance:
    described = {
        "id": "a/b.wav",
        "path": "/x/a/b.wav",
        "speaker": "s1",
        "source": "slr66",
        "licence": "CC-BY-4.0",
    }
    return Utterance(**(described | {"language": "te", "gender": "female"} | values))


def prepared(item: Utterance, decoded: Decoded, config: Preparation = CONFIG) -> list[Prepared | Reject]:
    return list(prepare(item, decoded, config, LevelDetector()))


def rows(found: list[Prepared | Reject]) -> list[dict[str, Any]]:
    assert all(isinstance(item, Prepared) for item in found)
    return [item.row for item in found if isinstance(item, Prepared)]


def heard(row: dict[str, Any]) -> np.ndarray:
    wave, rate_hz = soundfile.read(io.BytesIO(row["audio"]), dtype="float32")
    assert (rate_hz, len(wave)) == (row["sample_rate_hz"], row["num_samples"])
    return wave


def test_a_transcribed_recording_is_one_utterance_without_its_outer_silence() -> None:
    decoded = recorded(silence(2), speech_like(0, 3), silence(1.5), speech_like(1, 1), silence(3))
    (row,) = rows(prepared(utterance(text="5 పిల్లలు", start_s=10.0), decoded))
    assert sorted(row) == sorted(COLUMNS)
    assert (row["id"], row["text"], row["speaker"]) == ("slr66/a/b.wav", "ఐదు పిల్లలు", "s1")
    assert (row["origin"], row["source_rate_hz"], row["gender"]) == ("/x/a/b.wav", 44_100, "female")
    assert row["start_s"] == pytest.approx(11.8, abs=0.05)
    assert row["end_s"] == pytest.approx(17.7, abs=0.05)
    assert row["silence_share"] == pytest.approx(1.9 / 5.9, abs=0.05)
    assert row["snr_db"] > 40
    assert row["num_samples"] == pytest.approx((row["end_s"] - row["start_s"]) * RATE_HZ, abs=1)


def test_what_is_written_has_the_stated_loudness_and_its_own_fingerprint() -> None:
    decoded = recorded(silence(1), 0.02 * speech_like(0, 3), silence(1))
    config = CONFIG.model_copy(update={"limits": Limits(min_snr_db=-20)})
    (row,) = rows(list(prepare(utterance(), decoded, config, LevelDetector(-75))))
    wave = heard(row)
    assert integrated_lufs(wave, RATE_HZ) == pytest.approx(-23, abs=0.1)
    assert row["loudness_lufs"] + row["gain_db"] == pytest.approx(-23)
    differing = int.from_bytes(row["fingerprint"][2:]) ^ int.from_bytes(fingerprint(wave, RATE_HZ)[2:])
    assert differing.bit_count() < 10, "levelling and 16 bits do not change it"


def test_a_recording_without_text_is_cut_at_its_pauses() -> None:
    decoded = recorded(silence(1), speech_like(0, 3), silence(1), speech_like(1, 2), silence(1))
    found = rows(prepared(utterance(), decoded))
    assert [row["id"] for row in found] == ["slr66/a/b.wav#0000", "slr66/a/b.wav#0001"]
    assert [row["start_s"] for row in found] == pytest.approx([0.8, 4.8], abs=0.05)
    assert [row["text"] for row in found] == [None, None]
    assert found[0]["fingerprint"] != found[1]["fingerprint"]


def test_parts_of_a_long_transcribed_recording_have_no_text_and_are_counted() -> None:
    decoded = recorded(speech_like(0, 5), silence(0.3), speech_like(1, 5), silence(0.2), speech_like(2, 4))
    found = prepared(utterance(text="పొడవైన కథ"), decoded)
    assert [row["text"] for row in rows(found)] == [None] * 3
    assert [item.is_text_dropped for item in found if isinstance(item, Prepared)] == [True] * 3
    assert not any(item.is_cut_in_speech for item in found if isinstance(item, Prepared))


def test_speech_without_a_pause_is_cut_at_its_quietest_and_counted() -> None:
    loud = np.full(12 * RATE_HZ, 0.1, np.float32) * np.sign(np.sin(np.arange(12 * RATE_HZ) / 9)).astype(
        np.float32
    )
    loud[5 * RATE_HZ : 5 * RATE_HZ + 400] *= 0.1  # 25 ms
    config = CONFIG.model_copy(update={"limits": Limits(min_snr_db=-20)})
    found = prepared(utterance(), recorded(loud), config)
    assert [item.is_cut_in_speech for item in found if isinstance(item, Prepared)] == [True, False]
    assert rows(found)[1]["start_s"] == pytest.approx(5.0125, abs=0.011)


def test_nothing_is_said_in_silence() -> None:
    (found,) = prepared(utterance(text="లేదు"), recorded(silence(3)))
    assert found == Reject(
        id="slr66/a/b.wav", source="slr66", reason="no_speech", detail="none found", duration_s=3.0
    )
    assert prepared(utterance(), recorded(silence(0)))[0].duration_s == 0  # pyright: ignore


def test_one_unusable_part_leaves_the_others() -> None:
    loud, faint = speech_like(0, 3), 0.02 * speech_like(1, 3)
    decoded = recorded(silence(1), loud, silence(1), faint, silence(1), speech_like(2, 2))
    config = CONFIG.model_copy(update={"limits": Limits(min_level_dbfs=-50)})
    found = list(prepare(utterance(), decoded, config, LevelDetector(-75)))
    assert [getattr(item, "reason", "kept") for item in found] == ["kept", "silent", "kept"]
    assert found[1].id == "slr66/a/b.wav#0001"  # pyright: ignore


def test_a_clipped_recording_is_left_out() -> None:
    (found,) = prepared(utterance(), recorded(silence(1), speech_like(0, 3), silence(1), clipped_share=0.2))
    assert isinstance(found, Reject)
    assert found.reason == "clipped"


def test_the_same_recording_gives_the_same_bytes() -> None:
    decoded = recorded(silence(1), speech_like(0, 3), silence(1), speech_like(1, 2), silence(1))
    assert prepared(utterance(), decoded) == prepared(utterance(), decoded)


def test_what_was_spoken_by_a_voice_says_so() -> None:
    item = utterance(path=None, voice="priya", text="బాగున్నాను")
    (row,) = rows(prepared(item, recorded(silence(0.5), speech_like(0, 2))))
    assert row["origin"] == "voice:priya"


@pytest.mark.parametrize(
    ("language", "spelled"), [("te", "ఐదు"), ("te-IN", "ఐదు"), ("tel", "ఐదు"), ("ml", "5"), ("und", "5")]
)
def test_numbers_are_spelled_out_in_telugu_alone(language: str, spelled: str) -> None:
    assert spoken_text(" 5 ", language, CONFIG.text) == spelled


def test_limits_must_allow_what_is_cut() -> None:
    with pytest.raises(ValidationError, match="must not be less than"):
        Preparation(limits=Limits(max_s=20))
