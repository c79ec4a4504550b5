import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from paluku.config import load
from paluku.corpus.voices import pitch
from paluku.corpus.voices.cast import Cast, CastConfig, CastVoice
from paluku.corpus.voices.hts import HtsConfig
from paluku.corpus.voices.levels import LEVEL_DBFS
from paluku.corpus.voices.port import Prosody, Speech
from paluku.corpus.voices.styles import STYLE_PROSODY
from paluku.errors import ConfigError
from paluku.voices import STYLES, VOICES, StyleName, VoiceName

CONFIGS = Path(__file__).resolve().parents[4] / "jobs" / "configs"
SENTENCE = "నమస్కారం, నేను బాగున్నాను. మీరు ఎలా ఉన్నారు?"


@pytest.fixture(scope="module")
def cast() -> Cast:
    return Cast()


@pytest.fixture(scope="module")
def replies(cast: Cast) -> dict[str, Speech]:
    return {voice: cast.speak(SENTENCE, voice) for voice in cast.reply_voices}


def test_the_shipped_casts_fit_and_espeak_is_the_default() -> None:
    assert load(CastConfig, CONFIGS / "voices.espeak.yaml") == CastConfig()
    everybody = load(CastConfig, CONFIGS / "voices.all.yaml")
    assert {voice.engine for voice in everybody.reply.values()} == {"festival", "hts"}
    assert {voice.engine for voice in everybody.users.values()} == {"espeak", "festival", "hts"}
    for name in ("festival", "hts"):
        used = {p.voice for p in (*everybody.reply.values(), *everybody.users.values()) if p.engine == name}
        assert used == set(getattr(everybody, name).voices)
    assert len(everybody.users) - len(everybody.held_out) >= 20
    held_out = {everybody.users[name].engine for name in everybody.held_out}
    assert held_out == {"espeak", "festival", "hts"}, "every engine is judged"


def test_reply_voices_are_the_four_and_users_are_parted(cast: Cast) -> None:
    assert cast.reply_voices == VOICES
    assert len(cast.user_voices) == 10
    assert len(cast.held_out_user_voices) == 2
    assert not set(cast.user_voices) & {*cast.held_out_user_voices, *VOICES}


def test_men_are_deep_and_women_high_and_the_pairs_are_apart(replies: dict[str, Speech]) -> None:
    hz = {voice: pitch.track(said.wave, said.rate_hz).median_hz for voice, said in replies.items()}
    for voice in VOICES:
        assert 60 < hz[voice] < 130 if voice in ("arjun", "ravi") else 150 < hz[voice] < 300, f"{voice}: {hz}"
    # 10 % are a little under two semitones, which anyone hears.
    assert hz["arjun"] > 1.1 * hz["ravi"]
    assert hz["priya"] > 1.1 * hz["lakshmi"]


@pytest.mark.parametrize("style", STYLES)
def test_a_sentence_has_the_cast_level_and_its_styles_energy(cast: Cast, style: StyleName) -> None:
    wave = cast.speak(SENTENCE, "lakshmi", style).wave
    assert wave.dtype == np.float32
    level_dbfs = 10 * np.log10(np.square(wave, dtype=np.float64).mean())
    assert level_dbfs == pytest.approx(LEVEL_DBFS + STYLE_PROSODY[style].energy_db, abs=0.01)


def test_a_peaky_voice_would_be_quieter_and_nobody_is(cast: Cast) -> None:
    for voice in (*cast.reply_voices, *cast.user_voices, *cast.held_out_user_voices):
        wave = cast.speak("అవును, నిజమే.", voice).wave
        level_dbfs = 10 * np.log10(np.square(wave, dtype=np.float64).mean())
        assert level_dbfs == pytest.approx(LEVEL_DBFS, abs=0.01), voice


def test_the_same_again(cast: Cast, replies: dict[str, Speech]) -> None:
    np.testing.assert_array_equal(Cast().speak(SENTENCE, "ravi").wave, replies["ravi"].wave)
    assert not np.array_equal(cast.speak(SENTENCE, "ravi", "happy").wave, replies["ravi"].wave)


def test_an_unknown_name_is_refused_with_the_known_ones(cast: Cast) -> None:
    with pytest.raises(ConfigError, match=r"no voice 'sita'; choose one of: arjun, ravi"):
        cast.speak(SENTENCE, "sita")


def test_a_voice_that_its_engine_lacks_is_found_before_anything_is_said() -> None:
    nobody = CastVoice(engine="espeak", voice="nobody", gender="male")
    with pytest.raises(ConfigError, match=r"user_x: espeak has no voice 'nobody'; try .*Andy"):
        Cast(CastConfig(users={"user_x": nobody}, held_out=()))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"reply": {}}, "reply has no voice for arjun, ravi"),
        ({"held_out": ("nobody",)}, "held_out names users that there are not: nobody"),
        ({"held_out": tuple(CastConfig().users)}, "every user is held out"),
        ({"users": {"ravi": CastVoice(engine="espeak", voice="m8", gender="male")}}, "named as reply voices"),
        ({"users": {"u": CastVoice(engine="espeak", voice="m3", gender="male")}}, "arjun and u are both"),
    ],
)
def test_a_cast_that_makes_no_sense_is_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        CastConfig.model_validate({"held_out": (), **change})


def test_the_digest_is_of_what_is_heard(cast: Cast, tmp_path: Path) -> None:
    assert Cast().digest() == cast.digest()
    changed = CastConfig().reply["ravi"].model_copy(update={"prosody": Prosody(rate=1.2)})
    quicker: dict[VoiceName, CastVoice] = {**CastConfig().reply, "ravi": changed}
    assert Cast(CastConfig(reply=quicker)).digest() != cast.digest()
    unused = CastConfig(hts=HtsConfig(voice_file=tmp_path / "nk.htsvoice"))
    assert Cast(unused).digest() == cast.digest()


def test_where_the_hts_voice_lies_does_not_count_but_what_it_holds(tmp_path: Path) -> None:
    def digest(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        config = load(CastConfig, CONFIGS / "voices.all.yaml")
        people = {n: p for n, p in config.users.items() if p.engine != "festival"}
        reply = CastConfig().reply
        users = {n: p for n, p in people.items() if p.voice not in {r.voice for r in reply.values()}}
        hts = config.hts.model_copy(update={"voice_file": tmp_path / name, "program": sys.executable})
        return Cast(CastConfig(reply=reply, users=users, held_out=(), hts=hts)).digest()

    assert digest("a", b"voice") == digest("b", b"voice") != digest("c", b"another")


def test_it_needs_no_torch() -> None:
    code = "import sys; from paluku.corpus.voices.cast import Cast; Cast(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="platform")
