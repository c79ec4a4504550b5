"""A written conversation as two voices on two channels: what a full-duplex model learns turn-taking from.

Channel 0 is the reply voice, clean; channel 1 is the user, as a microphone and a line let him sound. The
timing is that of people (`dialogues.timing`): turns follow closely or overlap, the user pauses within a turn,
says హా while the reply goes on, and asks the next thing before it is over, whereupon it stops.
"""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from paluku.config import Config
from paluku.corpus.dialogues.augmentation import Augmentation, Channels, augmented, draw
from paluku.corpus.dialogues.exchanges import Exchange
from paluku.corpus.dialogues.takes import Speaker, Take, cut_at, later, pause_places, take, with_pause
from paluku.corpus.dialogues.timing import Span, Timing
from paluku.corpus.preparation.quality import UnusableError
from paluku.corpus.shards import Split
from paluku.corpus.splits import generator
from paluku.errors import AudioError
from paluku.units import frame_samples
from paluku.voices import StyleName, VoiceName

REPLY_CHANNEL, USER_CHANNEL = 0, 1

# Between two things that the user says, so that they are not one.
APART_S = 0.3
# So much at least is heard, of the speech after the user's last pause or of a reply, before an answer begins.
HEARD_SHARE = 0.5
# Between a reply that was cut and the next one.
BREATH_S = 0.1


class Line(Config):
    """Something that someone says."""

    text: str
    voice: str


class Dialogue(Config):
    """One dialogue to be rendered; the plan says who says what, the seed how and when."""

    id: str
    split: Split
    exchanges: tuple[Exchange, ...] = Field(min_length=1)
    style: StyleName
    user_voice: str
    reply_voice: VoiceName
    babblers: tuple[Line, ...] = ()  # who may be heard in the background
    source: str
    licence: str


class Rendering(Config):
    """How dialogues sound."""

    sample_rate_hz: int = Field(default=16_000, ge=8_000, multiple_of=25)
    timing: Timing = Timing()
    augmentation: Augmentation = Augmentation()
    max_s: float = Field(default=120.0, gt=0)


class Rendered(NamedTuple):
    """Two channels and what is said when."""

    wave: np.ndarray  # float32 [S, 2], whole frames of 40 ms
    turns: list[dict[str, Any]]  # in the order of their starts, as `corpus.shards.TURN`
    augmentation: dict[str, Any]  # all that was drawn


def render(dialogue: Dialogue, speaker: Speaker, rendering: Rendering, seed: int) -> Rendered:
    """Speak and place every turn, then do to the user's side what was drawn: the same for the same arguments.

    Raises:
        AudioError: when a voice cannot say its text, or a noise cannot be read.
        UnusableError: "long".
    """
    random = generator(f"augmentation/{dialogue.id}", seed)
    drawn = draw(rendering.augmentation, random)
    stage = _Stage(dialogue, speaker, rendering, drawn.speed, generator(f"timing/{dialogue.id}", seed))
    for number in range(len(dialogue.exchanges)):
        stage.play(number)
    dry = stage.finish()
    rate_hz = rendering.sample_rate_hz

    def babble() -> list[np.ndarray]:
        return [take(speaker, b.text, b.voice, "neutral", rate_hz).wave for b in dialogue.babblers]

    heard = augmented(dry, drawn, rate_hz, random, babble, rendering.augmentation.noise_folder)
    wave = np.stack([dry.reply, heard.wave], axis=1)
    about = drawn.model_dump(mode="json") | {"gain_db": heard.gain_db, "timing": stage.drawn}
    return Rendered(wave, stage.turns, about)


def described(dialogue: Dialogue, rendered: Rendered) -> dict[str, Any]:
    """The columns of `corpus.shards.SCHEMAS["dialogues"]` without the audio's."""
    return {
        "id": dialogue.id,
        "voice": dialogue.reply_voice,
        "style": dialogue.style,
        "user_voice": dialogue.user_voice,
        "intents": [exchange.intent or "" for exchange in dialogue.exchanges],
        "turns": rendered.turns,
        "augmentation": json.dumps(rendered.augmentation, sort_keys=True),
        "source": dialogue.source,
        "licence": dialogue.licence,
        "split": dialogue.split,
    }


class _Placed(NamedTuple):
    """A take on the timeline; all in samples."""

    take: Take
    at: int  # of the wave's first sample

    @property
    def start(self) -> int:
        return self.at + self.take.start

    @property
    def end(self) -> int:
        return self.at + self.take.end


class _Stage:
    """The timeline of one dialogue, played exchange by exchange."""

    def __init__(
        self,
        dialogue: Dialogue,
        speaker: Speaker,
        rendering: Rendering,
        speed: float,
        random: np.random.Generator,
    ) -> None:
        self._dialogue, self._speaker, self._speed = dialogue, speaker, speed
        self._timing, self._rate_hz = rendering.timing, rendering.sample_rate_hz
        self._max_s = rendering.max_s
        self._random = random
        self._user: list[_Placed] = []
        self._reply: list[_Placed] = []
        self._interrupted_at: int | None = None  # where the next question begins, when the reply was cut
        self._silent_from = 0  # the reply's channel, so far
        self.turns: list[dict[str, Any]] = []
        self.drawn: dict[str, list[float]] = {name: [] for name in ("gaps_s", "pauses_s", "reactions_s")}

    def play(self, number: int) -> None:
        """A question, its reply, and what the user does meanwhile."""
        exchange = self._dialogue.exchanges[number]
        asked = self._ask(exchange.ask, is_first=number == 0)
        if exchange.reply is None:
            self._interrupted_at = None
            return
        spoken = take(
            self._speaker, exchange.reply, self._dialogue.reply_voice, self._dialogue.style, self._rate_hz
        )
        reply = self._starting_at(spoken, self._reply_start(asked))
        is_last = number == len(self._dialogue.exchanges) - 1
        self._answer(reply, may_be_cut=not is_last)

    def finish(self) -> Channels:
        """The dry channels. Turns are put in the order of their starts."""
        self.turns.sort(key=lambda turn: (turn["start_s"], turn["end_s"]))
        tail = self._samples(self._uniform(self._timing.tail_s))
        end = max(placed.end for placed in (*self._user, *self._reply)) + tail
        frame = frame_samples(self._rate_hz)
        samples = -(-end // frame) * frame
        if samples > self._max_s * self._rate_hz:
            raise UnusableError("long", f"{samples / self._rate_hz:.1f} s, more than {self._max_s} s")
        speaking = np.zeros(samples, bool)
        for placed in self._user:
            speaking[placed.start : placed.end] = True
        return Channels(_mixed(self._user, samples), _mixed(self._reply, samples), speaking)

    def _ask(self, text: str, *, is_first: bool) -> _Placed:
        kind = "turn" if self._interrupted_at is None else "interruption"
        if kind == "interruption":
            openers = self._timing.interruption_openers
            text = f"{openers[int(self._random.integers(len(openers)))]} {text}".strip()
        asked = self._with_pauses(self._said_by_user(text))
        if is_first:
            start = self._samples(self._uniform(self._timing.lead_s))
        elif self._interrupted_at is not None:
            start = self._interrupted_at
        else:
            start = self._next_question()
        placed = self._starting_at(asked, start)
        self._user.append(placed)
        self._note("user", kind, placed)
        return placed

    def _next_question(self) -> int:
        """Where the user goes on after a reply that was not cut: after its midst, and his own last word."""
        last_word = self._user[-1].end
        if not self._reply:
            return self._after(last_word, last_word + self._samples(APART_S))
        reply = self._reply[-1]
        earliest = max(
            # Whoever talks into a reply's last word does so no longer than an interrupted reply takes.
            reply.end - self._samples(self._timing.reaction_s[1]),
            reply.end - round(HEARD_SHARE * (reply.end - reply.start)),
            last_word + self._samples(APART_S),
        )
        return self._after(reply.end, earliest)

    def _answer(self, reply: _Placed, *, may_be_cut: bool) -> None:
        at, silent = self._interruption(reply) if may_be_cut else (None, None)
        kind = "turn"
        if at is not None and silent is not None:
            fade = self._samples(self._timing.fade_s)
            reply = reply._replace(take=cut_at(reply.take, silent - reply.at, fade, self._rate_hz))
            kind = "cut"
        self._interrupted_at = at
        self._silent_from = reply.end
        self._reply.append(reply)
        self._note("agent", kind, reply)
        next_word = at if at is not None else reply.end - self._samples(self._timing.reaction_s[1])
        self._backchannel(reply, next_word - self._samples(APART_S))

    def _interruption(self, reply: _Placed) -> tuple[int | None, int | None]:
        """Where the user begins to talk, and where the reply is silent; none when he lets it finish."""
        if not self._is_long(reply) or self._random.random() >= self._timing.interruption_share:
            return None, None
        place = self._uniform(self._timing.interruption_within)
        reaction_s = self._uniform(self._timing.reaction_s)
        at = reply.start + round(place * (reply.end - reply.start))
        silent = at + self._samples(reaction_s)
        # Nor can he while he is still asking: a short reply may begin and end within his last word.
        if silent >= reply.end or at < self._user[-1].end + self._samples(APART_S):
            return None, None
        self.drawn["reactions_s"].append(round(reaction_s, 3))
        return at, silent

    def _backchannel(self, reply: _Placed, latest: int) -> None:
        """Perhaps a word of the user's, over before sample `latest`."""
        if not self._is_long(reply) or self._random.random() >= self._timing.backchannel_share:
            return
        said = self._any_backchannel()
        start = reply.start + round(
            self._uniform(self._timing.backchannel_within) * (reply.end - reply.start)
        )
        placed = self._starting_at(said, start)
        if placed.end <= latest and placed.start >= self._user[-1].end + self._samples(APART_S):
            self._user.append(placed)
            self._note("user", "backchannel", placed)

    def _any_backchannel(self) -> Take:
        """The first that the voice can say, in a drawn order: not every engine knows every letter."""
        texts = self._timing.backchannels
        order = self._random.permutation(len(texts))
        for place in order[:-1]:
            try:
                return self._said_by_user(texts[int(place)])
            except AudioError:
                continue
        return self._said_by_user(texts[int(order[-1])])

    def _reply_start(self, asked: _Placed) -> int:
        said = asked.take.end - asked.take.calm
        breath = self._silent_from + self._samples(BREATH_S) if self._reply else 0
        return self._after(asked.end, max(asked.end - round(HEARD_SHARE * said), breath))

    def _with_pauses(self, said: Take) -> Take:
        places = pause_places(said)
        if not places or self._random.random() >= self._timing.pause_share:
            return said
        pause_s = self._uniform(self._timing.pause_s)
        self.drawn["pauses_s"].append(round(pause_s, 3))
        after = places[int(self._random.integers(len(places)))]
        return with_pause(said, after, self._samples(pause_s), self._rate_hz)

    def _said_by_user(self, text: str) -> Take:
        return take(
            self._speaker, text, self._dialogue.user_voice, "neutral", self._rate_hz, speed=self._speed
        )

    def _after(self, end: int, earliest: int) -> int:
        """A drawn gap after sample `end`, but not before `earliest`; what is recorded is the gap there is."""
        gap_s = max(self._timing.gaps.draw(self._random), (earliest - end) / self._rate_hz)
        self.drawn["gaps_s"].append(round(gap_s, 3))
        return end + round(gap_s * self._rate_hz)

    def _starting_at(self, said: Take, start: int) -> _Placed:
        """The take whose speech begins at a sample; what it has before 0 is left out."""
        surplus = max(said.start - start, 0)
        if surplus:
            said = later(said, -surplus, self._rate_hz)._replace(wave=said.wave[surplus:])
        return _Placed(said, start - said.start)

    def _note(self, role: str, kind: str, placed: _Placed) -> None:
        at_s = placed.at / self._rate_hz
        words = [
            {"text": w.text, "start_s": at_s + w.start_s, "end_s": at_s + w.end_s} for w in placed.take.words
        ]
        bounds = {"start_s": placed.start / self._rate_hz, "end_s": placed.end / self._rate_hz}
        about = {"role": role, "text": placed.take.text, "kind": kind, "is_timed": placed.take.is_timed}
        self.turns.append(about | bounds | {"words": words})

    def _is_long(self, reply: _Placed) -> bool:
        return reply.end - reply.start >= self._samples(self._timing.min_reply_s)

    def _uniform(self, span: Span) -> float:
        return float(self._random.uniform(*span))

    def _samples(self, seconds: float) -> int:
        return round(seconds * self._rate_hz)


def _mixed(placed: Iterable[_Placed], samples: int) -> np.ndarray:
    wave = np.zeros(samples, np.float32)
    for piece in placed:
        part = piece.take.wave[: samples - piece.at]
        wave[piece.at : piece.at + len(part)] += part
    return wave
