"""What tests with real processes share: notes that bodies leave, conditions to wait for, a hard time limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import cloudpickle

cloudpickle.register_pickle_by_value(sys.modules[__name__])


class TookTooLong(BaseException):
    """A test with a time limit hangs. Not an Exception: nothing that is tested may take it for an error of its own."""


@contextmanager
def time_limit(seconds):
    """End a test that hangs; what swallows the exception gets another one a second later."""

    def end(number, frame):
        raise TookTooLong(f"still not at its end after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def until(condition, limit=90.0):
    """Return what `condition` gives once it is true of processes that cannot be waited on."""
    end = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < end, f"still not after {limit} s"
        threading.Event().wait(0.01)
    return found


def spend(seconds):
    """Take time, as a body does that works.

    For what a test says about durations: time limits, rates, what is slowest, how many bodies run at once, what is
    under way when a process dies. What can be waited for is waited for, with `until`: time.sleep is banned from tests.
    """
    time.sleep(seconds)  # noqa: TID251  # the one place


@contextmanager
def meanwhile(action, *args):
    """Run `action` in a thread beside the block; its error is the test's."""
    outcome = []

    def act():
        try:
            outcome.append((action(*args), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    yield outcome
    thread.join(90)
    assert outcome, "what was to happen meanwhile has not"
    if outcome[0][1] is not None:
        raise outcome[0][1]


# -- notes of bodies -------------------------------------------------------------------------------------------------


def note(path, text):
    """Append one line; whole, whoever else writes."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, f"{text}\n".encode())
    finally:
        os.close(handle)


def notes(path):
    return path.read_text().splitlines() if path.exists() else []


def wait_for_file(path, limit=60.0):
    """Hold a body until the test opens the gate."""
    until(lambda: os.path.exists(path), limit)


def most_at_once(path):
    """Return the largest number of bodies between their "+" and "-" notes."""
    now = most = 0
    for line in notes(path):
        now += 1 if line.startswith("+") else -1
        most = max(most, now)
    return most


def kinds(state):
    """Count the children of a mapped state by the names of their classes."""
    found = {}
    for child in state.map_states:
        name = type(child).__name__
        found[name] = found.get(name, 0) + 1
    return found


# -- scheduler and workers of the command line -----------------------------------------------------------------------


@contextmanager
def running(code, *arguments, before=()):
    """Run Python; `before` is what its command begins with, where it runs somewhere else."""
    command = [*before, sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


@contextmanager
def command_line_scheduler(folder, port=0, more=()):
    """Run ``dask scheduler``, with `more` options; yield its address and its process."""
    file = folder / f"scheduler-{port}.json"
    code = "from distributed.cli.dask_scheduler import main; main()"
    options = ("--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--scheduler-file", str(file))
    with running(code, *options, *more) as process:
        until(lambda: file.exists() and file.read_text().rstrip().endswith("}"))
        yield json.loads(file.read_text())["address"], process


@contextmanager
def command_line_worker(address, *options):
    """Run ``dask worker`` of one thread without a nanny."""
    code = "from distributed.cli.dask_worker import main; main()"
    arguments = (address, "--nthreads", "1", "--no-dashboard", *options)
    with running(code, *arguments) as process:
        yield process
