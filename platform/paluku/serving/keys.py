"""Keys that open the service: random secrets, kept as salted hashes under a name that may be logged.

A key is 256 random bits, so one round of SHA-256 hides it as well as a slow hash would, which a busy
event loop cannot afford at every handshake.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from paluku.config import Config
from paluku.errors import ConfigError
from paluku.log import logger
from paluku.serving.config import SecurityConfig

log = logger(__name__)

PREFIX = "pk_"  # so that secret scanners and people recognise one
KEY_BYTES = 32
# Shorter ones could be guessed, and a slow hash would be needed.
MIN_KEY_LENGTH = 20


class HashedKey(Config):
    """A line of the keys file."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    salt: str = Field(pattern=r"^[0-9a-f]{16,}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    def fits(self, key: str) -> bool:
        """Whether this is the hash of `key`, in a time that does not tell."""
        return hmac.compare_digest(_digest(self.salt, key), self.sha256)


def _digest(salt: str, key: str) -> str:
    # surrogateescape: a client may send any bytes in a header
    return hashlib.sha256(f"{salt}:{key}".encode(errors="surrogateescape")).hexdigest()


def new_key() -> str:
    """A fresh secret, shown once to whoever will use it."""
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def hashed(name: str, key: str) -> HashedKey:
    """What is kept of a key."""
    salt = secrets.token_hex(8)
    return HashedKey(name=name, salt=salt, sha256=_digest(salt, key))


class Keys:
    """The keys of a file, followed as it changes, and those of an environment variable.

    Raises:
        ConfigError: when the file is missing or broken, or the variable is empty or malformed.
    """

    def __init__(self, config: SecurityConfig, environ: Mapping[str, str] = os.environ) -> None:
        self._file = config.keys_file
        text = environ.get(config.keys_env) if config.keys_env else None
        self._given = () if text is None else _given(config.keys_env, text)
        self.are_configured = self._file is not None or text is not None
        self._stamp: tuple[int, ...] | None = None
        self._read: tuple[HashedKey, ...] = ()
        if self._file is not None:
            self._stamp = _stamp(self._file)
            self._read = read_keys(self._file)

    def holder(self, key: str) -> str | None:
        """The name of a key, or None. Every entry is compared, whichever fits."""
        self._follow()
        found = None
        for entry in (*self._given, *self._read):
            if entry.fits(key):
                found = entry.name
        return found

    def _follow(self) -> None:
        """A file that cannot be read right now changes nothing: neither open the door nor lock all out."""
        if self._file is None or (stamp := _stamp(self._file)) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._read = read_keys(self._file)
        except ConfigError:
            log.warning("%s cannot be read; the keys it held before stay valid", self._file)
        else:
            log.info("%d keys read from %s", len(self._read), self._file)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_keys(path: Path) -> tuple[HashedKey, ...]:
    """The entries of a keys file; its lines are not quoted in complaints.

    Raises:
        ConfigError: when it cannot be read, or a line is no entry.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"keys file {path} cannot be read; make one with `python -m jobs.keys`") from error
    entries = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                entries.append(HashedKey.model_validate_json(line))
            except ValueError:
                raise ConfigError(
                    f"line {number} of keys file {path} is no entry; make one with `python -m jobs.keys`"
                ) from None
    return tuple(entries)


def _given(variable: str, text: str) -> Sequence[HashedKey]:
    """The keys of `NAME=KEY,NAME=KEY`."""
    entries = []
    for number, part in enumerate(text.split(","), start=1):
        name, _, key = part.strip().partition("=")
        try:
            entry = hashed(name, key)
        except ValueError:
            entry = None
        # The entry is not quoted: what was meant as a key may stand anywhere in it.
        if entry is None or len(key) < MIN_KEY_LENGTH:
            raise ConfigError(
                f"entry {number} of {variable} must be NAME=KEY with {MIN_KEY_LENGTH} characters of key or "
                "more (`python -m jobs.keys` makes one); or unset it"
            )
        entries.append(entry)
    return tuple(entries)
