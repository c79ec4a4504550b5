"""Who may come in, and how much one client may ask: keys, origins, limits. docs/security.md is the prose."""

import ipaddress
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

from paluku.errors import ServiceError
from paluku.log import logger
from paluku.protocol.messages import CloseCode, ViolationError
from paluku.serving.config import LimitsConfig, ServingConfig
from paluku.serving.events import Ending
from paluku.serving.keys import Keys
from paluku.streaming.clock import Clock

log = logger(__name__)

S_PER_MIN = 60.0

OPEN = "open"  # the holder of whoever comes in where no keys are configured
# What a browser may use, which cannot set headers on a WebSocket (OpenAI's convention).
KEY_SUBPROTOCOL = "openai-insecure-api-key."
TOO_LONG = Ending.of(
    CloseCode.POLICY, "too_long", "the session has reached its greatest length; start another"
)


class Refused(ServiceError):  # noqa: N818 (an answer, not a fault)
    """Not let in. The text is what the client is told; it holds no key."""

    def __init__(
        self, http_status: int, close_code: CloseCode, code: str, message: str, retry_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.close_code = close_code
        self.code = code
        self.retry_s = retry_s

    def __reduce__(self) -> tuple[type["Refused"], tuple[object, ...]]:
        """As pickle makes it again."""
        return type(self), (self.http_status, self.close_code, self.code, str(self), self.retry_s)

    @property
    def ending(self) -> Ending:
        """How the connection ends."""
        return Ending.of(self.close_code, self.code, str(self), self.retry_s)


class TokenBucket:
    """`burst` at once, `rate` a second for ever."""

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._filled_s = now_s

    def take(self, amount: float, now_s: float) -> bool:
        """Take so much, or nothing when there is less."""
        self._fill(now_s)
        # A client exactly at the rate must not be caught by what floating point leaves over.
        if amount > self._left + 1e-9:
            return False
        self._left -= amount
        return True

    def wait_s(self, amount: float, now_s: float) -> float:
        """How long until so much could be taken."""
        self._fill(now_s)
        return max(0.0, (amount - self._left) / self._rate)

    def is_full(self, now_s: float) -> bool:
        """Whether it is as good as new."""
        self._fill(now_s)
        return self._left >= self._burst

    def _fill(self, now_s: float) -> None:
        self._left = min(self._burst, self._left + self._rate * max(0.0, now_s - self._filled_s))
        self._filled_s = max(self._filled_s, now_s)


class Pass:
    """A connection's right to a session: `with gate.admit(...) as pass_:`. Its place is free afterwards.

    Unless it is handed over: a session that outlives its connection holds the place for as long as its seat.
    """

    def __init__(
        self, held: Counter[str], holder: str, limits: LimitsConfig, now_s: float, takes_clips: bool
    ) -> None:
        self.holder = holder  # a key's name, or "open": may be logged
        self.deadline_s = math.inf if limits.max_session_s is None else now_s + limits.max_session_s
        self._max_bytes = limits.max_event_bytes if takes_clips else limits.max_message_bytes
        burst_s = limits.clip_burst_s if takes_clips else limits.sound_burst_s
        self._sound = TokenBucket(limits.sound_rate, burst_s, now_s)
        self._rate = limits.sound_rate
        message_burst = limits.event_burst if takes_clips else limits.message_burst
        bytes_burst = limits.event_bytes_burst if takes_clips else limits.bytes_burst
        self._messages = TokenBucket(limits.message_rate, message_burst, now_s)
        self._bytes = TokenBucket(limits.bytes_rate, bytes_burst, now_s)
        self._is_handed_over = False
        self._held: Counter[str] | None = held
        held[holder] += 1

    def sound(self, seconds: float, now_s: float) -> None:
        """So many seconds of sound came.

        Raises:
            ViolationError: `too_fast`, when more comes than real time and its bursts can explain.
        """
        if not self._sound.take(seconds, now_s):
            raise ViolationError(
                "too_fast",
                f"sound comes faster than {self._rate:g} seconds a second; send it as it is spoken",
                CloseCode.POLICY,
            )

    def message(self, num_bytes: int, now_s: float) -> None:
        """A message of so many bytes came.

        Raises:
            ViolationError: `too_big`, or `too_many_messages` when they or their bytes come too fast.
        """
        if num_bytes > self._max_bytes:
            raise ViolationError(
                "too_big",
                f"a message of {num_bytes} bytes came, {self._max_bytes} are allowed; send smaller ones",
                CloseCode.TOO_BIG,
            )
        if not self._messages.take(1, now_s) or not self._bytes.take(num_bytes, now_s):
            raise ViolationError(
                "too_many_messages",
                "messages come faster than sound explains; send fewer, and sound in pieces of 20 to 40 ms",
                CloseCode.POLICY,
            )

    def hand_over(self) -> Callable[[], None]:
        """The place is another's from now on, who frees it by calling this."""
        self._is_handed_over = True
        return self.release

    def release(self) -> None:
        """Free its place; a second time does nothing."""
        if self._held is not None:
            self._held[self.holder] -= 1
            if not self._held[self.holder]:
                del self._held[self.holder]
            self._held = None

    def __enter__(self) -> "Pass":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if not self._is_handed_over:
            self.release()


class Gate:
    """Admits connections of one process. It holds counts and names, and never a key.

    Raises:
        ConfigError: as `Keys`.
    """

    def __init__(self, config: ServingConfig, clock: Clock, environ: Mapping[str, str] = os.environ) -> None:
        self._origins = config.security.origins
        self._limits = config.limits
        self._clock = clock
        self._keys = Keys(config.security, environ)
        self._held: Counter[str] = Counter()  # sessions by holder
        self._arrivals: dict[str, TokenBucket] = {}
        self.refusals: Counter[str] = Counter()  # by code
        if not self.needs_key:
            log.warning("no keys are configured: whoever reaches this server may use it")

    @property
    def needs_key(self) -> bool:
        """Whether keys are configured."""
        return self._keys.are_configured

    def knock(self, headers: Mapping[str, str]) -> None:
        """Before a WebSocket is accepted whose protocol may still say a key: is what is known so far right?

        Raises:
            Refused: for an origin that is not allowed (403), or a wrong key in the headers (401).
        """
        self._check_origin(headers)
        if self.needs_key and (key := bearer(headers)) is not None:
            self._holder(key)

    def admit(
        self,
        headers: Mapping[str, str],
        client_host: str,
        key: str | None = None,
        *,
        takes_clips: bool = False,
        resumes: bool = False,
    ) -> Pass:
        """Let a session in. `key` is one the protocol itself has said; one in the headers wins.

        `takes_clips`: the protocol's clients may send whole recordings at once. `resumes`: it wants a session
        that has a place already, which is free as soon as the session goes on here; so it takes its own
        however many there are. Without such a session it comes to nothing, and its place is free again.

        Raises:
            Refused: for its origin (403), its key (401), or too many sessions (429), with seconds to wait.
        """
        self._check_origin(headers)
        holder = OPEN
        if self.needs_key:
            in_headers = bearer(headers)
            holder = self._holder(key if in_headers is None else in_headers)
            if not resumes:
                self._check_sessions(holder)
        self._check_arrivals(f"address {client_host}" if holder == OPEN else holder)
        return Pass(self._held, holder, self._limits, self._clock.now(), takes_clips)

    def check_operator(self, headers: Mapping[str, str]) -> None:
        """Whether the statistics may be seen, or a self-test be run.

        Raises:
            Refused: for its origin (403) or its key (401).
        """
        self._check_origin(headers)
        if self.needs_key:
            self._holder(_authorization(headers))

    def _holder(self, key: str | None) -> str:
        holder = None if key is None else self._keys.holder(key)
        if holder is None:
            what = "a key is needed" if key is None else "this key is not known here"
            raise self._refusal(
                401, CloseCode.POLICY, "unauthorized", f"{what}; send Authorization: Bearer KEY"
            )
        return holder

    def _check_sessions(self, holder: str) -> None:
        most = self._limits.sessions_per_key
        if most is not None and self._held[holder] >= most:
            raise self._refusal(
                429,
                CloseCode.TRY_AGAIN,
                "too_many_sessions",
                f"this key holds {most} sessions, all it may; end one first",
                5.0,
            )

    def _check_arrivals(self, who: str) -> None:
        now_s = self._clock.now()
        rate = self._limits.new_sessions_per_minute / S_PER_MIN
        bucket = self._arrivals.get(who)
        if bucket is None:
            # Whoever has been quiet is forgotten, so that strangers cannot make this grow for ever.
            self._arrivals = {name: b for name, b in self._arrivals.items() if not b.is_full(now_s)}
            bucket = TokenBucket(rate, self._limits.new_sessions_per_minute, now_s)
            self._arrivals[who] = bucket
        if not bucket.take(1, now_s):
            raise self._refusal(
                429,
                CloseCode.TRY_AGAIN,
                "too_many_new_sessions",
                f"more than {self._limits.new_sessions_per_minute} new sessions a minute; wait",
                math.ceil(bucket.wait_s(1, now_s)),
            )

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        origin = headers.get("origin")
        if origin is None or "*" in self._origins or origin.lower() in self._origins:
            return
        host = headers.get("host", "").lower()
        if host and _host_of(origin) == host and (self.needs_key or _is_unmistakable(host)):
            return
        raise self._refusal(
            403, CloseCode.POLICY, "forbidden_origin", "pages of this origin may not connect here"
        )

    def _refusal(
        self, status: int, close_code: CloseCode, code: str, message: str, retry_s: float | None = None
    ) -> Refused:
        self.refusals[code] += 1
        return Refused(status, close_code, code, message, retry_s)


def bearer(headers: Mapping[str, str]) -> str | None:
    """The key in `Authorization: Bearer`, or a sub-protocol. Never in the address: that is logged."""
    key = _authorization(headers)
    if key is not None:
        return key
    for offered in headers.get("sec-websocket-protocol", "").split(","):
        if offered.strip().startswith(KEY_SUBPROTOCOL):
            return offered.strip().removeprefix(KEY_SUBPROTOCOL)
    return None


def _authorization(headers: Mapping[str, str]) -> str | None:
    scheme, _, key = headers.get("authorization", "").strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def _host_of(origin: str) -> str | None:
    """The host of an origin, with its port; none when it is no address."""
    try:
        return urlsplit(origin.lower()).netloc
    except ValueError:
        return None


def _is_unmistakable(host: str) -> bool:
    """Whether no name server can make the host another machine: an address, or this machine.

    A stranger's page may have its own name point at loopback (DNS rebinding) and would then be "of this
    very host". Where keys are needed it has none; where the door is open, only this keeps it out.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def deny(socket: WebSocket, refused: Refused) -> None:
    """Refuse a WebSocket that is not accepted yet: an HTTP status, and one line that says why."""
    if "websocket.http.response" not in socket.scope.get("extensions", {}):
        await socket.close(refused.close_code)  # what such a server makes 403 of
        return
    await socket.send_denial_response(refusal(refused))


def refusal(refused: Refused) -> PlainTextResponse:
    """The HTTP answer to whoever is refused."""
    headers = {}
    if refused.retry_s is not None:
        headers["Retry-After"] = str(math.ceil(refused.retry_s))
    if refused.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return PlainTextResponse(f"{refused.code}: {refused}\n", refused.http_status, headers)
