"""A run in the background that is paused, limited, and told to try its failures again."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from real import until

import prefectish
from prefectish import Flow, flow, history, task, unmapped
from prefectish.engine.pause import pause_task
from prefectish.engine.state import Paused, Running, Success
from prefectish.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor

LIMIT = 60.0


class Desk:
    """Lets bodies in one by one, in the order in which they came, and knows which came."""

    def __init__(self) -> None:
        self.came: list[Any] = []
        self.served = 0
        self.called = threading.Condition()
        self.broken: set[Any] = set()

    def __call__(self, value: Any) -> Any:
        with self.called:
            self.came.append(value)
            number = len(self.came)
            assert self.called.wait_for(lambda: self.served >= number, LIMIT)
        if value in self.broken:
            raise ValueError(value)
        return value

    def serve(self, count: int) -> None:
        with self.called:
            self.served += count
            self.called.notify_all()

    def wait_for(self, count: int) -> list[Any]:
        return until(lambda: self.came if len(self.came) >= count else None, LIMIT)


@pytest.fixture
def desk() -> Any:
    desk = Desk()
    yield desk
    desk.serve(1000)


def flow_of(desk: Desk, width: int = 6, **options: Any) -> tuple[Flow, Any, Any]:
    @task(**options)
    def load(x: int) -> int:
        return int(desk(x))

    @task
    def clean(x: int) -> int:
        return 10 * x

    @task
    def total(values: list[int]) -> int:
        return sum(values)

    with Flow("steered") as flow:
        loaded = load.map(list(range(width)))
        ended = total(clean.map(loaded))
    return flow, loaded, ended


def test_run_that_is_paused_starts_nothing_until_it_is_resumed(desk: Desk) -> None:
    flow, _, ended = flow_of(desk)
    run = flow.start(executor=LocalDaskExecutor(num_workers=2), history=False)
    desk.wait_for(2)
    run.pause()
    until(lambda: run._control.progress.run_state.paused, LIMIT)
    desk.serve(6)
    until(lambda: run.counts().get("Success", 0) and not run._control.progress.run_state.submitted_jobs, LIMIT)
    begun = len(desk.came)
    with pytest.raises(TimeoutError):
        run.wait(0.5)
    assert len(desk.came) == begun
    assert type(run.state) is Paused
    assert "Paused>" in repr(run)
    assert "Paused" in run._repr_html_()
    run.resume()
    assert type(run.state) is Running
    assert run.wait(LIMIT).result[ended].result == 150
    run.pause()
    assert type(run.state) is Success


def test_limit_of_a_running_map_is_raised(desk: Desk) -> None:
    flow, loaded, _ = flow_of(desk, max_concurrency=1)
    run = flow.start(executor=LocalDaskExecutor(num_workers=3), history=False)
    assert len(desk.wait_for(1)) == 1
    run.set_limit(loaded, 3)
    assert len(desk.wait_for(3)) == 3
    run.set_limit(loaded.copy(), None)  # as the task that was called in the flow
    desk.serve(6)
    assert run.wait(LIMIT).is_successful()


def test_limit_of_a_tag_is_set(desk: Desk) -> None:
    flow, _, _ = flow_of(desk, tags=["db"])
    run = flow.start(executor=LocalDaskExecutor(num_workers=3, tag_limits={"db": 1}), history=False)
    assert len(desk.wait_for(1)) == 1
    run.set_limit("db", 2)
    assert len(desk.wait_for(2)) == 2
    desk.serve(6)
    assert run.wait(LIMIT).is_successful()


def test_limit_of_a_misspelt_name_is_refused_by_an_attached_run_too(desk: Desk, tmp_path: Path) -> None:
    flow, _, _ = flow_of(desk, width=1, tags=["net"])
    home = str(tmp_path / "history.db")
    run = flow.start(executor=LocalExecutor(), history=home)
    desk.wait_for(1)
    with pytest.raises(KeyError) as refused:
        prefectish.attach("last", store=home).set_limit("nte", 2)
    assert re.search(
        r"no task .*'nte'.*no task of this run has the tag 'nte'; .*did you mean 'net'", str(refused.value)
    )
    desk.serve(1)
    run.wait(LIMIT)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (("db", 2), ValueError, r"no task of .* has the tag 'db'; its tags are \['net'\]"),
        ((None, 2), ValueError, "is not in"),
        (("net", -1), ValueError, "n must be >= 0, got -1"),
        (("net", True), TypeError, r"n must be an int.* got True"),
        (("net", 1.5), TypeError, r"n must be an int.* got 1\.5"),
    ],
)
def test_limits_of_nothing_are_refused(desk: Desk, given: Any, error: type[Exception], text: str) -> None:
    flow, _, _ = flow_of(desk, width=1, tags=["net"])
    run = flow.start(executor=LocalExecutor(), history=False)
    with pytest.raises(error, match=text):
        run.set_limit(*given)
    desk.serve(1)
    run.wait(LIMIT)


@pytest.mark.parametrize("where", [None, ValueError, "ValueError", lambda state: "2" in str(state.result)])
def test_failures_run_again_while_their_map_continues(desk: Desk, where: Any, tmp_path: Any) -> None:
    flow, loaded, ended = flow_of(desk)
    desk.broken = {2}
    store = tmp_path / "history.db"
    run = flow.start(executor=LocalDaskExecutor(num_workers=3), history=store)
    desk.wait_for(3)
    desk.serve(3)
    until(lambda: run.counts(loaded).get("Failed"), LIMIT)
    desk.broken = set()
    assert run.retry(loaded, where) == 1
    assert run.retry(loaded, where) == 0
    desk.serve(4)
    state = run.wait(LIMIT)
    assert state.result[ended].result == 150
    assert desk.came.count(2) == 2
    child = history.run(run.id, store=store).child("load", 2)
    assert (child.state, child.attempts) == ("Success", 2)
    assert [attempt.state for attempt in child.earlier()] == ["Retrying"]


def test_group_of_failures_of_the_history_runs_again(desk: Desk, tmp_path: Any) -> None:
    flow, loaded, ended = flow_of(desk)
    desk.broken = {0, 1}
    store = tmp_path / "history.db"
    run = flow.start(executor=LocalDaskExecutor(num_workers=3), history=store)
    desk.wait_for(3)
    desk.serve(3)
    (group,) = until(
        lambda: [g for g in history.run(run.id, store=store).failures() if (g.type, g.count) == ("ValueError", 2)],
        LIMIT,
    )
    desk.broken = set()
    assert run.retry(loaded, group) == 2
    desk.serve(6)
    assert run.wait(LIMIT).result[ended].result == 150


def test_errors_of_a_choice_are_the_callers(desk: Desk) -> None:
    flow, loaded, _ = flow_of(desk)
    desk.broken = {0}
    run = flow.start(executor=LocalDaskExecutor(num_workers=2), history=False)
    desk.wait_for(2)
    desk.serve(1)
    desk.serve(1)
    until(lambda: run.counts(loaded).get("Failed"), LIMIT)
    with pytest.raises(ZeroDivisionError):
        run.retry(loaded, lambda state: 1 / 0)
    with pytest.raises(TypeError, match=r"where must be .* got 3"):
        run.retry(loaded, 3)
    with pytest.raises(ValueError, match="is not in"):
        run.retry(unmapped)
    desk.serve(6)
    assert run.wait(LIMIT).is_failed()


def test_what_has_ended_names_the_way_out(desk: Desk) -> None:
    flow, loaded, ended = flow_of(desk, width=1)
    desk.broken = {0}
    run = flow.start(executor=LocalExecutor(), history=False)
    desk.serve(1)
    run.wait(LIMIT)
    with pytest.raises(RuntimeError, match=rf"run {run.id} has ended; flow.resume\('{run.id}', retry_failed=True\)"):
        run.retry(loaded)
    run.pause()
    run.resume()
    run.set_limit(ended, 1)
    assert run.state.is_failed()


def test_map_that_has_ended_in_a_run_that_continues_names_the_way_out(desk: Desk) -> None:
    @task
    def fail(x: int) -> None:
        raise ValueError(x)

    @task
    def wait() -> Any:
        return desk("waiting")

    with Flow("steered") as flow:
        failed = fail.map([1])
        wait()
    run = flow.start(executor=LocalDaskExecutor(num_workers=2), history=False)
    until(lambda: run.counts(failed).get("Failed"), LIMIT)
    with pytest.raises(RuntimeError, match=r"fail cannot run again now: fail has ended.*flow\.resume"):
        run.retry(failed)
    desk.serve(1)
    run.wait(LIMIT)


def test_run_cannot_wait_for_itself() -> None:
    asked: list[Any] = []

    def handler(flow: Any, old: Any, new: Any) -> None:
        if new.is_finished():
            asked.append(_error(lambda: handle.retry(done)))

    def _error(call: Any) -> BaseException | None:
        try:
            call()
        except RuntimeError as error:
            return error
        return None

    ready = threading.Event()

    @task
    def body() -> None:
        assert ready.wait(LIMIT)

    with Flow("asks", state_handlers=[handler]) as flow:
        done = body()
    handle = flow.start(executor=LocalExecutor(), history=False)
    ready.set()
    handle.wait(LIMIT)
    assert "from a handler or task body of the same run" in str(asked[0])


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_failures_run_again_in_other_processes(kind: str, tmp_path: Any, request: pytest.FixtureRequest) -> None:
    if kind == "dask":
        executor: Any = DaskExecutor(client=request.getfixturevalue("dask_client"), max_branches=4)
    else:
        executor = LocalDaskExecutor("processes", num_workers=2)
    mended, go_on = tmp_path / "mended", tmp_path / "go_on"

    @task(max_concurrency=4)
    def load(x: int) -> int:
        if x == 0 and not mended.exists():
            raise ValueError("not yet")
        if x == 4:  # holds the map open, and one slot
            until(go_on.exists, LIMIT)
        return x

    @task
    def clean(x: int) -> int:
        return 10 * x

    with Flow("steered") as flow:
        loaded = load.map(list(range(5)))
        cleaned = clean.map(loaded)
    run = flow.start(executor=executor, history=False)
    until(lambda: run.counts(cleaned).get("TriggerFailed"), LIMIT)
    mended.touch()
    assert run.retry(loaded, ValueError) == 1
    until(lambda: run.counts(cleaned).get("Success") == 4, LIMIT)
    go_on.touch()
    assert run.wait(LIMIT).result[cleaned].result == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("front", ["flow", "function"])
def test_children_and_results_of_what_has_ended(desk: Desk, tmp_path: Any, front: str) -> None:
    @task
    def load(x: int) -> int:
        return int(desk(x))

    if front == "flow":
        with Flow("half done", executor=LocalDaskExecutor(num_workers=2)) as made:
            load.map([5, 6, 7])
        started = made.start(history=str(tmp_path / "history.db"))
    else:

        @flow(executor=LocalDaskExecutor(num_workers=2))
        def half_done() -> Any:
            return load.map([5, 6, 7]).result()

        started = half_done.start(history=str(tmp_path / "history.db"))
    desk.wait_for(2)
    desk.serve(1)
    until(lambda: len(started.results("load")) == 1, LIMIT)
    until(lambda: len(started.children("load", "Success")) == 1, LIMIT)
    desk.serve(5)
    assert isinstance(started.wait(LIMIT), Success)
    assert [child.index for child in started.children("load")] == [0, 1, 2]


def test_children_without_a_history_are_refused(desk: Desk) -> None:
    made, _, _ = flow_of(desk, width=1)
    desk.serve(5)
    run = made.start(history=False)
    run.wait(LIMIT)
    with pytest.raises(RuntimeError, match="has no history"):
        run.children("load")


@pytest.mark.parametrize("what", ["runs", "waits"])
def test_a_single_task_that_is_cancelled_does_not_begin_again(desk: Desk, what: str) -> None:
    alone, waits = [], what == "waits"

    def single() -> Any:
        alone.append(desk("single") if not waits else pause_task("shall I?"))

    flow, _, ended = flow_of(desk, width=1)
    with flow:
        one = task(single, name="single")()
    run = flow.start(executor=LocalDaskExecutor(num_workers=2), history=False)
    desk.wait_for(1 if waits else 2)
    if waits:
        until(lambda: run._control.progress.paused(), LIMIT)
    run.cancel(one)
    until(lambda: run.counts(one).get("Cancelled"), LIMIT)
    desk.serve(3)
    state = run.wait(LIMIT)
    assert type(state.result[one]).__name__ == "Cancelled"
    assert state.result[ended].is_successful()
    assert desk.came.count("single") <= 1
