from pathlib import Path

import numpy as np
import soundfile

from paluku.audio import read
from paluku.corpus.dialogues.conversations import ConversationsConfig, list_conversations
from paluku.corpus.dialogues.exchanges import Exchange
from paluku.corpus.dialogues.plans import ShardPlan
from paluku.corpus.dialogues.rendering import Dialogue
from paluku.corpus.dialogues.shards import Making, make_shard
from paluku.corpus.shards import Manifest, ShardSet, write_manifest
from paluku.corpus.splits import SplitShares
from tests.fakes.synthesiser import FakeCast


def dialogue(number: int, ask: str = "how is it there") -> Dialogue:
    return Dialogue(
        id=f"dialogue/{number}",
        split="train",
        exchanges=(Exchange(ask=ask, reply="it is all well, thank you", intent="well.how"),),
        style="neutral",
        user_voice="one",
        reply_voice="ravi",
        source="turns",
        licence="CC0-1.0",
        babblers=(),
    )


def without_babble() -> Making:
    return Making.model_validate({"rendering": {"augmentation": {"noises": {"pink": 1, "hum": 1}}}})


def test_a_shard_holds_what_could_be_spoken_and_names_the_rest(tmp_path: Path) -> None:
    plan = ShardPlan(split="train", number=3, dialogues=(dialogue(0), dialogue(1, ask="42"), dialogue(2)))
    made = make_shard(plan, tmp_path, FakeCast(), without_babble())
    assert made.shard is not None
    assert (made.shard.path, made.shard.rows) == ("train-00003.parquet", 2)
    assert [(r.id, r.reason) for r in made.rejects] == [("dialogue/1", "unspeakable")]
    assert made.counts["intent"] == {"well.how": 2}
    assert made.samples["voice"] == {"ravi": made.num_samples}
    assert made.samples["user_voice"] == {"one": made.num_samples}
    write_manifest(tmp_path, Manifest(kind="dialogues", config_sha256="0", shards=(made.shard,)))
    shards = ShardSet(tmp_path, "dialogues", "train")
    for row in shards.rows([0, 1]):
        wave, rate_hz = read(row["audio"])
        assert (wave.shape, rate_hz) == ((row["num_samples"], 2), row["sample_rate_hz"])
        assert {"turn"} <= {turn["kind"] for turn in row["turns"]}
        assert row["intents"] == ["well.how"]


def test_a_shard_is_a_function_of_its_plan(tmp_path: Path) -> None:
    plan = ShardPlan(split="train", number=0, dialogues=tuple(map(dialogue, range(4))))
    one, two = (make_shard(plan, tmp_path / name, FakeCast(), without_babble()) for name in ("a", "b"))
    assert one == two
    other = make_shard(plan, tmp_path / "c", FakeCast(), without_babble().model_copy(update={"seed": 1}))
    assert other.shard != one.shard


def test_without_a_row_there_is_no_shard(tmp_path: Path) -> None:
    plan = ShardPlan(split="dev", number=0, dialogues=(dialogue(0, ask="42"),))
    made = make_shard(plan, tmp_path, FakeCast(), without_babble())
    assert (made.shard, len(made.rejects)) == (None, 1)
    assert not list(tmp_path.iterdir())


def test_recordings_and_what_is_wrong_with_them_stand_in_shards_too(tmp_path: Path) -> None:
    talk = np.zeros((32_000, 2), np.float32)
    talk[2_000:16_000, 1] = talk[18_000:30_000, 0] = 0.2
    (tmp_path / "talks").mkdir()
    soundfile.write(tmp_path / "talks" / "a.wav", talk, 16_000)
    (tmp_path / "talks" / "b.wav").write_bytes(b"RIFF")
    settings = ConversationsConfig(folder=tmp_path / "talks", voice="arjun")
    listed = list_conversations(settings, SplitShares(dev=0, test=0), 0)
    plan = ShardPlan(split="train", number=0, conversations=listed)
    made = make_shard(plan, tmp_path, FakeCast(), Making(conversations=settings))
    assert made.shard is not None
    assert made.shard.rows == 1
    assert [(r.id, r.source, r.reason) for r in made.rejects] == [("talks/b.wav", "talks", "broken")]
