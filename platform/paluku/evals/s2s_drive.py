"""A model's conversation with recorded users: the streaming step that is served, many seats at once.

Nothing of the true reply reaches the model. What it says is put on the conversation's own time, on which it
was trained: its frame `t` is the one it decides on when it has heard the user's frame `t`. A listener hears
that frame `lag_ms` later: the user's frame has to be full, the acoustic codes come `acoustic_delay` frames
after the first, and the codec has a delay of its own.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from paluku.codec.port import Codec
from paluku.config import Config
from paluku.errors import EvaluationError
from paluku.evals.s2s_cases import Case
from paluku.s2s.conditioning import ConditionRows
from paluku.s2s.duplex import SeatConditions, duplex_step, init_duplex_state
from paluku.s2s.model import S2SModel
from paluku.tokens.extract import STOP_S, dialogue_tokens
from paluku.tokens.text import TextTokenizer
from paluku.units import MS_PER_S
from paluku.voices import STYLES, VOICES, StyleName, VoiceName

# A user's last question may be answered late: so long is the model listened to after the recording ends, with
# the recording's last moments, in which nobody speaks, over and over.
TAIL_S = 3.0
QUIET_S = 0.24


class Sampling(Config):
    """As a session asks for it (`streaming.ports.Conditions`)."""

    temperature: float = Field(default=0.8, ge=0)
    top_k: int = Field(default=50, ge=1)
    text_temperature: float = Field(default=0.7, ge=0)
    text_top_k: int = Field(default=25, ge=1)
    guidance: float = Field(default=1.0, ge=0)


class Session(NamedTuple):
    """One user and what is asked of the model; `user` is float32 `[S]` at the codec's rate."""

    user: np.ndarray
    voice: VoiceName
    style: StyleName
    seed: int


class Spoken(NamedTuple):
    """What a model said, in the conversation's time: its text and what it understood, a token a frame."""

    text: np.ndarray  # int64 [T]
    user_text: np.ndarray  # int64 [T]
    wave: np.ndarray  # float32 [S] at the codec's rate


class Parts(NamedTuple):
    """What belongs together in a bundle; the codec on the CPU, the model anywhere."""

    codec: Codec
    model: S2SModel
    tokenizer: TextTokenizer

    @property
    def lag_ms(self) -> float:
        """From a moment of the conversation's time to when a listener hears it, computing aside."""
        frames = 1 + self.model.config.acoustic_delay
        return MS_PER_S * (
            frames / self.codec.frame_rate_hz + self.codec.delay_samples / self.codec.sample_rate_hz
        )


def check(parts: Parts, rate_hz: int) -> None:
    """Whether dialogues of a rate can be held with a bundle.

    Raises:
        EvaluationError: when the codec takes another rate, or looks ahead.
    """
    codec = parts.codec
    if rate_hz != codec.sample_rate_hz:
        raise EvaluationError(
            f"the dialogues have {rate_hz} Hz, the bundle's codec takes {codec.sample_rate_hz}; "
            "give dialogues of its rate"
        )
    if codec.encode_lookahead_frames or codec.decode_lookahead_frames:
        raise EvaluationError("the bundle's codec looks ahead; one that does not is judged")


def session(case: Case, voice: VoiceName, style: StyleName, seed: int) -> Session:
    """The user's side of a case and some silence of the same room."""
    quiet = case.user[-max(1, round(QUIET_S * case.rate_hz)) :]
    tail = np.pad(quiet, (0, round(TAIL_S * case.rate_hz)), mode="symmetric")[len(quiet) :]
    return Session(np.concatenate([case.user, tail]).astype(np.float32), voice, style, seed)


def drive(
    parts: Parts,
    sessions: Sequence[Session],
    sampling: Sampling,
    seats: int,
    step: Callable[[], None] = lambda: None,
) -> list[Spoken]:
    """What the model says to each, in the order of the sessions; `step` is called for each.

    Sessions of like lengths share a batch of `seats`: what one of them hears changes nothing for another.
    """
    order = sorted(range(len(sessions)), key=lambda n: (len(sessions[n].user), n))
    spoken: dict[int, Spoken] = {}
    for first in range(0, len(order), seats):
        together = order[first : first + seats]
        for number, said in zip(
            together, _drive(parts, [sessions[n] for n in together], sampling), strict=True
        ):
            spoken[number] = said
            step()
    return [spoken[number] for number in range(len(sessions))]


@torch.inference_mode()
def _drive(parts: Parts, sessions: Sequence[Session], sampling: Sampling) -> list[Spoken]:
    codec, model = parts.codec, parts.model
    device, B, frame = model.text_head.weight.device, len(sessions), codec.frame_samples
    lengths = torch.tensor([len(each.user) // frame for each in sessions])
    waves = torch.zeros(B, 1, int(lengths.max()) * frame)
    for wave, each, length in zip(waves, sessions, lengths.tolist(), strict=True):
        wave[0, : length * frame] = torch.from_numpy(each.user[: length * frame])
    conditions = seat_conditions(model, sessions, sampling)
    encoder, decoder = codec.init_encode_state(B), codec.init_decode_state(B)
    state = init_duplex_state(model, B, guided=sampling.guidance != 1)
    rows, sounds = [], []
    for t in range(int(lengths.max())):
        hears = lengths > t
        codes = codec.encode_step(encoder, waves[..., t * frame : (t + 1) * frame], hears)[..., 0]
        row = duplex_step(model, state, codes.to(device), conditions, hears.to(device)).cpu()
        speaks = hears & (row[:, 2] >= 0)
        sounds.append(codec.decode_step(decoder, row[:, 2:, None].clamp_min(0), speaks)[:, 0])
        rows.append(row[:, :2])
    tokens, wave = torch.stack(rows, dim=1), torch.cat(sounds, dim=1)
    first = model.config.acoustic_delay * frame + codec.delay_samples
    return [
        Spoken(
            tokens[b, :length, 0].long().numpy(),
            tokens[b, :length, 1].long().numpy(),
            wave[b, first : length * frame].numpy(),
        )
        for b, length in enumerate(lengths.tolist())
    ]


def seat_conditions(model: S2SModel, sessions: Sequence[Session], sampling: Sampling) -> SeatConditions:
    """A seat for each session."""
    device, B = model.text_head.weight.device, len(sessions)

    def floats(value: float) -> Tensor:
        return torch.full((B,), value, device=device)

    def whole(value: int) -> Tensor:
        return torch.full((B,), value, device=device, dtype=torch.int64)

    return SeatConditions(
        rows=condition_rows(model, [(each.voice, each.style) for each in sessions]),
        seed=torch.tensor([each.seed for each in sessions], device=device),
        temperature=floats(sampling.temperature),
        top_k=whole(sampling.top_k),
        text_temperature=floats(sampling.text_temperature),
        text_top_k=whole(sampling.text_top_k),
        guidance=floats(sampling.guidance),
    )


def condition_rows(model: S2SModel, wanted: Sequence[tuple[VoiceName, StyleName]]) -> ConditionRows:
    """Voices by their vectors in the model, and styles; neither is dropped."""
    device = model.text_head.weight.device
    voices = torch.tensor([VOICES.index(voice) for voice, _ in wanted], device=device)
    styles = torch.tensor([STYLES.index(style) for _, style in wanted], device=device)
    return model.conditioning.rows(voices, styles)


def recorded(parts: Parts, case: Case, stop_s: float | None = STOP_S) -> Spoken:
    """The dialogue's own reply as the model was to learn it, through the codec: what no model can pass.

    Cut replies stop as in training (`tokens.stops`), or, without `stop_s`, as they were rendered.
    """
    row = dialogue_tokens(case.row, parts.codec, parts.tokenizer, stop_s)
    codes = row["agent_codes"].reshape(1, parts.codec.num_codebooks, -1).astype(np.int64)
    with torch.inference_mode():
        wave = parts.codec.decode(torch.from_numpy(codes))[0, 0].numpy()
    text, user_text = (np.asarray(row[name]).astype(np.int64) for name in ("text", "user_text"))
    return Spoken(text, user_text, wave[parts.codec.delay_samples :])
