"""Laws of the timeline, over many dialogues of a cast whose speech is known to the sample."""

import itertools
import json
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from paluku.corpus.dialogues.augmentation import Augmentation
from paluku.corpus.dialogues.exchanges import Exchange
from paluku.corpus.dialogues.rendering import (
    REPLY_CHANNEL,
    USER_CHANNEL,
    Dialogue,
    Line,
    Rendered,
    Rendering,
    described,
    render,
)
from paluku.corpus.dialogues.timing import Timing
from paluku.corpus.preparation.quality import UnusableError
from paluku.errors import AudioError
from tests.fakes.synthesiser import RATE_HZ, FakeCast

FRAME = 640
WINDOW_S = 0.01
SAMPLE_S = 1 / RATE_HZ

CLEAN = Augmentation(noise_share=0, room_share=0, echo_share=0, bands={"full": 1.0}, speed=(1.0, 1.0))
ALL_HAPPENS = Timing(pause_share=1.0, backchannel_share=1.0, interruption_share=1.0)
NOTHING_HAPPENS = Timing(pause_share=0.0, backchannel_share=0.0, interruption_share=0.0)

ASKS = ("what is the time?", "and tomorrow, then what", "how far is it", "who said so")
REPLIES = (
    "it is a quarter past five now, and soon it will be six",
    "tomorrow is another day, the same as today but later",
    "far away beyond the hills and the rivers",
    "everybody says so, and so do you and they and all",
)


ANSWERED = [Exchange(ask=ask, reply=reply) for ask, reply in zip(ASKS, REPLIES, strict=True)]


def dialogue(name: str = "d", exchanges: int | list[Exchange] = 4, **fields: Any) -> Dialogue:
    said = ANSWERED[:exchanges] if isinstance(exchanges, int) else exchanges
    about = {"id": name, "split": "train", "exchanges": said, "style": "happy", "user_voice": "two"}
    babblers = [Line(text="some other people", voice="three")]
    named = {"reply_voice": "ravi", "source": "test", "licence": "CC0-1.0", "babblers": babblers}
    return Dialogue.model_validate(about | named | fields)


def rendered(spoken: Dialogue | None = None, seed: int = 0, **settings: Any) -> Rendered:
    rendering = Rendering(**{"timing": Timing(), "augmentation": CLEAN} | settings)
    return render(spoken or dialogue(), FakeCast(), rendering, seed)


def many(count: int = 40, **settings: Any) -> Iterator[Rendered]:
    for number in range(count):
        yield rendered(dialogue(f"d{number}"), **settings)


def by_kind(found: Rendered, role: str, *kinds: str) -> list[dict[str, Any]]:
    return [turn for turn in found.turns if turn["role"] == role and turn["kind"] in kinds]


def samples(second: float) -> int:
    return round(second * RATE_HZ)


@pytest.mark.parametrize("augmentation", [CLEAN, Augmentation()])
def test_words_lie_in_order_inside_their_turns_and_turns_inside_the_wave(augmentation: Augmentation) -> None:
    for found in many(augmentation=augmentation, timing=Timing(pause_share=0.6, backchannel_share=0.6)):
        for turn in found.turns:
            edges = [edge for word in turn["words"] for edge in (word["start_s"], word["end_s"])]
            inside = [turn["start_s"], *edges, turn["end_s"]]
            assert all(a <= b + SAMPLE_S for a, b in itertools.pairwise(inside))
            assert 0 <= turn["start_s"] < turn["end_s"] <= len(found.wave) / RATE_HZ
            assert " ".join(word["text"] for word in turn["words"]) == turn["text"]
            assert turn["is_timed"]
        assert [t["start_s"] for t in found.turns] == sorted(t["start_s"] for t in found.turns)


def test_every_word_sounds_where_it_is_said_to() -> None:
    for found in many(10, timing=ALL_HAPPENS):
        for turn in found.turns:
            channel = found.wave[:, USER_CHANNEL if turn["role"] == "user" else REPLY_CHANNEL]
            for word in turn["words"][:-1]:  # the last of a cut turn fades
                spoken = channel[samples(word["start_s"]) : samples(word["end_s"])]
                loud = np.abs(spoken) > 0.01 * np.abs(channel).max()
                assert loud.mean() > 0.8


def test_the_reply_is_clean_and_silent_outside_its_turns() -> None:
    for found in many(20, timing=Timing(), augmentation=Augmentation(echo_share=1.0)):
        reply = found.wave[:, REPLY_CHANNEL].copy()
        for turn in by_kind(found, "agent", "turn", "cut"):
            reply[samples(turn["start_s"] - WINDOW_S) : samples(turn["end_s"] + WINDOW_S)] = 0
        assert not reply.any()


def test_roles_alternate_but_for_backchannels() -> None:
    for found in many():
        turns = [turn for turn in found.turns if turn["kind"] != "backchannel"]
        assert [turn["role"] for turn in turns] == ["user", "agent"] * 4


def test_nobody_talks_over_himself_however_short_the_replies() -> None:
    # With words of a syllable or two a drawn overlap is longer than a whole reply.
    said = [Exchange(ask="is it so then?", reply=("ok", "fine by me")[n % 2]) for n in range(6)]
    for timing in (Timing(), Timing(backchannel_share=1.0, interruption_share=1.0, min_reply_s=0.1)):
        for number in range(150):
            found = rendered(
                dialogue(f"d{number}").model_copy(update={"exchanges": tuple(said)}), timing=timing
            )
            for role in ("user", "agent"):
                own = by_kind(found, role, "turn", "cut", "interruption", "backchannel")
                assert all(a["end_s"] < b["start_s"] for a, b in itertools.pairwise(own))
            turns = [turn for turn in found.turns if turn["kind"] != "backchannel"]
            assert [turn["role"] for turn in turns] == ["user", "agent"] * 6
            between = [
                b["start_s"] - a["end_s"] for a, b in itertools.pairwise(turns) if b["kind"] != "interruption"
            ]
            assert between == pytest.approx(found.augmentation["timing"]["gaps_s"], abs=0.002)


def test_the_gaps_are_those_that_were_drawn_and_their_median_is_the_stated_one() -> None:
    gaps: list[float] = []
    for found in many(120):
        turns = [turn for turn in found.turns if turn["kind"] != "backchannel"]
        between = [
            b["start_s"] - a["end_s"] for a, b in itertools.pairwise(turns) if b["kind"] != "interruption"
        ]
        assert between == pytest.approx(found.augmentation["timing"]["gaps_s"], abs=0.002)
        gaps += between
    assert statistics.median(gaps) == pytest.approx(Timing().gaps.median_s, abs=0.05)
    assert 0.15 < sum(gap < 0 for gap in gaps) / len(gaps) < 0.45


def test_an_interrupted_reply_is_silent_in_time_and_until_the_next_one() -> None:
    timing = ALL_HAPPENS.model_copy(update={"reaction_s": (0.15, 0.3)})
    seen = 0
    for found in many(timing=timing):
        replies = by_kind(found, "agent", "turn", "cut")
        for place, cut in enumerate(replies):
            if cut["kind"] != "cut":
                continue
            question = next(
                t for t in by_kind(found, "user", "interruption") if t["start_s"] > cut["start_s"]
            )
            after = replies[place + 1]["start_s"]
            silence = found.wave[
                samples(question["start_s"] + 0.3) : samples(after - WINDOW_S), REPLY_CHANNEL
            ]
            assert len(silence) > 0
            assert not silence.any()
            assert 0.15 <= cut["end_s"] - question["start_s"] + SAMPLE_S <= 0.3 + 2 * SAMPLE_S
            assert cut["end_s"] <= after
            seen += 1
    assert seen > 60


def test_a_cut_reply_has_only_what_was_spoken_and_the_new_question_is_answered() -> None:
    for found in many(timing=ALL_HAPPENS):
        assert len(by_kind(found, "agent", "cut")) == len(by_kind(found, "user", "interruption"))
        for place, reply in enumerate(by_kind(found, "agent", "turn", "cut")):
            whole = REPLIES[place]
            assert whole.startswith(reply["text"])
            assert (reply["text"] == whole) == (reply["kind"] == "turn")
        assert by_kind(found, "agent", "turn", "cut")[-1]["kind"] == "turn"


def test_an_interruption_may_open_with_a_word_of_its_own() -> None:
    timing = ALL_HAPPENS.model_copy(update={"interruption_openers": ("stop,",)})
    texts = [t["text"] for found in many(5, timing=timing) for t in by_kind(found, "user", "interruption")]
    assert texts
    assert {text.removeprefix("stop, ") for text in texts} <= set(ASKS)
    assert all(text.startswith("stop, ") for text in texts)


def test_backchannels_lie_inside_replies_that_go_on() -> None:
    timing = Timing(backchannel_share=1.0, interruption_share=0.3)
    seen = 0
    for found in many(timing=timing):
        for said in by_kind(found, "user", "backchannel"):
            assert said["text"] in Timing().backchannels
            around = [
                r
                for r in by_kind(found, "agent", "turn", "cut")
                if r["start_s"] < said["start_s"] and said["end_s"] < r["end_s"]
            ]
            assert len(around) == 1
            seen += 1
    assert seen > 40


def test_a_reply_does_not_change_for_a_backchannel() -> None:
    for number in range(20):
        spoken = dialogue(f"d{number}", exchanges=1)
        plain, acknowledged = (
            rendered(spoken, timing=NOTHING_HAPPENS.model_copy(update={"backchannel_share": share}))
            for share in (0.0, 1.0)
        )
        length = min(len(plain.wave), len(acknowledged.wave))
        np.testing.assert_array_equal(
            plain.wave[:length, REPLY_CHANNEL], acknowledged.wave[:length, REPLY_CHANNEL]
        )
        assert by_kind(plain, "agent", "turn") == by_kind(acknowledged, "agent", "turn")


def test_the_reply_keeps_silent_while_the_user_pauses_within_a_turn() -> None:
    timing = NOTHING_HAPPENS.model_copy(update={"pause_share": 1.0})
    for found in many(20, timing=timing):
        assert len(found.augmentation["timing"]["pauses_s"]) == 4
        for turn in by_kind(found, "user", "turn"):
            words = turn["words"]
            waits = [b["start_s"] - a["end_s"] for a, b in itertools.pairwise(words)]
            place = int(np.argmax(waits))
            assert 0.3 <= waits[place] <= 1.3
            assert all(wait < 0.1 for k, wait in enumerate(waits) if k != place)
            pause = slice(samples(words[place]["end_s"]), samples(words[place + 1]["start_s"]))
            assert not found.wave[pause, REPLY_CHANNEL].any()


def test_without_events_there_are_none() -> None:
    for found in many(10, timing=NOTHING_HAPPENS):
        assert {turn["kind"] for turn in found.turns} == {"turn"}
        assert [t["text"] for t in found.turns] == [
            t for pair in zip(ASKS, REPLIES, strict=True) for t in pair
        ]


@pytest.mark.parametrize("augmentation", [CLEAN, Augmentation()])
def test_a_rendering_is_a_function_of_dialogue_cast_settings_and_seed(augmentation: Augmentation) -> None:
    first, again = (rendered(seed=5, augmentation=augmentation) for _ in range(2))
    assert first.wave.tobytes() == again.wave.tobytes()
    assert (first.turns, first.augmentation) == (again.turns, again.augmentation)
    for other in (
        rendered(seed=6, augmentation=augmentation),
        rendered(dialogue("e"), 5, augmentation=augmentation),
    ):
        assert other.turns != first.turns


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000])
def test_a_dialogue_is_whole_frames_within_full_scale(rate_hz: int) -> None:
    found = rendered(sample_rate_hz=rate_hz, augmentation=Augmentation(level_dbfs=(-3.0, -3.0)))
    assert found.wave.dtype == np.float32
    assert found.wave.shape[1] == 2
    assert len(found.wave) % (rate_hz // 25) == 0
    assert np.abs(found.wave).max() <= 1.0


def test_speed_makes_the_user_faster_and_leaves_the_reply() -> None:
    fast = CLEAN.model_copy(update={"speed": (1.25, 1.25)})
    plain, hurried = (rendered(timing=NOTHING_HAPPENS, augmentation=a) for a in (CLEAN, fast))
    for before, after in zip(plain.turns, hurried.turns, strict=True):
        ratio = (before["end_s"] - before["start_s"]) / (after["end_s"] - after["start_s"])
        assert ratio == pytest.approx(1.25 if before["role"] == "user" else 1.0, rel=0.03)


def test_what_cannot_be_spoken_is_refused_but_a_backchannel_has_others() -> None:
    with pytest.raises(AudioError, match="cannot be spoken"):
        rendered(
            dialogue(exchanges=1, user_voice="two").model_copy(
                update={"exchanges": (Exchange(ask="4", reply="a"),)}
            )
        )
    timing = Timing(backchannel_share=1.0, backchannels=("1", "2", "ok"), interruption_share=0.0)
    texts = {t["text"] for found in many(10, timing=timing) for t in by_kind(found, "user", "backchannel")}
    assert texts == {"ok"}


def test_a_dialogue_that_takes_too_long_is_refused() -> None:
    with pytest.raises(UnusableError, match=r"long: .* more than 3.0 s"):
        rendered(max_s=3.0)


def test_the_row_tells_who_speaks_and_what_was_drawn() -> None:
    found = rendered(augmentation=Augmentation(noise_share=1.0, noises={"babble": 1.0}))
    row = described(dialogue(), found)
    assert (row["voice"], row["user_voice"], row["style"]) == ("ravi", "two", "happy")
    drawn = json.loads(row["augmentation"])
    assert drawn["noise"]["kind"] == "babble"
    assert drawn["gain_db"] == 0
    assert set(drawn["timing"]) == {"gaps_s", "pauses_s", "reactions_s"}


def test_a_user_who_is_not_answered_goes_on_after_a_pause() -> None:
    alone = [Exchange(ask=ask, reply=None) for ask in ASKS]
    for number in range(10):
        found = rendered(dialogue(f"d{number}", exchanges=alone), timing=ALL_HAPPENS)
        assert [(turn["role"], turn["kind"], turn["text"]) for turn in found.turns] == [
            ("user", "turn", ask) for ask in ASKS
        ]
        assert not found.wave[:, REPLY_CHANNEL].any()
        for first, then in itertools.pairwise(found.turns):
            assert then["start_s"] - first["end_s"] >= 0.3 - SAMPLE_S
