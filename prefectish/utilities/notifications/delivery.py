"""Delivers messages: with a time limit and a few tries, outside of the run, which never fails or waits because of it.

In the process that drives the run a thread delivers, one message after the other; a program that ends waits for it for
a moment. In other processes, which may be gone any time, the handler itself waits. What became of a message is logged,
and noted in the history by the process that drives the run.
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

#: Longest time in seconds that a program which ends waits for its messages.
EXIT_TIMEOUT = 10.0
#: Longest delay between two tries, in seconds.
MAX_DELAY = 30.0


class Channel(Protocol):
    """Where messages go; it can be pickled, and knows secrets by name only."""

    name: str

    def opened(self) -> Any:
        """Return what the channel needs from secrets, read where the handler is called."""

    def send(self, opened: Any, message: Message, timeout: float) -> None:
        """Send a message.

        Parameters
        ----------
        opened
            What `opened` returned.
        timeout
            Seconds.
        """

    def is_final(self, error: Exception) -> bool:
        """Whether an error will not go away by itself, so that another try makes no sense."""


class DeliveryOptions:
    """How a message is delivered.

    Parameters
    ----------
    timeout
        Seconds for each try.
    retries
        Tries after the first.
    retry_delay
        Seconds before the first of them; each later one waits twice as long.
    """

    __slots__ = ("retries", "retry_delay", "timeout")

    def __init__(self, timeout: float = 10.0, retries: int = 2, retry_delay: float = 1.0) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout must be > 0 seconds, got {timeout!r}")
        if retries < 0 or retry_delay < 0:
            raise ValueError(
                f"retries and retry_delay must be >= 0, got retries={retries!r}, retry_delay={retry_delay!r}"
            )
        self.timeout = timeout
        self.retries = retries
        self.retry_delay = retry_delay


class Delivery:
    """One message on its way."""

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
        """Send the message, again if need be, and note what became of it."""
        began = time.monotonic()
        error: Exception | None = None
        delay = self._terms.retry_delay
        for attempt in range(1, self._terms.retries + 2):
            try:
                self._channel.send(self._opened, self._message, self._terms.timeout)
            except Exception as caught:  # whatever a library, or a server, has to say
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
    """Log what became of a message, and write it into the history of the run."""
    text = None if error is None else mask(f"{type(error).__name__}: {text_of(error)}")
    if text is None:
        logger.info("Notification delivered by %s: %s", channel.name, message.subject)
    else:
        tries = "1 try" if attempts == 1 else f"{attempts} tries"
        logger.warning("Notification not delivered by %s after %s: %s: %s", channel.name, tries, message.subject, text)
    if run is not None and run.recorder is not None:
        made = Notice(datetime.now(UTC), channel.name, message.subject, attempts, seconds, text)
        try:
            run.recorder.notice(made)
        except Exception:  # a history that cannot be written: the run has told of it
            logger.warning("what became of a notification could not be recorded", exc_info=True)


class _Sender:
    """The thread that delivers; one a process, begun with the first message."""

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
        if self._process != os.getpid():  # a fork has no thread of ours
            return True
        with self._idle:
            return self._idle.wait_for(lambda: not self._open, timeout)


_sender: _Sender | None = None
_lock = threading.Lock()


def post(channel: Channel, message: Message, terms: DeliveryOptions) -> None:
    """Deliver a message: later and elsewhere, if this process drives the run, else now."""
    run = active_runs.find(context.get("flow_run_id"))
    logger = context["logger"] if "task_name" in context else get_logger("notifications")
    try:
        opened = channel.opened()
    except Exception as error:  # no such secret, most often
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
    """Wait for the messages of this process; return whether all were delivered, or given up, in `timeout` seconds."""
    return True if _sender is None else _sender.flush(timeout)
