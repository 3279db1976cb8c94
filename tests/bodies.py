"""Tasks that many tests run, and what reads the traces that they leave."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import cloudpickle

from prefectish import task, triggers
from prefectish.engine import signals

# No worker can import this module by its name.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


# ---------------------------------------------------------------------- tasks


@task
def give(value):
    return value


@task
def take(x: Any) -> Any:
    return x


@task
def inc(x):
    return x + 1


@task
async def later(x):
    await asyncio.sleep(0)
    return x + 1


@task
def double(x):
    return 2 * x


@task
def add(x, y):
    return x + y


@task
def total(xs):
    return sum(xs)


@task
def inverse(x):
    return 1 / x


@task
def fail(text="no"):
    raise ValueError(text)


@task
def skip_odd(x):
    if x % 2:
        raise signals.SKIP(f"{x} is odd")
    return x


@task(trigger=triggers.all_finished, skip_on_upstream_skip=False)
def count_good(xs):
    return sum(not isinstance(x, BaseException) for x in xs)


# ---------------------------------------------------------------------- traces


def append(path, line):
    with open(path, "a") as file:
        file.write(f"{line}\n")


@task
def note(path, x):
    append(path, x)
    return x


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def state_names(mapped):
    """Return the names of the states of the children, in their order."""
    return [type(child).__name__ for child in mapped.map_states]
