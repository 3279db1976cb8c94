"""The optional parts of an attempt: which a step has, and in which order they act."""

from __future__ import annotations

from datetime import timedelta

import pytest
from jobs import jobs_of

from prefectish import Flow, context, task
from prefectish.engine.jobs.job import StepSpec
from prefectish.engine.plan.compile import compile_flow
from prefectish.engine.signals import LOOP
from prefectish.engine.state import Failed, Skipped, Success
from prefectish.engine.worker.attempt import PENDING, run_step
from prefectish.engine.worker.cache import CacheSpec
from prefectish.engine.worker.parts import AttemptPart, limited_by_run, parts_of
from prefectish.engine.worker.storage import ResultStorage
from prefectish.results import LocalResult


def spec_of(tmp_path, stores=True, **options):
    result = LocalResult(dir=tmp_path) if stores else None
    with Flow("parts", result=result) as flow:
        task(lambda: 1, name="one", **options)()
    (step,) = (step for step in compile_flow(flow, {}).steps if step.literal is None)
    storage = ResultStorage(result, True, None, "r1/0") if stores else None
    cache = CacheSpec(step.task, None) if "cache_for" in options else None
    inputs = (step.inputs, step.constants, step.mapped, step.measure, ())
    return StepSpec(step.number, step.task, step.slug, *inputs, storage=storage, cache=cache)


def names(spec):
    return [type(part).__name__.strip("_") for part in parts_of(spec)]


def test_plain_step_has_no_parts(tmp_path):
    assert parts_of(spec_of(tmp_path, stores=False)) == ()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["StoredResult", "Target"]),
        ({"rerun_on_loss": False}, ["StoredResult", "StartMarker", "Target"]),
        (
            {"rerun_on_loss": False, "task_run_name": "one", "cache_for": timedelta(hours=1)},
            ["Naming", "StoredResult", "StartMarker", "Target", "CacheLookup"],
        ),
        ({"log_stdout": True, "timeout": 1}, ["StoredResult", "Target", "LoggedPrints", "Limits"]),
        ({"isolation": "process"}, ["StoredResult", "Target", "Limits"]),
    ],
)
def test_parts_act_in_one_order(tmp_path, options, expected):
    assert names(spec_of(tmp_path, **options)) == expected


class Noted(AttemptPart):
    """Notes its calls, and answers as it is asked to."""

    def __init__(self, calls, **answers):
        self.calls = calls
        self.answers = answers
        self.replays = answers.get("replays", False)

    def before_body(self, ctx, inputs):
        self.calls.append("before_body")
        return self.answers.get("before_body")

    def begin(self, ctx, inputs):
        self.calls.append("begin")
        return self.answers.get("begin")

    wraps = True

    def around(self, ctx, inputs, call):
        self.calls.append("called")
        return call()

    def after_body(self, ctx, inputs, state):
        self.calls.append(f"after_body {state.result}")
        return self.answers.get("after_body", state)

    def end(self, ctx, state):
        self.calls.append(f"end {type(state).__name__}")


def attempt(body, calls, *parts, probe_only=False, **options):
    """Run one attempt of a body whose handlers note what they see; return its state."""

    def see(task, old, new):
        calls.append(type(new).__name__)

    with Flow("alone") as flow:
        task(body, name="body", state_handlers=[see], **options)()
    _, (job,) = jobs_of(flow)
    job.chain.steps[0].parts = parts
    return run_step(job.chain, 0, -1, (), PENDING, probe_only).state


def test_parts_act_around_the_body():
    calls = []
    assert attempt(lambda: calls.append("body"), calls, Noted(calls)) == Success()
    assert calls == ["before_body", "Running", "begin", "called", "body", "after_body None", "Success", "end Success"]


def test_state_that_stands_for_the_run_keeps_the_others_from_acting():
    calls = []
    found = attempt(lambda: calls.append("body"), calls, Noted(calls, before_body=Skipped("found")), Noted(calls))
    assert found == Skipped("found")
    assert calls == ["before_body", "Skipped"]


def test_handlers_do_not_see_again_how_the_attempt_ended_before():
    calls = []
    found = attempt(lambda: 1, calls, Noted(calls, before_body=Success("before"), replays=True))
    assert found == Success("before")
    assert calls == ["before_body"]


def test_refusal_keeps_the_body_from_running():
    calls = []
    assert attempt(lambda: 1, calls, Noted(calls, begin=Failed("no"))) == Failed("no")
    assert calls == ["before_body", "Running", "begin", "Failed"]


def test_failure_after_the_body_is_not_passed_to_the_next_part():
    calls = []
    state = attempt(lambda: 1, calls, Noted(calls, after_body=Failed("could not be stored")), Noted(calls))
    assert state == Failed("could not be stored")
    assert [call for call in calls if call.startswith("after_body")] == ["after_body 1"]


def test_failure_of_the_body_is_not_a_result_for_a_part():
    calls = []
    assert type(attempt(lambda: 1 / 0, calls, Noted(calls))) is Failed
    assert calls == ["before_body", "Running", "begin", "called", "Failed", "end Failed"]


def test_first_part_is_outermost_around_each_turn_of_a_loop():
    calls = []

    def body():
        calls.append("body")
        if context.get("task_loop_count", 1) == 1:
            raise LOOP

    class Outer(Noted):
        def around(self, ctx, inputs, call):
            calls.append("outer")
            return call()

    attempt(body, calls, Outer(calls), Noted(calls))
    assert [c for c in calls if c in ("outer", "called", "body")] == ["outer", "called", "body"] * 2


def test_limits_of_the_run_are_added_once():
    (limits,) = limited_by_run(())
    assert limited_by_run((limits,)) == (limits,)


def test_probe_ends_before_the_body_begins():
    calls = []
    assert attempt(lambda: 1, calls, Noted(calls), probe_only=True) is PENDING
    assert calls == ["before_body"]
