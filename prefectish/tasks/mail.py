"""Send mail with smtplib."""

from __future__ import annotations

from collections.abc import Sequence
from email.message import EmailMessage
from typing import TYPE_CHECKING, Literal, Unpack

from prefectish.tasks.options import TaskOptions
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from smtplib import SMTP


class EmailTask(Task):
    """Send a mail.

    Parameters
    ----------
    subject, msg
        Subject and message; the message is plain text.
    email_to
        One address, or a list.
    email_from
        The sender.
    smtp_server, smtp_port
        Host and port of the mail server.
    smtp_type
        "SSL" (encrypted from the start), "STARTTLS" (upgraded to encryption before login), or "INSECURE".
    name, **options
        As for :class:`~prefectish.tasks.task.Task`.

    Notes
    -----
    User name and password can only be passed to the call, so that the task does not contain a password.
    """

    def __init__(
        self,
        subject: str | None = None,
        msg: str | None = None,
        email_to: str | Sequence[str] | None = None,
        email_from: str | None = None,
        smtp_server: str = "localhost",
        smtp_port: int = 465,
        smtp_type: Literal["SSL", "STARTTLS", "INSECURE"] = "SSL",
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        if smtp_type not in ("SSL", "STARTTLS", "INSECURE"):
            raise ValueError(f"smtp_type must be one of 'SSL', 'STARTTLS', 'INSECURE', got {smtp_type!r}")
        self.subject = subject
        self.msg = msg
        self.email_to = email_to
        self.email_from = email_from
        self.smtp_server = smtp_server
        self.smtp_port = smtp_port
        self.smtp_type = smtp_type
        super().__init__(name, **options)

    def run(
        self,
        subject: str | None = None,
        msg: str | None = None,
        email_to: str | Sequence[str] | None = None,
        email_from: str | None = None,
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        """Send the mail; arguments that are not None override those of the constructor.

        Raises
        ------
        ValueError
            If sender or recipient is missing, or a header has a line break.
        smtplib.SMTPException, OSError
            If the mail could not be delivered to the server.
        """
        mail = self._mail(
            self.subject if subject is None else subject,
            self.msg if msg is None else msg,
            self.email_to if email_to is None else email_to,
            self.email_from if email_from is None else email_from,
        )
        with self._connect() as server:
            if username is not None:
                server.login(username, password or "")
            server.send_message(mail)

    def _mail(
        self, subject: str | None, msg: str | None, to: str | Sequence[str] | None, sender: str | None
    ) -> EmailMessage:
        if not to or not sender:
            missing = "email_to" if not to else "email_from"
            raise ValueError(f"{self.name}: no {missing}; pass one to the task or to its call")
        mail = EmailMessage()
        mail["Subject"] = subject or ""
        mail["From"] = sender
        mail["To"] = to if isinstance(to, str) else ", ".join(to)
        mail.set_content(msg or "")
        return mail

    def _connect(self) -> SMTP:
        import smtplib
        import ssl

        seconds = self.timeout or 60.0
        if self.smtp_type == "SSL":
            return smtplib.SMTP_SSL(
                self.smtp_server, self.smtp_port, timeout=seconds, context=ssl.create_default_context()
            )
        server = smtplib.SMTP(self.smtp_server, self.smtp_port, timeout=seconds)
        if self.smtp_type == "STARTTLS":
            try:
                server.starttls(context=ssl.create_default_context())
            except BaseException:
                server.close()
                raise
        return server
