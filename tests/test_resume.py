"""Going on with recorded runs. Bodies are counted by an append-only file, as the user's side effects would be."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from real import spend, until

import prefectish
from prefectish import Flow, Parameter, history, pause_task, task, triggers
from prefectish.engine.scheduling.cancellation import Cancellation
from prefectish.engine.scheduling.dispatch import Dispatcher
from prefectish.engine.scheduling.rows import Rows
from prefectish.engine.state import Failed, Paused, Success
from prefectish.errors import ResultReleased, ResumeMismatch, RunLocked
from prefectish.executors import LocalDaskExecutor
from prefectish.hashing import stable_hash
from prefectish.history import schema
from prefectish.history.store import open_store
from prefectish.results import LocalResult

LIMIT = 60.0


class Bodies:
    """Counts bodies in a file that processes append to."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def note(self, text: str) -> None:
        file = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(file, f"{text}\n".encode())
        os.close(file)

    def lines(self) -> list[str]:
        return Path(self.path).read_text().split("\n")[:-1] if os.path.exists(self.path) else []

    def take(self) -> Counter[str]:
        """Return what ran since the last call."""
        lines = self.lines()
        if lines:
            os.unlink(self.path)
        return Counter(lines)


@pytest.fixture
def bodies(tmp_path: Path) -> Bodies:
    return Bodies(tmp_path / "bodies")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "history.db")


def pipeline(bodies: Bodies, items: list[Any], store: Any, fixed: bool = False) -> tuple[Flow, Any, Any]:
    def load(x: int) -> int:
        bodies.note(f"load {x}")
        if x == 3:
            raise ValueError("bad item")
        return x * 2

    def load_fixed(x: int) -> int:
        bodies.note(f"load {x}")
        return x * 2

    def twice(y: int) -> int:
        bodies.note(f"twice {y}")
        return y * 2

    def total(values: list[Any]) -> int:
        bodies.note("total")
        return sum(v for v in values if isinstance(v, int))

    with Flow("pipeline", result=store) as flow:
        loaded = task(load_fixed if fixed else load, name="load").map(items)
        doubled = task(twice).map(loaded)
        end = task(total, trigger=triggers.all_finished)(doubled)
    return flow, doubled, end


@pytest.fixture(params=["store", "no store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return LocalResult(dir=tmp_path / "results") if request.param == "store" else None


def test_finished_run_runs_nothing_again(bodies: Bodies, path: str, store: Any) -> None:
    flow, _, end = pipeline(bodies, [0, 1, 2], store)
    run_id = flow.run(history=path).context["flow_run_id"]
    assert sum(bodies.take().values()) == 7
    state = flow.resume(run_id, history=path)
    assert bodies.take() == Counter()
    assert type(state) is Success
    assert state.context["flow_run_id"] == run_id
    if store is not None:
        assert state.result[end].result == 12
    else:
        with pytest.raises(ResultReleased, match="result store"):
            state.result[end].result  # noqa: B018


def test_resumed_run_keeps_a_story_if_it_is_asked_for(
    bodies: Bodies, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECTISH_VALIDATE", raising=False)
    flow, _, _ = pipeline(bodies, [0, 3, 5], None)
    run_id = flow.run(history=path).context["flow_run_id"]
    assert "finished" in flow.resume(run_id, history=path, retry_failed=True, story=True).story("twice[2]")


def test_failed_children_stand_unless_asked_for(bodies: Bodies, path: str, tmp_path: Path) -> None:
    flow, doubled, end = pipeline(bodies, [0, 3, 5], LocalResult(dir=tmp_path / "results"))
    run_id = flow.run(history=path).context["flow_run_id"]
    bodies.take()
    state = flow.resume(run_id, history=path)
    assert bodies.take() == Counter()
    assert isinstance(state.result[doubled].map_states[1], Failed)
    assert state.result[end].result == 20


def test_code_fix_runs_only_the_failed_children_and_what_follows(bodies: Bodies, path: str, tmp_path: Path) -> None:
    store = LocalResult(dir=tmp_path / "results")
    flow, _, _ = pipeline(bodies, [0, 3, 5], store)
    run_id = flow.run(history=path).context["flow_run_id"]
    bodies.take()
    flow, _, end = pipeline(bodies, [0, 3, 5], store, fixed=True)
    state = flow.resume(run_id, history=path, retry_failed=True)
    assert bodies.take() == Counter({"load 3": 1, "twice 6": 1, "total": 1})
    assert state.result[end].result == 32


def test_d9_body_that_closes_over_a_list_is_not_another_body_when_the_list_changed(
    path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []

    def build(items: list[int], factor: int = 2) -> tuple[Flow, Any]:
        def scale(x: int) -> int:
            ran.append(x)
            return x * factor

        with Flow("scales", result=LocalResult(dir=tmp_path / "results")) as flow:
            scaled = task(scale).map(items)
        return flow, scaled

    run_id = build([1, 2])[0].run(history=path).context["flow_run_id"]
    flow, scaled = build([2, 3, 1])
    assert flow.resume(run_id, history=path).result[scaled].result == [4, 6, 2]
    assert ran == [1, 2, 3]
    assert sum("values in the closure of task scale have changed" in text for text in caplog.messages) == 1
    with pytest.raises(ResumeMismatch, match="task scale-1 changed"):
        build([1, 2, 3], factor=3)[0].resume(run_id, history=path)
    build([1, 2, 3])[0].resume(run_id, history=path, force=True)
    assert ran == [1, 2, 3, 1, 2, 3]


def test_d9_corrected_code_names_the_way_to_run_what_failed(bodies: Bodies, path: str) -> None:
    run_id = pipeline(bodies, [3], None)[0].run(history=path).context["flow_run_id"]
    with pytest.raises(ResumeMismatch, match=r"task load-1 changed; retry_failed=True .*; force=True"):
        pipeline(bodies, [3], None, fixed=True)[0].resume(run_id, history=path)


def test_grown_and_shuffled_list_runs_the_new_items(bodies: Bodies, path: str, tmp_path: Path) -> None:
    store = LocalResult(dir=tmp_path / "results")
    flow, _, _ = pipeline(bodies, [0, 1, 2, 1], store)
    run_id = flow.run(history=path).context["flow_run_id"]
    bodies.take()
    flow, doubled, end = pipeline(bodies, [7, 1, 2, 8, 1, 0], store)
    state = flow.resume(run_id, history=path)
    assert bodies.take() == Counter({"load 7": 1, "load 8": 1, "twice 14": 1, "twice 16": 1, "total": 1})
    assert state.result[doubled].result == [28, 4, 8, 32, 4, 0]
    assert state.result[end].result == 76
    run = history.run(run_id, store=path)
    assert [child.state for child in run.children("load")] == ["Success"] * 6


def test_h7_damaged_result_counts_as_absent(bodies: Bodies, path: str, tmp_path: Path) -> None:
    store = LocalResult(dir=tmp_path / "results")
    flow, _, _ = pipeline(bodies, [0, 1], store)
    run_id = flow.run(history=path).context["flow_run_id"]
    bodies.take()
    location = history.run(run_id, store=path).child("total", 0).location
    assert location is not None
    file = tmp_path / "results" / location
    file.write_bytes(file.read_bytes()[:-3])
    state = flow.resume(run_id, history=path)
    assert sum(bodies.take().values()) == 0  # nobody reads the last result, so it is not made again
    assert type(state) is Success

    flow, _, _ = pipeline(bodies, [0, 1, 2], store)
    damaged = history.run(run_id, store=path).child("twice", 1).location
    assert damaged is not None
    (tmp_path / "results" / damaged).write_bytes(b"cut")
    flow.resume(run_id, history=path)
    assert bodies.take() == Counter({"load 2": 1, "twice 4": 1, "twice 2": 1, "total": 1})


def test_shrunk_list_runs_the_reduce_again(bodies: Bodies, path: str, tmp_path: Path) -> None:
    store = LocalResult(dir=tmp_path / "results")
    flow, _, _ = pipeline(bodies, [0, 1, 2], store)
    run_id = flow.run(history=path).context["flow_run_id"]
    bodies.take()
    flow, _, end = pipeline(bodies, [2, 0], store)
    assert flow.resume(run_id, history=path).result[end].result == 8
    assert bodies.take() == Counter({"total": 1})


def test_d9_changed_task_is_refused_unless_forced(bodies: Bodies, path: str, tmp_path: Path) -> None:
    store = LocalResult(dir=tmp_path / "results")
    flow, _, _ = pipeline(bodies, [0, 1], store)
    run_id = flow.run(history=path).context["flow_run_id"]
    bodies.take()
    flow, _, _ = pipeline(bodies, [0, 1], store, fixed=True)
    with pytest.raises(ResumeMismatch, match="task load-1 changed; force=True"):
        flow.resume(run_id, history=path)
    flow.resume(run_id, history=path, force=True)
    assert bodies.take() == Counter({"load 0": 1, "load 1": 1, "twice 0": 1, "twice 2": 1, "total": 1})


def test_changed_parameter_runs_what_reads_it(path: str, tmp_path: Path, bodies: Bodies) -> None:
    def numbers(n: int) -> list[int]:
        bodies.note("numbers")
        return list(range(n))

    def show(x: int) -> int:
        bodies.note(f"show {x}")
        return x

    with Flow("parameters", result=LocalResult(dir=tmp_path / "results")) as flow:
        shown = task(show).map(task(numbers)(Parameter("n")))
    run_id = flow.run(n=2, history=path).context["flow_run_id"]
    bodies.take()
    state = flow.resume(run_id, history=path, n=3)
    assert bodies.take() == Counter({"numbers": 1, "show 2": 1})
    assert state.result[shown].result == [0, 1, 2]


def test_unknown_run_and_foreign_flow_are_refused(path: str) -> None:
    flow = Flow("other", tasks=[task(lambda: 1, name="one")])
    run_id = flow.run(history=path).context["flow_run_id"]
    with pytest.raises(KeyError, match="no run 'nothing'"):
        flow.resume("nothing", history=path)
    with pytest.raises(KeyError, match="no run ''"):
        flow.resume("", history=path)
    with pytest.raises(TypeError, match=r'state\.context\["flow_run_id"\], got Success\(\)'):
        flow.resume(Success(), history=path)
    with pytest.raises(ValueError, match="history must be the path or database URL of the history that has the"):
        flow.resume(run_id, history=False)
    with pytest.raises(ResumeMismatch, match="is of flow 'other'"):
        Flow("stranger", tasks=[task(lambda: 1, name="two")]).resume(run_id, history=path)


def test_results_that_are_gone_are_reported_and_made_again(
    bodies: Bodies, path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = LocalResult(dir=tmp_path / "results")
    flow, _, end = pipeline(bodies, [0, 1], store)
    run_id = flow.run(history=path).context["flow_run_id"]
    bodies.take()
    shutil.rmtree(tmp_path / "results")
    flow, _, end = pipeline(bodies, [0, 1], store)
    state = flow.resume(run_id, history=path)
    assert bodies.take() == Counter()
    assert caplog.messages == []
    with pytest.raises(ResultReleased, match=r"result of total is gone: there is no .*total-1/single.1' in .*results"):
        _ = state.result[end].result
    flow, _, end = pipeline(bodies, [0, 1, 2], store)
    assert flow.resume(run_id, history=path).result[end].result == 12
    assert sum("the result of twice was not stored" in text for text in caplog.messages) == 1
    assert bodies.take()["total"] == 1


DRIVER = """
import json, os, sys, time
from prefectish import Flow, task
from prefectish.executors import LocalDaskExecutor
from prefectish.results import LocalResult

folder, what = sys.argv[1], json.loads(sys.argv[2])


def note(name, x):
    file = os.open(os.path.join(folder, "bodies"), os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(file, f"{name} {x}\\n".encode())
    os.close(file)


@task
def child(x):
    note("child", x)
    time.sleep(what.get("sleep", 0))
    return x + 1


def bad(y):
    note("odd", y)
    if y % 10 == 0:
        raise ValueError(f"{y} is round")
    return y


def good(y):
    note("odd", y)
    return y


@task
def total(values):
    note("total", "")
    return sum(values)


with Flow("killed", result=LocalResult(dir=os.path.join(folder, "results"))) as flow:
    odd = task(bad if what.get("bad") else good, name="odd")
    end = total(odd.map(child.map(what["items"])))

if __name__ == "__main__":
    options = {"executor": LocalDaskExecutor(num_workers=2), "history": os.path.join(folder, "history.db")}
    if "resume" in what:
        state = flow.resume(what["resume"], retry_failed=what.get("retry_failed", False), **options)
        print(type(state).__name__, state.result[end].result if state.is_successful() else None)
    else:
        run = flow.start(**options)
        print(run.id, flush=True)
        print(type(run.wait()).__name__)
"""


class Drivers:
    """Programs that drive one run after another, and can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "driver.py"
        self.script.write_text(textwrap.dedent(DRIVER))
        self.history = str(folder / "history.db")

    def command(self, **what: Any) -> list[str]:
        return [sys.executable, str(self.script), str(self.folder), json.dumps(what)]

    def kill_at(self, count: int, resume: str | None = None, **what: Any) -> str:
        """Start or resume a run, kill its driver once so many bodies have run, and return the run's id."""
        words = self.command(**what) if resume is None else self.command(resume=resume, **what)
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver:
            assert driver.stdout is not None
            run_id = resume or driver.stdout.readline().strip()
            until(lambda: len(self.lines()) >= count or driver.poll() is not None, LIMIT)
            assert driver.poll() is None
            driver.send_signal(signal.SIGKILL)
        return run_id

    def run(self, **what: Any) -> str:
        """Run to the end and return what was printed."""
        done = subprocess.run(self.command(**what), capture_output=True, text=True, timeout=2 * LIMIT)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.strip()

    def lines(self) -> list[str]:
        path = self.folder / "bodies"
        return path.read_text().splitlines() if path.exists() else []

    def take(self) -> Counter[str]:
        """Return what ran since the last call."""
        found = Counter(self.lines())
        (self.folder / "bodies").unlink(missing_ok=True)
        return found

    def recorded(self, run_id: str, task: str = "child") -> set[int | None]:
        return {child.index for child in history.run(run_id, store=self.history).children(task, state="Success")}


@pytest.fixture
def drivers(tmp_path: Path) -> Drivers:
    return Drivers(tmp_path)


def test_c4_killed_driver_is_resumed_and_no_recorded_child_runs_twice(drivers: Drivers) -> None:
    items = list(range(2000))
    run_id = drivers.kill_at(2000, items=items, sleep=0.001)
    run = history.run(run_id, store=drivers.history)
    recorded = drivers.recorded(run_id)
    assert 0 < len(recorded) < 2000
    assert (run.state, run.is_lost) == ("Running", True)
    first = drivers.take()
    assert drivers.run(items=items, resume=run_id) == f"Success {sum(range(1, 2001))}"
    second = drivers.take()
    assert {f"child {x}" for x in recorded} & second.keys() == set()
    assert len(first.keys() | second.keys()) == 4001
    run = history.run(run_id, store=drivers.history)
    assert (run.state, run.part, run.is_lost, run.holder) == ("Success", 1, False, None)
    assert [child.state for child in run.children("child")] == ["Success"] * 2000


def test_c4_children_under_way_are_recorded_as_lost_with_their_client(drivers: Drivers) -> None:
    items = list(range(50))
    command = drivers.command(items=items, sleep=1000)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        run_id = driver.stdout.readline().strip()
        until(lambda: _has_open_rows(drivers.history), LIMIT)
        driver.send_signal(signal.SIGKILL)
    running = {int(line.split()[1]) for line in drivers.lines()}
    drivers.take()
    assert drivers.run(items=items, resume=run_id).startswith("Success")
    run = history.run(run_id, store=drivers.history)
    lost = {
        child.index: [(attempt.state, attempt.message) for attempt in child.earlier()]
        for child in run.children("child")
        if child.earlier()
    }
    assert running
    assert running <= lost.keys()
    assert all(attempts == [("Crashed", "client-lost")] for attempts in lost.values())


def _has_open_rows(path: str) -> bool:
    if not os.path.exists(path):
        return False
    with open_store(path).reading() as connection:
        return any(connection.execute(schema.steps.select().with_only_columns(schema.steps.c.open)).scalars())


def test_grown_and_shuffled_list_of_a_killed_run_runs_the_ten_new_items(drivers: Drivers) -> None:
    items = list(range(300))
    run_id = drivers.kill_at(300, items=items, sleep=0.002)
    assert drivers.run(items=items, resume=run_id).startswith("Success")
    drivers.take()
    grown = random.Random(5).sample([*items, *range(1000, 1010)], 310)
    assert drivers.run(items=grown, resume=run_id) == f"Success {sum(grown) + 310}"
    new = {f"child {x}" for x in range(1000, 1010)} | {f"odd {x + 1}" for x in range(1000, 1010)}
    assert drivers.take() == Counter([*new, "total "])


def test_run_killed_twice_with_another_list_each_time_runs_no_recorded_child_again(drivers: Drivers) -> None:
    """What a part of the run recorded is not lost when the next part, with its items elsewhere, is killed as well."""
    items = list(range(600))
    run_id = drivers.kill_at(900, items=items, sleep=0.002)
    first = {f"child {x}" for x in drivers.recorded(run_id)}
    assert first
    drivers.take()
    shuffled = random.Random(1).sample([*items, *range(1000, 1100)], 700)
    drivers.kill_at(150, resume=run_id, items=shuffled, sleep=0.002)
    second = drivers.take()
    assert not first & second.keys()
    recorded = {child.item_key for child in history.run(run_id, store=drivers.history).children("child")}
    assert len(recorded) >= len(first)
    reversed_ = shuffled[::-1]
    assert drivers.run(items=reversed_, resume=run_id) == f"Success {sum(shuffled) + 700}"
    third = drivers.take()
    assert not first & third.keys()
    keys = {stable_hash(int(line.split()[1])): line for line in third if line.startswith("child")}
    assert not recorded & keys.keys()


def test_code_fix_after_a_kill_runs_only_the_failed_children_and_what_follows(drivers: Drivers) -> None:
    items = list(range(200))
    run_id = drivers.kill_at(200, items=items, sleep=0.002, bad=True)
    drivers.run(items=items, resume=run_id, bad=True)
    drivers.take()
    assert drivers.run(items=items, resume=run_id, retry_failed=True) == f"Success {sum(items) + 200}"
    assert drivers.take() == Counter([*(f"odd {y}" for y in range(10, 201, 10)), "total "])


def test_what_follows_from_a_corrected_child_is_not_forgotten_by_a_second_kill(path: str, tmp_path: Path) -> None:
    """The consumer ran before the child was corrected, and the client died in between: the consumer runs again."""
    ran: list[str] = []
    broken = True

    class Die(BaseException):
        pass

    def load(x: int) -> int:
        ran.append(f"load {x}")
        if x == 1 and broken:
            raise ValueError("broken")
        return x

    def total(values: list[Any]) -> int:
        ran.append("total")
        return sum(value for value in values if isinstance(value, int))

    with Flow("fixed", result=LocalResult(dir=tmp_path / "results")) as flow:
        end = task(total, trigger=triggers.all_finished)(task(load).map([0, 1, 2]))
    run_id = flow.run(history=path).context["flow_run_id"]
    broken = False
    ran.clear()
    with pytest.MonkeyPatch.context() as patch:  # the client dies after the child, before the consumer

        def die(self: Any, chain: Any, row: int, now: Any) -> Any:
            if chain.step_states[0].step.slug == "total-1":
                raise Die
            return begin(self, chain, row, now)

        begin = Dispatcher._begin
        patch.setattr(Dispatcher, "_begin", die)
        with pytest.raises(Die):
            flow.resume(run_id, history=path, retry_failed=True)
    assert ran == ["load 1"]
    state = flow.resume(run_id, history=path)
    assert ran == ["load 1", "total"]
    assert state.result[end].result == 3


def test_handler_that_ends_a_resumed_run_before_it_begins_leaves_it_as_it_was(bodies: Bodies, path: str) -> None:
    flow, _, end = pipeline(bodies, [0, 3], None)
    run_id = flow.run(history=path).context["flow_run_id"]
    before = history.run(run_id, store=path)
    refusing, _, _ = pipeline(bodies, [0, 3], None)
    refusing.state_handlers.append(lambda flow, old, new: Failed("not now") if new.is_running() else new)
    bodies.take()
    assert refusing.resume(run_id, history=path).message == "not now"
    after = history.run(run_id, store=path)
    assert (after.state, after.part, after.holder) == (before.state, before.part, None)
    assert [child.state for child in after.children("load")] == ["Success", "Failed"]
    assert bodies.take() == Counter()
    flow, _, end = pipeline(bodies, [0, 3], None, fixed=True)
    assert flow.resume(run_id, retry_failed=True, history=path).result[end].result == 12


def test_reordered_list_is_put_together_again(bodies: Bodies, path: str, tmp_path: Path) -> None:
    def gather(values: list[int]) -> list[int]:
        bodies.note("gather")
        return values

    def flow_of(items: list[int]) -> tuple[Flow, Any]:
        with Flow("order", result=LocalResult(dir=tmp_path / "results")) as flow:
            end = task(gather)(task(lambda x: x, name="same").map(items))
        return flow, end

    flow, _ = flow_of([1, 2, 3])
    run_id = flow.run(history=path).context["flow_run_id"]
    bodies.take()
    flow, end = flow_of([3, 1, 2])
    assert flow.resume(run_id, history=path).result[end].result == [3, 1, 2]
    assert bodies.take() == Counter({"gather": 1})


def test_retry_continues_with_its_count_and_its_time(path: str) -> None:
    ran: list[int] = []
    broken = threading.Event()

    def flaky() -> int:
        ran.append(prefectish.context.task_run_count)
        if len(ran) < 3:
            raise ValueError("again")
        return len(ran)

    flow = Flow("retries", tasks=[task(flaky, max_retries=2, retry_delay=0.6)])
    with pytest.MonkeyPatch.context() as patch:

        def die(self: Any, now: Any) -> None:
            if ran:
                broken.set()
                raise KeyboardInterrupt

        patch.setattr(Rows, "resubmit_due", die)
        patch.setattr(Cancellation, "end", lambda *arguments, **options: None)  # as if it had been killed
        with pytest.raises(KeyboardInterrupt):
            flow.run(history=path)
    [run] = history.runs(store=path)
    [waiting] = run.waiting()
    assert (waiting.state, waiting.attempt) == ("Retrying", 1)
    assert waiting.due is not None
    state = flow.resume(run.id, history=path)
    assert type(state) is Success
    assert ran == [1, 2, 3]
    [child] = history.run(run.id, store=path).children("flaky")
    assert child.attempts == 3
    assert [(a.number, a.error) for a in child.earlier()] == [(1, "ValueError: again"), (2, "ValueError: again")]


def test_paused_child_stays_paused_until_it_is_approved(path: str, tmp_path: Path) -> None:
    ran: list[int] = []

    def ask(x: int) -> int:
        ran.append(x)
        if x == 1:
            pause_task("shall I?")
        return x

    with Flow("asks", result=LocalResult(dir=tmp_path / "results")) as flow:
        asked = task(ask).map([0, 1, 2])
    run_id = flow.run(history=path).context["flow_run_id"]
    ran.clear()
    state = flow.resume(run_id, history=path)
    assert ran == []
    assert state.exit_code == 5
    assert isinstance(state.result[asked].map_states[1], Paused)
    run = history.run(run_id, store=path)
    assert [(row.index, row.message) for row in run.paused()] == [(1, "shall I?")]
    number = run.paused()[0].attempt
    with open_store(path).writing() as connection:  # what an approval writes
        at = schema.attempts.c
        connection.execute(schema.attempts.update().where(at.row == 1).values(state=schema.CODES["Resume"]))
    assert number == 1
    state = flow.resume(run_id, history=path)
    assert ran == [1]
    assert state.result[asked].result == [0, 1, 2]
    assert history.run(run_id, store=path).paused() == []


def test_items_that_are_alike_wait_one_by_one(path: str, tmp_path: Path) -> None:
    ran: list[int] = []

    def ask(x: int) -> int:
        ran.append(x)
        pause_task("shall I?")
        return x

    with Flow("alike", result=LocalResult(dir=tmp_path / "results")) as flow:
        asked = task(ask).map([5, 5, 5, 6])
    run_id = flow.run(history=path).context["flow_run_id"]
    for left in (3, 2, 1, 0):
        waiting = history.run(run_id, store=path).paused()
        assert len(waiting) == left + 1
        with open_store(path).writing() as connection:
            c = schema.attempts.c
            first = (c.row == waiting[0].index) & (c.part == waiting[0].part)
            connection.execute(schema.attempts.update().where(first).values(state=schema.CODES["Resume"]))
        ran.clear()
        state = flow.resume(run_id, history=path)
        assert len(ran) == 1
    assert state.result[asked].result == [5, 5, 5, 6]
    assert history.run(run_id, store=path).paused() == []


def test_body_that_returns_nothing_is_not_run_again_for_who_reads_it(bodies: Bodies, path: str, tmp_path: Path) -> None:
    def act(x: int) -> None:
        bodies.note(f"act {x}")

    def count(values: list[None], more: int) -> int:
        return len(values) + more

    with Flow("effects", result=LocalResult(dir=tmp_path / "results")) as flow:
        end = task(count)(task(act).map([1, 2]), Parameter("more"))
    run_id = flow.run(history=path, more=1).context["flow_run_id"]
    bodies.take()
    assert flow.resume(run_id, history=path, more=2).result[end].result == 4
    assert bodies.take() == Counter()


def test_cancelled_and_crashed_children_run_and_failed_ones_stand(bodies: Bodies, path: str, tmp_path: Path) -> None:
    def work(x: int) -> int:
        bodies.note(f"work {x}")
        if x == 0:
            raise ValueError("zero")
        spend(0.01)
        return x

    def flow_of() -> tuple[Flow, Any]:
        with Flow("cancelled", result=LocalResult(dir=tmp_path / "results")) as flow:
            done = task(work).map(list(range(200)))
        return flow, done

    flow, _ = flow_of()
    run = flow.start(executor=LocalDaskExecutor(num_workers=1), history=path)
    until(lambda: "work 20" in bodies.lines(), LIMIT)
    run.cancel()
    assert not run.wait(LIMIT).is_successful()
    assert run.id is not None
    recorded = history.run(run.id, store=path)
    kept = {child.index for child in recorded.children("work") if child.state in ("Success", "Failed")}
    assert {child.state for child in recorded.children("work")} == {"Success", "Failed", "Cancelled"}
    with open_store(path).writing() as connection:  # one more that its worker took along
        c = schema.children.c
        connection.execute(schema.children.update().where(c.row == 199).values(state=schema.CODES["Crashed"]))
    bodies.take()
    flow, done = flow_of()
    state = flow.resume(run.id, history=path)
    ran = {int(text.split()[1]) for text in bodies.take()}
    assert ran == set(range(200)) - kept
    assert isinstance(state.result[done].map_states[0], Failed)
    assert [child.result for child in state.result[done].map_states[1:]] == list(range(1, 200))


def test_other_options_are_no_other_code(bodies: Bodies, path: str, tmp_path: Path) -> None:
    def flow_of(**options: Any) -> Flow:
        def load(x: int) -> int:
            bodies.note(f"load {x}")
            return x

        with Flow("options", result=LocalResult(dir=tmp_path / "results")) as flow:
            task(load, **options).map([1, 2])
        return flow

    run_id = flow_of().run(history=path).context["flow_run_id"]
    bodies.take()
    other = LocalResult(dir=tmp_path / "others")
    flow_of(timeout=60, max_retries=3, retry_delay=1, max_concurrency=1, result=other).resume(run_id, history=path)
    assert bodies.take() == Counter()


def test_another_wiring_runs_what_it_reaches(bodies: Bodies, path: str, tmp_path: Path) -> None:
    def flow_of(swapped: bool) -> tuple[Flow, Any]:
        def show(a: int, b: int) -> str:
            bodies.note("show")
            return f"{a} {b}"

        with Flow("wiring", result=LocalResult(dir=tmp_path / "results")) as flow:
            one, two = task(lambda: 1, name="one")(), task(lambda: 2, name="two")()
            shown = task(show)(two, one) if swapped else task(show)(one, two)
        return flow, shown

    flow, _ = flow_of(swapped=False)
    run_id = flow.run(history=path).context["flow_run_id"]
    bodies.take()
    flow, shown = flow_of(swapped=True)
    assert flow.resume(run_id, history=path).result[shown].result == "2 1"
    assert bodies.take() == Counter({"show": 1})


def test_forced_change_is_not_undone_by_a_kill(bodies: Bodies, path: str, tmp_path: Path) -> None:
    """Records of the old code do not count again because a forced run of the new one broke off."""

    class Die(BaseException):
        pass

    store = LocalResult(dir=tmp_path / "results")
    flow, _, _ = pipeline(bodies, [0, 1, 2], store)
    run_id = flow.run(history=path).context["flow_run_id"]
    bodies.take()
    flow, _, _ = pipeline(bodies, [0, 1, 2], store, fixed=True)
    with pytest.MonkeyPatch.context() as patch:

        def die(self: Any, chain: Any, row: int, now: Any) -> Any:
            if row == 1:
                raise Die
            return begin(self, chain, row, now)

        begin = Dispatcher._begin
        patch.setattr(Dispatcher, "_begin", die)
        with pytest.raises(Die):
            flow.resume(run_id, history=path, force=True)
    bodies.take()
    flow.resume(run_id, history=path)
    ran = bodies.take()
    assert {"load 1", "load 2", "twice 2", "twice 4", "total"} <= ran.keys()


C7 = """
import sys
from prefectish import Flow, task
from prefectish.errors import RunLocked
flow = Flow("held", tasks=[task(lambda: 1, name="one")])
try:
    flow.resume(sys.argv[1], history=sys.argv[2])
except RunLocked as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_c7_second_process_gets_the_name_of_the_holder(path: str) -> None:
    started, release = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        assert release.wait(LIMIT)

    run = Flow("held", tasks=[task(hold, name="one")]).start(executor=LocalDaskExecutor(num_workers=1), history=path)
    assert started.wait(LIMIT)
    try:
        done = subprocess.run(
            [sys.executable, "-c", C7, run.id or "", path], capture_output=True, text=True, timeout=LIMIT
        )
    finally:
        release.set()
    run.wait(LIMIT)
    assert done.returncode == 4, done.stderr[-2000:]
    assert re.fullmatch(rf"run {run.id} is held by \S+:{os.getpid()} since [\d: -]+", done.stdout.strip())


def test_c7_active_run_is_locked(tmp_path: Path, path: str) -> None:
    started, release = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        assert release.wait(LIMIT)

    flow = Flow("held", tasks=[task(hold)])
    run = flow.start(executor=LocalDaskExecutor(num_workers=1), history=path)
    assert started.wait(LIMIT)
    try:
        with pytest.raises(RunLocked, match=rf"run {run.id} is held by .*:{os.getpid()} since") as caught:
            flow.resume(run.id or "", history=path)
        assert caught.value.exit_code == 4
    finally:
        release.set()
    run.wait(LIMIT)


def test_run_that_was_read_before_it_was_resumed_counts_no_child_twice(
    bodies: Bodies, path: str, tmp_path: Path
) -> None:
    store = LocalResult(dir=tmp_path / "results")
    run_id = pipeline(bodies, [0, 3, 5], store)[0].run(history=path).context["flow_run_id"]
    before = history.run(run_id, store=path)
    pipeline(bodies, [0, 3, 5], store, fixed=True)[0].resume(run_id, history=path, retry_failed=True)
    assert before.tasks()[0]["counts"] == {"Success": 2, "Failed": 1}
    assert history.run(run_id, store=path).tasks()[0]["counts"] == {"Success": 3}
