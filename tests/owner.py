"""A run whose receipts are made by hand: no clock, no executor, no body; for tests of the rules of scheduling."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from jobs import advanced

from prefectish import Flow, task
from prefectish.engine.clock import Now
from prefectish.engine.jobs.job import Receipt, Record
from prefectish.engine.jobs.protocol import Lost
from prefectish.engine.plan.compile import compile_flow
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.state import Success

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


@task
def give(x=None, y=None):
    pytest.fail("bodies are not called here")


def named(name, **options):
    return give.copy(name=name, **options)


class Owner:
    """Drives a progress by hand."""

    def __init__(self, flow, window=100, starts=None, **options):
        self.plan = compile_flow(flow, {})
        self.seconds = 0.0
        self.changes = []
        numbers = {step.task: step.number for step in self.plan.steps}
        starts = {numbers[made]: state for made, state in (starts or {}).items()}
        self.progress = Progress(self.plan, {}, notify=self.notify, starts=starts, window=window, **options)

    def notify(self, run, old, new):
        self.changes.append((run.step.name, type(old).__name__, type(new).__name__))
        return new

    @property
    def moment(self):
        return Now(self.seconds, lambda: BEGINNING + timedelta(seconds=self.seconds))

    def start(self):
        return self.progress.start(self.moment)

    def pass_time(self, seconds):
        self.seconds += seconds
        return advanced(self.progress, (), self.moment)

    def tell(self, job, *states, widths=None):
        """Report that steps of a job ended in these states; Success of their names if none are given."""
        states = states or tuple(Success(None, name) for name in labels(job))
        widths = widths or [None] * len(states)
        records = [(p, Record(s, width=w)) for p, s, w in zip(job.positions, states, widths, strict=False)]
        return self.advance(Receipt(job, records))

    def advance(self, *receipts):
        return advanced(self.progress, receipts, self.moment)

    def lose(self, job, cause="killed-worker", deaths=4, **more):
        return self.advance(Receipt(job, [], Lost(cause, deaths, **more)))

    def run_all(self, jobs, make=None):
        """Let every job end well until there are none; return their labels in order of submission."""
        jobs, order = list(jobs), []
        while jobs:
            job = jobs.pop(0)
            order.append(labels(job))
            jobs.extend(self.tell(job, *(make(job) if make else ())))
        return order

    def state(self, name):
        (state,) = (s for s, step in zip(self.progress.states(), self.plan.steps, strict=True) if step.name == name)
        return state


def labels(job):
    return [job.chain.steps[p].label_of(job.index).replace("-1", "") for p in job.positions]


def shown(jobs):
    return [" ".join(labels(job)) for job in jobs]


def names(jobs):
    """Return the labels of all steps of jobs."""
    return [label for job in jobs for label in labels(job)]


def chain_of(width=3, **options):
    """Return a flow of two maps that travel together, and a total with options."""
    with Flow("chain") as flow:
        loaded = named("load").map(list(range(width)))
        cleaned = named("clean").map(loaded)
        named("total", **options)(cleaned)
    return flow


def limited_chain(width=3, **options):
    """Return a flow whose maps travel alone: rows of the second, with options, wait for those of the first."""
    with Flow("chain") as flow:
        loaded = named("load", max_concurrency=100).map(list(range(width)))
        cleaned = named("clean", max_concurrency=100, **options).map(loaded)
        named("total")(cleaned)
    return flow
