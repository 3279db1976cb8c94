"""The socket of a page, and what reaches it."""

from __future__ import annotations

import ipaddress
import socket

from prefectish.errors import PrefectishError
from prefectish.ui.access import LOOPBACK

#: Where the page listens by default; another port if this one is in use.
HOST, PORT = "127.0.0.1", 7411
#: Connections that wait while the server begins.
BACKLOG = 512


class PortTaken(PrefectishError):
    """Raised when the page cannot listen where it should."""

    exit_code = 2


def listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens; without a port :data:`PORT`, or another one if that is taken.

    Raises
    ------
    PortTaken
        It cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports = [port] if port is not None else [PORT, 0]
    for each in ports:
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((host, each))
            opened.listen(BACKLOG)
        except OSError as error:
            opened.close()
            if each != ports[-1]:
                continue
            raise PortTaken(f"cannot listen on {host}, port {each}: {error.strerror or error}") from None
        return opened
    raise AssertionError("there is always a port to try")


def is_anywhere(host: str) -> bool:
    """Whether a host stands for all networks of this machine.

    Examples
    --------
    >>> is_anywhere("0.0.0.0"), is_anywhere("::"), is_anywhere("127.0.0.1"), is_anywhere("login1")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host.

    Examples
    --------
    >>> is_loopback("127.0.0.2"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("login1")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK
