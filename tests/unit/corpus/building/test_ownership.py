import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paluku.corpus.building.ownership import OWNER, SILENT_S, Owner, is_alive, owner_of, owning, refuse_lost
from paluku.corpus.storage import Place
from paluku.errors import CorpusError

HERE = socket.gethostname()


@pytest.fixture
def work(tmp_path: Path) -> Place:
    return Place.of(tmp_path / "corpus" / "_work")


def gone() -> int:
    """The number of a process that is over."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def owned_by(work: Place, host: str, pid: int, silent_s: float = 0.0) -> Owner:
    owner = Owner(id="another", host=host, pid=pid, seen_s=time.time() - silent_s)
    work.write_bytes(OWNER, owner.to_json().encode())
    return owner


def test_a_place_is_owned_while_the_block_goes_on(work: Place) -> None:
    with owning(work) as ownership:
        assert str(owner_of(work)) == f"process {os.getpid()} on {HERE}"
        ownership.refuse_lost()
        refuse_lost(work, ownership.id)
    assert owner_of(work) is None


def test_a_build_that_goes_on_is_named_and_left_alone(work: Place) -> None:
    owner = owned_by(work, HERE, os.getpid())
    at_work = rf"_work is being built by process {os.getpid()} on .*; wait"
    with pytest.raises(CorpusError, match=at_work), owning(work):
        pytest.fail("two at once")
    assert owner_of(work) == owner


@pytest.mark.parametrize(("host", "silent_s"), [(HERE, 0.0), ("another host", SILENT_S + 1)])
def test_a_dead_one_is_taken_over(work: Place, host: str, silent_s: float) -> None:
    owned_by(work, host, gone(), silent_s)
    with owning(work) as ownership:
        ownership.refuse_lost()


def test_another_host_is_believed_while_it_is_heard_of(work: Place) -> None:
    owner = owned_by(work, "another host", gone())
    assert is_alive(owner, owner.seen_s + SILENT_S)
    assert not is_alive(owner, owner.seen_s + SILENT_S + 1)


def test_one_that_was_taken_over_stops_and_leaves_the_other_its_place(work: Place) -> None:
    with owning(work) as ownership:
        other = owned_by(work, "another host", 1)
        with pytest.raises(CorpusError, match=r"\(process 1 on another host\) took over .*this one stops"):
            ownership.remove_work()
    assert owner_of(work) == other


def test_the_work_goes_with_its_owner(work: Place) -> None:
    with owning(work) as ownership:
        work.write_bytes("parts/a", b"x")
        ownership.remove_work()
        with pytest.raises(CorpusError, match="which is over, took over"):
            refuse_lost(work, ownership.id)
    assert work.local is not None
    assert not work.local.exists()


@pytest.mark.parametrize("data", [b"half an own", b"\xff"])
def test_a_damaged_owner_is_nobody(work: Place, data: bytes) -> None:
    work.write_bytes(OWNER, data)
    assert owner_of(work) is None
