"""What a client asked of its session, and the echo that says what it got.

The echo shows what is in force: instructions, tools, transcription, noise reduction and speed have no
effect on a model that follows no text, so they are echoed as absent whatever was asked.
"""

from typing import Any, Literal, NamedTuple, cast

from paluku.protocol.messages import TurnTaking
from paluku.protocol.realtime.audio import FORMATS, RATES_HZ, FormatName
from paluku.protocol.realtime.events import Event, RefusedError, object_at
from paluku.voices import VOICES, VoiceName

# One token of a response is one frame of its sound. A response of more is ended: 2.7 minutes.
MAX_OUTPUT_TOKENS = 4096

# Stock voices, to the one of ours that is nearest in sex and age.
STOCK_VOICES: dict[str, VoiceName] = {
    "alloy": "priya",
    "ash": "arjun",
    "ballad": "ravi",
    "cedar": "ravi",
    "coral": "priya",
    "echo": "arjun",
    "marin": "priya",
    "sage": "lakshmi",
    "shimmer": "lakshmi",
    "verse": "arjun",
}
# What the beta protocol had at the top: to pass it over would do something else than was asked.
BETA_KEYS = ("voice", "turn_detection", "input_audio_format", "output_audio_format", "modalities")

Detection = Literal["server_vad", "semantic_vad"]


class TurnDetection(NamedTuple):
    """Who ends a turn. Threshold and silence are the server's own: the echo tells them."""

    kind: Detection = "server_vad"
    create_response: bool = True
    interrupt_response: bool = True
    prefix_padding_ms: int = 300

    @property
    def how(self) -> TurnTaking:
        """As the session knows it."""
        if self.kind == "semantic_vad":
            return "semantic"
        return "vad" if self.interrupt_response else "none"


class Settings(NamedTuple):
    """What is in force."""

    voice: VoiceName = "priya"
    input_format: FormatName = "audio/pcm"
    output_format: FormatName = "audio/pcm"
    turn_detection: TurnDetection | None = TurnDetection()
    max_output_tokens: int = MAX_OUTPUT_TOKENS
    wants_transcription: bool = False  # of the user; there is none, and each turn says so

    def updated(self, session: Event) -> "Settings":
        """With what a `session.update` asks.

        Raises:
            RefusedError: when a value cannot be had; nothing is changed then.
        """
        if session.get("type", "realtime") != "realtime":
            raise RefusedError("invalid_value", "session.type must be `realtime`", "session.type")
        for key in BETA_KEYS:
            if key in session:
                message = f"session.{key} is the beta protocol's; use session.audio"
                raise RefusedError("unknown_parameter", message, f"session.{key}")
        audio = object_at(session, "audio", "session.")
        heard = object_at(audio, "input", "session.audio.")
        return self._hearing(heard)._replace(
            max_output_tokens=read_max_tokens(session, self.max_output_tokens),
            output_format=read_format(object_at(audio, "output"), "output", self.output_format),
            voice=read_voice(object_at(audio, "output", "session.audio."), self.voice),
        )

    def _hearing(self, heard: Event) -> "Settings":
        detection = self.turn_detection
        if "turn_detection" in heard:
            asked = object_at(heard, "turn_detection", "session.audio.input.")
            detection = _detection(asked) if heard["turn_detection"] is not None else None
        wants = self.wants_transcription
        if "transcription" in heard:
            wants = heard["transcription"] is not None
        return self._replace(
            input_format=read_format(heard, "input", self.input_format),
            turn_detection=detection,
            wants_transcription=wants,
        )

    def echo(self, session_id: str, model: str, threshold: float, silence_ms: int) -> Event:
        """The whole session as it is."""
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": session_id,
            "model": model,
            "output_modalities": ["audio"],
            "instructions": "",
            "tools": [],
            "tool_choice": "none",
            "max_output_tokens": self.max_output_tokens if self.is_limited else "inf",
            "tracing": None,
            "truncation": "disabled",
            "prompt": None,
            "include": None,
            "audio": {
                "input": {
                    "format": format_echo(self.input_format),
                    "transcription": None,
                    "noise_reduction": None,
                    "turn_detection": self._detection_echo(threshold, silence_ms),
                },
                "output": {"format": format_echo(self.output_format), "voice": self.voice, "speed": 1.0},
            },
        }

    @property
    def is_limited(self) -> bool:
        """Whether a response may be shorter than any may be."""
        return self.max_output_tokens < MAX_OUTPUT_TOKENS

    def _detection_echo(self, threshold: float, silence_ms: int) -> Event | None:
        asked = self.turn_detection
        if asked is None:
            return None
        both = {
            "type": asked.kind,
            "create_response": asked.create_response,
            "interrupt_response": asked.interrupt_response,
        }
        if asked.kind == "semantic_vad":
            return {**both, "eagerness": "auto"}
        return {
            **both,
            "threshold": threshold,
            "prefix_padding_ms": asked.prefix_padding_ms,
            "silence_duration_ms": silence_ms,
            "idle_timeout_ms": None,
        }


def read_format(values: Event, side: str, now: FormatName) -> FormatName:
    """The sound format that `values["format"]` names, or the one in force.

    Raises:
        RefusedError: when there is no such format, or not at that rate.
    """
    param = f"audio.{side}.format"
    asked = object_at(values, "format", f"audio.{side}.")
    if not asked:
        return now
    name = asked.get("type")
    if name not in FORMATS:
        raise RefusedError("invalid_value", f"{param}.type must be one of {', '.join(FORMATS)}", param)
    if asked.get("rate") not in (None, RATES_HZ[name]):
        raise RefusedError("invalid_value", f"{name} has a rate of {RATES_HZ[name]} Hz here", f"{param}.rate")
    return cast(FormatName, name)


def read_voice(values: Event, now: VoiceName) -> VoiceName:
    """The voice that `values["voice"]` names, ours or a stock one, or the one in force.

    Raises:
        RefusedError: when there is no such voice.
    """
    asked: Any = values.get("voice")
    if isinstance(asked, dict):
        asked = asked.get("id")
    if asked is None:
        return now
    if isinstance(asked, str):
        if asked in VOICES:
            return cast(VoiceName, asked)
        if asked in STOCK_VOICES:
            return STOCK_VOICES[asked]
    names = ", ".join((*VOICES, *STOCK_VOICES))
    raise RefusedError("invalid_value", f"voice must be one of {names}", "audio.output.voice")


def read_max_tokens(values: Event, now: int) -> int:
    """The most frames of a response.

    Raises:
        RefusedError: when it is no number from 1 to 4096, and not "inf".
    """
    asked = values.get("max_output_tokens")
    if asked is None:
        return now
    if asked == "inf":
        return MAX_OUTPUT_TOKENS
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= MAX_OUTPUT_TOKENS:
        message = f"max_output_tokens must be 1 to {MAX_OUTPUT_TOKENS}, or `inf`"
        raise RefusedError("invalid_value", message, "max_output_tokens")
    return asked


def format_echo(name: FormatName) -> Event:
    """A format as the protocol writes it."""
    return {"type": name, "rate": RATES_HZ[name]} if name == "audio/pcm" else {"type": name}


def _detection(asked: Event) -> TurnDetection:
    kind = asked.get("type")
    where = "session.audio.input.turn_detection"
    if kind not in ("server_vad", "semantic_vad"):
        raise RefusedError("invalid_value", f"{where}.type must be server_vad or semantic_vad", where)
    if kind == "semantic_vad":
        return TurnDetection("semantic_vad")  # the model's own: nothing of it can be set
    padding = asked.get("prefix_padding_ms")
    if padding is not None and (isinstance(padding, bool) or not isinstance(padding, int) or padding < 0):
        raise RefusedError("invalid_value", f"{where}.prefix_padding_ms must be 0 or more", where)
    return TurnDetection(
        "server_vad",
        asked.get("create_response") is not False,
        asked.get("interrupt_response") is not False,
        300 if padding is None else min(padding, 10_000),
    )
