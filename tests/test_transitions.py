"""The checks that hold a run against the table of transitions, and its tables against each other."""

from __future__ import annotations

import pytest
from owner import Owner, named

from prefectish import Flow, task
from prefectish.engine.state import (
    Cancelled,
    Failed,
    Finished,
    Mapped,
    Pending,
    Retrying,
    Running,
    State,
    Success,
    TriggerFailed,
)
from prefectish.engine.transitions import can_end, check, check_attempt, validating
from prefectish.engine.worker import attempt
from prefectish.errors import InvalidRunState, InvalidTransition


class Done(Finished):
    """A user's own end."""


def mapped():
    with Flow("mapped") as flow:
        named("last").map(named("first").map([1, 2, 3]))
    return flow


def test_the_tests_run_with_checks():
    assert validating()
    assert attempt._change is attempt._checked_change


def test_forbidden_transition_names_step_row_and_both_states():
    with pytest.raises(InvalidTransition) as caught:
        check(Success("well"), Failed("badly"), "load-1[17]")
    text = str(caught.value)
    assert text.startswith("load-1[17]: Failed must not follow Success, after which there may be Cached")
    assert "well" in text
    assert "badly" in text


def test_final_state_without_successors_says_so():
    with pytest.raises(InvalidTransition, match="may be nothing"):
        check(TriggerFailed(), Retrying(start_time=None), "load")


@pytest.mark.parametrize("new", [Success(1), Failed("no"), Retrying(), Done()])
def test_attempt_may_end_in_what_may_follow_running(new):
    assert check_attempt(Pending(), new, "load") is None  # it raises for others


def test_attempt_may_not_end_running():
    with pytest.raises(InvalidTransition, match="load: Running must not follow Running"):
        check(Running(), Running(), "load")
    with pytest.raises(InvalidTransition, match="load: Success must not follow Failed"):
        check_attempt(Failed(), Success(), "load")


def test_own_kind_of_end_may_follow_what_may_be_cancelled_and_nothing_final():
    check(Running(), Done(), "load")
    with pytest.raises(InvalidTransition):
        check(Success(), Done(), "load")


@pytest.mark.parametrize(("state", "answer"), [(Done(), True), (Pending(), True), (Running(), False), (State(), False)])
def test_task_can_be_left_in_what_is_final_or_waits(state, answer):
    assert can_end(state) is answer


def test_transition_of_the_owner_is_checked_with_its_row():
    owner = Owner(mapped())
    owner.start()
    run = owner.progress.run_state.step_states[0]
    mapped_step = next(s for s in owner.progress.run_state.step_states if s.step.mapped)
    assert run.final
    with pytest.raises(InvalidTransition, match=r"first\[2\]: Success must not follow Cancelled"):
        owner.progress.changes.end_row(mapped_step, 2, Cancelled(), Success())


def test_record_of_a_worker_is_checked():
    @task
    def load():
        pass

    owner = Owner(Flow("one", tasks=[load]))
    (job,) = owner.start()
    with pytest.raises(InvalidTransition, match="load: State must not follow Pending"):
        owner.tell(job, State("odd"))


@pytest.mark.parametrize(
    ("spoil", "condition"),
    [
        (lambda progress, row: setattr(row, "final", row.submitted), "no step is both final and submitted"),
        (lambda progress, row: setattr(row, "waiting", row.submitted), "no step is both submitted and waiting"),
        (lambda progress, row: setattr(row, "submitted", 0), "what is submitted is awaited"),
        (lambda progress, row: setattr(row, "waiting", 1 << 7), "the masks name steps of the chain"),
        (lambda progress, row: setattr(progress.run_state, "submitted_jobs", 7), "submitted_jobs is the number"),
        (lambda progress, row: setattr(progress.admission, "open", 7), "7 rows are counted as open, 3 are"),
        (lambda progress, row: setattr(row, "probing", True), "probing is the number of rows that probe"),
        (lambda progress, row: setattr(step(progress), "left", 1), "left is the number of rows without a state"),
        (lambda progress, row: setattr(step(progress), "failures", 1), "failures is the number of rows that failed"),
        (lambda progress, row: setattr(step(progress).map_state, "width", 9), "one position for each row"),
        (lambda progress, row: step(progress).children.cells.__setitem__(0, Success()), "has a state and is final"),
    ],
)
def test_tables_that_contradict_each_other_are_refused(spoil, condition):
    owner = Owner(mapped())
    owner.start()
    progress = owner.progress
    progress.validate()
    spoil(progress, next(iter(step(progress).chain.open_rows.values())))
    with pytest.raises(InvalidRunState, match=condition):
        progress.validate()


def step(progress):
    return next(s for s in progress.run_state.step_states if s.step.name == "first")


def test_run_without_checks_pays_nothing(monkeypatch):
    monkeypatch.delenv("PREFECTISH_VALIDATE")
    owner = Owner(mapped())
    assert "advance" not in vars(owner.progress)
    assert owner.progress.changes.notify == owner.notify
    owner.start()
    owner.progress.run_state.submitted_jobs = 7
    owner.pass_time(1)
    assert isinstance(owner.state("first"), Mapped)
