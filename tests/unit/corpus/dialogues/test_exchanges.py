from collections import Counter

import pytest

from paluku.corpus.dialogues.exchanges import Chain, Chaining, chain_of_intents, chain_of_script
from paluku.corpus.turns import Intent, Reply, Script, ScriptTurn
from paluku.errors import CorpusError


def intent(topic: str, number: int) -> Intent:
    name = f"{topic}.{number}"
    replies = (Reply(f"{name} happily", "happy"), Reply(f"{name} plainly", "neutral"))
    return Intent(name, topic, (f"{name} a", f"{name} b"), (f"{name} held",), replies, "CC0-1.0")


INTENTS = [
    intent(topic, n) for topic in ("greetings", "food", "travel", "thanks", "farewell") for n in range(4)
]
TOPIC = {i.name: i.topic for i in INTENTS}


def chains(split="train", count: int = 200, **settings) -> list[Chain]:
    chaining = Chaining(**settings)
    return [chain_of_intents(f"d{n}", n, INTENTS, split, chaining, seed=3) for n in range(count)]


def topics(chain: Chain) -> list[str]:
    return [TOPIC[e.intent or ""] for e in chain.exchanges]


def test_a_greeting_opens_thanks_or_farewell_close_and_one_topic_lies_between() -> None:
    seen = Counter()
    for chain in chains():
        found = topics(chain)
        assert "greetings" not in found[1:]
        assert not {"thanks", "farewell"} & set(found[:-1])
        assert len({t for t in found if t in ("food", "travel")}) <= 1
        assert len({e.intent for e in chain.exchanges}) == len(chain.exchanges)
        seen["opened"] += len(found) > 1 and found[0] == "greetings"
        seen["closed"] += len(found) > 1 and found[-1] in ("thanks", "farewell")
        seen[len(found)] += 1
    assert all(seen[key] > 20 for key in ("opened", "closed", 1, 2, 3, 4))


def test_every_intent_is_spoken() -> None:
    assert {e.intent for chain in chains(count=len(INTENTS)) for e in chain.exchanges} == set(TOPIC)


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_held_out_paraphrases_are_asked_in_test_alone(split) -> None:
    asks = [e.ask for chain in chains(split) for e in chain.exchanges]
    assert all(ask.endswith("held") == (split == "test") for ask in asks)


def test_a_reply_is_the_one_for_the_style_where_there_is_one() -> None:
    found = chains()
    happy = [e.reply for c in found if c.style == "happy" for e in c.exchanges]
    assert happy
    assert all(reply.endswith("happily") for reply in happy)
    assert len({c.style for c in found}) == 9, "other styles than the intents' own are drawn too"
    assert {c.style for c in chains(own_style_share=1.0)} == {"happy", "neutral"}


def test_lengths_have_their_shares() -> None:
    assert {len(c.exchanges) for c in chains(lengths=(0, 1))} == {2}


def test_a_chain_depends_on_its_name_and_seed_alone() -> None:
    again = chain_of_intents("d7", 7, INTENTS, "train", Chaining(), seed=3)
    assert again == chains()[7]
    assert chain_of_intents("d7", 7, INTENTS, "train", Chaining(), seed=4) != again


def test_licences_are_told_together() -> None:
    mixed = [INTENTS[0], intent("thanks", 0)._replace(licence="CC-BY-4.0")]
    chaining = Chaining(lengths=(0, 1), closed_share=1.0)
    assert chain_of_intents("d", 0, mixed, "train", chaining, 0).licence == "CC-BY-4.0 AND CC0-1.0"


def test_a_script_is_taken_turn_by_turn() -> None:
    turns = (
        ScriptTurn(role="user", text="q", intent="x.y"),
        ScriptTurn(role="agent", text="a", style="happy"),
        ScriptTurn(role="user", text="q2"),
        ScriptTurn(role="agent", text="a2"),
    )
    chain = chain_of_script("d", Script(id="s", turns=turns, licence="MIT"))
    assert [(e.ask, e.reply, e.intent) for e in chain.exchanges] == [("q", "a", "x.y"), ("q2", "a2", None)]
    assert (chain.style, chain.licence) == ("happy", "MIT")
    with pytest.raises(CorpusError, match="script s has turns of user, agent, user; they must alternate"):
        chain_of_script("d", Script(id="s", turns=turns[:3]))


def test_a_user_may_speak_alone() -> None:
    turns = (ScriptTurn(role="user", text="q", intent="x.y"), ScriptTurn(role="user", text="q2"))
    chain = chain_of_script("d", Script(id="s", turns=turns, licence="MIT"))
    assert [(e.ask, e.reply, e.intent) for e in chain.exchanges] == [("q", None, "x.y"), ("q2", None, None)]
    assert (chain.style, chain.licence) == ("neutral", "MIT")


def test_no_intents_are_refused() -> None:
    with pytest.raises(CorpusError, match="no intents"):
        chain_of_intents("d", 0, [], "train", Chaining(), 0)
