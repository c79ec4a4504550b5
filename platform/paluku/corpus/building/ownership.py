"""Whose build it is: one at a time in one place, and a late task of another writes nothing.

`_work/owner.json` names the build at work. It is taken over without a word when the process is gone (on
this host) or has not been heard of for `SILENT_S` (anywhere): the clocks of the hosts must agree to that.
There is no lock in an object store, so two that begin in the same moment may both go on at first; the one
that was overwritten finds out before its next phase and in every task, and stops.
"""

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator

from paluku.config import Config
from paluku.corpus.storage import Place
from paluku.errors import ConfigError, CorpusError, StorageError

OWNER = "owner.json"
BEAT_S = 20.0
SILENT_S = 120.0  # six beats: a store may be slow, a machine may swap


class Owner(Config):
    """A build at work."""

    id: str
    host: str
    pid: int
    seen_s: float  # since 1970, by the clock of its host

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def owner_of(work: Place) -> Owner | None:
    """Who builds there, dead or alive; none where nobody says so.

    Raises:
        StorageError: when the place cannot be reached.
    """
    try:
        return Owner.from_json(work.read_bytes(OWNER).decode(), work.named(OWNER))
    except (CorpusError, ConfigError, UnicodeDecodeError):  # missing, or not ours: nobody's
        return None


def is_alive(owner: Owner, now_s: float | None = None) -> bool:
    """Whether that build goes on, as far as can be told from here."""
    now_s = time.time() if now_s is None else now_s
    if abs(now_s - owner.seen_s) > SILENT_S:
        return False
    return owner.host != socket.gethostname() or _is_running(owner.pid)


def refuse_lost(work: Place, own_id: str) -> None:
    """To be asked before anything is written that another build's files may lie in the way of.

    Raises:
        CorpusError: when another build has taken the place over, or finished it.
        StorageError: when the place cannot be reached.
    """
    found = owner_of(work)
    if found is None or found.id != own_id:
        by = f"another build ({found})" if found else "another build, which is over,"
        raise CorpusError(f"{by} took over {work}; this one stops: build into one place once at a time")


class Ownership:
    """Of this build, while it lasts; `id` goes with every task."""

    def __init__(self, work: Place) -> None:
        self._work, self._over = work, threading.Event()
        self._own = Owner(
            id=secrets.token_hex(8), host=socket.gethostname(), pid=os.getpid(), seen_s=time.time()
        )
        _write(work, self._own)
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    @property
    def id(self) -> str:
        """Drawn at random."""
        return self._own.id

    def refuse_lost(self) -> None:
        """See `refuse_lost`."""
        refuse_lost(self._work, self.id)

    def remove_work(self) -> None:
        """The work folder goes, and this ownership with it.

        Raises:
            CorpusError: when the place was lost.
            StorageError: when it cannot be changed.
        """
        self.refuse_lost()
        self._rest()  # or the next beat would make the folder again
        self._work.delete_tree("")

    def end(self) -> None:
        """Leave the place to whoever comes next."""
        self._rest()
        with contextlib.suppress(StorageError):  # out of reach: it is found silent instead
            found = owner_of(self._work)
            if found is not None and found.id == self.id:
                self._work.delete(OWNER)

    def _rest(self) -> None:
        self._over.set()
        self._heart.join()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            with contextlib.suppress(StorageError):  # the build itself will say so
                found = owner_of(self._work)
                if found is None or found.id != self.id:
                    return
                _write(self._work, self._own.model_copy(update={"seen_s": time.time()}))


@contextlib.contextmanager
def owning(work: Place) -> Iterator[Ownership]:
    """This build owns the place while the block goes on.

    Raises:
        CorpusError: when another build is at work there.
        StorageError: when the place cannot be written.
    """
    other = owner_of(work)
    if other is not None and is_alive(other):
        raise CorpusError(f"{work} is being built by {other}; wait for it or stop it, or choose another out")
    ownership = Ownership(work)
    try:
        yield ownership
    finally:
        ownership.end()


def _write(work: Place, owner: Owner) -> None:
    work.write_bytes(OWNER, owner.to_json().encode())


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
