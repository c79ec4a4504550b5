"""TCP ports on this machine: find free ones, and say clearly when a wanted one is taken."""

import random
import socket

from paluku.errors import ServiceError

LOOPBACK = "127.0.0.1"

# Ray's workers take theirs from 10002 to 19999, Serve's replicas from 30000 and 40000; ephemeral
# client ports begin at 32768. Between them nothing of ours or Ray's is handed out unasked.
FIRST, LAST = 21_000, 29_000
MAX_PORT = 65_535


def free_ports(count: int) -> list[int]:
    """`count` different ports that are free now.

    In random order: two that look at the same moment would else find the same ones.

    Raises:
        ServiceError: when the range is exhausted.
    """
    found: list[int] = []
    for port in random.sample(range(FIRST, LAST), LAST - FIRST):
        if len(found) == count:
            return found
        if is_free(port):
            found.append(port)
    raise ServiceError(f"no {count} free ports between {FIRST} and {LAST}; stop what holds them")


def is_free(port: int) -> bool:
    """Whether something could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))  # every interface: that is how Ray and HAProxy will ask for it
        except OSError:
            return False
    return True


def claim(port: int, what: str, how_to_change: str) -> int:
    """The port itself, when it is free.

    Raises:
        ServiceError: when it is taken; the message names what wanted it and how to choose another.
    """
    if not 1 <= port <= MAX_PORT:
        raise ServiceError(
            f"port {port}, wanted for {what}, does not exist; {how_to_change} up to {MAX_PORT}"
        )
    if not is_free(port):
        raise ServiceError(f"port {port}, wanted for {what}, is in use; stop its owner or {how_to_change}")
    return port
