"""`prefect.utilities.notifications`: the notifiers with the arguments that they had there."""

from __future__ import annotations

from collections.abc import Sequence
from email.message import EmailMessage
from typing import Any

from prefectish.engine.state import State
from prefectish.kinds import is_a
from prefectish.safe_repr import printable
from prefectish.secrets.store import find
from prefectish.tasks.secrets import SecretBase
from prefectish.utilities import notifications

Classes = Sequence[type[State]]


def slack_notifier(
    tracked_obj: Any = None,
    old_state: State | None = None,
    new_state: State | None = None,
    ignore_states: Classes | None = None,
    only_states: Classes | None = None,
    webhook_secret: str | None = None,
    backend_info: bool = True,
    proxies: dict[str, str] | None = None,
) -> Any:
    """Notify a Slack webhook; see :func:`prefectish.utilities.notifications.slack_notifier`.

    Parameters
    ----------
    backend_info, proxies
        What they asked for is not sent: there is no server, and proxies are those of the environment.
    """
    options: dict[str, Any] = {"ignore_states": ignore_states, "only_states": only_states}
    if webhook_secret:
        options["webhook_secret"] = webhook_secret
    return notifications.slack_notifier(tracked_obj, old_state, new_state, **options)


def slack_message_formatter(tracked_obj: Any, state: State, backend_info: bool = True) -> dict[str, Any]:
    """Return the message for Slack on a change of state."""
    text = _detail(state)
    notification = {
        "fallback": "State change notification",
        "color": state.color,
        "author_name": "Prefect",
        "title": "State change notification",
        "text": f"{tracked_obj.name} is now in a {type(state).__name__} state",
        "fields": [] if text is None else [{"title": "Message", "value": text, "short": False}],
    }
    return {"attachments": [notification]}


def email_message_formatter(tracked_obj: Any, state: State, email_to: str) -> str:
    """Return the mail, headers included, on a change of state."""
    text = f"{tracked_obj.name} is now in a {type(state).__name__} state"
    mail = EmailMessage()
    mail["From"] = "notifications@prefect.io"
    mail["To"] = email_to
    mail["Subject"] = f"Prefect state change notification for {tracked_obj.name}"
    detail = _detail(state)
    mail.set_content(text if detail is None else f"{text}\n\n{detail}")
    return mail.as_string()


def _detail(state: State) -> str | None:
    """Return the error of a state, or its message."""
    if is_a(state.result, Exception):
        return f"```{printable(repr(state.result))}```"
    return None if state.message is None else str(state.message)


class GmailLogin(SecretBase):
    """The login of the secrets ``EMAIL_USERNAME`` and ``EMAIL_PASSWORD``."""

    def run(self) -> dict[str, str]:
        """Return it as the mail server takes it."""
        return {"username": str(find("EMAIL_USERNAME")), "password": str(find("EMAIL_PASSWORD"))}


class _Gmail:
    """A state handler that sends mail to oneself; the address is looked up when there is something to send."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options

    def __call__(self, tracked_obj: Any, old_state: State, new_state: State) -> State:
        ignored, wanted = (tuple(self.options[name] or ()) for name in ("ignore_states", "only_states"))
        if isinstance(new_state, ignored) or (wanted and not isinstance(new_state, wanted)):
            return new_state  # before the address is asked for
        address = str(find("EMAIL_USERNAME"))
        login = GmailLogin()
        notifier = notifications.email_notifier(
            address, address, smtp_server="smtp.gmail.com", login_secret=login, **self.options
        )
        return notifier(tracked_obj, old_state, new_state)


def gmail_notifier(
    tracked_obj: Any = None,
    old_state: State | None = None,
    new_state: State | None = None,
    ignore_states: Classes | None = None,
    only_states: Classes | None = None,
) -> Any:
    """Notify oneself by Gmail: use it as a state handler, or call it with options to get one."""
    handler = _Gmail({"ignore_states": ignore_states, "only_states": only_states})
    if old_state is None or new_state is None:
        return handler
    return handler(tracked_obj, old_state, new_state)
