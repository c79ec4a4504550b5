"""The one exception tree: what a user can mend, said in one line, with exit code 2."""

import functools
import sys
from collections.abc import Callable

EXIT_USER_ERROR = 2


class PalukuError(Exception):
    """Something the user can mend. The message names the thing and says what to do."""


class ConfigError(PalukuError):
    """A configuration file or an override that does not fit its model."""


class AudioError(PalukuError):
    """An audio file or stream that cannot be used: missing, broken, or of the wrong rate."""


class CorpusError(PalukuError):
    """A corpus, a shard or a manifest that is missing, broken or empty."""


class CheckpointError(PalukuError):
    """A checkpoint or bundle whose files, hash or configuration do not match."""


class TrainingError(PalukuError):
    """A training run that cannot go on: its loss is no number any more."""


class StorageError(PalukuError):
    """A place to write to that is full, read-only or not absolute."""


class ServiceError(PalukuError):
    """A server, a port or a cluster that is not there, or is already taken."""


class ProtocolError(PalukuError):
    """A message that breaks the wire protocol."""


class SeatsExhausted(PalukuError):  # noqa: N818 (a state of the house, not a fault)
    """No seat is free; the caller may come back after `retry_s` seconds."""

    def __init__(self, message: str, retry_s: float) -> None:
        super().__init__(message)
        self.retry_s = retry_s


def one_line(error: BaseException) -> str:
    """The error's message on a single line, for a terminal or a log."""
    return " ".join(str(error).split())


def exits_cleanly(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap an entry point: a `PalukuError` becomes one line on stderr and exit code 2."""

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except PalukuError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            sys.exit(EXIT_USER_ERROR)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(130)

    return run
