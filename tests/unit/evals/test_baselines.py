import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from paluku.errors import EvaluationError
from paluku.evals import baselines as beside
from paluku.evals import sound
from paluku.evals.align import lag_samples, moved
from paluku.evals.baselines import LyraBaseline, OpusBaseline, _Lyra, baselines, ogg_payload_bytes
from tests.fakes.speech import speech_like

SPEECH = speech_like(seed=0, duration_s=2.0)


def ogg_page(*packets: int, open_at_end: bool = False) -> bytes:
    """A page of packets of so many bytes; the last goes on in the next page where it is open."""
    lacing = b"".join(b"\xff" * (size // 255) + bytes([size % 255]) for size in packets)
    lacing = lacing[:-1] if open_at_end else lacing
    return b"OggS" + bytes(22) + bytes([len(lacing)]) + lacing + bytes(sum(lacing))


def test_bytes_of_sound_are_counted_without_headers_and_pages() -> None:
    file = ogg_page(19) + ogg_page(300) + ogg_page(20, 255, 3)
    assert ogg_payload_bytes(file) == 278


def test_a_packet_over_two_pages_is_one() -> None:
    file = ogg_page(19) + ogg_page(510, open_at_end=True) + ogg_page(40) + ogg_page(7, 8)
    assert ogg_payload_bytes(file) == 15  # 510 + 40 bytes are the second header


@pytest.mark.parametrize(
    "file", [b"RIFFxxxx", ogg_page(19) + b"junk", ogg_page(19) + b"OggS", ogg_page(19)[:-1]]
)
def test_a_file_that_is_no_ogg_is_an_error(file: bytes) -> None:
    with pytest.raises(EvaluationError, match="no whole Ogg page"):
        ogg_payload_bytes(file)


@pytest.mark.skipif(shutil.which("opusenc") is None, reason="opus-tools are not installed")
def test_opus_sends_about_what_is_asked_and_does_not_lag() -> None:
    low, high = (OpusBaseline(kbps).code(SPEECH) for kbps in (9, 24))
    assert 0.5 * 9 < low.kbps < 1.5 * 9 < high.kbps
    for coded in (low, high):
        assert len(coded.wave) == len(SPEECH)
        assert lag_samples([(SPEECH, coded.wave)], 100) in range(-8, 9)
        assert coded.encode_s >= 0 <= coded.decode_s
    assert sound.si_sdr_db(SPEECH, high.wave) > max(3, sound.si_sdr_db(SPEECH, low.wave))


def test_opus_without_its_programs_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    opus = OpusBaseline(6)
    assert "opusenc, opusdec is not installed; apt-get install opus-tools" in str(opus.why_absent())
    with pytest.raises(EvaluationError, match="opusenc"):
        opus.code(SPEECH)


def test_lyra_without_a_folder_or_with_an_empty_one_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PALUKU_LYRA", raising=False)
    monkeypatch.setattr(beside, "LYRA", tmp_path / "none")
    assert "$PALUKU_LYRA names no folder" in str(LyraBaseline(8).why_absent())
    monkeypatch.setenv("PALUKU_LYRA", str(tmp_path))
    (tmp_path / "quantizer.tflite").touch()
    reason = str(LyraBaseline(8).why_absent())
    assert f"{tmp_path} has no soundstream_encoder.tflite, lyragan.tflite;" in reason
    with pytest.raises(EvaluationError, match=r"lyragan\.tflite"):
        LyraBaseline(8).code(SPEECH)


def test_lyra_beside_a_checkout_is_found_and_the_variable_goes_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (there := tmp_path / "shared").mkdir()
    monkeypatch.setattr(beside, "LYRA", there)
    monkeypatch.delenv("PALUKU_LYRA", raising=False)
    assert f"{there} has no" in str(LyraBaseline(8).why_absent())
    monkeypatch.setenv("PALUKU_LYRA", str(tmp_path))
    assert f"{tmp_path} has no" in str(LyraBaseline(8).why_absent())


def test_rates_are_those_that_are_compared() -> None:
    assert [(b.name, b.kbps) for b in baselines()] == [
        ("opus", 6),
        ("opus", 9),
        ("opus", 12),
        ("lyra", pytest.approx(1.6)),
        ("lyra", pytest.approx(3.2)),
        ("lyra", pytest.approx(6.0)),
    ]


@pytest.mark.skipif("PALUKU_LYRA" not in os.environ, reason="$PALUKU_LYRA names no folder with its files")
def test_lyra_is_residual_and_begins_each_clip_afresh() -> None:
    pytest.importorskip("ai_edge_litert")
    folder = Path(os.environ["PALUKU_LYRA"])
    wave = SPEECH[: 320 * 20]
    few, many = _Lyra(folder).encode(wave, 8), _Lyra(folder).encode(wave, 30)
    assert few.shape == (20, 8)
    assert np.array_equal(few, many[:, :8])
    assert 0 <= many.min() <= many.max() < 16
    assert np.array_equal(_Lyra(folder).decode(few), _Lyra(folder).decode(few))
    coded = LyraBaseline(30).code(SPEECH)
    lag = lag_samples([(SPEECH, coded.wave)], 2_400)
    assert lag >= 0
    assert sound.si_sdr_db(SPEECH, moved(coded.wave, lag, len(SPEECH))) > -3
