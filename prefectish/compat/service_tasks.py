"""`prefect.tasks.shell` and `prefect.tasks.notifications`: commands, mail and Slack, as they were called there."""

from __future__ import annotations

import logging
import mimetypes
import os
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from prefectish.compat.task_helpers import defaults_from_attrs
from prefectish.compat.tasks import Task
from prefectish.engine.context import context
from prefectish.engine.signals import FAIL
from prefectish.optional_deps import load
from prefectish.secrets.store import find
from prefectish.tasks import mail, shell, slack

Addresses = str | Sequence[str] | None


class ShellTask(shell.ShellTask, Task):
    """Runs a command; see :class:`prefectish.tasks.shell.ShellTask`.

    Parameters
    ----------
    log_stderr
        Whether to log the output of a command that fails.
    stream_output
        Whether to log lines as they are printed; or the level at which, as a number or a name.
    """

    def __init__(
        self,
        command: str | None = None,
        env: Mapping[str, str] | None = None,
        helper_script: str | None = None,
        shell: str = "bash",
        return_all: bool = False,
        log_stderr: bool = False,
        stream_output: bool | int | str = False,
        **kwargs: Any,
    ) -> None:
        self.log_stderr = log_stderr
        super().__init__(
            command, env, helper_script=helper_script, shell=shell, return_all=return_all,
            stream_output=stream_output is not False, **kwargs,
        )  # fmt: skip
        self.stream_output = stream_output  # type: ignore[assignment]  # or a level

    @defaults_from_attrs("command", "env", "helper_script")
    def run(
        self, command: str | None = None, env: Mapping[str, str] | None = None, helper_script: str | None = None
    ) -> str | list[str] | None:
        """Run the command, and return the last line of its output, or all.

        Raises
        ------
        FAIL
            If its exit code is not 0.
        """
        if command is None:
            raise TypeError("run() missing required argument: 'command'")
        script = f"{helper_script}\n{command}" if helper_script else command
        lines, code = self._execute([self.shell, "-c", script], {**os.environ, **(env or {})}, None)
        if code:
            message = f"Command failed with exit code {code}"
            if self.log_stderr:
                context.logger.error("%s: %s", message, "\n".join(lines))
            raise FAIL(message, result=lines)
        return lines if self.return_all else lines[-1] if lines else None

    def _seen(self, line: str) -> str:
        level = self.stream_output
        if isinstance(level, str):
            level = logging.getLevelNamesMapping()[level]
        if level is not False:
            context.logger.log(logging.INFO if level is True else level, "%s", line)
        return line


class EmailTask(mail.EmailTask, Task):
    """Sends a mail; user name and password are the secrets ``EMAIL_USERNAME`` and ``EMAIL_PASSWORD``.

    Parameters
    ----------
    subject
        The subject.
    msg, msg_plain
        The message, as HTML and as plain text; one of them, or both.
    email_to, email_to_cc, email_to_bcc
        Addresses: a list, or a text with commas.
    email_from, smtp_server, smtp_port
        The sender, and the mail server.
    smtp_type
        "SSL", "STARTTLS", or "INSECURE", which needs no secrets.
    attachments
        Paths of files.
    """

    def __init__(
        self,
        subject: str | None = None,
        msg: str | None = None,
        email_to: Addresses = None,
        email_from: str = "notifications@prefect.io",
        smtp_server: str = "smtp.gmail.com",
        smtp_port: int = 465,
        smtp_type: Any = "SSL",
        msg_plain: str | None = None,
        email_to_cc: Addresses = None,
        email_to_bcc: Addresses = None,
        attachments: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.msg_plain = msg_plain
        self.email_to_cc = email_to_cc
        self.email_to_bcc = email_to_bcc
        self.attachments = list(attachments or ())
        super().__init__(subject, msg, email_to, email_from, smtp_server, smtp_port, smtp_type, **kwargs)

    @defaults_from_attrs(
        "subject", "msg", "email_to", "email_from", "smtp_server", "smtp_port", "smtp_type", "msg_plain",
        "email_to_cc", "email_to_bcc", "attachments",
    )  # fmt: skip
    def run(
        self,
        subject: str | None = None,
        msg: str | None = None,
        email_to: Addresses = None,
        email_from: str | None = None,
        smtp_server: str = "",
        smtp_port: int = 0,
        smtp_type: Any = None,
        msg_plain: str | None = None,
        email_to_cc: Addresses = None,
        email_to_bcc: Addresses = None,
        attachments: Sequence[str] | None = None,
    ) -> None:
        """Send the mail; arguments that are not None override those of the constructor."""
        if not (msg or msg_plain):
            raise ValueError("You must provide at least one of `msg` and `msg_plain`")
        message = self._mail(subject, msg_plain if msg_plain else None, email_to, email_from)
        for header, addresses in (("Cc", email_to_cc), ("Bcc", email_to_bcc)):
            if addresses:
                message[header] = addresses if isinstance(addresses, str) else ", ".join(addresses)
        if msg and msg_plain:
            message.add_alternative(msg, subtype="html")
        elif msg:
            message.set_content(msg, subtype="html")
        for path in attachments or ():
            _attach(message, Path(path))
        with mail.EmailTask(
            smtp_server=smtp_server, smtp_port=smtp_port, smtp_type=smtp_type, timeout=self.timeout
        )._connect() as server:
            if smtp_type != "INSECURE":
                server.login(str(find("EMAIL_USERNAME")), str(find("EMAIL_PASSWORD")))
            server.send_message(message)


def _attach(message: EmailMessage, path: Path) -> None:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    main, _, sub = kind.partition("/")
    message.add_attachment(path.read_bytes(), maintype=main, subtype=sub, filename=path.name)


class SlackTask(slack.SlackTask, Task):
    """Posts a message to a webhook of Slack; see :class:`prefectish.tasks.slack.SlackTask`.

    Parameters
    ----------
    message
        The text, or all that is posted, as a dict.
    webhook_secret
        Name of the secret with the address.
    proxies
        Kept; proxies are those of the environment.
    """

    def __init__(
        self,
        message: str | Mapping[str, Any] | None = None,
        webhook_secret: str = "SLACK_WEBHOOK_URL",
        proxies: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.proxies = proxies
        super().__init__(None, webhook_secret, **kwargs)
        self.message = message  # type: ignore[assignment]  # or a dict

    @defaults_from_attrs("message", "webhook_secret")
    def run(
        self,
        message: str | Mapping[str, Any] | None = None,
        webhook_secret: str | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        """Post the message; arguments that are not None override those of the constructor."""
        if not message:
            raise ValueError("A message must be provided.")
        content = {"text": message} if isinstance(message, str) else dict(message)
        httpx = load("httpx2", "http", "SlackTask")
        address = str(find(str(webhook_secret)))
        httpx.post(address, json=content, timeout=self.request_timeout).raise_for_status()
