"""Keeps tests off the network."""

from __future__ import annotations

import ipaddress
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class NetworkUsed(AssertionError):
    """Something wanted to leave this machine, or to look up a name, while that was forbidden."""


_lock = threading.Lock()
_forbidden = 0
_watching = False


@contextmanager
def no_network() -> Iterator[None]:
    """Make every connection but those to this machine raise NetworkUsed, and every look-up of a name as well.

    For the whole process, whoever connects, as Python's own sockets report it ("audit events", PEP 578). What
    connects past them is not seen: libraries in C, uvloop, and other processes. May be nested, in any thread.
    """
    global _forbidden, _watching
    with _lock:
        _forbidden += 1
        if not _watching:  # what was added once can never be removed
            sys.addaudithook(_watch)
            _watching = True
    try:
        yield
    finally:
        with _lock:
            _forbidden -= 1


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _forbidden or not event.startswith("socket."):
        return
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        _check(arguments[1])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        _check((arguments[0],))


def _check(address: object) -> None:
    """Raise NetworkUsed for an address that is elsewhere. None is that of a connection that stands already."""
    if not isinstance(address, tuple):  # a socket in the file system, or none
        return
    host = os.fsdecode(address[0]) if isinstance(address[0], (str, bytes)) else address[0]
    if host and host != "localhost" and not _is_loopback(host):
        raise NetworkUsed(f"A connection to {host!r} was wanted, and no_network() forbids it.")


def _is_loopback(host: object) -> bool:
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False
