"""States from which calls and maps of a flow function begin, on every executor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bodies import give, inc, state_names, total
from real import note, notes

from prefectish import context, flow, history, task
from prefectish.engine.state import (
    Cancelled,
    Failed,
    Mapped,
    Paused,
    Queued,
    Resume,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    Success,
    TriggerFailed,
)
from prefectish.errors import TaskRunFailed
from prefectish.executors import LocalExecutor


@pytest.fixture
def noted(tmp_path: Any) -> Any:
    path = tmp_path / "notes"

    @task
    def noted(x: Any) -> Any:
        note(path, str(x))
        return x

    noted.path = path
    return noted


def test_finished_state_stands_for_calls_and_maps(executor: Any, noted: Any) -> None:
    @flow(executor=executor, history=False)
    def main() -> Any:
        return (
            noted(1),
            noted.submit(2).result(),
            inc(noted.submit(3)),
            noted.map([4, 5]).result(),
            inc.map([6]).result(),
        )

    state = main.run(task_states={noted: Success("before", 10)})
    assert state.result == (10, 10, 11, 10, [7])
    assert notes(noted.path) == []


def test_states_of_a_list_are_for_one_call_after_another(executor: Any, noted: Any) -> None:
    @flow(executor=executor, history=False)
    def main() -> Any:
        futures = [noted.submit(n) for n in range(3)]
        return [future.result() for future in futures], noted.with_options(name="other")(7), noted(8)

    state = main.run(task_states={noted: [Success(None, "a"), None, Success(None, "c")]})
    assert state.result == (["a", 1, "c"], 7, 8)
    assert sorted(notes(noted.path)) == ["1", "7", "8"]


def test_children_of_a_map_are_taken_by_index(executor: Any, noted: Any) -> None:
    @flow(executor=executor, history=False)
    def main() -> Any:
        found = noted.map(["a", "b", "c", "d"])
        found.wait()
        return state_names(found.state), inc.map(noted.map([1, 2])).result(), total(noted.map([3, 4]))

    partly = Mapped(map_states=[Success("before", "A"), None, Failed("before", ValueError("c"))])
    whole = Mapped(map_states=[Success(None, 10), Success(None, 20)])
    state = main.run(task_states={noted: [partly, whole, whole]})
    assert state.result == (["Success", "Success", "Failed", "Success"], [11, 21], 30)
    assert sorted(notes(noted.path)) == ["b", "d"]


@pytest.mark.parametrize("kind", [Failed, TriggerFailed, Skipped, Cancelled])
def test_other_finished_states_stand_too(executor: Any, noted: Any, kind: Any) -> None:
    @flow(executor=executor, history=False)
    def main() -> Any:
        first = noted.submit(1)
        return [first.state, inc.submit(first, return_state=True), inc(2)] if first.wait() else None

    given = kind("before")
    before, after, last = main.run(task_states={noted: given}).result
    assert (before, last) == (given, 3)
    assert type(after) is (Skipped if kind is Skipped else TriggerFailed)
    assert notes(noted.path) == []


def test_state_that_is_not_final_is_where_a_call_continues(executor: Any) -> None:
    @task(max_retries=3, retry_delay=timedelta(0))
    def attempt(x: int) -> int:
        return context.task_run_count

    @task
    def now() -> datetime:
        return datetime.now(UTC)

    @flow(executor=executor, history=False)
    def main() -> Any:
        return attempt(1), attempt.map([1, 2]).result(), now(), give(4)

    soon = datetime.now(UTC) + timedelta(milliseconds=200)
    states = {attempt: Retrying(run_count=2), now: Scheduled(start_time=soon), give: Queued(state=Success(None, 5))}
    first, children, moment, value = main.run(task_states=states).result
    assert (first, children, value) == (3, [3, 3], 5)
    assert moment >= soon


def test_paused_call_stays_paused_until_it_is_resumed(executor: Any) -> None:
    @flow(executor=executor, history=False)
    def main() -> Any:
        return inc(give(1))

    assert type(main.run(task_states={give: Paused("wait")})) is Running
    assert main.run(task_states={give: Resume()}).result == 2


def test_states_of_a_run_continue_in_another(executor: Any, noted: Any) -> None:
    path = noted.path

    @task
    def second(x: Any) -> Any:
        note(path, f"second {x}")
        if len(notes(path)) < 4:
            raise OSError("not yet")
        return x

    @flow(executor=executor, history=False)
    def main() -> Any:
        return second(total(noted.map([1, 2])))

    run = main.start(keep_results=True)
    assert run.wait().is_failed()
    states = run.snapshot()
    again = main.run(task_states={noted: states["noted"]})
    assert again.result == 3
    assert sorted(notes(noted.path)) == ["1", "2", "second 3", "second 3"]


def test_what_is_given_for_calls_that_are_not_made_is_told(noted: Any) -> None:
    @flow(executor=LocalExecutor(), history=False)
    def main() -> Any:
        return noted(1)

    with pytest.warns(UserWarning, match="main: task_states has states of inc, which it has not called"):
        main.run(task_states={inc: Success(None, 1)})
    with pytest.warns(UserWarning, match="task_states has states of noted: 2 for 1 calls"):
        main.run(task_states={noted: [None, Success(None, 1)]})


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"inc": Success()}, "keys must be the tasks that the function calls, got 'inc'"),
        ({inc: 3}, "the state of <Task: inc> must be a State such as Success"),
        ({inc: [Success(), 3]}, "one for each call, None for those that run, got 3"),
        ({inc: None}, "got None"),
    ],
)
@pytest.mark.parametrize("how", ["run", "start"])
def test_what_is_no_state_of_a_task_is_refused_before_anything_runs(given: Any, text: str, how: str) -> None:
    @flow(executor=LocalExecutor(), history=False)
    def main() -> None:
        raise AssertionError

    with pytest.raises(TypeError, match=f"task_states: .*{text}"):
        getattr(main, how)(task_states=given)


def test_failure_that_is_given_is_raised_where_it_is_read(noted: Any) -> None:
    @flow(executor=LocalExecutor(), history=False)
    def main() -> Any:
        return noted(1)

    state = main.run(task_states={noted: TriggerFailed("before")})
    assert type(state.result) is TaskRunFailed


def test_run_with_given_states_is_recorded(executor: Any, noted: Any) -> None:
    @flow(executor=executor)
    def main() -> Any:
        return total(noted.map([1, 2])), noted(3)

    whole = Mapped(map_states=[Success(None, 10), None])
    state = main.run(task_states={noted: [whole, Success(None, 30)]})
    assert state.result == (12, 30)
    recorded = history.run(state.context["flow_run_id"])
    assert recorded.state == "Success"
    assert recorded.counts().items == {"succeeded": 4}  # both children, their total, and the call
