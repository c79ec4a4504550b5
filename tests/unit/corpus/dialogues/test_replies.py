"""The reply voices' recordings, taken out of dialogues."""

from pathlib import Path

import numpy as np

from paluku.audio import to_flac
from paluku.corpus.dialogues.replies import replies
from paluku.corpus.shards import Manifest, ShardSet, write_manifest, write_shard

RATE_HZ = 8_000


def turn(role: str, start_s: float, end_s: float) -> dict[str, object]:
    words: list[object] = []
    return {"role": role, "text": "", "start_s": start_s, "end_s": end_s, "kind": "turn", "words": words}


def write_dialogues(folder: Path, voices: list[str]) -> ShardSet:
    """In each the user speaks first, at half the level that the reply has in two turns."""
    rows = []
    for number, voice in enumerate(voices):
        wave = np.zeros((4 * RATE_HZ, 2), np.float32)
        wave[: 2 * RATE_HZ, 1] = 0.25
        wave[RATE_HZ : 2 * RATE_HZ, 0] = wave[3 * RATE_HZ :, 0] = 0.5
        turns = [turn("user", 0, 2), turn("agent", 1, 2), turn("agent", 3, 4)]
        about = {"id": f"d{number}", "voice": voice, "style": "happy", "split": "train", "turns": turns}
        rows.append(about | {"audio": to_flac(wave, RATE_HZ), "sample_rate_hz": RATE_HZ})
    shard = write_shard(folder, "dialogues", "train", 0, rows)
    write_manifest(folder, Manifest(kind="dialogues", config_sha256="0" * 64, shards=(shard,)))
    return ShardSet(folder, "dialogues", "train")


def test_a_reply_is_what_the_agent_says_without_pauses(tmp_path: Path) -> None:
    [reply] = replies(write_dialogues(tmp_path, ["priya"]), each=3)
    assert (reply.voice, reply.style, reply.rate_hz) == ("priya", "happy", RATE_HZ)
    np.testing.assert_allclose(reply.wave, np.full(2 * RATE_HZ, 0.5), atol=1e-4)


def test_so_many_of_each_voice_and_the_same_ones_again(tmp_path: Path) -> None:
    dialogues = write_dialogues(tmp_path, ["priya", "ravi"] * 5 + ["arjun"])
    drawn = [reply.voice for reply in replies(dialogues, each=2)]
    assert sorted(drawn) == ["arjun", "priya", "priya", "ravi", "ravi"]
    assert drawn == [reply.voice for reply in replies(dialogues, each=2)]
