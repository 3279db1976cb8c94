"""From which states steps and rows start, without an executor."""

from __future__ import annotations

import pytest
from owner import BEGINNING, Owner, labels, named

from prefectish import Flow
from prefectish.engine.state import Cancelled, Failed, Mapped, Pending, Retrying, Running, Scheduled, Success


def single():
    with Flow("single") as flow:
        made = named("load")()
    return flow, made


def mapped(width=3):
    with Flow("mapped") as flow:
        made = named("load").map(list(range(width)))
    return flow, made


@pytest.mark.parametrize("state", [Success(None, 5), Failed("no"), Cancelled("no")])
def test_finished_step_is_kept(state):
    flow, made = single()
    owner = Owner(flow, starts={made: state})
    assert owner.start() == []
    assert owner.state("load") is state


def test_step_that_runs_elsewhere_is_not_started():
    flow, made = single()
    owner = Owner(flow, starts={made: Running("there")})
    assert owner.start() == []
    assert owner.progress.done
    assert isinstance(owner.state("load"), Running)


def test_step_that_is_due_later_waits_for_its_time():
    flow, made = single()
    owner = Owner(flow, starts={made: Scheduled(start_time=BEGINNING.replace(minute=1))})
    assert owner.start() == []
    (job,) = owner.pass_time(60.0)
    assert labels(job) == ["load"]


def test_retry_that_was_due_starts_at_once_and_counts_on():
    flow, made = single()
    owner = Owner(flow, starts={made: Retrying(run_count=2, start_time=BEGINNING)})
    (job,) = owner.start()
    assert job.starts[0].run_count == 2


def test_children_that_were_finished_are_kept_and_the_others_run():
    flow, made = mapped()
    given = Mapped(map_states=[Success(None, 1), None, Failed("no")])
    owner = Owner(flow, starts={made: given})
    assert [labels(job) for job in owner.start()] == [["load[1]"]]
    children = owner.progress.run_state.find("load-1").children
    assert children[0] is given.map_states[0]
    assert children[2] is given.map_states[2]


def test_map_whose_children_were_all_finished_is_kept_whole():
    flow, made = mapped(2)
    owner = Owner(flow, starts={made: Mapped(map_states=[Success(None, 1), Success(None, 2)])})
    assert owner.start() == []
    assert owner.state("load").n_map_states == 2


def test_pending_start_is_no_start():
    flow, made = single()
    owner = Owner(flow, starts={made: Pending("not yet")})
    (job,) = owner.start()
    assert not job.starts


def test_rows_start_as_the_window_has_room():
    flow, _ = mapped(4)
    owner = Owner(flow, window=2)
    jobs = owner.start()
    assert [labels(job) for job in jobs] == [["load[0]"], ["load[1]"]]
    assert [labels(job) for job in owner.tell(jobs[0])] == [["load[2]"]]
