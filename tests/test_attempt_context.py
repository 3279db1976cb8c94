"""The context of an attempt: what a body reads, and how attempts are counted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from jobs import jobs_of

from prefectish import Flow, task
from prefectish.engine.state import Paused, Pending, Resume, Retrying, Scheduled
from prefectish.engine.worker.attempt_context import BEFORE_TURN, AttemptContext, child_logger, run_context

RUN = {"flow_run_id": "r1", "flow_name": "flow", "resume": False, "colour": "red"}
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@task(tags=["big"])
def load(x):
    return x


def context_of(start=None, index=3, mapped=True):
    with Flow("contexts") as flow:
        if mapped:
            load.map([1, 2])
        else:
            load(1)
    _, jobs = jobs_of(flow)
    return AttemptContext(RUN, jobs[0].chain.steps[0], index, start or Pending())


def test_keys_of_the_attempt_lie_over_those_of_the_run():
    ctx = context_of()
    assert (ctx["colour"], ctx["task_name"], ctx["task_slug"]) == ("red", "load", "load-big-1")
    assert (ctx["task_full_name"], ctx["map_index"], ctx["task_run_count"]) == ("load[3]", 3, 1)
    assert (ctx["task_run_id"], ctx["child_key"]) == ("r1-load-big-1-3", "r1-load-big-1-3-1")
    assert ctx["task_run_name"] == "load[3]"
    ctx.name = "eu"
    assert ctx["task_run_name"] == "eu"
    assert sorted(ctx["task_tags"]) == ["big"]


def test_single_task_has_no_index():
    ctx = context_of(index=-1, mapped=False)
    assert (ctx["map_index"], ctx["task_full_name"], ctx["logger"].name) == (None, "load", "prefectish.load")


def test_keys_without_a_value_are_absent():
    ctx = context_of()
    absent = {"item_key", "task_loop_count", "task_loop_result", "answers"}
    assert absent.isdisjoint(ctx)
    assert len(ctx) == len(set(ctx)) == len(dict(ctx))
    for name in absent:
        with pytest.raises(KeyError):
            ctx[name]


@pytest.mark.parametrize(
    ("start", "number"),
    [
        (Pending(), 1),
        (Retrying(run_count=2), 3),
        (Scheduled(), 1),
        (Resume(context={"task_run_count": 4}), 4),
        (Retrying(run_count=4, context={BEFORE_TURN: 3}), 2),
    ],
)
def test_attempts_are_counted_by_the_state_that_they_start_from(start, number):
    assert context_of(start)["task_run_count"] == number


def test_next_turn_of_a_loop_has_all_its_retries_again():
    ctx = context_of(Retrying(run_count=2, context={"task_loop_count": 5, "task_loop_result": "five"}))
    assert (ctx["task_loop_count"], ctx["task_loop_result"], ctx["task_run_count"]) == (5, "five", 3)
    ctx.begin_turn("six", 1)
    assert (ctx["task_loop_count"], ctx["task_loop_result"], ctx["task_run_count"]) == (6, "six", 1)
    assert ctx.run_count == 3


@pytest.mark.parametrize(
    ("start", "resumes"),
    [(Pending(), False), (Resume(), True), (Paused(), False), (Paused(start_time=NOON), True)],
)
def test_attempt_after_an_approval_or_a_timed_pause_resumes(start, resumes):
    assert context_of(start)["resume"] is resumes


def test_logger_of_a_child_is_not_registered():
    import logging

    logger = child_logger("load", 7)
    assert (logger.name, logger.parent.name) == ("prefectish.load[7]", "prefectish.load")
    assert "prefectish.load[7]" not in logging.root.manager.loggerDict


def test_context_of_a_run_has_its_dates_and_no_keys_of_the_engine():
    given = {"answers": {}, "flow": "the flow being built", "tags": {"x"}, "parameters": {"a": 1, "b": 1}}
    found = run_context("flow", "r1", "nice name", {"b": 2}, NOON, given)
    assert (found["today"], found["tomorrow"], found["yesterday_nodash"]) == ("2026-01-31", "2026-02-01", "20260130")
    assert (found["flow_name"], found["flow_run_id"], found["flow_run_name"]) == ("flow", "r1", "nice name")
    assert found["parameters"] == {"a": 1, "b": 2}
    assert found["scheduled_start_time"] == NOON
    assert {"flow", "tags"}.isdisjoint(found)


@pytest.mark.parametrize(("given", "stores"), [({}, True), ({"checkpointing": False}, False)])
def test_context_decides_whether_results_are_stored(given, stores):
    assert run_context("flow", "r1", "r1", {}, NOON, given)["checkpointing"] is stores
