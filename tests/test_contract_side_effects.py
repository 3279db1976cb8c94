"""What bodies leave behind in their process, and what short resources make of a run, on every executor."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import pytest
from real import note, notes, until, wait_for_file

import prefectish
from prefectish import Flow, flatten, task
from prefectish.engine.state import Failed, Success
from prefectish.executors import DaskExecutor, LocalDaskExecutor

# ---------------------------------------------------------------------- U16: a thread that stays


@task
def leave_a_thread(gate, mark):
    def stay():
        wait_for_file(gate)
        note(mark, "the thread ends")

    threading.Thread(target=stay, name="left behind", daemon=False).start()
    return threading.active_count()


@task
def go_on(before):
    return before > 0


def test_u16_thread_left_behind_by_a_task_keeps_running(run, tmp_path):
    gate, mark = tmp_path / "gate", tmp_path / "mark"
    with Flow("thread") as flow:
        left = leave_a_thread(str(gate), str(mark))
        after = go_on(left)
    state = run(flow)
    assert type(state.result[left]) is Success
    assert state.result[after].result is True
    assert notes(mark) == [], "the run did not wait for it"
    gate.touch()
    until(lambda: notes(mark) == ["the thread ends"], 60)


# ---------------------------------------------------------------------- U24: a fork that comes back


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize(("how", "code"), [("returns", 0), ("exits", 3), ("raises", 1)])
@pytest.mark.parametrize("attached", [False, True], ids=["bare", "with handlers"])
def test_u24_process_that_a_body_forks_ends_with_the_body(spelled, tmp_path, how, code, attached):
    path = tmp_path / "notes"

    def forks(x):
        if x != 2:
            note(path, x)
            return x
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that other threads may hold locks
            forked = os.fork()
        if forked:
            until(lambda: (status := os.waitpid(forked, os.WNOHANG)) != (0, 0) and ended.append(status[1]) is None, 20)
            note(path, x)
            return os.waitstatus_to_exitcode(ended[0])
        if how == "raises":
            raise ValueError("in the forked process")
        return sys.exit(3) if how == "exits" else x

    ended = []
    work = task(forks, state_handlers=[lambda task, old, new: new] if attached else None)
    state, states = spelled.run(lambda: {"all": work.map(range(6))})
    assert state.is_successful(), state
    assert states["all"].result == [0, 1, code, 3, 4, 5]
    assert sorted(notes(path)) == list("012345"), "a body ran in the forked process too"


# ---------------------------------------------------------------------- U17: what belongs to the process


@task
def change_the_process(folder):
    os.environ["PREFECTISH_TEST_OF_SIDE_EFFECTS"] = "changed"
    os.chdir(folder)
    logging.getLogger().setLevel(logging.CRITICAL)
    return os.getpid()


@task(log_stdout=True)
def log_and_print(pid):
    prefectish.context.logger.warning("a warning after the level changed")
    prefectish.context.logger.info("below the level")
    print("a print after the level changed")
    return pid, os.getpid(), os.environ.get("PREFECTISH_TEST_OF_SIDE_EFFECTS"), os.getcwd()


@task
def restore(told, folder, level):
    os.environ.pop("PREFECTISH_TEST_OF_SIDE_EFFECTS", None)
    os.chdir(folder)
    logging.getLogger().setLevel(level)
    return told


def test_u17_body_that_changes_its_process_succeeds_and_the_next_child_logs(run, tmp_path, caplog, in_process):
    here, level = os.getcwd(), logging.getLogger().level
    with Flow("changes") as flow:
        changed = change_the_process(str(tmp_path))
        logged = log_and_print(changed)
        restored = restore(logged, here, level)
    try:
        with caplog.at_level(logging.INFO, logger="prefectish"):
            state = run(flow)
    finally:
        os.chdir(here)
        logging.getLogger().setLevel(level)
    assert state.is_successful()
    before, after, variable, folder = state.result[restored].result
    if before == after:  # bodies of one process see one another's changes
        assert (variable, folder) == ("changed", str(tmp_path))
    assert "a warning after the level changed" in caplog.text
    assert "a print after the level changed" in caplog.text
    assert in_process == (before == os.getpid())


# ---------------------------------------------------------------------- L3: a storm of retries


@task(max_retries=3, retry_delay=0.01, retry_jitter=0.5)
def always_fail(x, mark):
    note(mark, x)
    raise ConnectionError("still down")


def test_l3_storm_of_retries_has_its_bound_for_every_child(run, tmp_path):
    mark = tmp_path / "bodies"
    with Flow("storm") as flow:
        children = always_fail.map(list(range(50)), prefectish.unmapped(str(mark)))
    state = run(flow)
    assert {type(child) for child in state.result[children].map_states} == {Failed}
    begun = notes(mark)
    assert sorted(set(map(int, begun))) == list(range(50))
    assert all(begun.count(str(x)) == 4 for x in range(50)), "max_retries + 1, no more and no less"


# ---------------------------------------------------------------------- L8: a map of maps


@task
def row_of(x, width):
    return list(range(x, x + width))


@task
def one_more(x):
    return x + 1


@task
def total(values):
    return len(values), sum(values)


@pytest.mark.parametrize(
    ("executor", "width"),
    [("threads", 300), ("dask", 30), pytest.param("dask", 300, marks=pytest.mark.fault)],
)
def test_l8_map_of_maps_stays_in_its_window(executor, width, dask_client):
    made = {
        "threads": lambda: LocalDaskExecutor("threads", num_workers=2),
        "dask": lambda: DaskExecutor(client=dask_client, max_branches=width),
    }[executor]()
    with Flow("nested") as flow:
        end = total(one_more.map(flatten(row_of.map(list(range(width)), prefectish.unmapped(width)))))
    most, ended = [0], threading.Event()

    def sample():
        while not ended.wait(0.2):
            most.append(dask_client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))

    watcher = threading.Thread(target=sample)
    if executor == "dask":
        watcher.start()
    try:
        state = flow.run(executor=made, history=False)
    finally:
        ended.set()
    if executor == "dask":
        watcher.join(60)
        assert max(most) <= 2 * width + 250 + 20, "window, what is being read, and the rows whose elements are open"
    assert state.result[end].result == (width**2, width * sum(range(1, width + 1)) + width * sum(range(width)))


# ---------------------------------------------------------------------- L5: few open files

SHORT_OF_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
import prefectish
from prefectish import Flow, task
from prefectish.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor

EXECUTORS = {
    "local": LocalExecutor,
    "threads": lambda: LocalDaskExecutor("threads", num_workers=2),
    "processes": lambda: LocalDaskExecutor("processes", num_workers=2),
    "dask": lambda: DaskExecutor(cluster_kwargs={"n_workers": 1, "threads_per_worker": 1}),
}

@task
def open_many(x):
    files = []
    try:
        for _ in range(100 if x == 3 else 1):
            files.append(open(os.devnull))
    finally:
        for file in files:
            file.close()
    return x

with Flow("short of files") as flow:
    opened = open_many.map(list(range(6)))

if __name__ == "__main__":
    try:
        state = flow.run(executor=EXECUTORS[sys.argv[1]](), history=False)
    except Exception as error:
        print("REFUSED", type(error).__name__, error)
    else:
        print("ENDED", *state.result[opened].map_states)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of resources are those of POSIX")
@pytest.mark.parametrize("executor", ["local", "threads", "processes", "dask"])
def test_l5_child_that_runs_out_of_files_fails_alone_and_nothing_hangs(executor, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SHORT_OF_FILES))
    done = subprocess.run(
        [sys.executable, str(script), executor],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PREFECTISH_HOME": str(tmp_path)},
    )
    assert "Too many open files" in done.stdout, done.stdout + done.stderr[-3000:]
    if "ENDED" in done.stdout:
        assert done.stdout.count("Success(") == 5
        assert done.stdout.count("Failed(") == 1
    else:  # a cluster may need more to begin with
        assert executor == "dask"
        assert "REFUSED" in done.stdout
    assert not Path(tmp_path / "core").exists()
