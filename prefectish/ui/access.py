"""Who may use the page: the token of this home folder, the names of hosts, and whether there are buttons."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import stat
from collections.abc import Collection, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from prefectish import config
from prefectish.errors import PrefectishError

#: Names under which a page that listens on the loopback interface is reached.
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
#: File of the token, in the home folder.
TOKEN_FILE = "ui-token"


class TokenUnsafe(PrefectishError):
    """Raised when others can read the token of the page."""

    exit_code = 2


class BadHost(PrefectishError, ValueError):
    """Raised when a host that is to be allowed has no name that a request can give."""

    exit_code = 2


class Access(NamedTuple):
    """Who may do what."""

    token: str
    hosts: Collection[str] = LOOPBACK
    read_only: bool = False

    @property
    def cookie(self) -> str:
        """Return the name of the cookie: browsers do not keep those of other ports apart."""
        return f"prefectish-{hashlib.sha256(self.token.encode()).hexdigest()[:8]}"

    @property
    def csrf(self) -> str:
        """Return what forms must send, which other sites cannot know."""
        return hmac.new(self.token.encode(), b"csrf", hashlib.sha256).hexdigest()

    def knows(self, token: str | None) -> bool:
        """Whether this is the token."""
        return token is not None and hmac.compare_digest(token.encode(), self.token.encode())

    def is_form_of_page(self, csrf: str | None) -> bool:
        """Whether a form or a script of the page sent this."""
        return csrf is not None and hmac.compare_digest(csrf.encode(), self.csrf.encode())

    def allows_host(self, header: str | None) -> bool:
        """Whether a request for this ``host:port`` was meant for the page, by its name."""
        return host_of(header) in self.hosts

    def allows_origin(self, origin: str | None) -> bool:
        """Whether a form was sent from an allowed host; browsers say so of every form."""
        return origin is None or host_of(origin.partition("://")[2]) in self.hosts


def host_of(header: str | None) -> str:
    """Return the name in ``host:port``, in lower case.

    Examples
    --------
    >>> host_of("LOCALHOST:80"), host_of("[::1]:80"), host_of("evil.example:80@localhost"), host_of(None)
    ('localhost', '::1', '', '')
    """
    if header is None or "@" in header or "/" in header:
        return ""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def allowed_host(name: str) -> str:
    """Return a host that is to be allowed, as browsers write it.

    Examples
    --------
    >>> allowed_host("Hub.example.org"), allowed_host("[::1]"), allowed_host("0:0::1")
    ('hub.example.org', '::1', '::1')

    Raises
    ------
    BadHost
        It has a port, a scheme, or a wildcard: requests would be refused for a reason that is hard to find.
    """
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        found = host_of(name)
    if not found or found != name.lower() or "*" in name:
        raise BadHost(f"an allowed host must be the name or IP address of one host, without a port, got {name!r}")
    return found


def default_hosts(environment: Mapping[str, str]) -> list[str]:
    """Return the hosts that are allowed without an option: by the setting `allowed_hosts`, and that of a JupyterHub.

    Examples
    --------
    >>> default_hosts({"JUPYTERHUB_PUBLIC_URL": "https://hub.example.org/user/ada/"})
    ['hub.example.org']
    """
    given = config.setting("allowed_hosts") or ()
    names = given.replace(",", " ").split() if isinstance(given, str) else list(given)
    hub = urlsplit(environment.get("JUPYTERHUB_PUBLIC_URL", "")).hostname
    return [*(allowed_host(str(name)) for name in names), *([hub] if hub else [])]


def read_only_token(token: str) -> str:
    """Return the token of pages without buttons, which does not tell that of pages with them.

    Both may be served on one machine: who was given the one link must not be let in by the other.
    """
    return hmac.new(token.encode(), b"read-only", hashlib.sha256).hexdigest()


def home_token() -> str:
    """Return the token of this home folder, made when it is asked for first, so that links hold after a restart.

    Raises
    ------
    TokenUnsafe
        Others can read it.
    """
    os.makedirs(config.home(), mode=0o700, exist_ok=True)
    path = os.path.join(config.home(), TOKEN_FILE)
    fresh = f"{path}.{secrets.token_hex(4)}"
    if not os.path.exists(path):
        with open(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        try:
            os.link(fresh, path)  # whole, or another process was first
        except FileExistsError:
            pass
        finally:
            os.unlink(fresh)
    with open(path) as file:
        facts = os.fstat(file.fileno())
        if facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or facts.st_uid != os.getuid():
            raise TokenUnsafe(f"others can read {path}, which lets them use the page; delete it")
        token = file.read().strip()
    if len(token) < 20:
        raise TokenUnsafe(f"{path} has no token of 20 characters or more; delete it")
    return token
