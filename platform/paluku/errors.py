"""The one exception tree: what a user can mend, said in one line, with exit code 2."""

import errno
import functools
import sys
from collections.abc import Callable
from typing import NoReturn, Self

EXIT_USER_ERROR = 2

# A place that cannot be written to: full, over its quota, read-only, or somebody else's.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


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


class EvaluationError(PalukuError):
    """A judgement cannot be made: nothing to judge, or a judge that is not here."""


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

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        """Ray carries errors between processes; more than one argument has to be said."""
        return type(self), (str(self), self.retry_s)


def one_line(error: BaseException) -> str:
    """The error's message on a single line, for a terminal or a log."""
    return " ".join(str(error).split())


def _stop(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)


def exits_cleanly(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap an entry point: a `PalukuError` or a full disk becomes one line on stderr and exit code 2."""

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except PalukuError as error:
            _stop(one_line(error))
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            place = error.filename or "a file"
            _stop(f"{place} cannot be written ({error.strerror}); free space or choose another place")
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(130)

    return run
