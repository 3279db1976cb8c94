"""LocalDaskExecutor: threads, processes and this thread. What every executor promises stands in the contract suite."""

from __future__ import annotations

import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from jobs import FACTS, jobs_of
from real import spend, until

from prefectish import Flow, raise_on_exception, task, triggers, unmapped
from prefectish.engine.jobs.job import Receipt, Record
from prefectish.engine.jobs.protocol import Lost
from prefectish.engine.state import Crashed, Failed, Success
from prefectish.errors import FlowDefinitionError
from prefectish.executors import LocalDaskExecutor
from prefectish.executors.pool_jobs import PoolJob
from prefectish.executors.pool_session import MAX_GRAPH_JOBS, SLOW, GraphSizer, JobQueue, PoolSession

#: How long a body waits for another one that has to run meanwhile: longer than any machine needs.
LONG = 30


def threads(n=2):
    return LocalDaskExecutor(num_workers=n)


def values(flow, out, executor):
    state = flow.run(executor=executor)
    assert state.is_successful(), state
    return state.result[out].result


@task
def add_one(x):
    return x + 1


# ---------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scheduler": "thread"}, "scheduler must be one of 'threads', 'processes', 'synchronous', got 'thread'"),
        ({"num_workers": 0}, "num_workers must be >= 1, got 0"),
    ],
)
def test_impossible_arguments_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        LocalDaskExecutor(**options)


def test_repr_names_scheduler_and_workers():
    assert repr(LocalDaskExecutor("processes", 3)) == "<LocalDaskExecutor: processes, 3 workers>"
    assert repr(LocalDaskExecutor("synchronous")) == "<LocalDaskExecutor: synchronous>"


def run_python(code, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, **options
    )


def test_threads_do_not_import_distributed():
    done = run_python("""
        import sys
        from prefectish.executors import LocalExecutor
        assert "dask" not in sys.modules
        from prefectish.executors import LocalDaskExecutor
        assert "dask" in sys.modules and "distributed" not in sys.modules
    """)
    assert done.returncode == 0, done.stderr


def test_absence_of_dask_is_reported():
    done = run_python("""
        import sys
        sys.modules["dask"] = None
        from prefectish.executors import LocalExecutor
        from prefectish.executors import LocalDaskExecutor
    """)
    assert "LocalDaskExecutor needs dask, which is not installed here; `pip install" in done.stderr


# ---------------------------------------------------------------------------------------------------- no barriers


def test_slow_branch_does_not_delay_others():
    freed = threading.Event()
    last = 4 * MAX_GRAPH_JOBS

    @task
    def work(i):
        if i == 0:
            assert freed.wait(LONG), "the others waited for this branch"
        if i == last:
            freed.set()
        return i

    with Flow("slow first") as flow:
        out = work.map(list(range(last + 1)))
    assert values(flow, out, threads()) == list(range(last + 1))


def test_branch_ends_before_all_branches_have_begun():
    deep = threading.Event()

    @task
    def first(i):
        if i == 50:
            assert deep.wait(LONG), "no branch got to its third step"
        return i

    @task
    def third(i):
        deep.set()

    with Flow("depth first") as flow:
        third.map(add_one.map(first.map(list(range(100)))))
    assert flow.run(executor=threads()).is_successful()


def test_later_steps_overtake_earlier_ones_of_other_tasks():
    _, jobs = jobs_of(two_maps())
    early, late = [job for job in jobs if job.chain.ident == 0], [job for job in jobs if job.chain.ident == 1]
    queue = JobQueue()
    queue.add([*early, *late])
    assert queue.take(3) == late
    queue.drop({early[0]})
    assert queue.count == 2
    assert queue.take(5) == early[1:]
    assert queue.take(5) == []


def two_maps():
    with Flow("two maps") as flow:
        add_one.map([1, 2, 3])
        add_one.map([4, 5, 6])
    return flow


def test_graphs_grow_while_they_drain_quickly_and_shrink_when_they_do_not():
    sizer = GraphSizer(2)
    assert sizer.size == 4
    for step in range(20):
        sizer.note(sizer.size, 100 + step * 0.001)
    assert sizer.size == MAX_GRAPH_JOBS
    for step in range(20):
        sizer.note(1, 200.0 + step)
    assert sizer.size == 4
    sizer.note(1, 219.001)
    assert sizer.size == 4, "a graph that was not full says nothing"


def test_children_run_at_the_same_time_and_never_too_many():
    meeting = threading.Barrier(3)
    lock = threading.Lock()
    running, most = 0, 0

    @task
    def meet(i):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if i < 3:
            meeting.wait(LONG)
        with lock:
            running -= 1

    with Flow("meeting") as flow:
        meet.map(list(range(300)))
    assert flow.run(executor=threads(3)).is_successful()
    assert most == 3


def test_single_tasks_side_by_side_run_at_the_same_time():
    meeting = threading.Barrier(2)

    @task
    def meet(x):
        meeting.wait(LONG)
        return x

    with Flow("sides") as flow:
        start = add_one(0)
        total = meet(start) + meet(start)
    assert values(flow, total, threads()) == 2


def test_receipts_come_in_the_order_in_which_steps_end():
    second, order = threading.Event(), []

    @task
    def work(i):
        if i == 0:
            assert second.wait(LONG)
        return i

    with Flow("order") as flow:
        work.map([0, 1])
    plan, jobs = jobs_of(flow)
    with threads().start(plan, dict(FACTS)) as session:
        session.submit(jobs)
        while len(order) < 2:
            for receipt in session.receipts(LONG):
                order.append(receipt.job.index)
                second.set()
    assert order == [1, 0]


def test_receipts_waits_no_longer_than_its_timeout():
    plan, _ = jobs_of(two_maps())
    with threads().start(plan, dict(FACTS)) as session:
        assert session.receipts(0.0) == []
        began = time.monotonic()
        assert session.receipts(0.02) == []
        assert 0.02 <= time.monotonic() - began < LONG


# ---------------------------------------------------------------------------------------------------- giving up


def test_cancelled_jobs_never_start():
    free, ran = threading.Event(), []

    @task
    def work(i):
        ran.append(i)
        assert free.wait(LONG)

    with Flow("cancelled") as flow:
        work.map(list(range(400)))
    plan, jobs = jobs_of(flow)
    with threads(1).start(plan, dict(FACTS)) as session:
        session.submit(jobs)
        while not ran:
            session.receipts(0.001)
        session.cancel(jobs[1:])
        free.set()
        received = []
        while session.open:
            received += session.receipts(LONG)
    assert [receipt.job for receipt in received] == jobs[:1]
    assert ran == [0]


def test_records_of_cancelled_running_jobs_are_dropped():
    free, started = threading.Event(), threading.Event()

    @task
    def work():
        started.set()
        assert free.wait(LONG)

    flow = Flow("cancelled", tasks=[work])
    plan, jobs = jobs_of(flow)
    with threads().start(plan, dict(FACTS)) as session:
        session.submit(jobs)
        assert started.wait(LONG)
        session.cancel(jobs)
        free.set()
        while session.open:
            assert session.receipts(LONG) == []


def test_threads_end_with_the_run():
    before = threading.active_count()
    with Flow("many") as flow:
        out = add_one.map(list(range(1000)))
    assert len(values(flow, out, threads(8))) == 1000
    assert threading.active_count() == before


def test_threads_end_after_a_run_that_was_broken_off():
    before = threading.active_count()

    @task
    def fail(i):
        raise ValueError(i)

    with Flow("broken off") as flow:
        fail.map(list(range(1000)))
    with raise_on_exception(), pytest.raises(ValueError, match=r"\d"):
        flow.run(executor=threads())
    until(lambda: threading.active_count() == before)


def test_ctrl_c_gets_out_while_a_body_runs():
    free, ran, others = threading.Event(), [], set(threading.enumerate())

    @task
    def work(i):
        ran.append(i)
        if i == 0:
            os.kill(os.getpid(), signal.SIGINT)
        free.wait(LONG)

    with Flow("interrupted") as flow:
        work.map(list(range(100)))
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        flow.run(executor=threads(1))
    assert time.monotonic() - began < 5
    free.set()
    until(lambda: not any(t.name.startswith("prefectish") for t in set(threading.enumerate()) - others))
    assert ran == [0]


class BrokenWorkers:
    """Breaks every graph after the first report."""

    slots = 1
    run_bundle = None
    live = True

    def __init__(self, again: bool = False) -> None:
        self.again = again

    def run(self, pool_jobs: Sequence[PoolJob], report, ahead: int, first=None) -> None:
        pool_job = pool_jobs[0]
        report((pool_job, 0, Record(Success())))
        raise RuntimeError("the graph broke")

    def lost(self, pool_jobs: Sequence[PoolJob], error: BaseException):
        if self.again:
            return [], list(pool_jobs)
        return [Receipt(pool_job.job, (), Lost("cluster-error", detail=str(error))) for pool_job in pool_jobs], []

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


def drain(session, n):
    received: list[Receipt] = []
    while len(received) < n:
        received += session.receipts(LONG)
    assert session.receipts(0.0) == []
    return received


def test_graph_that_breaks_loses_what_had_not_ended():
    _, jobs = jobs_of(two_maps())
    session = PoolSession(BrokenWorkers(), dict(FACTS))
    session.submit(jobs[:2])
    ended, lost = drain(session, 2)
    assert (ended.job, ended.lost) == (jobs[0], None)
    assert lost.job is jobs[1]
    assert lost.lost is not None
    assert lost.lost.detail == "the graph broke"
    assert not session.open


def test_branches_that_were_not_touched_run_again():
    _, jobs = jobs_of(two_maps())
    session = PoolSession(BrokenWorkers(again=True), dict(FACTS))
    session.submit(jobs)
    assert {receipt.job for receipt in drain(session, 6)} == set(jobs)


def test_error_of_a_graph_comes_out_under_raise_on_exception():
    _, jobs = jobs_of(two_maps())
    session = PoolSession(BrokenWorkers(), {**FACTS, "raise_on_exception": True})
    session.submit(jobs)
    with pytest.raises(RuntimeError, match="the graph broke"):
        drain(session, 2)


# ---------------------------------------------------------------------------------------------------- in this process


def test_threads_see_the_callers_context_variables_and_keep_their_own():
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("the caller's")

    @task
    def change(i):
        before = variable.get()
        variable.set("a child's")
        return before

    with Flow("variables") as flow:
        out = change.map(list(range(20)))
    assert set(values(flow, out, threads(1))) == {"the caller's"}
    assert variable.get() == "the caller's"


def test_threads_share_objects_without_copies():
    box = threading.Lock()

    @task
    def give(x):
        return x

    with Flow("live") as flow:
        out = give.map([box, box])
    assert values(flow, out, threads()) == [box, box]


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_children_begin_in_the_order_of_their_items(scheduler, tmp_path):
    path = tmp_path / "order"

    @task
    def note(x):
        with path.open("a") as file:
            file.write(f"{x} ")
        spend(2 * SLOW)  # quick ones share graphs, and graphs overlap

    with Flow("in order") as flow:
        note.map(range(12))
    assert flow.run(executor=LocalDaskExecutor(scheduler, num_workers=1)).is_successful()
    assert path.read_text().split() == [str(x) for x in range(12)]


def test_synchronous_runs_in_this_thread_in_order():
    seen = []

    @task
    def first(i):
        seen.append(("first", i, threading.get_ident()))
        return i

    @task
    def second(i):
        seen.append(("second", i, threading.get_ident()))

    with Flow("in order") as flow:
        second.map(first.map([1, 2]))
    before = threading.active_count()
    assert flow.run(executor=LocalDaskExecutor("synchronous")).is_successful()
    here = threading.get_ident()
    assert seen == [("first", 1, here), ("second", 1, here), ("first", 2, here), ("second", 2, here)]
    assert threading.active_count() == before


def test_rows_of_a_map_flattened_twice_are_in_order_whichever_ended_first():
    later = threading.Event()

    @task
    def nested(i):
        if i == 0:
            assert later.wait(LONG)
        return [[i, i], [i]]

    @task
    def give(x):
        if x == [1, 1]:
            later.set()
        return x

    from prefectish import flatten

    with Flow("flattened twice") as flow:
        middle = give.map(flatten(nested.map([0, 1])))
        out = add_one.map(flatten(middle))
    state = flow.run(executor=threads())
    assert state.result[middle].result == [[0, 0], [0], [1, 1], [1]]
    assert state.result[out].result == [1, 1, 1, 2, 2, 2]


# ---------------------------------------------------------------------------------------------------- processes
# Rows P1 to P8 of the fault matrix, save P6, are in the contract of the executors that pickle.


@pytest.fixture(scope="module")
def processes():
    return LocalDaskExecutor("processes", num_workers=2)


@task
def pid(x=None):
    return os.getpid()


def refuse_to_load():
    raise RuntimeError("not here")


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("it stays")


class Deadly:
    """Ends the process that loads it."""

    def __init__(self):
        self.home = os.getpid()

    def __setstate__(self, state):
        if state["home"] != os.getpid():
            os._exit(3)


@task
def use(x):
    return "used"


@task(trigger=triggers.all_finished)
def clean_up(states):
    return "cleaned up"


def test_p6_argument_that_kills_its_process_crashes_its_child(processes):
    with Flow("P6") as flow:
        used = use.map([1, Deadly(), 3])
    state = flow.run(executor=processes)
    assert [type(s) for s in state.result[used].map_states] == [Success, Crashed, Success]
    assert state.result[used].map_states[1].cause == "killed-worker"


def test_w3_child_that_kills_its_process_crashes_alone(processes, tmp_path):
    """Siblings end as they would have, the consumer's trigger is honoured, and the pool is whole again."""

    @task
    def work(i):
        if i == 7:
            os._exit(7)
        return i

    with Flow("W3") as flow:
        out = work.map(list(range(24)))
        after = clean_up(out)
    flow.set_reference_tasks([out])
    state = flow.run(executor=processes)
    children = state.result[out].map_states
    assert [i for i, child in enumerate(children) if not child.is_successful()] == [7]
    assert type(children[7]) is Crashed
    assert children[7].cause == "killed-worker"
    assert children[7].message == "worker died 2 times while running work-1[7] (exit code 7)"
    assert state.result[after].result == "cleaned up"
    assert (type(state), state.exit_code) == (Failed, 3)
    with Flow("after") as flow:
        out = pid.map([1, 2, 3])
    assert len(values(flow, out, processes)) == 3


def test_w4_signal_that_killed_a_process_is_named(processes):
    @task
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    flow = Flow("W4", tasks=[die])
    state = flow.run(executor=processes).result[die]
    ended = "killed by signal 9 (SIGKILL), possibly out of memory"
    assert state.message == f"worker died 2 times while running die-1 ({ended})"


def test_step_that_kills_its_process_does_not_run_the_steps_before_it_again(processes, tmp_path):
    ran = tmp_path / "ran"

    @task
    def note(i):
        with ran.open("a") as file:
            file.write(f"{i}\n")
        return i

    @task
    def die(i):
        os._exit(1)

    with Flow("chain") as flow:
        noted = note(1)
        died = die(noted)
        after = clean_up(died)
    state = flow.run(executor=processes)
    assert state.result[noted].result == 1
    assert state.result[died].message.startswith("worker died 2 times while running die-1")
    assert state.result[after].result == "cleaned up"
    assert ran.read_text() == "1\n"


def test_crash_retries_give_another_chance(processes, tmp_path):
    marker = tmp_path / "deaths"

    @task(crash_retries=1)
    def die_twice():
        with marker.open("a") as file:
            file.write("x")
        if len(marker.read_text()) < 3:
            os._exit(1)
        return "alive"

    flow = Flow("crash retries", tasks=[die_twice])
    assert flow.run(executor=processes).result[die_twice].result == "alive"


def test_processes_are_used_again_and_see_what_has_changed(processes, tmp_path, monkeypatch):
    @task
    def look(x):
        import used_again  # a module that was not there when the processes started

        return os.getpid(), os.getcwd(), os.environ.get("POOL_TEST"), os.environ.get("POOL_OLD"), used_again.VALUE

    monkeypatch.setenv("POOL_OLD", "old")
    with Flow("first") as flow:
        out = pid.map(list(range(50)))
    first = set(values(flow, out, processes))
    (tmp_path / "used_again.py").write_text("VALUE = 5\n")
    monkeypatch.setenv("POOL_TEST", "new")
    monkeypatch.delenv("POOL_OLD")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with Flow("second") as flow:
        out = look.map(list(range(50)))
    seen = values(flow, out, LocalDaskExecutor("processes", num_workers=2))
    assert {tuple(rest) for _, *rest in seen} == {(str(tmp_path), "new", None, 5)}
    with Flow("third") as flow:
        out = pid.map(list(range(50)))
    again = set(values(flow, out, LocalDaskExecutor("processes", num_workers=2)))
    assert again & {number for number, *_ in seen}
    assert not again & first  # a module changed since those began


def test_large_shared_value_travels_once_by_file(processes, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    large = os.urandom(1 << 20)

    @task
    def size(i, data):
        return i + len(data)

    with Flow("large") as flow:
        size.map([1, 2, 3], data=unmapped(large))
    plan, jobs = jobs_of(flow)
    with processes.start(plan, dict(FACTS)) as session:
        session.submit(jobs)
        received = drain(session, 3)
        (folder,) = tmp_path.glob("prefectish-values-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert sum(file.stat().st_size for file in folder.iterdir()) < 2 * len(large)
    assert sorted(r.records[0][1].state.result for r in received) == [len(large) + i for i in (1, 2, 3)]
    assert not folder.exists()


def test_large_items_and_results_travel(processes):
    @task
    def twice(data):
        return data * 2

    items = [bytes([i]) * (1 << 19) for i in range(4)]
    with Flow("large items") as flow:
        out = twice.map(twice.map(items))
    assert [len(v) for v in values(flow, out, processes)] == [1 << 21] * 4


# ---------------------------------------------------------------------------------------------------- batches


def batched(body, tmp_path, items, **options):
    """Run a batched map on processes and return its children's states and the bodies that ran."""
    ran = tmp_path / "ran"

    def work(x):
        with ran.open("a") as file:
            file.write(f"{x} {os.getpid()}\n")
        return body(x)

    with Flow("batched") as flow:
        out = task(work, name="work", **{"batch_size": 10, **options}).map(items)
    state = flow.run(executor=LocalDaskExecutor("processes", num_workers=2))
    return state.result[out].map_states, [line.split() for line in ran.read_text().splitlines()]


def test_branches_of_a_batch_run_in_one_process_each_once(tmp_path):
    children, ran = batched(str, tmp_path, list(range(100)))
    assert [child.result for child in children] == [str(x) for x in range(100)]
    assert sorted(int(x) for x, _ in ran) == list(range(100))
    for first in range(0, 100, 10):
        assert len({pid for x, pid in ran if first <= int(x) < first + 10}) == 1


def test_automatic_batches_grow_to_the_end(tmp_path):
    children, ran = batched(str, tmp_path, list(range(500)), batch_size="auto")
    assert [child.result for child in children] == [str(x) for x in range(500)]
    assert len(ran) == 500


def fail_at_five(x):
    if x == 5:
        raise ValueError(x)
    return bytes(1 << 16)


def test_child_of_a_batch_fails_alone(tmp_path):
    children, _ = batched(fail_at_five, tmp_path, list(range(20)))
    assert [i for i, child in enumerate(children) if child.is_failed()] == [5]
    assert children[5].message == "Error during execution of task: ValueError(5)"
    assert {len(child.result) for child in children if child.is_successful()} == {1 << 16}


def test_child_of_a_batch_is_retried_alone(tmp_path):
    children, ran = batched(fail_at_five, tmp_path, list(range(10)), retries=2)
    assert [i for i, child in enumerate(children) if child.is_failed()] == [5]
    assert sorted(int(x) for x, _ in ran) == [0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 9]


def test_argument_of_a_batch_that_cannot_be_pickled_fails_its_child(tmp_path):
    children, ran = batched(str, tmp_path, [0, Unpicklable(), 2])
    assert [type(child) for child in children] == [Success, Failed, Success]
    assert len(ran) == 2


def die_at_five(x):
    if x == 5:
        os._exit(1)
    return x


def test_child_that_kills_its_batch_crashes_alone(tmp_path):
    children, _ = batched(die_at_five, tmp_path, list(range(20)))
    assert [i for i, child in enumerate(children) if not child.is_successful()] == [5]
    assert type(children[5]) is Crashed


# ------------------------------------------------------------------------------- programs that run flows on processes

SCRIPT = """
import os, sys, time
from prefectish import Flow, task
from prefectish.executors import LocalDaskExecutor

class Point:
    def __init__(self, x):
        self.x = x

    def __repr__(self):
        return f"Point({self.x})"

@task
def work(point):
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(float(sys.argv[2]))
    return Point(point.x)

with Flow("script") as flow:
    out = work.map([Point(1), Point(2)])
points = flow.run(executor=LocalDaskExecutor("processes", num_workers=2)).result[out].result
print(points, all(type(point) is Point for point in points), flush=True)
"""


def start_script(tmp_path, seconds):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "pids"), str(seconds)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def workers_of(tmp_path):
    file = tmp_path / "pids"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or ") Z " not in stat.read_text()


def test_plain_script_runs_once_and_leaves_nothing_behind(tmp_path):
    script = start_script(tmp_path, 0)
    out, err = script.communicate(timeout=120)
    assert (out, err, script.returncode) == ("[Point(1), Point(2)] True\n", "", 0)
    until(lambda: not any(map(alive, workers_of(tmp_path))))


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_processes_end_with_the_program(tmp_path, signal_number):
    script = start_script(tmp_path, 1000)
    try:
        until(lambda: len(workers_of(tmp_path)) == 2)
        if signal_number == signal.SIGINT:
            os.killpg(script.pid, signal_number)  # as a terminal does it
        else:
            script.kill()
        _, err = script.communicate(timeout=LONG)
        until(lambda: not any(map(alive, workers_of(tmp_path))))
    finally:
        script.kill()
    assert "Process SpawnProcess" not in err


def die_at_once():
    os._exit(5)


def test_processes_that_cannot_start_are_distinguished_from_bodies_that_kill_them(monkeypatch):
    monkeypatch.setattr("prefectish.executors.process_pool.prepare_worker", die_at_once)
    flow = Flow("never ready", tasks=[use.copy(name="never")])
    with pytest.raises(FlowDefinitionError, match=r"^the worker processes ended before they were ready"):
        flow.run(executor=LocalDaskExecutor("processes", num_workers=3))
