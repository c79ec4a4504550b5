"""Who speaks: the four reply voices and everybody who speaks to them, each a voice of some engine.

The default is the cast that needs nothing but pip: eSpeak NG (jobs/configs/voices.espeak.yaml says it in
full); jobs/configs/voices.all.yaml takes Festival and HTS for the replies.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import model_validator

from paluku.config import Config
from paluku.corpus.voices import crowd, espeak, laugh
from paluku.corpus.voices.crowd import CrowdConfig
from paluku.corpus.voices.espeak import Espeak, EspeakConfig
from paluku.corpus.voices.festival import Festival, FestivalConfig
from paluku.corpus.voices.hts import Hts, HtsConfig
from paluku.corpus.voices.levels import amplified, at_level
from paluku.corpus.voices.port import Engine, Prosody, Speech
from paluku.corpus.voices.styles import STYLE_PROSODY, styled
from paluku.corpus.voices.vits import Vits, VitsConfig
from paluku.errors import ConfigError
from paluku.voices import VOICES, StyleName, VoiceName

EngineName = Literal["espeak", "festival", "hts", "vits"]
Gender = Literal["male", "female"]


class CastVoice(Config):
    """One person."""

    engine: EngineName
    voice: str  # of that engine
    prosody: Prosody = Prosody()  # this person's own; styles come on top
    gender: Gender


def _espeak(variant: str, gender: Gender, wpm: int, pitch: int = 50, pitch_range: int = 50) -> CastVoice:
    """In eSpeak's own units; 50 is the variant's own pitch and range."""
    prosody = Prosody(
        rate=round(wpm / 150, 4), pitch_semitones=round((pitch - 50) * 0.24, 2), pitch_range=pitch_range / 50
    )
    return CastVoice(engine="espeak", voice=variant, gender=gender, prosody=prosody)


def _drawn(engine: EngineName, voice: str, is_female: bool, prosody: Prosody | None = None) -> CastVoice:
    gender: Gender = "female" if is_female else "male"
    return CastVoice(engine=engine, voice=voice, gender=gender, prosody=prosody or Prosody())


# Median pitches of 94, 72, 232 and 166 Hz.
ESPEAK_REPLY: dict[VoiceName, CastVoice] = {
    "arjun": _espeak("m3", "male", 160, pitch_range=60),
    "ravi": _espeak("Andy", "male", 140, pitch=30),
    "priya": _espeak("linda", "female", 165, pitch=55, pitch_range=60),
    "lakshmi": _espeak("f1", "female", 145),
}

# No variant is shared with a reply voice. Crest factors are about 15 to 20 dB; klatt and klatt2 reach 25,
# so that their peaks would keep them below `LEVEL_DBFS`.
ESPEAK_USERS: dict[str, CastVoice] = {
    "user_m1": _espeak("Michael", "male", 160),
    "user_m2": _espeak("Reed", "male", 145, pitch=38),
    "user_m3": _espeak("m2", "male", 150, pitch=55),
    "user_m4": _espeak("Lee", "male", 170, pitch=45),
    "user_m5": _espeak("m4", "male", 140, pitch=40),
    "user_f1": _espeak("f2", "female", 150, pitch=55),
    "user_f2": _espeak("f3", "female", 155, pitch=60),
    "user_f3": _espeak("belinda", "female", 145),
    "user_f4": _espeak("Annie", "female", 160, pitch=60),
    "user_f5": _espeak("aunty", "female", 140),
}

# Never in training: what a model is judged by.
ESPEAK_HELD_OUT: dict[str, CastVoice] = {
    "user_m6": _espeak("m7", "male", 155, pitch=45),
    "user_f6": _espeak("f4", "female", 150, pitch=55),
}


class NamedCast(Config):
    """Everybody who has a name, and the settings of the engines that they take their voices from."""

    reply: dict[VoiceName, CastVoice] = ESPEAK_REPLY
    users: dict[str, CastVoice] = ESPEAK_USERS | ESPEAK_HELD_OUT
    held_out: tuple[str, ...] = tuple(ESPEAK_HELD_OUT)  # users of the test split alone
    espeak: EspeakConfig = EspeakConfig()
    festival: FestivalConfig = FestivalConfig()
    hts: HtsConfig = HtsConfig()
    vits: VitsConfig = VitsConfig()

    @model_validator(mode="after")
    def _everybody_is_one_person(self) -> "NamedCast":
        if missing := [name for name in VOICES if name not in self.reply]:
            raise ValueError(f"reply has no voice for {', '.join(missing)}")
        if both := set(self.users) & set(VOICES):
            raise ValueError(f"users may not be named as reply voices are: {', '.join(sorted(both))}")
        if unknown := set(self.held_out) - set(self.users):
            raise ValueError(f"held_out names users that there are not: {', '.join(sorted(unknown))}")
        if not set(self.users) - set(self.held_out):
            raise ValueError("every user is held out; leave some to train with")
        taken: dict[tuple[str, str], str] = {}
        for name, voice in {**self.reply, **self.users}.items():
            other = taken.setdefault((voice.engine, voice.voice), name)
            if other != name:
                raise ValueError(f"{other} and {name} are both {voice.engine}'s {voice.voice}")
        return self


class CastConfig(NamedCast):
    """The cast."""

    crowd: CrowdConfig = CrowdConfig()  # users drawn by chance; nobody, once they have joined `users`

    @model_validator(mode="before")
    @classmethod
    def _with_the_crowd(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "crowd" not in values:
            return values
        named = NamedCast.model_validate({name: each for name, each in values.items() if name != "crowd"})
        return {
            **values,
            **_joined(named, CrowdConfig.model_validate(values["crowd"])),
            "crowd": CrowdConfig(),
        }

    def located(self) -> "CastConfig":
        """With the files that this machine's environment names, for processes that do not share it."""
        return self.model_copy(update={"hts": self.hts.located()})


def _joined(named: NamedCast, asked: CrowdConfig) -> dict[str, Any]:
    """The fields of a cast whose users are the named ones and a crowd.

    Raises:
        ValueError: when a name is taken already.
    """
    people = {**named.reply, **named.users}
    held_out = [named.users[name] for name in named.held_out]
    variants = crowd.espeak_voices(
        asked, [person.voice for person in people.values() if person.engine == "espeak"]
    )
    men = crowd.festival_voices(
        asked, [named.festival.voices[person.voice] for person in held_out if person.engine == "festival"]
    )
    women = crowd.hts_voices(
        asked, [named.hts.voices[person.voice] for person in held_out if person.engine == "hts"]
    )
    drawn = [
        *(_drawn("espeak", voice, espeak.is_female(voice), prosody) for voice, prosody in variants.items()),
        *(_drawn("festival", name, crowd.sounds_female(voice)) for name, voice in men.items()),
        *(_drawn("hts", name, crowd.sounds_female(voice)) for name, voice in women.items()),
    ]
    users = {f"{person.engine}_{person.voice}": person for person in drawn}
    taken = [
        *(people.keys() & users),
        *(named.festival.voices.keys() & men),
        *(named.hts.voices.keys() & women),
    ]
    if taken:
        raise ValueError(f"crowd takes names that there are already: {', '.join(sorted(taken))}; rename them")
    return {
        "users": {**named.users, **users},
        "festival": named.festival.model_copy(update={"voices": {**named.festival.voices, **men}}),
        "hts": named.hts.model_copy(update={"voices": {**named.hts.voices, **women}}),
    }


class Cast:
    """Everybody in a `CastConfig`, able to speak.

    Raises:
        ConfigError: when a voice is not one of its engine's.
        ServiceError: when an engine that somebody needs is not installed; says how to get it.
    """

    def __init__(self, config: CastConfig | None = None) -> None:
        self.config = (config or CastConfig()).located()
        self._people: dict[str, CastVoice] = {**self.config.reply, **self.config.users}
        make: Mapping[EngineName, Callable[[], Engine]] = {
            "espeak": lambda: Espeak(self.config.espeak),
            "festival": lambda: Festival(self.config.festival),
            "hts": lambda: Hts(self.config.hts),
            "vits": lambda: Vits(self.config.vits),
        }
        needed = {person.engine for person in self._people.values()}
        self._engines = {name: build() for name, build in make.items() if name in needed}
        for name, person in self._people.items():
            known = self._engines[person.engine].voices
            if person.voice not in known:
                raise ConfigError(
                    f"{name}: {person.engine} has no voice {person.voice!r}; try {', '.join(known)}"
                )

    @property
    def reply_voices(self) -> tuple[VoiceName, ...]:
        """The four names."""
        return VOICES

    @property
    def user_voices(self) -> tuple[str, ...]:
        """Users to train with."""
        return tuple(name for name in self.config.users if name not in self.config.held_out)

    @property
    def held_out_user_voices(self) -> tuple[str, ...]:
        """Users to judge with, never trained with."""
        return self.config.held_out

    def person(self, voice: str) -> CastVoice:
        """Who that is.

        Raises:
            ConfigError: for a name that is not in the cast.
        """
        if voice not in self._people:
            raise ConfigError(f"there is no voice {voice!r}; choose one of: {', '.join(self._people)}")
        return self._people[voice]

    def speak(self, text: str, voice: str, style: StyleName = "neutral") -> Speech:
        """A sentence at `LEVEL_DBFS` plus the style's energy. The same for the same arguments.

        Raises:
            ConfigError: for a name that is not in the cast.
            AudioError: when the voice cannot say the text.
            ServiceError: when an engine's program or weights are gone.
        """
        person = self.person(voice)
        prosody = styled(person.prosody, style)
        level = prosody.model_copy(update={"energy_db": 0.0})
        speech = self._engines[person.engine].speak(text, person.voice, level)
        return speech._replace(wave=amplified(at_level(speech.wave), prosody.energy_db))

    def digest(self) -> str:
        """sha256, in hex, of all that decides how the cast sounds: people, styles, and the HTS voice itself.

        Where a file lies does not count, nor do settings of engines that nobody uses.
        """
        settings = self.config.model_dump(mode="json", include={"reply", "users", *self._engines})
        if "hts" in self._engines:
            assert self.config.hts.voice_file is not None, "Hts checks it"
            content = self.config.hts.voice_file.read_bytes()
            settings["hts"]["voice_file"] = hashlib.sha256(content).hexdigest()
        styles = {name: prosody.model_dump() for name, prosody in STYLE_PROSODY.items()}
        told = json.dumps([settings, styles, laugh.CALL], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(told.encode()).hexdigest()
