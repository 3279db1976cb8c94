"""Going on with recorded runs. Bodies are counted by an append-only file, as the user's side effects would be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prefectish import Flow, Parameter, history, task, triggers
from prefectish.engine.state import Failed, Success
from prefectish.errors import ResultReleased, ResumeMismatch, RunLocked
from prefectish.executors import LocalDaskExecutor
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

    def take(self) -> Counter[str]:
        """Return what ran since the last call."""
        lines = Path(self.path).read_text().split("\n")[:-1] if os.path.exists(self.path) else []
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
    with pytest.raises(ResumeMismatch, match="task load-1 changed"):
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
    with pytest.raises(ResumeMismatch, match="is of flow 'other'"):
        Flow("stranger", tasks=[task(lambda: 1, name="two")]).resume(run_id, history=path)


DRIVER = """
import os, sys, time
from prefectish import Flow, task
from prefectish.executors import LocalDaskExecutor
from prefectish.results import LocalResult

folder, gate = sys.argv[1], sys.argv[2]


@task
def child(x):
    file = os.open(os.path.join(folder, "bodies"), os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(file, f"{x}\\n".encode())
    os.close(file)
    if gate == "wait":
        time.sleep(0.002)
    return x + 1


@task
def total(values):
    return sum(values)


with Flow("killed", result=LocalResult(dir=os.path.join(folder, "results"))) as flow:
    end = total(child.map(list(range(2000))))

if __name__ == "__main__":
    history = os.path.join(folder, "history.db")
    if gate == "wait":
        run = flow.start(executor=LocalDaskExecutor(num_workers=2), history=history)
        print(run.id, flush=True)
        run.wait()
    else:
        state = flow.resume(gate, executor=LocalDaskExecutor(num_workers=2), history=history)
        print(state.result[end].result)
"""


def test_c4_killed_driver_is_resumed_and_no_recorded_child_runs_twice(tmp_path: Path, path: str) -> None:
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(DRIVER))
    command = [sys.executable, str(script), str(tmp_path), "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        run_id = driver.stdout.readline().strip()
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:  # until a good part of it is recorded
            if len(history.run(run_id, store=path).children("child")) > 500:
                break
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
    recorded = {str(child.index) for child in history.run(run_id, store=path).children("child", state="Success")}
    assert 500 < len(recorded) < 2000
    assert history.run(run_id, store=path).state == "Running"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), run_id], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stdout.split() == [str(sum(range(1, 2001)))], done.stderr[-2000:]
    ran = Counter((tmp_path / "bodies").read_text().split())
    assert len(ran) == 2000
    assert not {x for x, times in ran.items() if times > 1} & recorded
    assert history.run(run_id, store=path).state == "Success"


def test_c7_run_that_somebody_drives_is_locked(tmp_path: Path, path: str) -> None:
    import threading

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
