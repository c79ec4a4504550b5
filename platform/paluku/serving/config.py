"""The limits of a serving process, and who may come in."""

from typing import Annotated

from pydantic import AfterValidator, Field

from paluku.config import AbsolutePath, Config
from paluku.streaming.alignment import AlignConfig
from paluku.streaming.turns import TurnConfig


def _origin(text: str) -> str:
    """`*`, or scheme and host as a browser writes them."""
    scheme, separator, host = text.partition("://")
    if text != "*" and not (scheme in ("http", "https") and separator and host and "/" not in host):
        raise ValueError(f"{text!r} is no origin; write scheme and host as https://example.org, or *")
    return text.lower()


Origin = Annotated[str, AfterValidator(_origin)]


class SecurityConfig(Config):
    """Who may open a session. Without keys the service is open: right on loopback and nowhere else."""

    # JSON lines of name and hash, as `python -m jobs.keys` writes them; read again when it changes.
    keys_file: AbsolutePath | None = None
    # The variable that may hold keys themselves, NAME=KEY with commas between: for secrets that an
    # orchestrator injects. Empty: no variable is read.
    keys_env: str = "PALUKU_KEYS"
    # Pages that may connect from a browser, exact, or "*". Empty: only a page of this very host. Whoever
    # sends no Origin is no browser, and cannot be made to act for a stranger's page.
    origins: tuple[Origin, ...] = ()


class LimitsConfig(Config):
    """What one client may ask of one serving process."""

    # 1.3 s of 24 kHz PCM16 and its header: far more than the 20 to 40 ms a microphone sends.
    max_message_bytes: int = Field(default=65_536, ge=1_024)
    # JSON of the Realtime protocol carries sound as base64, stock clients up to a whole recording at once.
    max_event_bytes: int = Field(default=4 * 2**20, ge=1_024)
    # Seconds of sound per second: real time, and what clocks that differ and stalls made good need.
    sound_rate: float = Field(default=1.25, ge=1)
    # Sound that may come at once: a network stall of the length that TCP survives unnoticed.
    sound_burst_s: float = Field(default=5.0, ge=1)
    # The same where stock clients append recordings (Realtime).
    clip_burst_s: float = Field(default=60.0, ge=1)
    # Messages a second, of either protocol. Clients send 25 to 50, a browser that sends each of its audio
    # blocks (128 samples at 24 kHz) 188; a quarter more as for sound.
    message_rate: float = Field(default=250.0, ge=1)
    # Messages at once: five seconds of such blocks. A backlog behind a resume is a few hundred.
    message_burst: int = Field(default=1_000, ge=1)
    # The same for Realtime: a minute's recording in pieces of 20 ms is 3,000.
    event_burst: int = Field(default=4_000, ge=1)
    # Bytes a second: twice what sound of 48 kHz takes, or of 24 kHz in base64, at `sound_rate`.
    bytes_rate: float = Field(default=262_144.0, ge=1_024)
    # Bytes at once: `sound_burst_s` of 48 kHz is half of it.
    bytes_burst: int = Field(default=2**20, ge=1_024)
    # The same for Realtime: two of the largest events.
    event_bytes_burst: int = Field(default=8 * 2**20, ge=1_024)
    # As OpenAI's: long enough for any talk, and a forgotten tab gives its seat back. None: no end.
    max_session_s: float | None = Field(default=3_600.0, gt=0)
    # Above the seats of most machines: a key is an application's, not a person's, yet a client that leaks
    # sessions is stopped. None: seats alone bound it, as they do where there are no keys.
    sessions_per_key: int | None = Field(default=100, ge=1)
    # By key, or by address where there are no keys. The minute's allowance may be used at once: after a
    # restart all clients come back together. A loop that connects and drops is slowed to ten a second.
    new_sessions_per_minute: int = Field(default=600, ge=1)


class ServingConfig(Config):
    """Every queue has a bound and every wait an end; these are they."""

    # Sound a client may be ahead of the tick: 2 s, what a short network stall delivers at once.
    max_waiting_frames: int = Field(default=50, ge=1)
    # Messages that may wait for a slow reader: about 2.5 s of sound.
    max_waiting_messages: int = Field(default=64, ge=1)
    # Batches of one lane that may be in its three stages at once: one each, and one that waits.
    max_in_flight: int = Field(default=4, ge=1)
    # Steps more that a tick may make for a session that is behind: else one stall is late for good. More
    # than one would let whoever is behind take the time of all the others.
    catch_up: int = Field(default=1, ge=0)
    # A step that takes longer is lost: its sessions are silent so long and for a move, together less than
    # a second. Shorter than the sound that may wait, or else clients would be told that they are too fast.
    step_timeout_s: float = Field(default=0.7, gt=0)
    # With no other replica to go to, waiting for one that is slow costs less than to give its seats up.
    lone_step_timeout_s: float = Field(default=1.8, gt=0)
    open_timeout_s: float = Field(default=5.0, gt=0)
    hello_timeout_s: float = Field(default=10.0, gt=0)
    idle_timeout_s: float = Field(default=30.0, gt=0)
    close_timeout_s: float = Field(default=2.0, gt=0)
    retry_s: float = Field(default=5.0, gt=0)
    # A client that vanished may take its session up again for so long: a change of network, a redeploy.
    grace_s: float = Field(default=30.0, ge=0)
    # A seat whose ingress says nothing for so long is free: five missed renewals of one a second.
    lease_s: float = Field(default=5.0, gt=0)
    # How often what is new in the sessions' memory is copied out of this process. What is lost with the
    # process is at most this much speech, which the client sends again.
    snapshot_s: float = Field(default=0.25, gt=0)
    # Frames a session's memory keeps: 40 s, several times the model's reach; 34 kB a session at K = 8.
    memory_frames: int = Field(default=1_000, ge=1)
    # No new session beside others while the p99 of the step time is above this share of the tick: the rest
    # is what stalls of the machine and the network need.
    admission_p99_share: float = Field(default=0.7, gt=0, le=1)
    # How long a session whose replica is gone waits for another: what Serve takes to start one, with room.
    recovery_s: float = Field(default=20.0, gt=0)
    align: AlignConfig = AlignConfig()
    turns: TurnConfig = TurnConfig()
    security: SecurityConfig = SecurityConfig()
    limits: LimitsConfig = LimitsConfig()
    # What the machines of this process cost an hour; None: `/stats` names no cost.
    price_per_hour: float | None = Field(default=None, ge=0)
    price_currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
