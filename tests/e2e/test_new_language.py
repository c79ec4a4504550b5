"""docs/new-language.md as a user follows it: Malayalam, from recordings to tokens, by settings alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paluku import audio
from paluku.cluster.tokens import ExtractConfig, extract
from paluku.config import load
from paluku.corpus.building.plain_loop import build_plainly
from paluku.corpus.config import CorpusConfig
from paluku.corpus.shards import Manifest, ShardSet, read_manifest, write_manifest
from paluku.corpus.voices.espeak import Espeak, EspeakConfig
from paluku.corpus.voices.port import Prosody
from paluku.tokens.text import read_tokenizer
from tests.fakes.bundle import tiny_codec
from tests.fakes.tasks import InOrder

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "jobs" / "configs"
SENTENCES = (
    "ഇന്ന് നല്ല മഴയാണ്, നമുക്ക് വീട്ടിൽ ഇരിക്കാം.",
    "എനിക്ക് 2 പുസ്തകം വേണം.",
    "നാളെ രാവിലെ നമ്മൾ കടയിൽ പോകും.",
    "നിങ്ങളുടെ പേര് എന്താണ്?",
    "അവര്‍ ഇന്നലെ വന്നു.",  # the chillu of old keyboards
    "എന്റെ വീട് അടുത്താണ്.",
)
VOICES = ("m1", "f2", "m3", "f4", "m7", "f5")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six speakers with a sentence each, a Telugu one among them that is not asked for."""
    folder, lines = tmp_path_factory.mktemp("speech"), []
    for number, (text, voice) in enumerate(zip(SENTENCES, VOICES, strict=True)):
        language = "te" if number == len(SENTENCES) - 1 else "ml"
        speech = Espeak(EspeakConfig(language="ml")).speak(text, voice, Prosody())
        audio.write_wav(folder / f"{voice}.wav", 0.5 * speech.wave / abs(speech.wave).max(), speech.rate_hz)
        lines.append({"path": f"{voice}.wav", "language": language, "speaker": voice, "text": text})
    about = {"source": "made", "licence": "CC0-1.0"}
    (folder / "manifest.jsonl").write_text("\n".join(json.dumps(about | line) for line in lines))
    return folder


def job(name: str, *arguments: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-m", f"jobs.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_recordings_become_a_corpus_a_verdict_and_tokens(recordings: Path, tmp_path: Path) -> None:
    corpus, tokens, tokenizer = tmp_path / "corpus", tmp_path / "tokens", tmp_path / "tokenizer.json"
    codec = tmp_path / "codec"
    tiny_codec(codec)

    given = [f"recordings={recordings}", f"out={corpus}", "shares.dev=0", "shares.test=0"]
    asked = load(CorpusConfig, CONFIGS / "build_corpus.malayalam.yaml", given)
    built = build_plainly(asked)  # the job's bytes without Ray: tests/cluster/test_corpus.py
    digest = asked.recipe_sha256()
    write_manifest(corpus, Manifest(kind="utterances", config_sha256=digest, shards=built.shards))
    rows = ShardSet(corpus, "utterances", "train").rows(range(len(SENTENCES) - 1))
    texts = {row["speaker"]: row["text"] for row in rows}
    assert texts["f2"] == "എനിക്ക് രണ്ട് പുസ്തകം വേണം."
    assert texts["m7"] == "അവർ ഇന്നലെ വന്നു."
    assert read_manifest(corpus).rows() == len(texts) == len(SENTENCES) - 1  # without the Telugu one

    learned = ("--no-turns", "--corpus", corpus, "--block", "0D00-0D7F", "--vocab-size", "400")
    assert job("train_tokenizer", tokenizer, *learned)["vocab_size"] == 400
    spelled = read_tokenizer(tokenizer)
    assert (len(spelled.encode("മ")), len(spelled.encode("మ"))) == (1, 3)  # another script's: byte by byte

    quick = ("--split", "train", "--clips", "2", "--no-baselines", "--no-recogniser", "--depths", "8")
    where = ("--data", corpus, "--languages", "ml", "--out", tmp_path / "judged")
    judged = job("evaluate_codec", codec, *where, *quick)
    assert {row["language"] for row in judged["rows"]} >= {"ml"}

    paths = [f"utterances={corpus}", f"codec={codec}", f"tokenizer={tokenizer}", f"out={tokens}"]
    settings = load(ExtractConfig, CONFIGS / "extract_tokens.malayalam.yaml", paths)
    assert extract(settings, InOrder()).manifest.parents["tokenizer"] == spelled.digest()
    coded = {row["id"]: row for row in ShardSet(tokens, "tokens", "train").rows(range(len(texts)))}
    for row in rows:
        assert spelled.decode(coded[row["id"]]["user_text"].tolist()) == f" {row['text']}"
