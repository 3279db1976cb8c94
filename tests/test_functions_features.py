"""Features of flow functions as of graphs: budgets, limits, caches, what one sees, and checks before a call."""

from __future__ import annotations

import importlib
import sys
import threading
import time

import cloudpickle
import pytest
from bodies import inc, inverse, total
from real import most_at_once, note, notes, spend

from prefectish import context, flow, history, task, triggers
from prefectish.display import live
from prefectish.engine.driver import progress_view
from prefectish.errors import EnvironmentMismatch, FlowDefinitionError
from prefectish.executors import DaskExecutor, LocalDaskExecutor
from prefectish.results import LocalResult
from prefectish.tasks import task_input_hash
from prefectish.testing import FaultySession


def test_triggers_ask_for_a_number_or_a_ratio(executor):
    @flow(executor=executor, history=False)
    def counted():
        mostly = inverse.map([0, 1, 2, 0])  # half of them
        asked = [triggers.some_successful(at_least=least) for least in (2, 3, 0.5, 0.75)]
        called = [inc.copy(trigger=trigger).submit(1, wait_for=[mostly]) for trigger in asked]
        return [call.result(raise_on_failure=False) == 2 for call in called]

    assert counted() == [True, False, True, False]


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}], ids=["plain", "batch"])
def test_deaths_and_errors_have_budgets_of_their_own(executor, options):
    @task(max_retries=1, retry_delay=0, crash_retries=1, **options)
    def fragile(x):
        if context.task_run_count == 1:
            raise OSError("once")
        return context.task_run_count

    @flow(executor=FaultySession(executor, {("fragile", 0): ["killed-worker"] * 2}), history=False)
    def budgets():
        return fragile.map([1, 2]).result(), fragile.submit(3).result()

    assert budgets() == ([2, 2], 2)


def test_retry_that_waits_holds_no_place(executor, tmp_path):
    path = tmp_path / "notes"

    @task(max_retries=1, retry_delay=0.5)
    def unsteady(x):
        note(path, x)
        if x < 8 and context.task_run_count == 1:
            raise OSError(x)
        return x

    @flow(executor=executor, history=False)
    def steady():
        calls, children = [unsteady.submit(x) for x in range(12)], inc.map(unsteady.map(range(12)))
        return [call.result() for call in calls], children.result()

    assert steady() == (list(range(12)), list(range(1, 13)))
    began = [int(line) for line in notes(path)]
    first, again = began[:24], began[24:]
    assert (sorted(first), sorted(again)) == (sorted([*range(12)] * 2), sorted([*range(8)] * 2))


@pytest.mark.parametrize("scheduler", ["threads", "processes", "dask"])
def test_limit_of_a_tag_is_shared_by_all_calls_and_maps_with_it(scheduler, tmp_path, request):
    limits = {"tag_limits": {"db": 1}}
    if scheduler == "dask":
        executor = DaskExecutor(client=request.getfixturevalue("dask_client"), **limits)
    else:
        executor = LocalDaskExecutor(scheduler, num_workers=2, **limits)
    path = tmp_path / "notes"

    def query(x):
        note(path, "+")
        spend(0.01)
        note(path, "-")
        return x

    reads, writes = (task(query, name=name, tags=["db"]) for name in ("reads", "writes"))

    @flow(executor=executor, history=False)
    def queries():
        calls = [reads.submit(x) for x in range(3)]
        return [*reads.map(range(3)).result(), *writes.map(range(3)).result(), *(call.result() for call in calls)]

    assert queries() == [0, 1, 2] * 3
    assert most_at_once(path) == 1


def test_hits_take_no_place_under_a_rate(executor, tmp_path):
    path, store = tmp_path / "notes", LocalResult(dir=tmp_path / "results")

    def square(x):
        note(path, x)
        return x * x

    def squares(items, **options):
        squared = task(square, name="squared in calls", cache_key_fn=task_input_hash, **options)

        @flow(executor=executor, result=store, history=False)
        def squares_of():
            calls = [squared.submit(x) for x in items]
            return [call.result() for call in calls], squared.map(items).result()

        return squares_of()

    squares(range(15))
    began = time.monotonic()
    expected = [x * x for x in [*range(15), 100]]
    assert squares([*range(15), 100], rate="1/s") == (expected, expected)
    assert time.monotonic() - began < 25  # thirty places would take thirty seconds
    assert sorted(notes(path), key=int) == [str(x) for x in [*range(15), 100]]


def test_reason_of_a_miss_names_what_changed_for_calls_and_children(executor, tmp_path):
    scaled = task(lambda x, by: x * by, name=f"scaled for {tmp_path.name}", cache_key_fn=task_input_hash)

    @flow(executor=executor, result=LocalResult(dir=tmp_path), history=False)
    def scales(by):
        called = scaled.submit(7, by, return_state=True)
        return [state.why_not_cached() for state in (called, *scaled.map([1, 2], [by, by], return_state=True))]

    for by, reason in ((1, "nothing is cached yet"), (2, "argument 'by' changed"), (2, "None")):
        assert {str(found).partition(" since")[0] for found in scales(by)} == {reason}


def test_two_runs_are_compared(tmp_path):
    store = str(tmp_path / "history.db")

    @task
    def slow_down(x, seconds):
        if x == 3:
            raise ValueError(x)
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    @flow(history=store)
    def compared(xs, seconds):
        slow_down.submit(xs[0], 0.0).wait()
        slow_down.map(xs, seconds, return_state=True)

    first = compared.run(xs=[1, 2, 3], seconds=[0.0, 0.0, 0.0]).context["flow_run_id"]
    second = compared.run(xs=[1, 2, 4], seconds=[0.0, 0.1, 0.0]).context["flow_run_id"]
    found = history.compare(first, second, store=store)
    assert {times.name for times in found.tasks} == {"slow_down", "slow_down-2"}
    assert [(group.type, group.count) for group in found.gone_causes] == [("ValueError", 1)]
    assert [child.label for child in found.slower] == ["slow_down-2[1]"]


def test_version_changes_with_the_function_and_is_recorded(tmp_path):
    store = str(tmp_path / "history.db")

    def made(source):
        space = {}
        exec(source, space)
        return flow(space["versioned"], name="versioned", history=store)

    one, same = made("def versioned():\n    return 1"), made("\n\ndef versioned():\n    return 1")
    other = made("def versioned():\n    return 2")
    assert one.version == same.version != other.version
    run_id = other.run().context["flow_run_id"]
    assert history.run(run_id, store=store).flow_version == other.version


def test_progress_has_a_line_for_each_map_and_one_for_the_calls_of_a_task(monkeypatch):
    looks = []

    class View:
        shows_causes = False

        def refresh(self, progress):
            looks.append({step.slug: (step.ended, step.width) for step in progress.tasks})

        def release_screen(self):
            pass

        def ended(self, progress, state, stop=None):
            self.refresh(progress)

    monkeypatch.setattr(live, "progress_view", lambda *_: View())
    for name in ("FIRST_AFTER", "MIN_INTERVAL", "COST_FACTOR"):
        monkeypatch.setattr(progress_view, name, 0.0)

    @flow(history=False)
    def shown():
        calls = [inc.submit(x) for x in range(4)]
        return total(inc.map(range(6))) + sum(call.result() for call in calls)

    assert shown.run(progress=True).result == 31
    assert looks[-1] == {"inc-1": (4, 4), "inc-2": (6, 6), "total-1": (1, 1)}
    ended = [look["inc-2"][0] for look in looks if "inc-2" in look]
    assert ended == sorted(ended)


@pytest.mark.parametrize("call", ["call", "submit", "map"])
@pytest.mark.parametrize("scheduler", ["processes", "dask"])
def test_task_that_cannot_travel_is_refused_at_its_first_call_by_name(scheduler, call, request, tmp_path):
    lock = threading.Lock()
    executor = request.getfixturevalue("dask") if scheduler == "dask" else LocalDaskExecutor(scheduler, num_workers=2)

    @task
    def locked(x):
        with lock:
            note(tmp_path / "notes", x)

    @flow(executor=executor, history=False)
    def refused():
        with pytest.raises(FlowDefinitionError, match=r"^task locked\S* cannot be pickled: .*locked\.lock"):
            {"call": locked, "submit": locked.submit}.get(call, lambda x: locked.map([x]))(1)
        return inc(1)

    assert refused() == 2
    assert notes(tmp_path / "notes") == []


def test_module_that_workers_lack_is_named_at_the_first_call(dask, tmp_path, monkeypatch):
    (tmp_path / "lacking_there.py").write_text("def factor(x):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    lacking = importlib.import_module("lacking_there")
    assert lacking not in cloudpickle.list_registry_pickle_by_value()

    @task
    def needs(x):
        return lacking.factor(x)

    @flow(executor=dask, history=False)
    def calls():
        return needs.map([1, 2]).result()

    try:
        with pytest.raises(EnvironmentMismatch, match=r"^task needs cannot be loaded on .*'lacking_there'"):
            calls()
    finally:
        del sys.modules["lacking_there"]
