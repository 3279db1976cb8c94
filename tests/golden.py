"""State histories of some flows, stored under ``golden/``: what bodies did, what handlers saw, what became of it.

``python tests/golden.py`` runs the flows and writes the files anew; look at the difference before you keep it.
``test_golden.py`` runs them and compares; it also replays the stored outcomes of the bodies through the rules alone
(``decide`` and ``progress``), without calling a body.
"""

from __future__ import annotations

import builtins
import json
from collections import defaultdict, deque
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import golden_flows

from prefectish import context
from prefectish.engine import signals
from prefectish.engine.capture import Error, Value
from prefectish.engine.driver.inline import SerialSession
from prefectish.engine.jobs.job import Receipt, Record, StepSpec
from prefectish.engine.state import Looped, Mapped, Scheduled
from prefectish.engine.worker.attempt import PENDING, _width
from prefectish.engine.worker.attempt_context import AttemptContext
from prefectish.engine.worker.decide import Finish, NotReady, after, before, retry
from prefectish.engine.worker.run_steps import gather, run_job
from prefectish.testing import FaultySession, VirtualClock

FOLDER = Path(__file__).parent / "golden"
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = golden_flows.FLOWS


def told(state):
    """Return a state in one line."""
    if isinstance(state, Mapped):
        return [told(child) for child in state.map_states]
    text = type(state).__name__ if state.message is None else f"{type(state).__name__}: {state.message}"
    if state.is_successful() and state._raw_result is not None:
        return f"{text} -> {json.dumps(state.result, default=lambda value: type(value).__name__)}"
    return text


# ---------------------------------------------------------------------- outcomes of bodies, as JSON


def outcome_of(call, inputs, now):
    """Call a body; return what it did, and do it."""
    try:
        value = call(**inputs)
    except signals.Signal as signal:
        state = signal.state
        about = {"signal": type(signal).__name__, "message": state.message, "state": type(state).__name__}
        if state._raw_result is not signal:
            about["result"] = state._raw_result
        if isinstance(state, Scheduled) and state.start_time is not None:
            about["in"] = (state.start_time - now).total_seconds()
        return about, signal
    except BaseException as error:
        return {"error": type(error).__name__, "message": str(error)}, error
    return {"value": value}, None


def outcome_from(about, now):
    """Return the outcome of a body that was stored."""
    if "value" in about:
        return Value(about["value"])
    if "error" in about:
        return Error(getattr(builtins, about["error"])(about["message"]))
    options = {"result": about["result"]} if "result" in about else {}
    if "in" in about:
        options["start_time"] = now + timedelta(seconds=about["in"])
    if about["signal"] == "ENDRUN":
        from prefectish.engine import state

        return Error(signals.ENDRUN(getattr(state, about["state"])(about["message"], **options)))
    return Error(getattr(signals, about["signal"])(about["message"], **options))


# ---------------------------------------------------------------------- sessions


def place_of(spec: StepSpec, index: int) -> str:
    """Return what stands for a child in what is stored: its slug, whatever it is called."""
    return spec.slug if index < 0 else f"{spec.slug}[{index}]"


class Tape:
    """An executor that notes what is submitted and what comes of it.

    Parameters
    ----------
    play : runs a job and returns its records.
    """

    def __init__(self, clock, play):
        self.clock = clock
        self.play = play
        self.jobs = []
        self.records = []

    @contextmanager
    def start(self, plan, run):
        yield TapeSession(self)


class TapeSession(SerialSession):
    window = 3

    def __init__(self, tape):
        super().__init__()
        self.tape = tape

    def submit(self, jobs):
        for job in jobs:
            labels = " ".join(place_of(job.chain.steps[p], job.index) for p in job.positions)
            self.tape.jobs.append(f"{self.tape.clock.elapsed:g} {labels} #{job.submission}{' alone' * job.solo}")
        super().submit(jobs)

    def receipts(self, timeout):
        if not self._queue:
            return ()
        job = self._queue.popleft()
        records = self.tape.play(job)
        for position, record in records:
            label = place_of(job.chain.steps[position], job.index)
            self.tape.records.append(f"{self.tape.clock.elapsed:g} {label} {told(record.state)}")
        return (Receipt(job, records),)


class Player:
    """Runs jobs by the rules alone, with outcomes of bodies that were stored."""

    def __init__(self, clock, outcomes):
        self.clock = clock
        self.outcomes = {label: deque(stored) for label, stored in outcomes.items()}

    def __call__(self, job):
        states, records = dict(job.given), []
        for position in job.positions:
            upstream = gather(job.chain, position, job.items, states)
            record = self.attempt(job, job.chain.steps[position], upstream, job.starts.get(position, PENDING))
            states[position] = record.state
            records.append((position, record))
        return records

    def attempt(self, job, spec, upstream, start):
        verdict = before(spec, upstream)
        if isinstance(verdict, NotReady):
            return Record(start)
        facts = AttemptContext(job.chain.run, spec, job.index, start)
        state = verdict.state if isinstance(verdict, Finish) else self.ended(spec, job.index, facts.run_count)
        due_in_seconds = None
        if isinstance(state, Scheduled) and state.start_time is not None:
            due_in_seconds = (state.start_time - self.clock.now()).total_seconds()
        width = _width(facts, state) if spec.measure and state.is_successful() else None
        return Record(state, 0.0, due_in_seconds, width)

    def ended(self, spec, index, run_count):
        """Return the state after the next stored calls of a body."""
        stored = self.outcomes[place_of(spec, index)]
        while True:
            state = after(spec, outcome_from(stored.popleft(), self.clock.now()), run_count)
            if not isinstance(state, Looped):
                break
        again = retry(spec, state, run_count, self.clock.now, lambda: 0.5) if state.is_failed() else None
        return again or state


# ---------------------------------------------------------------------- runs


def ended(flow, state, tape):
    """Return what became of a run, as it is stored."""
    return {
        "jobs": tape.jobs,
        "records": tape.records,
        "ends": {flow.slugs[task]: told(each) for task, each in state.result.items() if each.message is not None},
        "flow": told(state.replace(result=None)),
    }


def run(name):
    """Run a flow; return its history."""
    with VirtualClock(BEGINNING) as clock:
        return run_by(clock, name)


def run_by(clock, name):
    """Run a flow by a clock; return its history."""
    flow, faults, options = golden_flows.made(name)
    outcomes, seen = defaultdict(list), defaultdict(list)

    def watched(body):
        def call(**inputs):
            about, error = outcome_of(body, inputs, clock.now())
            label = context.task_slug if context.map_index is None else f"{context.task_slug}[{context.map_index}]"
            outcomes[label].append(about)
            if error is not None:
                raise error
            return about["value"]

        return call

    def see(task, old, new):
        slug = flow.slugs[task]
        index = context.get("map_index") if context.get("task_slug") == slug else None
        label = slug if index is None else f"{slug}[{index}]"
        kind = "Mapped" if isinstance(new, Mapped) else told(new)
        seen[label].append(f"{clock.elapsed:g} {type(old).__name__} => {kind}")

    for task in flow.tasks:
        task.run = watched(task.run)
        task.state_handlers = [*task.state_handlers, see]
    tape = Tape(clock, run_job)
    state = flow.run(executor=FaultySession(tape, faults), history=False, **options)
    return {"outcomes": dict(outcomes), "seen": dict(seen), **ended(flow, state, tape)}


def replay(name, outcomes):
    """Run a flow by the rules alone; return what became of it."""
    with VirtualClock(BEGINNING) as clock:
        flow, faults, options = golden_flows.made(name)
        for task in flow.tasks:
            task.run = must_not_run
        player = Player(clock, outcomes)
        tape = Tape(clock, player)
        state = flow.run(executor=FaultySession(tape, faults), history=False, **options)
    left = {label: list(stored) for label, stored in player.outcomes.items() if stored}
    assert not left, f"bodies were called less often than they had been: {left}"
    return ended(flow, state, tape)


def must_not_run(**inputs):
    raise AssertionError("a body was called")


def stored(name):
    return json.loads(FOLDER.joinpath(f"{name}.json").read_text())


def main():
    FOLDER.mkdir(exist_ok=True)
    for name in NAMES:
        FOLDER.joinpath(f"{name}.json").write_text(json.dumps(run(name), indent=1, sort_keys=False) + "\n")
    print(f"{len(NAMES)} histories written to {FOLDER}")


if __name__ == "__main__":
    main()
