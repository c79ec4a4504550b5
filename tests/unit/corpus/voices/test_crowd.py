from pathlib import Path

import numpy as np
import pytest

from paluku.config import load, resolve
from paluku.corpus.voices import espeak
from paluku.corpus.voices.cast import Cast, CastConfig, CastVoice
from paluku.corpus.voices.crowd import CrowdConfig, are_near, festival_voices, hts_voices, sounds_female
from paluku.corpus.voices.festival import FestivalVoice
from paluku.corpus.voices.hts import HtsVoice
from paluku.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[4] / "jobs" / "configs"


def cast_of(**crowd: int) -> CastConfig:
    return resolve(CastConfig, {"crowd": crowd}, "cast.yaml")


def test_a_crowd_joins_the_users_and_nobody_in_it_is_held_out() -> None:
    alone, joined = CastConfig(), cast_of(espeak=5, festival=3, hts=2)
    drawn = {name: voice for name, voice in joined.users.items() if name not in alone.users}
    assert [voice.engine for voice in drawn.values()] == [*["espeak"] * 5, *["festival"] * 3, *["hts"] * 2]
    assert joined.held_out == alone.held_out
    for voice in drawn.values():
        if voice.engine != "espeak":
            assert voice.voice in getattr(joined, voice.engine).voices
    assert {**alone.festival.voices}.items() <= joined.festival.voices.items()


def test_everybody_who_is_drawn_is_somebody_else() -> None:
    everybody = cast_of(espeak=60, festival=30, hts=30)
    people = [*everybody.reply.values(), *everybody.users.values()]
    assert len({(person.engine, person.voice) for person in people}) == len(people)
    assert len({voice.model_dump_json() for voice in everybody.festival.voices.values()}) == 6 + 30
    assert len({voice.model_dump_json() for voice in everybody.hts.voices.values()}) == 7 + 30


def test_a_cast_that_is_read_again_has_the_same_people() -> None:
    joined = cast_of(espeak=5, festival=3, hts=2)
    assert CastConfig.model_validate_json(joined.model_dump_json()) == joined


def test_a_larger_crowd_keeps_the_people_of_a_smaller_and_another_seed_has_others() -> None:
    for engine in ("espeak", "festival", "hts"):
        few, more = cast_of(**{engine: 3}), cast_of(**{engine: 6})
        assert few.users.items() < more.users.items()
        assert cast_of(**{engine: 3}, seed=1) != few


def test_pitch_goes_with_the_vocal_tract() -> None:
    crowd = CrowdConfig(festival=200, hts=200)
    men = list(festival_voices(crowd, []).values())
    assert np.corrcoef([v.formants for v in men], np.log([v.f0_hz for v in men]))[0, 1] > 0.8
    women = list(hts_voices(crowd, []).values())
    assert np.corrcoef([-v.alpha for v in women], [v.half_tones for v in women])[0, 1] > 0.8
    for voices in (men, women):
        assert 0.2 < np.mean([sounds_female(voice) for voice in voices]) < 0.8


def test_nobody_is_drawn_who_is_nearly_one_of_the_held_out() -> None:
    crowd = CrowdConfig(festival=300, hts=300)
    man, woman = FestivalVoice(f0_hz=118, formants=0.97), HtsVoice(alpha=0.53, half_tones=-11)
    assert any(are_near(voice, man) for voice in festival_voices(crowd, []).values())
    assert not any(are_near(voice, man) for voice in festival_voices(crowd, [man]).values())
    assert any(are_near(voice, woman) for voice in hts_voices(crowd, []).values())
    assert not any(are_near(voice, woman) for voice in hts_voices(crowd, [woman]).values())
    shipped = load(CastConfig, CONFIGS / "voices.all.yaml")
    for engine in ("festival", "hts"):
        voices = getattr(shipped, engine).voices
        apart = [
            voices[shipped.users[n].voice] for n in shipped.held_out if shipped.users[n].engine == engine
        ]
        drawn = [voice for name, voice in voices.items() if name.startswith("crowd_")]
        assert apart
        assert not any(are_near(voice, other) for voice in drawn for other in apart)


@pytest.mark.parametrize(
    ("cast", "complaint"),
    [
        ({"users": ["a"], "crowd": {"espeak": 1}}, "users"),
        ({"users": None, "crowd": {"espeak": 1}}, "users"),
        ({"festival": {"voices": {"crowd_m0": {}}}, "crowd": {"festival": 1}}, "already: crowd_m0; rename"),
        ({"crowd": {"people": 1}}, "people"),
    ],
)
def test_what_makes_no_sense_is_named(cast: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        resolve(CastConfig, cast, "cast.yaml")


def test_naming_one_more_person_changes_nobody_else() -> None:
    few = cast_of(espeak=5)
    drawn = [name for name in few.users if name.startswith("espeak_")]
    free = sorted(
        {*espeak.variants()} - {voice.voice for voice in (*few.reply.values(), *few.users.values())}
    )
    one_more = {**CastConfig().users, "somebody": CastVoice(engine="espeak", voice=free[0], gender="male")}
    more = resolve(CastConfig, {"users": one_more, "crowd": {"espeak": 5}}, "cast.yaml")
    assert set(drawn) <= set(more.users)


def test_more_variants_than_there_are_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"cast\.yaml.*crowd\.espeak is 500, and eSpeak NG has \d+ variants"
    ):
        cast_of(espeak=500)


def test_every_variant_that_is_left_can_be_drawn_and_speaks() -> None:
    taken = {voice.voice for voice in (*CastConfig().reply.values(), *CastConfig().users.values())}
    left = len({*espeak.variants()} - {*taken, "whisper", "whisperf", "klatt", "klatt2"})
    config = cast_of(espeak=left)
    cast = Cast(config)
    for name in config.users:
        assert np.abs(cast.speak("నమస్కారం", name).wave).max() > 0.05
