"""The state handlers that send messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypedDict, Unpack

from prefectish.engine.capture import Error, capture
from prefectish.engine.context import context, get_logger
from prefectish.engine.scheduling.verdict import expand
from prefectish.engine.state import Mapped, State
from prefectish.errors import describe
from prefectish.tasks.secrets import SecretBase
from prefectish.utilities.notifications.channels import Apprise, Mail, SlackWebhook
from prefectish.utilities.notifications.delivery import Channel, DeliveryOptions, post
from prefectish.utilities.notifications.digest import Message, of_change, of_map

StateClasses = Sequence[type[State]]


class Notifier:
    """A state handler of tasks and flows that sends messages.

    Flows and unmapped tasks send a message for each selected state; the message of a finished flow includes
    all its tasks. A map sends one digest when all its children have finished, if one of them is in a selected
    state.

    Parameters
    ----------
    channel
        Channel of the messages.
    only_states, ignore_states
        Classes of states to select, or to ignore, including subclasses. Default: all states.
    each_child
        Whether each child of a map sends messages too.
    terms
        Options of the delivery.
    """

    def __init__(
        self,
        channel: Channel,
        only_states: StateClasses | None = None,
        ignore_states: StateClasses | None = None,
        each_child: bool = False,
        terms: DeliveryOptions | None = None,
    ) -> None:
        self.channel = channel
        self.only_states = None if only_states is None else _classes("only_states", only_states)
        self.ignore_states = _classes("ignore_states", ignore_states or ())
        self.each_child = each_child
        self.terms = terms or DeliveryOptions()

    def __call__(self, obj: Any, old: State, new: State) -> State:
        """Send a message about a state change, and return the new state unchanged."""
        is_child = context.get("map_index") is not None
        if not isinstance(new, Mapped) and (self.each_child or not is_child) and self._selects(new):
            self._send(of_change, obj, new)
        return new

    def map_ended(self, task: Any, state: Mapped) -> None:
        """Send the digest of a finished map; called by the client."""
        if any(self._selects(child) for child in expand(state)):
            self._send(of_map, task, state)

    def _selects(self, state: State) -> bool:
        selected = self.only_states is None or isinstance(state, self.only_states)
        return selected and not isinstance(state, self.ignore_states)

    def _send(self, make: Any, obj: Any, state: State) -> None:
        """Send a message; errors are logged and do not affect the run."""
        outcome = capture(self._post, make, obj, state)
        if isinstance(outcome, Error):
            if not isinstance(outcome.exception, Exception):
                raise outcome.exception
            get_logger("notifications").warning("Notification not sent: %s", describe(outcome.exception))

    def _post(self, make: Any, obj: Any, state: State) -> None:
        message: Message = make(obj, state, context.get("flow_run_id"))
        post(self.channel, message, self.terms)

    def __repr__(self) -> str:
        return f"<Notifier: {self.channel.name}>"


class NotifierOptions(TypedDict, total=False):
    """Options of all notifiers."""

    #: As for :class:`Notifier`.
    only_states: StateClasses | None
    ignore_states: StateClasses | None
    each_child: bool
    timeout: float  # time limit of each attempt in seconds; 10
    retries: int  # maximum number of attempts after the first; 2
    retry_delay: float  # delay before the first retry in seconds, doubled for each further retry; 1


def slack_notifier(
    obj: Any = None,
    old_state: State | None = None,
    new_state: State | None = None,
    *,
    webhook_secret: str | SecretBase = "SLACK_WEBHOOK_URL",
    **options: Unpack[NotifierOptions],
) -> Any:
    """Notify a Slack webhook: use it as a state handler, or call it with options to get one.

    Parameters
    ----------
    obj, old_state, new_state
        Arguments of a state handler.
    webhook_secret
        A secret with the URL, or its name; ``EnvVarSecret("...")`` for an environment variable.
    **options
        ``only_states``, ``ignore_states``, ``each_child``, ``timeout``, ``retries``, ``retry_delay``; see
        :class:`NotifierOptions`.

    Returns
    -------
    State or handler
        The new state if called as a handler, otherwise a handler.
    """
    notifier = _notifier(SlackWebhook(webhook_secret), options)
    if obj is None and old_state is None and new_state is None:
        return notifier
    if old_state is None or new_state is None:
        raise TypeError("slack_notifier: call it with options to get a state handler, or pass it as it is")
    return notifier(obj, old_state, new_state)


def _slack_map_ended(task: Any, state: Mapped) -> None:
    slack_notifier().map_ended(task, state)


slack_notifier.map_ended = _slack_map_ended  # type: ignore[attr-defined]  # without a call, it also handles maps


def email_notifier(
    email_to: str | Sequence[str],
    email_from: str,
    *,
    smtp_server: str = "localhost",
    smtp_port: int = 465,
    smtp_type: Literal["SSL", "STARTTLS", "INSECURE"] = "SSL",
    login_secret: str | SecretBase | None = None,
    **options: Unpack[NotifierOptions],
) -> Notifier:
    """Return a state handler that sends mail.

    Parameters
    ----------
    email_to, email_from
        Recipients, and the sender.
    smtp_server, smtp_port, smtp_type
        As for :class:`~prefectish.tasks.mail.EmailTask`.
    login_secret
        A secret, or its name, with ``{"username": ..., "password": ...}``; None for a server without login.
    **options
        As for :func:`slack_notifier`.
    """
    return _notifier(Mail(email_to, email_from, smtp_server, smtp_port, smtp_type, login_secret), options)


def apprise_notifier(urls_secret: str | SecretBase, **options: Unpack[NotifierOptions]) -> Notifier:
    """Return a state handler that notifies any of the more than a hundred services of apprise.

    Parameters
    ----------
    urls_secret
        A secret, or its name, with a URL of apprise such as ``discord://id/token``, or a list of them.
    **options
        As for :func:`slack_notifier`.
    """
    return _notifier(Apprise(urls_secret), options)


def _notifier(channel: Channel, options: NotifierOptions) -> Notifier:
    """Return a notifier from the options of the public functions."""
    unknown = sorted(options.keys() - NotifierOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"{channel.name} notifier: unknown options: {', '.join(unknown)}")
    terms = DeliveryOptions(options.get("timeout", 10.0), options.get("retries", 2), options.get("retry_delay", 1.0))
    wanted = options.get("only_states"), options.get("ignore_states")
    return Notifier(channel, *wanted, options.get("each_child", False), terms)


def _classes(name: str, classes: StateClasses) -> tuple[type[State], ...]:
    if isinstance(classes, type):
        raise TypeError(f"{name} must be a list of state classes, got {classes!r}")
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, State)):
            raise TypeError(
                f"{name} must be a list of state classes such as prefectish.engine.state.Failed, got {cls!r} in it"
            )
    return tuple(classes)
