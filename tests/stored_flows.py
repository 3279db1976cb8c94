"""Flows whose runs an older release stored under ``stored/``; ``stored.py`` ran them, test_stored.py uses what it left.

A version of a task depends on the bytecode of its body, so no body changes here: a new one is added beside it.
"""

from __future__ import annotations

import os
from datetime import timedelta

from prefectish import Flow, context, flow, pause_task, task, triggers, wait
from prefectish.caching import task_input_hash

#: What ran in this process since a test emptied it.
ran = []
#: What decides whether bodies fail, wait or die.
settings = {"broken": False, "before_death": None}
FOREVER = timedelta(days=36500)


class Point:
    """A value of a class of the user."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __eq__(self, other):
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    __hash__ = None


class Refused(Exception):
    """An exception of the user with arguments of its own."""

    def __init__(self, code, words):
        super().__init__(code, words)
        self.code = code


# ---------------------------------------------------------------------- results of all kinds

KINDS = ["number", "text", "none", "long text", "list", "array", "point", "points"]


def value_of(kind):
    """Return the value that a child of `make` returned."""
    import numpy

    return {
        "number": 17,
        "text": "seventeen",
        "none": None,
        "long text": "seventeen " * 1000,
        "list": [1, {"two": (3, 4.5)}],
        "array": numpy.arange(2000, dtype="float64").reshape(40, 50),
        "point": Point(1, 2),
        "points": [Point(x, -x) for x in range(3)],
    }[kind]


@task(item_key=lambda kind: f"a {kind}")
def make(kind):
    ran.append(f"make {kind}")
    return value_of(kind)


@task(target="${flow_name}/${task_slug}/${item_key}.pickle", item_key=lambda kind: kind)
def at_target(kind):
    ran.append(f"at_target {kind}")
    return value_of(kind)


@task
def count(values):
    ran.append("count")
    return len(values)


def values(store):
    """Return a flow whose results are of all kinds, and lie in places of their own and at targets."""
    with Flow("values", result=store) as made:
        count(make.map(KINDS))
        at_target.map(["number", "array"])
    return made


# ---------------------------------------------------------------------- failures and retries


@task
def load(x):
    ran.append(f"load {x}")
    context.logger.warning("loading %s", x)
    if settings["broken"] and x == 3:
        raise ValueError("bad item")
    return 2 * x


@task
def twice(y):
    ran.append(f"twice {y}")
    return 2 * y


@task(max_retries=2, retry_delay=0)
def flaky(x):
    ran.append(f"flaky {x}")
    if context.task_run_count == 1:
        raise RuntimeError("not yet")
    return x


@task(trigger=triggers.all_finished)
def total(numbers, more):
    ran.append("total")
    return sum(number for number in [*numbers, *more] if isinstance(number, int))


def failing(store, name="failing"):
    """Return a flow in which a child fails, what follows it does not run, and others are retried."""
    with Flow(name, result=store) as made:
        total(twice.map(load.map([1, 2, 3, 4])), flaky.map([10, 20]))
    return made


# ---------------------------------------------------------------------- a question


@task
def deploy(where):
    ran.append(f"deploy {where}")
    how_many = pause_task(f"how many on {where}?", input=int)
    return (where, how_many)


@task
def note(deployed):
    ran.append("note")
    return f"noted {deployed}"


def asking(store):
    """Return a flow whose children wait for an answer each."""
    with Flow("asking", result=store) as made:
        note.map(deploy.map(["here", "there"]))
    return made


# ---------------------------------------------------------------------- a driver that dies


@task
def prepare(x):
    ran.append(f"prepare {x}")
    return Point(x, x)


@task(rerun_on_loss=False)
def send(point):
    ran.append(f"send {point.x}")
    if settings["before_death"] is not None and point.x == 2:
        settings["before_death"]()
        os._exit(9)
    if point.x == 1:
        raise Refused(7, "not on Sundays")
    return point


def sending(store):
    """Return a flow whose client died while child 2 was sent, of five that must not be sent twice."""
    with Flow("sending", result=store) as made:
        send.map(prepare.map([0, 1, 2, 3, 4]))
    return made


# ---------------------------------------------------------------------- caches


@task(cache_key_fn=task_input_hash, cache_expiration=FOREVER)
def by_inputs(x):
    ran.append(f"by_inputs {x}")
    return Point(x, "by inputs")


@task(cache_key_fn=lambda facts, inputs: f"key of {inputs['x']}", cache_expiration=FOREVER)
def by_key(x):
    ran.append(f"by_key {x}")
    return [x] * 1000


@task(cache_key_fn=lambda facts, inputs: f"expired {inputs['x']}", cache_expiration=timedelta(seconds=1))
def expired(x):
    ran.append(f"expired {x}")
    return x


def cached(store):
    """Return a flow with caches that outlive its process."""
    with Flow("cached", result=store) as made:
        by_inputs.map([1, 2])
        by_key.map([1, 2])
        expired(1)
    return made


# ---------------------------------------------------------------------- a flow function


def pages(store):
    """Return a flow function of which a call fails while the settings say so."""

    @flow(name="pages", result=store)
    def read_all(numbers):
        futures = load.map(numbers)
        wait(futures)
        done = [future.result() for future in futures if future.state.is_successful()]
        return done, twice.submit(futures[0]).result()

    return read_all
