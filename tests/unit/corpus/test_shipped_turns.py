"""The rules that the shipped turns keep, by worked examples; and that the shipped turns keep them."""

import functools
import json
import re
import sys
from pathlib import Path

import pytest

from jobs.check_turns import main
from paluku.corpus.turn_rules import WORD, Count, added, count_by_topic, faults, text_faults
from paluku.corpus.turns import COLUMNS, Row, Sheet, read_intents, read_sheet, sheet_paths, shipped_turns

ASKS = ("ఎలా ఉన్నారు?", "బాగున్నారా?", "కులాసానా?", "అంతా క్షేమమేనా?", "ఎలా ఉన్నావు?", "ఏంటి సంగతులు?")


def row(text: str, line: int = 1, **fields: str) -> Row:
    plain = Row(f"a.tsv:{line}", "greet.how", "greetings", "ask", text, "-", "no", "machine-written", "no")
    return plain._replace(**fields)


def rows(asks: tuple[str, ...] = ASKS, intent: str = "greet.how", **fields: str) -> list[Row]:
    """One good intent: the last ask is held out, one reply."""
    marks = ["no"] * (len(asks) - 1) + ["yes"]
    found = [row(t, n, held_out=mark) for n, (t, mark) in enumerate(zip(asks, marks, strict=True), 1)]
    found.append(row("బాగున్నాను.", len(asks) + 1, role="reply", style="happy"))
    return [r._replace(intent=intent, **fields) for r in found]


def found_in(*changed: Row) -> list[str]:
    return faults([Sheet(Path("a.tsv"), "CC0-1.0", tuple(changed))])


@pytest.mark.parametrize(
    "word", ["నమస్కారం", "ఊఁ", "అంతఃపురం", "స్త్రీ", "ఫోన్", "ప్రోగ్రామ్\u200cని", "ఋతువు", "త్ర్యంబకేశ్వరం", "జ్ఞాపకం"]
)
def test_a_word_in_telugu_spelling_is_one(word: str) -> None:
    assert WORD.fullmatch(word)


@pytest.mark.parametrize(
    "word",
    ["hello", "ఫోన్5", "౫", "ాకా", "కాా", "అ్", "కి్", "కంం", "\u200cక", "క\u200cల", "नमस्ते", "ఇది,అది"],
)
def test_what_cannot_be_read_aloud_is_no_word(word: str) -> None:
    assert not WORD.fullmatch(word)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("5 ఇడ్లీలు ఇవ్వండి.", "has digits"),
        ("౫ ఇడ్లీలు ఇవ్వండి.", "has digits"),
        ("OK అండీ.", "'OK' is no Telugu word"),
        ("సరే ; వస్తాను.", "';' is no Telugu word"),
        ("సరే", "does not end in"),
        ("సరే  అండీ.", "single spaces"),
        ("చె\u0c46\u0c56లి.", "not in Unicode NFC"),
        ("?", "has 0 words"),
        (" ".join(["సరే"] * 21) + ".", "has 21 words"),
    ],
)
def test_a_text_that_voices_cannot_say_is_named_with_its_line(text: str, complaint: str) -> None:
    found = list(text_faults(row(text, 7)))
    assert any(complaint in fault for fault in found), found
    assert all(fault.startswith("a.tsv:7 ") for fault in found)


def test_a_good_intent_has_no_fault() -> None:
    assert found_in(*rows()) == []


def test_an_intent_needs_five_asks_one_held_out_and_one_or_two_replies() -> None:
    assert "has 4 asks to train on" in found_in(*rows(ASKS[1:]))[0]
    assert "holds out 0 asks" in found_in(*(r._replace(held_out="no") for r in rows()))[0]
    good = rows()
    reply = good[-1]
    assert "needs 1 to 2 different replies, not 0" in found_in(*good[:-1])[0]
    assert "not 2" in found_in(*good, reply._replace(text="బాగున్నాను!"))[0]
    assert found_in(*good, reply._replace(text="అవును.")) == []
    assert "not 3" in found_in(*good, reply._replace(text="అవును."), reply._replace(text="లేదు."))[0]


def test_an_ask_belongs_to_one_intent_whatever_its_marks_are() -> None:
    other = rows(("ఎలా, ఉన్నారు!", *(f"{ask[:-1]} మరి?" for ask in ASKS)), "greet.again")
    (fault,) = found_in(*rows(), *other)
    assert fault == "a.tsv:1 repeats a.tsv:1 (greet.how); change or remove one"


def test_a_held_out_ask_is_not_trained_on_under_the_same_intent() -> None:
    again = row(ASKS[-1], 9)
    assert "a.tsv:9 repeats a.tsv:6 (greet.how); change or remove one" in found_in(*rows(), again)


def test_an_intent_has_one_topic_and_one_file() -> None:
    good = rows()
    assert "has topic food" in found_in(*good[:-1], good[-1]._replace(topic="food"))[0]
    assert "stands in another file" in found_in(*good[:-1], good[-1]._replace(place="b.tsv:1"))[0]


def test_pairs_are_every_ask_with_each_reply_of_its_intent() -> None:
    assert added(Count(1, 6, 1, 2, 12), Count(1, 5, 1, 1, 5)) == Count(2, 11, 2, 3, 17)
    counts = count_by_topic(read_intents())
    for topic, count in counts.items():
        own = [intent for intent in read_intents() if intent.topic == topic]
        asks = {(intent.name, ask) for intent in own for ask in (*intent.asks, *intent.held_out_asks)}
        pairs = {
            (name, ask, reply) for name, ask in asks for i in own if i.name == name for reply in i.replies
        }
        assert (count.asks, count.pairs) == (len(asks), len(pairs))


def test_the_shipped_turns_keep_the_rules() -> None:
    assert faults([read_sheet(path) for path in sheet_paths([shipped_turns()])]) == []


# Loan words that end in a consonant: it keeps its virama (U+200C after it) before a suffix or a second part.
LOANS = (
    "ఫోన్|యాప్|ఇంటర్|లైన్|స్టేషన్|మార్కెట్|క్యాలెండర్|క్రికెట్|మ్యాచ్|పేపర్|న్యూస్|టెన్షన్|సింపుల్|ప్లంబర్|మేనేజర్|బాస్|సెంటర్|"
    "మిషన్|వాట్సాప్|మాయాబజార్|చార్మినార్|గూగుల్|హాస్టల్|హాల్|కంట్రోల్|నెట్|టైమ్|చాయ్|జిమ్|ఈద్|టిఫిన్|ట్రాఫిక్|ఫాస్ట్|వీకెండ్"
)
UNJOINED = re.compile(
    rf"(?<![\u0c00-\u0c7f])(?:{LOANS})(?:లో|కి|ని|గా|తో)"  # not యాప్లో, whose plosive takes the ల below it
    r"|[\u0c00-\u0c7f]+్ (?:లో|లోకి|లోనే|కి|గా|తో)(?![\u0c00-\u0c7f])"  # nor నెట్ లో, two words
    r"|యాప్ల|పాస్వర్డ్|ఆన్లైన్|ఎయిర్పోర్ట|వెబ్సైట్|సెల్ఫోన్|బెడ్రూం|బాత్రూం"
)


def shipped_rows() -> list[Row]:
    return [row for path in sheet_paths([shipped_turns()]) for row in read_sheet(path).rows]


@pytest.mark.parametrize(
    ("text", "wrong"), [("యాప్లో", True), ("నెట్ లో", True), ("ఫోన్\u200cలో", False), ("ఇంట్లో", False)]
)
def test_what_an_unjoined_loan_word_is(text: str, wrong: bool) -> None:
    assert bool(UNJOINED.search(text)) == wrong


def test_a_loan_word_and_its_suffix_are_joined_without_a_conjunct() -> None:
    assert [row.place for row in shipped_rows() if UNJOINED.search(row.text)] == []


def test_a_festival_greeting_is_greeted_back() -> None:
    greetings = ("శుభాకాంక్షలు", "ముబారక్", "శుభాలు")
    greeted = {row.intent for row in shipped_rows() if row.role == "ask" and row.text.endswith("శుభాకాంక్షలు!")}
    replies = [row for row in shipped_rows() if row.role == "reply" and row.intent in greeted]
    assert len(greeted) >= 9
    assert [row.place for row in replies if not any(word in row.text for word in greetings)] == []


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        ("కాలిన చోట ఏం రాయాలి?", "రాయకండి"),  # what to put on a burn: nothing
        ("పొద్దున్నుంచీ విరేచనాలు అవుతున్నాయి.", "ఓఆర్ఎస్"),
        ("కరెంటు తీగ తెగి రోడ్డు మీద పడింది.", "విద్యుత్తు శాఖకి"),
        ("బ్యాటరీ వేడెక్కుతోంది.", "తీసేసి"),
        ("పంపిన డబ్బు వెనక్కి రాలేదు, ఏం చేయాలి?", "రాకపోతే"),
        ("బౌ బౌ అని ఏది అరుస్తుంది?", "కుక్క"),
        ("అచ్చులు చదివి వినిపించు.", "ఔ"),
        ("బ్యాంకు ఎప్పటి దాకా ఉంటుంది?", "సాయంత్రం"),
        ("ఉద్యోగం కోసం ఎక్కడ వెతకాలి?", "సైట్లలో"),
        ("భోగి, సంక్రాంతి, కనుమ అంటే ఏంటి?", "కనుమ"),
        ("రోజా అంటే ఏమిటి?", "ఉపవాసం"),
        ("మట్టి వినాయకుడు ఎందుకు మంచిది?", "కరిగే"),
    ],
)
def test_every_reply_answers_what_was_asked(ask: str, said: str) -> None:
    (intent,) = (i for i in read_intents() if ask in (*i.asks, *i.held_out_asks))
    assert [reply.text for reply in intent.replies if said not in reply.text] == []


@pytest.mark.parametrize(
    "ask", ["విమానాశ్రయానికి ఎలా వెళ్ళాలి?", "ఫోన్ లాక్ తెరవలేకపోతున్నాను.", "మళ్ళీ ఎప్పుడు కలుద్దాం?", "నన్ను మర్చిపోయావా?"]
)
def test_what_no_reply_answers_is_not_asked(ask: str) -> None:
    assert [row.place for row in shipped_rows() if row.role == "ask" and row.text == ask] == []


def test_a_fever_that_does_not_go_is_not_told_to_wait() -> None:
    (fever,) = (intent for intent in read_intents() if intent.name == "health.fever")
    assert [reply.text for reply in fever.replies if "తగ్గకపోతే" in reply.text] == []


@pytest.mark.parametrize("stiff", ["ఒక మంచి జరిగింది", "కట్టుకోవడం లేదు", "ఎన్నింటి వేళ", "లైట్లు నాకు"])
def test_what_nobody_says_is_not_written(stiff: str) -> None:
    assert [row.place for row in shipped_rows() if stiff in row.text] == []


def test_a_quoted_verse_names_its_poet() -> None:
    told = {row.provenance for row in shipped_rows() if (row.intent, row.role) == ("talk.poem", "reply")}
    assert told == {"Vemana, traditional (public domain)"}


def test_the_shipped_turns_are_as_many_as_promised_and_free() -> None:
    intents = read_intents()
    total = functools.reduce(added, count_by_topic(intents).values())
    assert total.intents >= 200
    assert total.asks >= 1500
    assert total.pairs >= 1500
    assert {intent.licence for intent in intents} == {"CC0-1.0"}


def test_every_topic_of_everyday_talk_is_there() -> None:
    topics = {
        "greetings",
        "name",
        "time",
        "weather",
        "food",
        "thanks",
        "farewell",
        "help",
        "family",
        "feelings",
    }
    elsewhere = {"travel", "health", "study", "numbers"}
    assert topics | elsewhere <= set(count_by_topic(read_intents()))


def written(path: Path, texts: list[Row]) -> Path:
    lines = ["# licence: CC0-1.0", "\t".join(COLUMNS), *("\t".join(r[1:]) for r in texts)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_job_shows_the_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "own.tsv", [*rows()[:-1], rows()[-1]._replace(reviewed="yes: Sita")])
    monkeypatch.setattr(sys, "argv", ["check_turns", str(path)])
    main()
    counted = json.loads(capsys.readouterr().out.splitlines()[-1])
    expected = {"intents": 1, "asks": 6, "held_out_asks": 1, "replies": 1, "pairs": 6}
    assert counted == expected | {"reviewed_rows": 1, "topics": {"greetings": expected}}


def test_the_job_names_every_line_that_does_not_fit_and_exits_with_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = rows()
    path = written(
        tmp_path / "own.tsv", [good[0]._replace(text="5 సార్లు."), *good[1:-1], good[-1]._replace(style="sad")]
    )
    monkeypatch.setattr(sys, "argv", ["check_turns", str(path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    complaints = capsys.readouterr().err
    assert f"{path}:3 has digits" in complaints
    assert f"{path}:9 'sad' is no style" in complaints
