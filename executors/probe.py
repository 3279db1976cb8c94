"""Check on a bare socket whether a Dask scheduler listens at an address.

distributed retries an address until its time-out, whatever answers there. The check distinguishes a server of another
kind, or a certificate that can never fit, from a scheduler that has not started *yet*. A Dask scheduler sends the first
message; a server that waits for one is sent bytes that no protocol knows.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import struct
import time
from contextlib import closing, suppress

from distributed import Security
from distributed.comm import parse_address, parse_host_port
from distributed.comm.registry import get_backend

from prefectish.errors import FlowDefinitionError, SchedulerLost

#: How long a server may stay silent before it is sent something, in seconds.
SILENCE = 1.0
#: Fewer bytes than the header of a Dask message, which it would take for the start of one.
_QUESTION = b"?\r\n\r\n"
#: A scheduler's first message is a few hundred bytes long, and its length comes first.
_LONGEST_GREETING = 1 << 20
#: Pause after a refused connection, in seconds.
PAUSE = 0.1


class _NotDask(Exception):
    """Raised when another server answers at the address, or a scheduler that refuses the connection."""


def masked(address: str) -> str:
    """Return an address without the credentials it may hold.

    Examples
    --------
    >>> masked("tls://me:secret@host:8786")
    'tls://***@host:8786'
    """
    return re.sub(r"(^|//)[^/]*@", r"\1***@", address)


def checked_address(address: object) -> str | None:
    """Return the address of a scheduler that a user gave.

    Raises
    ------
    FlowDefinitionError
        It is not a string, but a port, a client or a cluster.
    """
    if address is None or isinstance(address, str):
        return address
    hint = "pass a Client as client=..., of a cluster its scheduler_address"
    if isinstance(address, int):
        hint = f"write 'tcp://127.0.0.1:{address}'"
    raise FlowDefinitionError(f"address must be a string, got {_shown(address)}; {hint}")


def _shown(address: object) -> str:
    """Return what was given in the place of an address: a number as it is, the type of what may be long."""
    return repr(address) if isinstance(address, int) else f"an object of type {type(address).__name__}"


def _host_and_port(address: str) -> tuple[str, int]:
    """Split an address of TCP.

    Raises
    ------
    FlowDefinitionError
        It has no such parts.
    """
    try:
        host, port = parse_host_port(parse_address(address)[1])
    except ValueError:  # its text holds the address, which may hold a password
        raise _malformed(address) from None
    return str(host), int(port)


def _malformed(address: str) -> FlowDefinitionError:
    hint = "; a Dask dashboard listens at http://, its scheduler at another port" if address.startswith("http") else ""
    return FlowDefinitionError(f"address must be like 'tcp://host:8786', got {masked(address)!r}{hint}")


def _check_scheme(address: str, scheme: str) -> None:
    """Refuse what no Client could speak: one that fails as it is made holds up the end of the program."""
    try:
        get_backend(scheme)
    except ValueError:
        raise _malformed(address) from None


def is_encrypted(address: str) -> bool:
    """Whether connections to this address are encrypted and authenticated, or never leave this process."""
    return parse_address(address)[0] in ("tls", "wss", "inproc")


def is_loopback(address: str) -> bool:
    """Whether an address can be reached from this machine only; an unknown host counts as remote."""
    if parse_address(address)[0] == "inproc":
        return True
    try:
        found = {info[4][0] for info in socket.getaddrinfo(_host_and_port(address)[0], None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(str(ip).partition("%")[0]).is_loopback for ip in found)


def await_scheduler(address: str, security: Security, timeout: float) -> None:
    """Return when a Dask scheduler answers at `address`; addresses other than TCP are not checked.

    Parameters
    ----------
    timeout
        Seconds to wait for a scheduler that has not started yet.

    Raises
    ------
    FlowDefinitionError
        It is not the address of a scheduler.
    SchedulerLost
        No scheduler answered in time; or, at once, another server did, or TLS failed.
    """
    scheme = parse_address(address)[0]
    if scheme not in ("tcp", "tls"):
        _check_scheme(address, scheme)
        return
    host, port = _host_and_port(address)
    context = _tls_context(address, security) if scheme == "tls" else None
    end = time.monotonic() + timeout
    why = "it accepts connections and stays silent"
    while (left := end - time.monotonic()) > 0:
        try:
            if _greets(host, port, context, left):
                return
        except _NotDask as fault:
            raise SchedulerLost(f"no Dask scheduler at {masked(address)}: {fault}") from None
        except OSError as fault:
            why = str(fault) or type(fault).__name__
            time.sleep(min(PAUSE, left))
    raise SchedulerLost(f"no Dask scheduler at {masked(address)} after {timeout:g} s: {why}")


def _tls_context(address: str, security: Security) -> ssl.SSLContext:
    context: ssl.SSLContext | None = security.get_connection_args("client").get("ssl_context")
    if context is None:
        raise SchedulerLost(
            f"{masked(address)} needs TLS, and no certificates were given; pass "
            "security=distributed.Security(tls_ca_file=..., tls_client_cert=..., tls_client_key=...)"
        )
    return context


def _greets(host: str, port: int, context: ssl.SSLContext | None, timeout: float) -> bool:
    """Connect once; whether a scheduler greeted before the time was up."""
    with closing(socket.create_connection((host, port), timeout)) as plain:
        try:
            with closing(context.wrap_socket(plain, server_hostname=host) if context else plain) as link:
                return _is_greeting(_first_bytes(link, timeout))
        except ssl.SSLError as fault:
            raise _NotDask(f"TLS failed: {fault.reason or fault}") from None


def _first_bytes(link: socket.socket, timeout: float) -> bytes:
    link.settimeout(min(SILENCE, timeout))
    try:
        return _receive(link)
    except TimeoutError:
        link.settimeout(max(timeout - SILENCE, 0.01))
        link.sendall(_QUESTION)
        return _receive(link)


def _receive(link: socket.socket) -> bytes:
    said = b""
    with suppress(ConnectionResetError):
        while len(said) < 8 and (more := link.recv(8 - len(said))):
            said += more
    return said


def _is_greeting(said: bytes) -> bool:
    if not said:
        raise _NotDask("what listens there hangs up without a word of Dask")
    if len(said) == 8 and struct.unpack("<Q", said)[0] <= _LONGEST_GREETING:
        return True
    if said[:2] == b"\x15\x03":
        raise _NotDask("what listens there speaks TLS; use a tls:// address and security=distributed.Security(...)")
    raise _NotDask(f"what listens there answers {said!r}, which is not Dask")
