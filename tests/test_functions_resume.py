"""Flow functions in the history: what is recorded of their calls, and how such a run is resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from bodies import give
from real import until

from prefectish import flow, history, task, unmapped
from prefectish.errors import ResumeMismatch
from prefectish.executors import LocalDaskExecutor, LocalExecutor
from prefectish.functions import function_run
from prefectish.functions.arguments import arguments_of
from prefectish.results import LocalResult

LIMIT = 60


class Bodies:
    """Counts bodies by a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def note(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(f"{text}\n")

    def take(self) -> list[str]:
        lines = sorted(self.path.read_text().split("\n")[:-1])
        self.path.write_text("")
        return lines


@pytest.fixture
def bodies(tmp_path: Path) -> Bodies:
    return Bodies(tmp_path / "bodies")


@pytest.fixture
def where(tmp_path: Path) -> dict:
    return {
        "history": str(tmp_path / "history.db"),
        "result": LocalResult(dir=str(tmp_path / "results")),
        "executor": LocalDaskExecutor(num_workers=2),
    }


def make(bodies: Bodies, where: dict, fixed: bool = True, body=lambda x: x * 10):
    """Make a flow function whose third child fails unless it is fixed."""

    @task
    def load(x):
        bodies.note(f"load {x}")
        return x + 1

    @task
    def scale(x):
        bodies.note(f"scale {x}")
        if x == 3 and not fixed:
            raise ValueError("three")
        return body(x)

    @task
    def total(xs):
        bodies.note("total")
        return sum(xs)

    @flow(**where)
    def scaled(n):
        loaded = [load.submit(x) for x in range(n)]
        children = scale.map(loaded)
        found = children.result(raise_on_failure=False)
        good = [value for value in found if isinstance(value, int)]
        return good, load(100), total.submit(good).result()

    return scaled


def test_calls_are_recorded_as_children(bodies, where):
    state = make(bodies, where).run(n=3)
    run = history.run(state.context["flow_run_id"], store=where["history"])
    assert (run.flow_name, run.state) == ("scaled", "Success")
    assert [(c.index, c.state, c.attempts) for c in run.children("scale-1")] == [(i, "Success", 1) for i in range(3)]
    calls = run.children("load-1")
    assert [c.state for c in calls] == ["Success"] * 4
    assert len({c.item_key for c in calls}) == 4
    assert [c.state for c in run.children("total-1")] == ["Success"]


def test_resumed_function_runs_nothing_that_has_ended(bodies, where):
    scaled = make(bodies, where)
    state = scaled.run(n=3)
    assert len(bodies.take()) == 8
    again = scaled.resume(state.context["flow_run_id"], n=3)
    assert bodies.take() == []
    assert again.result == state.result == ([10, 20, 30], 101, 60)


def test_resumed_function_keeps_a_story_if_it_is_asked_for(bodies, where, monkeypatch):
    monkeypatch.delenv("PREFECTISH_VALIDATE", raising=False)
    state = make(bodies, where, fixed=False).run(n=3)
    again = make(bodies, where).resume(state.context["flow_run_id"], n=3, retry_failed=True, story=True)
    assert "finished" in again.story("scale[2]")


def test_resumed_function_retries_failures_with_corrected_code(bodies, where):
    state = make(bodies, where, fixed=False).run(n=4)
    run_id = state.context["flow_run_id"]
    bodies.take()
    kept = make(bodies, where, fixed=False).resume(run_id, n=4)
    assert bodies.take() == []
    assert kept.result == ([10, 20, 40], 101, 70)
    corrected = make(bodies, where).resume(run_id, n=4, retry_failed=True)
    # the child, and the sum, which is given other values now
    assert bodies.take() == ["scale 3", "total"]
    assert corrected.result == ([10, 20, 30, 40], 101, 100)


def test_resumed_function_runs_what_is_new(bodies, where):
    state = make(bodies, where).run(n=2)
    bodies.take()
    more = make(bodies, where).resume(state.context["flow_run_id"], n=4)
    assert bodies.take() == ["load 2", "load 3", "scale 3", "scale 4", "total"]
    assert more.result == ([10, 20, 30, 40], 101, 100)


def test_what_follows_a_call_that_runs_again_runs_again(bodies, where):
    def made(fixed):
        @task
        def first():
            bodies.note("first")
            if not fixed:
                raise OSError("no")
            return 1

        @task
        def follow(x, by):
            bodies.note(f"follow {by}")
            return x

        @flow(**where)
        def chained():
            one = first.submit()
            other = follow.submit(5, by="other")
            after = follow.submit(one, by="after")
            mapped = follow.map([1, 2], by=unmapped(other))
            return after.exception() is None, mapped.wait()

        return chained

    state = made(False).run()
    assert bodies.take() == ["first", "follow 5", "follow 5", "follow other"]
    made(True).resume(state.context["flow_run_id"], retry_failed=True)
    ran = bodies.take()
    assert "first" in ran
    assert "follow after" in ran
    assert "follow other" not in ran


def test_changed_task_and_other_flow_are_refused_by_name(bodies, where):
    state = make(bodies, where).run(n=2)
    run_id = state.context["flow_run_id"]
    with pytest.raises(ResumeMismatch, match="task scale-1 changed"):
        make(bodies, where, body=lambda x: x * 11).resume(run_id, n=2)
    forced = make(bodies, where, body=lambda x: x * 11).resume(run_id, n=2, force=True)
    assert forced.result[0] == [11, 22]

    @flow(**where)
    def another():
        return None

    with pytest.raises(ResumeMismatch, match="is of flow 'scaled'"):
        another.resume(run_id)


def test_call_that_comes_when_the_run_has_broken_off_does_not_wait_for_ever(bodies, where, monkeypatch):
    def made(factor):
        scale = task(lambda x: factor * x, name="scale")

        @flow(**where)
        def scaled():
            return task(sum, name="total")(scale.map([1, 2]))

        return scaled

    run_id = made(2).run().context["flow_run_id"]

    def too_late(*args):
        """Take the arguments of the second call once nobody drives the run any more."""
        for thread in threading.enumerate():
            if thread.name == "prefectish-flow-function":
                thread.join(60)
        return arguments_of(*args)

    monkeypatch.setattr(function_run, "arguments_of", too_late)
    with pytest.raises(ResumeMismatch, match="task scale-1 changed"):
        made(3).resume(run_id)


DRIVER = """
import os, sys, time
from prefectish import flow, task
from prefectish.executors import LocalDaskExecutor, LocalExecutor
from prefectish.results import LocalResult

folder = sys.argv[1]

@task
def work(x):
    with open(f"{folder}/bodies", "a") as file:
        file.write(f"{x}\\n")
    time.sleep(0.005)
    return x

@flow(history=f"{folder}/history.db", result=LocalResult(dir=f"{folder}/results"),
      executor=LocalDaskExecutor(num_workers=2), progress=False)
def summed(n):
    return sum(work.map(range(n)).result()) + sum(f.result() for f in [work.submit(1000 + i) for i in range(20)])

if sys.argv[2] == "run":
    summed.run(n=200)
else:
    print(summed.resume(sys.argv[2], n=200).result)
"""


def test_killed_function_is_resumed(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    (tmp_path / "bodies").touch()
    driver = subprocess.Popen([sys.executable, str(script), str(tmp_path), "run"])
    try:
        until(lambda: _recorded(tmp_path) > 30, LIMIT)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    run = history.runs(store=str(tmp_path / "history.db"))[0]
    before = {child.item_key for child in run.children("work-1") if child.state == "Success"}
    ran = (tmp_path / "bodies").read_text().split()
    (tmp_path / "bodies").write_text("")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), run.id], capture_output=True, text=True, timeout=LIMIT, check=True
    )
    assert int(done.stdout) == sum(range(200)) + sum(range(1000, 1020))
    again = (tmp_path / "bodies").read_text().split()
    assert len(again) == len(set(again)) <= 220 - len(before)
    assert set(ran) | set(again) == {str(x) for x in [*range(200), *range(1000, 1020)]}


def _recorded(folder: Path) -> int:
    if not (folder / "history.db").exists():
        return 0
    runs = history.runs(store=str(folder / "history.db"))
    try:
        return len(runs[0].children("work-1")) if runs else 0
    except KeyError:
        return 0


def test_call_that_is_new_does_not_take_the_stored_result_of_an_equal_one(bodies, where):
    grown = []

    @task(name="draw")
    def draw(x):
        bodies.note(f"draw {x}")
        return len(grown)

    @flow(**where)
    def drawn():
        found = [draw(1)]
        if not grown:
            raise ValueError("the list is not known yet")
        return found + [draw(1) for _ in grown] + draw.map([1, 1]).result()

    run_id = drawn.run().context["flow_run_id"]
    bodies.take()
    grown.append("one more")
    state = drawn.resume(run_id, retry_failed=True)
    assert (state.result, bodies.take()) == ([0, 1, 1, 1], ["draw 1"] * 3)


@pytest.mark.parametrize("kind", ["local", "threads"])
@pytest.mark.parametrize("spelling", ["call", "submit", "map"])
def test_resumed_function_pickles_no_body_where_a_new_run_does_not(where, kind, spelling):
    where["executor"] = {"local": LocalExecutor, "threads": LocalDaskExecutor}[kind]()
    lock, done = threading.Lock(), []

    @task
    def load(x):
        with lock:
            done.append(x)
        if len(done) == 1:
            raise ValueError(x)
        return x

    @flow(history=where["history"], result=where["result"], executor=where["executor"])
    def loads():
        if spelling == "map":
            return load.map([7]).result()
        return load(7) if spelling == "call" else load.submit(7).result()

    state = loads.run()
    assert state.is_failed()
    again = loads.resume(state.context["flow_run_id"], retry_failed=True)
    assert again.is_successful(), again
    assert done == [7, 7]


@pytest.mark.parametrize("make", [LocalExecutor, LocalDaskExecutor], ids=["local", "threads"])
@pytest.mark.parametrize("source", ["calls", "a call among values", "generator"])
@pytest.mark.parametrize("items", [[3, 1, 2], [2, 3], [0, 1, 2, 3], [1, 2, 3]], ids=str)
def test_items_that_come_from_calls_are_known_in_another_list(where, make, source, items):
    ran, found = [], []

    @task
    def same(x):
        return x

    @task
    def several(xs):
        yield from xs

    @task
    def load(x):
        ran.append(x)
        return x * 10

    @flow(history=where["history"], result=where["result"], executor=make())
    def loads(items):
        if source == "generator":
            given = several.submit(items)
        else:
            given = [x if source != "calls" and x == 1 else same.submit(x) for x in items]
        found[:] = load.map(given).result()

    state = loads.run(items=[1, 2, 3])
    assert found == [10, 20, 30]
    ran.clear()
    loads.resume(state.context["flow_run_id"], items=items)
    assert found == [10 * x for x in items]
    assert ran == [x for x in items if x == 0]


@task
def pair(x, whole):
    return x, whole


def test_child_that_was_given_the_result_of_another_call_runs_again(executor, tmp_path):
    @flow(executor=executor, result=LocalResult(str(tmp_path / "results")), history=str(tmp_path / "history.db"))
    def pairs(x):
        return pair.map([7], unmapped(give.submit(x))).result() + pair.map([8], unmapped([give.submit(x)])).result()

    run_id = pairs.run(x=1).context["flow_run_id"]
    for x in (2, 1, 2):
        assert pairs.resume(run_id, x=x).result == [(7, x), (8, [x])]
