"""Any flow ends in equal states on every executor, in whatever order its branches happen to run."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from contextlib import contextmanager
from itertools import pairwise

import cloudpickle
import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import build, outcome, programs

from prefectish import context
from prefectish.engine.driver.inline import LocalExecutor, SerialSession
from prefectish.engine.jobs.job import Receipt
from prefectish.engine.jobs.protocol import Lost
from prefectish.engine.plan.compile import compile_flow
from prefectish.engine.state import Mapped, Paused, Pending, Resume, Success
from prefectish.engine.transitions import allowed
from prefectish.engine.worker.decide import finished
from prefectish.engine.worker.run_steps import run_job

cloudpickle.register_pickle_by_value(strategies)


class ScrambledExecutor:
    """Runs jobs in any order, and tells their records singly, late, twice, and in any order between jobs.

    With losses, workers die under some jobs; those that run alone end.
    """

    def __init__(self, seed, window, losses=0.0):
        self.random = random.Random(seed)
        self.window = window
        self.losses = losses

    @contextmanager
    def start(self, plan, run):
        yield ScrambledSession(self.random, self.window, self.losses)


class ScrambledSession(SerialSession):
    def __init__(self, rng, window, losses):
        super().__init__()
        self.random = rng
        self.window = window
        self.losses = losses
        self.submitted = []
        self.ran = []
        self.told = []

    def submit(self, jobs):
        self.submitted.extend(jobs)

    def receipts(self, timeout):
        assert self.submitted or self.ran, "nothing is under way, so nothing could ever be received"
        for _ in range(self.random.randint(0, len(self.submitted))):
            job = self.submitted.pop(self.random.randrange(len(self.submitted)))
            self.ran.append((job, run_job(job)))
        return [self.tell() for _ in range(self.random.randint(0, len(self.ran)))]

    def tell(self):
        """Tell the first record, or all, of any job that has run; or that it was lost; or what was told before."""
        if self.told and self.random.random() < 0.1:
            return self.random.choice(self.told)
        place = self.random.randrange(len(self.ran))
        job, records = self.ran[place]
        count = self.random.choice([1, len(records)])
        lost = not job.solo and self.random.random() < self.losses
        if records[count:] and not lost:
            self.ran[place] = (job, records[count:])
        else:
            del self.ran[place]
        told = records[: count - 1] if lost else records[:count]
        self.told.append(Receipt(job, told, Lost("killed-worker", deaths=4) if lost else None))
        return self.told[-1]

    def cancel(self, jobs):
        raise AssertionError("nobody cancelled anything")


def run_program(program, executor):
    flow, made = build(program)
    return outcome(flow.run(executor=executor, history=False), made)


@settings(max_examples=100)
@given(programs(), st.integers(0, 2**32), st.integers(1, 20))
def test_any_flow_ends_in_equal_states_in_any_order(program, seed, window):
    assert run_program(program, ScrambledExecutor(seed, window)) == run_program(program, LocalExecutor())


@settings(max_examples=100)
@given(programs(), st.integers(0, 2**32), st.integers(1, 20))
def test_any_flow_ends_in_equal_states_though_workers_die(program, seed, window):
    executor = ScrambledExecutor(seed, window, losses=0.2)
    assert run_program(program, executor) == run_program(program, LocalExecutor())


@settings(max_examples=100)
@given(programs())
def test_any_flow_keeps_the_rules(program):
    seen = defaultdict(list)

    def record(task, old, new):
        seen[task.name, context.get("map_index")].append((old, new))

    flow, made = build(program, handlers=(record,))
    state = flow.run(executor=LocalExecutor(), history=False)

    assert set(state.result) == set(flow.tasks)
    assert state.is_finished() == all(finished(each) for each in state.result.values())
    for changes in seen.values():
        assert all(allowed(old, new) for old, new in changes)
        assert type(changes[0][0]) is Pending
        assert all(type(new) is type(old) for (_, new), (old, _) in pairwise(changes))
    grows = growing(flow)
    for task in made:
        check_ends(task.name, state.result[task], seen, in_order=task not in grows)


@settings(max_examples=100)
@given(programs(), st.integers(0, 2**32), st.integers(1, 20))
def test_any_flow_that_pauses_continues_to_the_end_it_would_have_had(program, seed, window):
    flow, made = build(program)
    executor = ScrambledExecutor(seed, window)
    state = flow.run(executor=executor, history=False)
    for _ in program:
        if state.is_finished():
            break
        given = {task: resumed(each) for task, each in state.result.items()}
        state = flow.run(executor=executor, history=False, task_states=given)
    without_pauses = flow.run(executor=LocalExecutor(), history=False, context={"resume": True})
    assert outcome(state, made) == outcome(without_pauses, made)


def resumed(state):
    """Return the state from which a task goes on: paused ones are resumed."""
    if isinstance(state, Mapped):
        return Mapped(map_states=[resumed(child) for child in state.map_states])
    return Resume(context=state.context) if isinstance(state, Paused) else state


def growing(flow):
    """Tasks whose children are numbered as they come up: a flattened map, and what is mapped over it."""
    plan = compile_flow(flow, {})
    return {step.task for step in plan.steps if step.domain is not None and plan.domains[step.domain].grows}


def check_ends(name, state, seen, in_order):
    """What the handlers saw last is in the result, the children's in map order."""
    if not isinstance(state, Mapped):
        assert [told(new) for _, new in seen[name, None][-1:]] == [told(state)] * bool(seen[name, None])
        return
    last = {index: changes[-1][1] for (who, index), changes in seen.items() if who == name and index is not None}
    if in_order:
        assert all(
            told(child) == told(last[index]) for index, child in enumerate(state.map_states) if child.is_finished()
        )
    ended = Counter(told(each) for each in last.values() if each.is_finished())
    assert Counter(told(child) for child in state.map_states if child.is_finished()) == ended


def told(state):
    """Return what tells a state from others: a plain success is made anew when it is read, with the same result."""
    return (type(state), None, id(state._raw_result)) if type(state) is Success else (type(state), id(state), None)


# The threads of a cluster draw random numbers while hypothesis looks.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=programs())
def test_any_flow_ends_in_equal_states_on_every_executor(executor, program):
    assert run_program(program, executor) == run_program(program, LocalExecutor())
