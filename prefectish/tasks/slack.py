"""Post messages to Slack webhooks with httpx2."""

from __future__ import annotations

from typing import Unpack

from prefectish.optional_deps import load
from prefectish.secrets.store import find
from prefectish.tasks.options import TaskOptions
from prefectish.tasks.task import Task


class SlackTask(Task):
    """Post a message to an incoming webhook of Slack, or of any service that accepts ``{"text": ...}``.

    Parameters
    ----------
    message
        Text in Slack's markup.
    webhook_secret
        Name of the secret with the URL of the webhook; looked up where the task runs.
    request_timeout
        Seconds for each of connecting, sending, and waiting for the response.
    name, **options
        As for :class:`~prefectish.tasks.task.Task`.
    """

    def __init__(
        self,
        message: str | None = None,
        webhook_secret: str = "SLACK_WEBHOOK_URL",
        request_timeout: float | None = 30.0,
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        self.message = message
        self.webhook_secret = webhook_secret
        self.request_timeout = request_timeout
        super().__init__(name, **options)

    def run(self, message: str | None = None) -> None:
        """Post the message; an argument overrides that of the constructor.

        Raises
        ------
        ValueError
            If there is no message, or the secret is not found.
        httpx2.HTTPError
            If there was no answer, or one with an error status.
        """
        text = self.message if message is None else message
        if not text:
            raise ValueError(f"{self.name}: no message; pass one to the task or to its call")
        httpx = load("httpx2", "http", "SlackTask")
        address = str(find(self.webhook_secret))
        httpx.post(address, json={"text": text}, timeout=self.request_timeout).raise_for_status()
