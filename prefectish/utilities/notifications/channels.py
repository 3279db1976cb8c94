"""Channels for messages: a Slack webhook, a mail server, the services of apprise. Secrets are referenced by name."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Literal

from prefectish.engine.context import current
from prefectish.optional_deps import load
from prefectish.secrets.store import find
from prefectish.tasks.mail import EmailTask
from prefectish.tasks.secrets import SecretBase
from prefectish.utilities.notifications.digest import Message

SMTP_TYPES = ("SSL", "STARTTLS", "INSECURE")
#: HTTP status codes that are worth a retry.
TEMPORARY_STATUSES = frozenset({408, 425, 429})


class SecretReference:
    """A secret, by name or as a task; a name creates no task that would have to be added to a flow."""

    def __init__(self, wanted: str | SecretBase) -> None:
        if wanted == "" or not isinstance(wanted, str | SecretBase):
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
    """An incoming webhook of Slack, or of any service that accepts ``{"text": ...}``."""

    name = "slack"

    def __init__(self, webhook: str | SecretBase) -> None:
        self._webhook = SecretReference(webhook)

    def opened(self) -> str:
        """Return the URL."""
        return str(self._webhook.value())

    def send(self, opened: str, message: Message, timeout: float) -> None:
        """Post the message, without waiting for the body of the response."""
        httpx = load("httpx2", "notifications", "slack_notifier")
        text = escape(message.whole(), quote=False)  # or it could hold links and mentions
        with httpx.stream("POST", opened, json={"text": text}, timeout=timeout) as answer:
            answer.raise_for_status()

    def is_final(self, error: Exception) -> bool:
        """Whether the server rejects the message, or it cannot be sent."""
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return 400 <= status < 500 and status not in TEMPORARY_STATUSES
        return isinstance(error, ImportError | ValueError)


class Mail:
    """A mail server; user name and password, if needed, are in one secret."""

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
        self._login = None if login is None else SecretReference(login)

    def opened(self) -> dict[str, str]:
        """Return user name and password."""
        if self._login is None:
            return {}
        found = self._login.value()
        if not isinstance(found, dict) or not {"username", "password"} <= found.keys():
            raise ValueError(f"{self._login!r} must be JSON with username and password")
        return {"username": found["username"], "password": found["password"]}

    def send(self, opened: dict[str, str], message: Message, timeout: float) -> None:
        """Send the mail."""
        EmailTask(message.subject, message.text, timeout=timeout, **self._mail).run(**opened)

    def is_final(self, error: Exception) -> bool:
        """Whether the server permanently rejects sender, recipient, user or message."""
        code = getattr(error, "smtp_code", None)
        rejected: dict[str, tuple[int, bytes]] = getattr(error, "recipients", None) or {}
        codes = [code] if code is not None else [answer[0] for answer in rejected.values()]
        return isinstance(error, ValueError) or (bool(codes) and all(code >= 500 for code in codes))


class Apprise:
    """Services by URLs of apprise, which contain their secrets: ``discord://...``, ``msteams://...``."""

    name = "apprise"

    def __init__(self, urls: str | SecretBase) -> None:
        self._urls = SecretReference(urls)

    def opened(self) -> list[str]:
        """Return the URLs."""
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
                raise ValueError("a URL is not supported by apprise")
        if not services.notify(title=message.subject, body=message.text or message.subject):
            raise ConnectionError("a service did not accept the message; see the log of apprise")

    def is_final(self, error: Exception) -> bool:
        """Whether a URL is invalid, or apprise is not installed."""
        return isinstance(error, ImportError | ValueError)
