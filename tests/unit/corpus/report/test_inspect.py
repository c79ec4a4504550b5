import pyarrow as pa
import pytest

from paluku.corpus.report.inspect import Rejects, answer_gaps_s, summarise
from paluku.corpus.shards import SCHEMAS, Kind
from tests.fakes.folders import dialogue, turn, utterance


def table(kind: Kind, rows: list[dict[str, object]]) -> pa.Table:
    schema = SCHEMAS[kind]
    return pa.Table.from_pylist(rows, schema=schema).drop_columns(["audio"])


MIXED = [
    utterance(0, 2.0),
    utterance(1, 4.0, language="en", split="test", text=None, snr_db=20.0),
    utterance(0, 6.0, source="other", language="en", split="test", snr_db=float("nan")),
]


def test_a_worked_example_of_utterances() -> None:
    numbers = summarise("utterances", [table("utterances", MIXED)]).numbers()
    assert (numbers["rows"], numbers["hours"]) == (3, round(12 / 3600, 4))
    assert numbers["speakers"] == 3  # speaker-0 of two corpora is two people
    assert numbers["with_text"] == 2
    assert numbers["by"]["language"]["en"]["rows"] == 2
    assert numbers["by"]["language"]["en"]["duration_s"]["most"] == 6.0
    assert numbers["by"]["split"]["dev"] == {"rows": 0, "hours": 0.0, "speakers": 0}
    assert list(numbers["by"]["source_rate_hz"]) == ["22050"]
    snr_db = numbers["measures"]["snr_db"]
    assert (snr_db["least"], snr_db["most"], snr_db["mean"]) == (20.0, 30.0, 25.0)


@pytest.mark.parametrize(
    ("kind", "rows"), [("utterances", MIXED), ("dialogues", [dialogue(n, 3.0 + n) for n in range(4)])]
)
def test_batches_of_any_size_give_the_same_numbers(kind: Kind, rows: list[dict[str, object]]) -> None:
    whole = table(kind, rows)
    one_by_one = [whole.slice(place, 1) for place in range(len(whole))]
    assert summarise(kind, one_by_one).numbers() == summarise(kind, [whole]).numbers()


def test_gaps_are_those_before_answers() -> None:
    turns = [
        turn("user", 0.0, 1.0),
        turn("agent", 1.15, 3.0, "cut"),  # 0.15 s
        turn("user", 2.0, 2.3, "backchannel"),  # takes no floor
        turn("user", 2.8, 3.5, "interruption"),  # is no answer
        turn("agent", 3.4, 5.0),  # an overlap of 0.1 s
        turn("user", 5.6, 6.0),  # 0.6 s
        turn("user", 6.5, 7.0),  # goes on after a pause
    ]
    assert answer_gaps_s(turns) == pytest.approx([0.15, -0.1, 0.6])
    rows = [dialogue(0, 8.0, turns=turns), dialogue(1, intents=["a", "b"], turns=[])]
    talk = summarise("dialogues", [table("dialogues", rows)]).numbers()["talk"]
    assert (talk["answers"], talk["overlaps"], talk["backchannels"], talk["interruptions"]) == (3, 1, 1, 1)
    assert talk["kinds"] == {"backchannel": 1, "cut": 1, "interruption": 1, "turn": 4}
    assert talk["gap_s"]["p50"] == pytest.approx(0.15, abs=0.02)
    assert talk["intents"] == 3
    assert talk["engine_timed_share"] == round(2 / 7, 4)


def test_dialogues_are_grouped_by_voice_style_and_user() -> None:
    rows = [dialogue(0, 3600 / 900, voice="ravi"), dialogue(1, 8.0), dialogue(2, 8.0, style="laugh")]
    by = summarise("dialogues", [table("dialogues", rows)]).numbers()["by"]
    assert {voice: group["rows"] for voice, group in by["voice"].items()} == {"priya": 2, "ravi": 1}
    assert {style: group["rows"] for style, group in by["style"].items()} == {"happy": 2, "laugh": 1}
    assert {user: group["rows"] for user, group in by["user_voice"].items()} == {"user_0": 2, "user_1": 1}


def test_rejects_are_counted_by_reason_with_the_first_of_each() -> None:
    rejects = Rejects()
    for number in range(5):
        detail = {"detail": f"detail {number}", "duration_s": 720.0}
        rejects.add([{"id": f"{number}", "source": "a", "reason": "duplicate", **detail}])
    rejects.add([{"id": "x", "source": "b", "reason": "broken", "detail": "", "duration_s": None}])
    assert rejects.numbers() == {
        "duplicate": {"count": 5, "hours": 1.0, "sources": {"a": 5}},
        "broken": {"count": 1, "hours": 0.0, "sources": {"b": 1}},
    }
    assert rejects.examples["duplicate"] == [("0", "detail 0"), ("1", "detail 1"), ("2", "detail 2")]
