from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from paluku.corpus.dialogues.plans import (
    DialoguesConfig,
    Texts,
    plan_dialogues,
    plan_shards,
    read_texts,
    user_voices_by_split,
)
from paluku.corpus.splits import SplitShares
from paluku.corpus.turns import COLUMNS, Intent, Reply, Script, ScriptTurn
from paluku.errors import ConfigError, CorpusError
from paluku.voices import VOICES
from tests.fakes.synthesiser import FakeCast

INTENTS = tuple(
    Intent(f"food.{n}", "food", (f"train {n}",), (f"held {n}",), (Reply(f"reply {n}", "neutral"),), "CC0-1.0")
    for n in range(6)
)
TEXTS = Texts(intents=INTENTS, source="turns")


def config(**settings: Any) -> DialoguesConfig:
    return DialoguesConfig(**{"out": "/nowhere", "cast": "cast.yaml", "dialogues": 200} | settings)


def script(number: int) -> Script:
    turns = (ScriptTurn(role="user", text=f"q{number}"), ScriptTurn(role="agent", text=f"a{number}"))
    return Script(id=f"s{number}", turns=turns)


def test_no_user_is_heard_in_two_splits_not_even_in_the_background() -> None:
    voices: dict[str, set[str]] = {"train": set(), "dev": set(), "test": set()}
    for dialogue in plan_dialogues(config(), TEXTS, FakeCast()):
        voices[dialogue.split] |= {dialogue.user_voice, *(line.voice for line in dialogue.babblers)}
    assert voices["test"] == set(FakeCast.held_out_user_voices)
    assert voices["train"] | voices["dev"] == set(FakeCast.user_voices)
    assert not voices["train"] & voices["dev"]
    assert voices["dev"]


def test_held_out_paraphrases_are_heard_in_test_alone_not_even_in_the_background() -> None:
    for dialogue in plan_dialogues(config(), TEXTS, FakeCast()):
        asked = [e.ask for e in dialogue.exchanges] + [line.text for line in dialogue.babblers]
        assert all(text.startswith("held") == (dialogue.split == "test") for text in asked)


def test_no_user_has_a_reply_s_voice() -> None:
    class Confused(FakeCast):
        held_out_user_voices = ("priya",)

    with pytest.raises(ConfigError, match="priya would be both reply and user"):
        plan_dialogues(config(), TEXTS, Confused())


def test_a_split_without_a_voice_is_refused() -> None:
    class Lonely(FakeCast):
        user_voices = ("one",)

    with pytest.raises(ConfigError, match="no user voice is left for train"):
        user_voices_by_split(Lonely(), SplitShares(), 0)
    alone = user_voices_by_split(Lonely(), SplitShares(dev=0), 0)
    assert alone == {"train": ("one",), "dev": (), "test": ("seven", "six")}


def test_every_intent_meets_every_reply_voice() -> None:
    # 4 and 8 intents are multiples of the number of voices: a plain remainder would tie one to one voice.
    for count in (4, 6):
        texts = Texts(intents=INTENTS[:count], source="turns")
        planned = plan_dialogues(config(dialogues=4 * count, chaining={"lengths": [1]}), texts, FakeCast())
        met = Counter((d.exchanges[0].intent, d.reply_voice) for d in planned)
        assert met == {(i.name, voice): 1 for i in INTENTS[:count] for voice in VOICES}


def test_a_larger_plan_begins_with_the_smaller_one() -> None:
    larger = plan_dialogues(config(), TEXTS, FakeCast())
    assert larger[:50] == plan_dialogues(config(dialogues=50), TEXTS, FakeCast())
    assert larger != plan_dialogues(config(seed=1), TEXTS, FakeCast())


def test_a_script_keeps_its_split_however_often_it_is_spoken() -> None:
    texts = Texts(scripts=tuple(map(script, range(20))), source="scripts")
    splits: dict[str, set[str]] = {}
    for dialogue in plan_dialogues(config(), texts, FakeCast()):
        splits.setdefault(dialogue.exchanges[0].ask, set()).add(dialogue.split)
        own = {d.exchanges[0].ask for d in plan_dialogues(config(dialogues=20), texts, FakeCast())}
        assert dialogue.exchanges[0].ask in own
    assert len(splits) == 20
    assert all(len(found) == 1 for found in splits.values())


def test_a_script_that_asks_what_is_held_out_is_in_test(tmp_path: Path) -> None:
    sheet, scripts = tmp_path / "turns.tsv", tmp_path / "scripts.jsonl"
    rows = ["ask\tq3\t-\tyes", "ask\tq\t-\tno", "ask\ta5\t-\tyes", "reply\ta\thappy\tno"]
    lines = ["# licence: CC0-1.0", "\t".join(COLUMNS), *(f"a.b\ttopic\t{row}\ttest\tno" for row in rows)]
    sheet.write_text("\n".join(lines))
    scripts.write_text("\n".join(script(number).model_dump_json() for number in range(8)))
    settings = config(scripts=scripts, intents=[sheet], shares={"dev": 0, "test": 0})
    planned = plan_dialogues(settings, read_texts(settings), FakeCast())
    assert {dialogue.exchanges[0].ask for dialogue in planned if dialogue.split == "test"} == {"q3"}
    assert {line.text for d in planned if d.split == "train" for line in d.babblers}.isdisjoint({"q3", "a3"})

    class Few(FakeCast):
        held_out_user_voices = ()

    with pytest.raises(ConfigError, match="dialogue/000003 asks a held-out question, and test has no user"):
        plan_dialogues(settings, read_texts(settings), Few())


def test_shards_hold_all_dialogues_of_their_split_once() -> None:
    plans = plan_shards(config(rows_per_shard=16), TEXTS, FakeCast())
    assert all(d.split == plan.split for plan in plans for d in plan.dialogues)
    assert max(len(plan.dialogues) for plan in plans) == 16
    names = [d.id for plan in plans for d in plan.dialogues]
    assert len(set(names)) == len(names) == 200
    assert len({(plan.split, plan.number) for plan in plans}) == len(plans)


def test_nothing_to_build_is_refused() -> None:
    with pytest.raises(CorpusError, match="nothing to say"):
        plan_shards(config(), Texts(source="none"), FakeCast())
    with pytest.raises(CorpusError, match="nothing to build"):
        plan_shards(config(dialogues=0), TEXTS, FakeCast())


def test_the_recipe_names_no_places(tmp_path: Path) -> None:
    here = config()
    there = config(out="s3://bucket/x", cast=str(tmp_path), intents=[str(tmp_path)], max_reject_share=0.5)
    assert here.recipe_sha256() == there.recipe_sha256()
    assert here.recipe_sha256() != config(seed=1).recipe_sha256()
