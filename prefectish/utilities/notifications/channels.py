"""Where messages go: a Slack webhook, a mail server, the services of apprise. Each knows its secrets by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from prefectish.engine.context import current
from prefectish.optional_deps import load
from prefectish.secrets.store import find
from prefectish.tasks.mail import EmailTask
from prefectish.tasks.secrets import SecretBase
from prefectish.utilities.notifications.digest import Message

SMTP_TYPES = ("SSL", "STARTTLS", "INSECURE")
#: Answers of a server that may be others next time.
TEMPORARY_STATUSES = frozenset({408, 425, 429})


class Known:
    """A secret, by name or as the task that reads it; a name makes no task, so that no flow misses one."""

    def __init__(self, wanted: str | SecretBase) -> None:
        if not wanted or not isinstance(wanted, str | SecretBase):
            raise ValueError(f"expected a secret or the name of one, got {wanted!r}")
        self._wanted = wanted
        flow = current().get("flow")
        if flow is not None and isinstance(wanted, SecretBase):
            flow.note_used(wanted)

    def value(self) -> Any:
        """Return the value of the secret."""
        return find(self._wanted) if isinstance(self._wanted, str) else self._wanted.get()

    def __repr__(self) -> str:
        return f"secret {self._wanted!r}"


class SlackWebhook:
    """An incoming webhook of Slack, or of anything that takes ``{"text": ...}``."""

    name = "slack"

    def __init__(self, webhook: str | SecretBase) -> None:
        self._webhook = Known(webhook)

    def opened(self) -> str:
        """Return the address."""
        return str(self._webhook.value())

    def send(self, opened: str, message: Message, timeout: float) -> None:
        """Post the message; the body of the answer is not waited for."""
        httpx = load("httpx2", "notifications", "slack_notifier")
        with httpx.stream("POST", opened, json={"text": _escaped(message.whole())}, timeout=timeout) as answer:
            answer.raise_for_status()

    def is_final(self, error: Exception) -> bool:
        """Whether the server refuses the message itself, or there is no way to send it."""
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return 400 <= status < 500 and status not in TEMPORARY_STATUSES
        return isinstance(error, ImportError | ValueError)


def _escaped(text: str) -> str:
    """Return text in which Slack finds no links and no calls to a whole channel, whatever an error says."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Mail:
    """A mail server; user and password, if it wants them, are the two parts of a secret."""

    name = "email"

    def __init__(
        self,
        to: str | Sequence[str],
        sender: str,
        server: str,
        port: int,
        kind: Literal["SSL", "STARTTLS", "INSECURE"],
        login: str | SecretBase | None,
    ) -> None:
        self._mail: dict[str, Any] = {
            "email_to": to,
            "email_from": sender,
            "smtp_server": server,
            "smtp_port": port,
            "smtp_type": kind,
        }
        if kind not in SMTP_TYPES:
            raise ValueError(f"smtp_type must be one of {', '.join(map(repr, SMTP_TYPES))}, got {kind!r}")
        self._login = None if login is None else Known(login)

    def opened(self) -> dict[str, str]:
        """Return user and password."""
        if self._login is None:
            return {}
        found = self._login.value()
        if not isinstance(found, dict) or not {"username", "password"} <= found.keys():
            raise ValueError(f"{self._login!r} must be JSON with username and password")
        return {"username": found["username"], "password": found["password"]}

    def send(self, opened: dict[str, str], message: Message, timeout: float) -> None:
        """Hand the mail over."""
        EmailTask(message.subject, message.text, timeout=timeout, **self._mail).run(**opened)

    def is_final(self, error: Exception) -> bool:
        """Whether the server refuses sender, receiver, user or message for good."""
        code = getattr(error, "smtp_code", None)
        refused: dict[str, tuple[int, bytes]] = getattr(error, "recipients", None) or {}
        codes = [code] if code is not None else [answer[0] for answer in refused.values()]
        return isinstance(error, ValueError) or (bool(codes) and all(code >= 500 for code in codes))


class Apprise:
    """Services by the addresses of apprise, each of which holds its secrets: ``discord://...``, ``msteams://...``."""

    name = "apprise"

    def __init__(self, urls: str | SecretBase) -> None:
        self._urls = Known(urls)

    def opened(self) -> list[str]:
        """Return the addresses."""
        found = self._urls.value()
        return [found] if isinstance(found, str) else list(found)

    def send(self, opened: list[str], message: Message, timeout: float) -> None:
        """Send the message to all services."""
        apprise = load("apprise", "notifications", "apprise_notifier")
        asset = apprise.AppriseAsset(async_mode=False)
        services = apprise.Apprise(asset=asset)
        for url in opened:
            limited = f"{url}{'&' if '?' in url else '?'}cto={timeout}&rto={timeout}"
            if not services.add(limited):
                raise ValueError("an address is none that apprise knows")
        if not services.notify(title=message.subject, body=message.text or message.subject):
            raise ConnectionError("a service did not take the message; the log of apprise says why")

    def is_final(self, error: Exception) -> bool:
        """Whether an address is wrong, or apprise is not there."""
        return isinstance(error, ImportError | ValueError)
