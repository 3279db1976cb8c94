"""Chains of single tasks that go to a cluster as one Dask task each, where there are many more of them than threads."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections import Counter
from datetime import timedelta
from itertools import accumulate

import dask
import pytest
from distributed import Client, LocalCluster
from jobs import jobs_of
from real import note, notes, until, wait_for_file

from prefectish import Flow, task
from prefectish.engine import clock
from prefectish.engine.jobs.job import Record
from prefectish.engine.jobs.protocol import LossCause, Lost
from prefectish.engine.jobs.references import Discarded, LeftOnWorker
from prefectish.engine.signals import RETRY
from prefectish.engine.state import Crashed, Success
from prefectish.engine.wire import execute as worker
from prefectish.engine.wire.messages import StepResult, open_batch
from prefectish.engine.wire.pack import pack_chain, pickle_tasks
from prefectish.engine.worker import lifetime, recall, running
from prefectish.executors import DaskExecutor, session
from prefectish.executors.open_keys import OpenKey
from prefectish.executors.whole_chains import CROWD, goes_whole, whole
from prefectish.triggers import all_finished

LINKS = 4
KEEP = 4096


@task
def inc(x):
    return x + 1


@task
def add(x, y):
    return x + y


def chained(first, links=LINKS, link=inc):
    last = link(first)
    for _ in range(links - 1):
        last = link(last)
    return last


def first_job(make):
    with Flow("flow") as flow:
        make()
    plan, jobs = jobs_of(flow)
    return plan, jobs[0]


# ---------------------------------------------------------------------- which


def test_chain_in_which_each_step_reads_the_one_before_goes_whole():
    assert goes_whole(first_job(lambda: chained(1))[1])


def test_step_that_could_run_beside_another_is_not_put_behind_it():
    def make():
        one = inc(1)
        add(inc(one), inc(one))

    assert not goes_whole(first_job(make)[1])


def test_step_that_others_wait_for_is_not_held_up_by_the_one_behind_it():
    def make():
        one, other = inc(1), inc(2)
        inc(one)
        add(one, other)

    assert not goes_whole(first_job(make)[1])
    again = task(lambda x: x, max_retries=1, retry_delay=0)
    assert goes_whole(first_job(lambda: chained(1, link=again))[1]), "a step that may read its input again is no other"


@pytest.mark.parametrize(
    "options",
    [{"crash_retries": 1}, {"expected_duration": 5.0}, {"resources": lambda x: {"gpu": x}}],
    ids=["crash_retries", "expected_duration", "placed by item"],
)
def test_step_whose_place_or_worker_matters_goes_by_itself(options):
    assert not goes_whole(first_job(lambda: chained(1, link=task(lambda x: x, **options)))[1])


def test_single_steps_rows_of_maps_and_later_attempts_do_not_go_whole():
    assert not goes_whole(first_job(lambda: inc(1))[1])
    assert not goes_whole(first_job(lambda: inc.map(inc.map([1])))[1])
    job = first_job(lambda: chained(1))[1]
    job.submission = 1
    assert not goes_whole(job)


@pytest.mark.parametrize(("cause", "is_tried_again"), [(LossCause.KILLED_WORKER, True), (LossCause.NO_WORKERS, False)])
def test_chain_whose_worker_died_goes_step_by_step_and_one_that_found_none_is_lost(cause, is_tried_again):
    """It has waited for a worker as long as it may; its steps would wait as long once more."""
    lost, job = Lost(cause), first_job(lambda: chained(1))[1]
    a_session = object.__new__(session.ClusterSession)
    a_session._done = []
    a_session._give_up(OpenKey(whole(job), None, None), lost)
    (receipt,) = a_session._done
    assert receipt.lost is (None if is_tried_again else lost)
    assert [record.begun for _, record in receipt.records] == [False] * LINKS * is_tried_again


# ---------------------------------------------------------------------- on a worker


@pytest.fixture(autouse=True)
def no_worker_here(monkeypatch):
    """Forget the worker that an earlier test had in this process: what it was told holds for all of its threads."""
    monkeypatch.setattr(recall, "is_dropped", None)
    for name in ("ends_at", "refuse"):
        monkeypatch.setattr(lifetime, name, None)


def run_whole(make, keep=KEEP):
    """Run a chain as a worker does, and return the records of its steps and what stays there."""
    plan, job = first_job(make)
    payload, held = pack_chain(job.chain, pickle_tasks(plan))
    assert not held
    branch = job.index, job.positions, [], {}, {}, 0
    batch = worker.execute_batch(payload, pickle.dumps((None, keep, False, False, [branch], ()), protocol=5))
    return [record for _, record in open_batch(batch).of(0)], batch.large


def begun(records):
    return [record.begun for record in records]


def test_short_steps_run_one_after_another():
    records, large = run_whole(lambda: chained(1))
    assert [record.state.result for record in records] == [2, 3, 4, 5]
    assert not large


def test_nothing_begins_after_a_long_body(monkeypatch):
    monkeypatch.setattr(worker, "WHOLE_SECONDS", -1.0)
    assert begun(run_whole(lambda: chained(1))[0]) == [True, False, False, False]


def test_large_results_that_only_the_next_step_reads_are_dropped_and_others_stay():
    grow = task(lambda x: "x" * 2000 if x == 1 else x[1:], name="grow")
    both = task(lambda x, y: len(x) - len(y), name="both")

    def make():
        first = grow(1)
        second = grow(first)
        both(grow(second), second)

    records, large = run_whole(make, keep=1000)
    assert [type(record.state._raw_result) for record in records] == [Discarded, Discarded, Discarded, int]
    assert not large
    records, large = run_whole(lambda: inc(grow(1)), keep=1000)
    assert records[1].state.is_failed()
    assert type(records[0].state._raw_result) is Discarded, "of a step that ended nothing is read again"
    records, large = run_whole(lambda: grow(grow(1)), keep=1000)
    assert [*large] == [(0, 1)], "the end of a chain is a result"


def test_chain_leaves_the_same_large_results_however_long_its_bodies_take(monkeypatch):
    """What is left is read from there: Dask makes it again if its worker dies, on one that may be quicker."""
    grow = task(lambda x: "x" * 2000, name="grow")
    _, quick = run_whole(lambda: grow(grow(1)), keep=1000)
    monkeypatch.setattr(worker, "WHOLE_SECONDS", -1.0)
    records, slow = run_whole(lambda: grow(grow(1)), keep=1000)
    assert begun(records) == [True, True]
    assert [*slow] == [*quick] == [(0, 1)]


def test_large_result_that_a_second_run_has_used_up_is_made_again():
    """The first run left it; Dask ran the chain again because the worker died, and there the next step began."""
    plan, job = first_job(lambda: task(lambda x: len(x), name="size")(task(lambda x: "x" * 2000, name="grow")(1)))
    payload, _ = pack_chain(job.chain, pickle_tasks(plan))
    calls = pickle.dumps((None, 1000, False, False, [(job.index, job.positions, [], {}, {}, 0)], ()), protocol=5)
    batch = worker.execute_batch(payload, calls)
    assert not batch.large
    with pytest.raises(KeyError):
        worker.take_from_batch(batch, 0, 0)
    taken = worker.take_from_batch(batch, 0, 0, payload, calls)
    assert taken.record.state.result == "x" * 2000


def test_chain_that_reads_what_may_be_gone_drops_nothing():
    """What it reads is not sent with it, so that it could not be made again beside its graph."""
    held = StepResult(0, Record(Success(None, "y")))
    plan, job = first_job(lambda: task(lambda x: len(x), name="size")(task(lambda x: "x" * 2000, name="grow")(1)))
    payload, _ = pack_chain(job.chain, pickle_tasks(plan))
    calls = pickle.dumps((None, 1000, False, False, [(job.index, job.positions, [], {}, {}, 0)], ()), protocol=5)
    assert [*worker.execute_batch(payload, calls, held).large] == [(0, 0)]


def test_large_result_stays_for_what_begins_elsewhere(monkeypatch):
    monkeypatch.setattr(lifetime, "seconds_left", lambda: 3600.0)
    grow = task(lambda x: "x" * 2000, name="grow")
    records, large = run_whole(lambda: grow(grow(1)), keep=1000)
    assert begun(records) == [True, False]
    assert type(records[0].state._raw_result) is LeftOnWorker
    assert [*large] == [(0, 0)]


def test_nothing_but_the_first_step_begins_where_the_process_will_end(monkeypatch):
    monkeypatch.setattr(lifetime, "seconds_left", lambda: 3600.0)
    assert begun(run_whole(lambda: chained(1))[0]) == [True, False, False, False]


def test_nothing_begins_where_the_first_step_by_itself_would_be_refused(monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(lifetime, "began_at", now - 1000.0)
    monkeypatch.setattr(lifetime, "ends_at", now + 20.0)
    monkeypatch.setattr(lifetime, "refuse", lambda needed, left: worker.NotHere("its worker ends soon"))
    with pytest.raises(worker.NotHere):
        run_whole(lambda: chained(1))


def test_chain_is_noted_as_its_first_step_while_it_runs(monkeypatch):
    """By this note the scheduler knows what a worker that died was running, and blames nothing else."""
    noted = []
    monkeypatch.setattr(running, "begin", lambda *body: noted.append(running.Body(*body)) or 0)
    monkeypatch.setattr(running, "end", noted.append)
    records, _ = run_whole(lambda: chained(1))
    assert begun(records) == [True] * LINKS
    assert noted == [running.Body(running.number_of("inc-1"), -1, 0), 0]


def test_async_bodies_are_called_in_the_thread_of_the_worker(monkeypatch):
    """Of another one no body could secede that waits for a run on its own cluster."""

    @task(async_concurrency=2)
    async def later(x):
        return x + 1

    monkeypatch.setattr(worker, "side_by_side", None)
    assert [record.state.result for record in run_whole(lambda: chained(1, link=later))[0]] == [2, 3, 4, 5]


# ---------------------------------------------------------------------- on a cluster


@pytest.fixture
def sent(monkeypatch):
    """Note the keys of each graph that is sent."""
    keys = []
    real = session.submit_graph
    monkeypatch.setattr(
        session, "submit_graph", lambda client, graph, *rest: keys.extend(graph) or real(client, graph, *rest)
    )
    return keys


def crowd_of(client):
    return CROWD * sum(client.nthreads().values())


def run(executor, ends_of, count):
    with Flow("chains") as flow:
        ends = [ends_of(x) for x in range(count)]
    state = flow.run(executor=executor, history=False)
    return state, [state.result[end] for end in ends]


def test_many_chains_are_one_dask_task_each_and_few_are_one_for_each_step(dask, dask_client, sent):
    many = crowd_of(dask_client)
    state, ends = run(dask, chained, many)
    assert [end.result for end in ends] == [x + LINKS for x in range(many)]
    assert len(state.result) == many * LINKS
    assert all(each.is_successful() for each in state.result.values())
    assert many <= len(sent) < many * LINKS // 2, "what a busy machine holds up comes back, as after a long body"
    assert {key[1:] for key in sent} == {(-1, 0)}, "as in the notes of what runs"
    del sent[:]
    run(dask, chained, 3)
    assert len(sent) == 3 * LINKS


def test_steps_have_states_attempts_and_large_results_of_their_own(dask, dask_client, tmp_path):
    path = tmp_path / "notes"

    @task(max_retries=1, retry_delay=0)
    def flaky(x):
        note(path, f"{x}")
        if x % 8 == 1 and notes(path).count(f"{x}") == 1:
            raise OSError("at the first try")
        return x

    @task
    def large(x):
        return b"x" * 20_000 if x % 8 == 2 else x

    @task
    def sized(x):
        if x == 3:
            raise ValueError("three")
        return x if isinstance(x, int) else len(x)

    @task(trigger=all_finished)
    def last(x):
        return x if isinstance(x, int) else repr(x)

    many = crowd_of(dask_client)
    _, ends = run(dask, lambda x: last(sized(large(flaky(x)))), many)
    expected = [20_000 if x % 8 == 2 else x for x in range(many)]
    expected[3] = repr(ValueError("three"))
    assert [end.result for end in ends] == expected
    assert Counter(notes(path)) == {f"{x}": 1 + (x % 8 == 1) for x in range(many)}


@pytest.mark.time_limit(240)
def test_chain_that_kills_its_worker_crashes_at_its_step_and_others_end(tmp_path):
    path = tmp_path / "notes"

    @task
    def deadly(x):
        note(path, f"{x}")
        if x == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(**options) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        many = 2 * CROWD
        with Flow("chains") as flow:
            ends = [(first := inc(x - 1), middle := deadly(first), inc(middle)) for x in range(many)]
        state = flow.run(executor=DaskExecutor(client=client), history=False)
    assert type(state.result[ends[5][1]]) is Crashed
    assert state.result[ends[5][0]].is_successful()
    assert state.result[ends[5][2]].is_failed()
    assert [state.result[end].result for n, (_, _, end) in enumerate(ends) if n != 5] == [
        x + 1 for x in range(many) if x != 5
    ]


@pytest.mark.time_limit(240)
def test_large_result_of_a_whole_chain_is_made_again_if_its_worker_dies(tmp_path):
    """A step asks to be tried again; the worker that keeps its input dies, and made anew, it is used up."""
    path = tmp_path / "notes"

    @task
    def grow(x):
        return b"x" * 100_000

    @task
    def size(x, n):
        note(path, f"{n}")
        if n == 0 and notes(path).count("0") == 1:
            raise RETRY("not yet", start_time=clock.now() + timedelta(seconds=3))
        return len(x)

    def holders(dask_scheduler):
        found = [ts for key, ts in dask_scheduler.tasks.items() if str(key[0]).startswith("grow-1-")]
        return [ws.address for ts in found for ws in ts.who_has]

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 5}),
        LocalCluster(**options) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        with Flow("chains") as flow:
            ends = [size(grow(n), n) for n in range(2 * CROWD)]
        flow_run = flow.start(executor=DaskExecutor(client=client), history=False)
        until(lambda: flow_run.counts("size-1").get("Retrying"), 60)
        (address,) = client.run_on_scheduler(holders)
        client.run(os._exit, 1, workers=[address], on_error="ignore")
        state = flow_run.wait(120)
    assert state.is_successful(), state
    assert [state.result[end].result for end in ends] == [100_000] * len(ends)


def test_result_that_is_read_at_once_is_not_held_while_other_chains_begin(dask, dask_client, tmp_path):
    path = tmp_path / "notes"

    @task
    def begin(x):
        note(path, "first")
        return b"x" * 10_000

    @task
    def end(x):
        note(path, "last")
        return len(x)

    many = 2 * crowd_of(dask_client)
    _, ends = run(dask, lambda x: end(begin(x)), many)
    assert [each.result for each in ends] == [10_000] * many
    held = [0]
    held += accumulate(1 if line == "first" else -1 for line in notes(path))
    assert max(held) <= sum(dask_client.nthreads().values())


def test_no_further_step_begins_once_the_run_is_cancelled(dask, dask_client, tmp_path):
    """A large result would have the steps go on; nobody waits for it any more."""
    path, goes_on = tmp_path / "notes", tmp_path / "goes on"

    @task
    def begin(x):
        note(path, "first")
        wait_for_file(goes_on)
        return b"x" * 100_000

    @task
    def end(x):
        note(path, "last")

    with Flow("chains") as flow:
        for x in range(crowd_of(dask_client)):
            end(begin(x))
    flow_run = flow.start(executor=dask, history=False)
    until(lambda: notes(path))
    flow_run.cancel()
    assert flow_run.wait(60).is_finished()

    def kept(dask_worker):
        return {task.state for key, task in dask_worker.state.tasks.items() if key[0].startswith("begin-")}

    until(lambda: set().union(*dask_client.run(kept).values()) == {"cancelled"})  # the message has come
    goes_on.touch()
    until(lambda: not any(dask_client.run(kept).values()))
    assert set(notes(path)) == {"first"}
