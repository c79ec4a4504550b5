import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from paluku.audio import read
from paluku.corpus.dialogues.conversations import (
    ConversationsConfig,
    TimedTurn,
    list_conversations,
    pieces,
    rows,
)
from paluku.corpus.preparation.quality import UnusableError
from paluku.corpus.splits import SplitShares
from paluku.errors import AudioError, CorpusError

RATE_HZ = 16_000
WINDOW_S = 0.02
AGENT = [(0.5, 2.5), (4.0, 5.0)]
USER = [(1.2, 1.6), (2.8, 3.7)]  # a backchannel, a turn


def recording(
    agent: list[tuple[float, float]], user: list[tuple[float, float]], seconds: float = 6.0
) -> np.ndarray:
    """Float32 `[S, 2]`: tones, a little noise, and the other's crosstalk 40 dB down."""
    wave = 1e-4 * np.random.default_rng(0).standard_normal((round(seconds * RATE_HZ), 2))
    for channel, spoken in enumerate((agent, user)):
        for start_s, end_s in spoken:
            part = slice(round(start_s * RATE_HZ), round(end_s * RATE_HZ))
            tone = 0.3 * np.sin(np.arange(part.stop - part.start) * 0.1)
            wave[part, channel] += tone
            wave[part, 1 - channel] += 0.01 * tone
    return wave.astype(np.float32)


def written(folder: Path, wave: np.ndarray, name: str = "a/talk.wav", rate_hz: int = RATE_HZ) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate_hz)
    return folder


def settings(folder: Path, **changes: Any) -> ConversationsConfig:
    return ConversationsConfig(**{"folder": folder, "voice": "priya", "source": "talks"} | changes)


def all_rows(config: ConversationsConfig) -> list[dict[str, Any]]:
    listed = list_conversations(config, SplitShares(), 0)
    return [row for conversation in listed for row in rows(conversation, config, RATE_HZ)]


def bounds(row: dict[str, Any], role: str) -> list[tuple[float, float]]:
    return [(t["start_s"], t["end_s"]) for t in row["turns"] if t["role"] == role]


@pytest.mark.parametrize("reply_channel", [0, 1])
def test_turns_are_found_by_level_on_whichever_channel(tmp_path: Path, reply_channel: Any) -> None:
    wave = recording(AGENT, USER)
    written(tmp_path, wave if reply_channel == 0 else wave[:, ::-1])
    (row,) = all_rows(settings(tmp_path, reply_channel=reply_channel))
    assert bounds(row, "agent") == [pytest.approx(span, abs=WINDOW_S) for span in AGENT]
    assert bounds(row, "user") == [pytest.approx(span, abs=WINDOW_S) for span in USER]
    assert [t["kind"] for t in row["turns"] if t["role"] == "user"] == ["backchannel", "turn"]
    assert (row["voice"], row["user_voice"], row["source"]) == ("priya", "talks/a/talk.wav", "talks")
    decoded, rate_hz = read(row["audio"])
    assert (decoded.shape, rate_hz) == ((row["num_samples"], 2), RATE_HZ)
    np.testing.assert_allclose(decoded[: len(wave)], wave, atol=2e-4)


def test_a_transcript_gives_texts_and_words(tmp_path: Path) -> None:
    written(tmp_path, recording(AGENT, USER))
    words = [{"text": "it", "start_s": 0.5, "end_s": 1.0}, {"text": "is", "start_s": 1.0, "end_s": 2.5}]
    turns = [
        {"role": "user", "text": "so?", "start_s": 0.1, "end_s": 0.4},
        {"role": "agent", "text": "it is", "start_s": 0.5, "end_s": 2.5, "kind": "cut", "words": words},
    ]
    line = {"path": "a/talk.wav", "turns": turns, "user": "sita", "licence": "CC-BY-4.0"}
    (tmp_path / "transcripts.jsonl").write_text(json.dumps(line) + "\n")
    (row,) = all_rows(settings(tmp_path))
    assert [(t["role"], t["text"], t["kind"], t["is_timed"]) for t in row["turns"]] == [
        ("user", "so?", "turn", False),
        ("agent", "it is", "cut", True),
    ]
    assert row["turns"][1]["words"] == words
    assert (row["user_voice"], row["licence"]) == ("talks/sita", "CC-BY-4.0")


def test_a_long_conversation_is_cut_where_both_are_silent() -> None:
    turns = [
        TimedTurn(role=("user", "agent")[k % 2], start_s=k * 2.0 - 0.1 * (k % 2), end_s=k * 2.0 + 1.5)
        for k in range(10)
    ]
    wave = recording([], [], seconds=20.0)
    wave[:, 0] = np.linspace(0, 1, len(wave))
    cut = list(pieces(wave, turns, RATE_HZ, max_s=5.0))
    assert len(cut) > 3
    assert sum(len(piece.turns) for piece in cut) == 10
    for piece in cut:
        assert len(piece.wave) <= 5.0 * RATE_HZ + 640
        assert len(piece.wave) % 640 == 0
        for turn in piece.turns:
            assert 0 <= turn["start_s"] < turn["end_s"] <= len(piece.wave) / RATE_HZ
    # Every turn still lies over the same sound: channel 0 tells the time.
    told = [piece.wave[round(turn["start_s"] * RATE_HZ), 0] * 20.0 for piece in cut for turn in piece.turns]
    assert told == pytest.approx([turn.start_s for turn in turns], abs=0.01)


@pytest.mark.parametrize(
    "spans", [[(1.0, 2.0), (40.0, 60.0)], [(1.0, 2.0), (5.0, 6.1)], [(1.0, 2.0), (6.0, 6.03)], [(50.0, 60.0)]]
)
def test_a_turn_beyond_the_recording_is_refused(spans: list[tuple[float, float]]) -> None:
    turns = [TimedTurn(role="user", start_s=start, end_s=end) for start, end in spans]
    last = rf"transcript: a turn from {spans[-1][0]:.2f} to {spans[-1][1]:.2f} s in a recording of 6.00 s"
    with pytest.raises(UnusableError, match=last):
        list(pieces(recording([], []), turns, RATE_HZ, max_s=5.0))


def test_a_turn_may_end_within_a_frame_of_the_recording_s_end() -> None:
    (piece,) = pieces(recording([], []), [TimedTurn(role="user", start_s=5.0, end_s=6.03)], RATE_HZ, 60.0)
    assert [(turn["start_s"], turn["end_s"]) for turn in piece.turns] == [(5.0, 6.0)]


def test_turns_that_a_transcript_leaves_out_are_found(tmp_path: Path) -> None:
    written(tmp_path, recording(AGENT, USER), "a.wav")
    (tmp_path / "transcripts.jsonl").write_text('{"path": "a.wav", "user": "sita", "licence": "CC0-1.0"}')
    (row,) = all_rows(settings(tmp_path))
    assert bounds(row, "agent") == [pytest.approx(span, abs=WINDOW_S) for span in AGENT]
    assert (row["user_voice"], row["licence"]) == ("talks/sita", "CC0-1.0")


def test_transcripts_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    written(tmp_path, recording(AGENT, USER), "a.wav")
    (tmp_path / "transcripts.jsonl").write_text('{"path": "a.wav", "user": "sita"}', encoding="utf-8-sig")
    (listed,) = list_conversations(settings(tmp_path), SplitShares(), 0)
    assert listed.user_voice == "talks/sita"


def test_one_user_is_in_one_split(tmp_path: Path) -> None:
    for number in range(12):
        written(tmp_path, recording(AGENT, USER), f"{number}.wav")
    lines = [{"path": f"{number}.wav", "user": f"user-{number % 3}"} for number in range(12)]
    (tmp_path / "transcripts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    listed = list_conversations(settings(tmp_path), SplitShares(dev=0.3, test=0.3), 0)
    assert len({(c.user_voice, c.split) for c in listed}) == 3


def test_another_rate_is_resampled(tmp_path: Path) -> None:
    written(tmp_path, recording(AGENT, USER)[::2], rate_hz=8_000)
    (row,) = all_rows(settings(tmp_path))
    assert row["sample_rate_hz"] == RATE_HZ
    assert bounds(row, "agent") == [pytest.approx(span, abs=2 * WINDOW_S) for span in AGENT]


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    written(tmp_path, recording(AGENT, USER)[:, 0], "mono.wav")
    with pytest.raises(UnusableError, match="channels: 1 instead of 2"):
        all_rows(settings(tmp_path))
    written(tmp_path, np.zeros((RATE_HZ, 2)), "mono.wav")
    with pytest.raises(UnusableError, match="silent"):
        all_rows(settings(tmp_path))
    (tmp_path / "mono.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"talks/mono\.wav cannot be decoded"):
        all_rows(settings(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "b.wav"}', "names b.wav, which is not in"),
        ("{", "is not JSON"),
        ('{"path": "a.wav", "turns": [{"role": "user", "start_s": 2, "end_s": 1}]}', "words outside it"),
        ('{"path": "a.wav", "turns": [{"role": "user", "start_s": 2, "end_s": Infinity}]}', "finite number"),
        ('{"path": "a.wav", "turns": [{"role": "user", "start_s": 2, "end_s": NaN}]}', "finite number"),
        ('{"path": "a.wav"}\n{"path": "a.wav"}', "two transcripts of one file"),
    ],
)
def test_a_transcript_that_does_not_fit_is_refused(tmp_path: Path, line: str, message: str) -> None:
    written(tmp_path, recording(AGENT, USER), "a.wav")
    (tmp_path / "transcripts.jsonl").write_text(line)
    with pytest.raises(CorpusError, match=message):
        list_conversations(settings(tmp_path), SplitShares(), 0)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no conversations"):
        list_conversations(settings(tmp_path), SplitShares(), 0)
