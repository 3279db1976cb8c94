"""Deliver messages in the background, with a time limit and retries; a run never waits for it or fails because of it.

In the client process a thread delivers one message after the other; at exit the program waits for it for
some seconds. In other processes, which may end at any time, the handler itself waits. The delivery is logged,
and recorded in the history by the client process.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
from datetime import UTC, datetime
from typing import Any, Protocol

from prefectish.engine.context import context, get_logger
from prefectish.engine.driver import active_runs
from prefectish.engine.driver.active_runs import ActiveRun
from prefectish.engine.scheduling.events import Notice
from prefectish.errors import text_of
from prefectish.secrets.masking import mask
from prefectish.utilities.notifications.digest import Message

#: Maximum time in seconds that a program waits for its messages at exit.
EXIT_TIMEOUT = 10.0
#: Maximum delay between two attempts, in seconds.
MAX_DELAY = 30.0


class Channel(Protocol):
    """Interface of a channel; it must be picklable, and refer to secrets by name."""

    name: str

    def opened(self) -> Any:
        """Return the values of the secrets, read where the handler is called."""

    def send(self, opened: Any, message: Message, timeout: float) -> None:
        """Send a message, by what `opened` returned, in so many seconds."""

    def is_final(self, error: Exception) -> bool:
        """Whether an error is permanent, so that a retry is useless."""


class DeliveryOptions:
    """Options of the delivery of a message."""

    __slots__ = ("retries", "retry_delay", "timeout")

    def __init__(self, timeout: float = 10.0, retries: int = 2, retry_delay: float = 1.0) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout must be > 0 seconds, got {timeout!r}")
        if retries < 0 or retry_delay < 0:
            raise ValueError(
                f"retries and retry_delay must be >= 0, got retries={retries!r}, retry_delay={retry_delay!r}"
            )
        self.timeout = timeout  # time limit of each attempt in seconds
        self.retries = retries  # maximum number of attempts after the first
        self.retry_delay = retry_delay  # delay before the first retry in seconds; doubled for each further retry


class Delivery:
    """The delivery of one message."""

    def __init__(
        self,
        channel: Channel,
        opened: Any,
        message: Message,
        terms: DeliveryOptions,
        run: ActiveRun | None,
        logger: logging.Logger,
    ) -> None:
        self._channel = channel
        self._opened = opened
        self._message = message
        self._terms = terms
        self._run = run
        self._logger = logger

    def deliver(self) -> None:
        """Send the message, with retries, and record the result."""
        began = time.monotonic()
        error: Exception | None = None
        delay = self._terms.retry_delay
        for attempt in range(1, self._terms.retries + 2):
            try:
                self._channel.send(self._opened, self._message, self._terms.timeout)
            except Exception as caught:  # any error of a library or a server
                error = caught
            else:
                note(self._channel, self._message, attempt, time.monotonic() - began, None, self._run, self._logger)
                return
            if self._channel.is_final(error):
                break
            if attempt <= self._terms.retries:
                time.sleep(min(delay, MAX_DELAY))
                delay *= 2
        note(self._channel, self._message, attempt, time.monotonic() - began, error, self._run, self._logger)


def note(
    channel: Channel,
    message: Message,
    attempts: int,
    seconds: float,
    error: Exception | None,
    run: ActiveRun | None,
    logger: logging.Logger,
) -> None:
    """Log the delivery of a message, and record it in the history of the run."""
    text = None if error is None else mask(f"{type(error).__name__}: {text_of(error)}")
    if text is None:
        logger.info("Notification delivered by %s: %s", channel.name, message.subject)
    else:
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        logger.warning("Notification not delivered by %s after %s: %s: %s", channel.name, tries, message.subject, text)
    if run is not None and run.recorder is not None:
        notice = Notice(datetime.now(UTC), channel.name, message.subject, attempts, seconds, text)
        try:
            run.recorder.notice(notice)
        except Exception:  # the recorder of the run has reported that the history cannot be written
            logger.warning("the delivery of a notification could not be recorded", exc_info=True)


class _Sender:
    """The thread that delivers messages; one per process, started with the first message."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._queue: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self._idle = threading.Condition()
        self._open = 0
        threading.Thread(target=self._work, name="prefectish-notifications", daemon=True).start()
        atexit.register(self.flush, EXIT_TIMEOUT)

    def take(self, delivery: Delivery) -> None:
        with self._idle:
            self._open += 1
        self._queue.put(delivery)

    def _work(self) -> None:
        while True:
            delivery = self._queue.get()
            try:
                delivery.deliver()
            finally:
                with self._idle:
                    self._open -= 1
                    self._idle.notify_all()

    def flush(self, timeout: float) -> bool:
        if self._process != os.getpid():  # the thread does not exist after a fork
            return True
        with self._idle:
            return self._idle.wait_for(lambda: not self._open, timeout)


_sender: _Sender | None = None
_lock = threading.Lock()


def post(channel: Channel, message: Message, terms: DeliveryOptions) -> None:
    """Deliver a message: in the background in the client process, otherwise now."""
    run = active_runs.find(context.get("flow_run_id"))
    logger = context["logger"] if "task_name" in context else get_logger("notifications")
    try:
        opened = channel.opened()
    except Exception as error:  # most often a missing secret
        note(channel, message, 0, 0.0, error, run, logger)
        return
    delivery = Delivery(channel, opened, message, terms, run, logger)
    if run is None:
        delivery.deliver()
    else:
        _sender_of_process().take(delivery)


def _sender_of_process() -> _Sender:
    global _sender
    with _lock:
        if _sender is None or _sender._process != os.getpid():
            _sender = _Sender()
        return _sender


def flush(timeout: float = EXIT_TIMEOUT) -> bool:
    """Wait for the messages of this process; return whether all were delivered, or failed, within `timeout` seconds."""
    return True if _sender is None else _sender.flush(timeout)
