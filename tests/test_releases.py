"""Where results are: small ones ride to the client, large ones stay until their last consumer ran."""

from __future__ import annotations

import gc
import threading

import pytest
from real import until, wait_for_file

from prefectish import Flow, task, triggers
from prefectish.engine.jobs.references import Held
from prefectish.errors import ResultReleased
from prefectish.executors import DaskExecutor

pytestmark = pytest.mark.time_limit(60)

LARGE = 100_000


class Blob:
    """A value that is no simple type and weighs what it is told."""

    def __init__(self, size, mark):
        self.content = b"x" * size
        self.mark = mark


@task
def make(x):
    return Blob(LARGE, x)


@task
def make_bytes(x):
    return bytes([x]) * LARGE


@task
def mark(blob):
    return blob.mark if isinstance(blob, Blob) else blob[0]


@task
def marks(blobs):
    return [blob.mark if isinstance(blob, Blob) else blob[0] for blob in blobs]


def three_steps(maker, reduced=True):
    with Flow("three steps") as flow:
        made = maker.map(range(6))
        read = mark.map(made)
        out = marks(made) if reduced else marks.copy(name="ends")([])
    return flow, made, read, out


def keys_held(client, state):
    """Return the keys of a run that the cluster keeps because somebody wants them."""
    run_id = state.context["flow_run_id"]

    def held(dask_scheduler):
        return [key for key, ts in dask_scheduler.tasks.items() if ts.who_wants and str(key[0]).endswith(run_id)]

    return client.run_on_scheduler(held)


@pytest.mark.parametrize("maker", [make, make_bytes], ids=["object", "bytes"])
@pytest.mark.parametrize("reduced", [True, False])
def test_large_result_is_released_after_its_last_consumer_and_says_how_to_keep_it(dask, maker, reduced):
    flow, made, read, _ = three_steps(maker, reduced)
    state = flow.run(executor=dask)
    assert state.is_successful()
    assert [s.result for s in state.result[read].map_states] == list(range(6))
    for child in state.result[made].map_states:
        assert child.is_successful()
        with pytest.raises(ResultReleased, match=r"keep_results=True"):
            child.result  # noqa: B018  reading it is what is tested
    with pytest.raises(ResultReleased, match=r"result of make(_bytes)?\[3\] \(\d+ bytes\)"):
        state.result[made].map_states[3].result  # noqa: B018


@pytest.mark.parametrize("maker", [make, make_bytes], ids=["object", "bytes"])
@pytest.mark.parametrize("keep", ["all", "task", "list"])
def test_kept_results_stay_on_their_workers_and_are_read_by_the_user_s_client(dask, dask_client, maker, keep):
    flow, made, _, _ = three_steps(maker)
    state = flow.run(executor=dask, keep_results={"all": True, "task": made, "list": [made]}[keep])
    children = state.result[made].map_states
    assert all(isinstance(child._raw_result, Held) for child in children)
    values = [child.result for child in children]
    assert marks.run(values) == list(range(6))
    assert len(keys_held(dask_client, state)) == 6
    bare = state.replace(result=None)
    del state, children, values
    gc.collect()  # the tables of a run are a web of references
    until(lambda: not keys_held(dask_client, bare))


def test_results_of_terminal_and_reference_tasks_are_kept_by_default(dask):
    with Flow("ends") as flow:
        made = make.map(range(3))
        other = make.copy(name="other").map(range(3))
        mark.map(made)
        mark.map(other)
        last = make.copy(name="last").map(range(3))
    flow.set_reference_tasks([made])
    state = flow.run(executor=dask)
    assert marks.run(state.result[made].result) == [0, 1, 2]
    assert marks.run(state.result[last].result) == [0, 1, 2]
    with pytest.raises(ResultReleased):
        state.result[other].result  # noqa: B018


def test_nothing_large_is_kept_if_nothing_is_asked_for(dask, dask_client):
    with Flow("none") as flow:
        made = make.map(range(3))
        small = mark.map(made)
    state = flow.run(executor=dask, keep_results=False)
    assert state.result[small].result == [0, 1, 2]
    with pytest.raises(ResultReleased, match="keep_results"):
        state.result[made].result  # noqa: B018
    until(lambda: not keys_held(dask_client, state))


def test_run_leaves_no_wanted_keys_behind(dask, dask_client, tmp_path):
    """The loop waits longer than it waits at once; what Python leaves of such waits must not keep futures."""
    gate = tmp_path / "gate"

    @task
    def hold(x):
        wait_for_file(gate)
        return x

    with Flow("waited for") as flow:
        hold.map(range(3))
    gc.collect()
    gc.disable()
    try:
        timer = threading.Timer(1.5, gate.touch)
        timer.start()
        state = flow.run(executor=dask)
        assert state.is_successful()
        until(lambda: not keys_held(dask_client, state), 5)
    finally:
        gc.enable()
        timer.join()


def test_large_result_of_a_single_task_is_read_by_the_user_s_client(dask):
    with Flow("single") as flow:
        made = make(7)
    state = flow.run(executor=dask)
    assert isinstance(state.result[made]._raw_result, Held)
    assert state.result[made].result.mark == 7


def test_large_results_are_fetched_before_an_own_client_closes(dask_client):
    address = dask_client.scheduler.address
    flow, made, _, _ = three_steps(make)
    state = flow.run(executor=DaskExecutor(address), keep_results=True)
    assert marks.run(state.result[made].result) == list(range(6))


def test_small_results_are_sent_inline_in_any_case(dask):
    with Flow("small") as flow:
        first = mark.map([b"\x01", b"\x02"])
        mark.copy(name="again").map(make_bytes.map(first))
    state = flow.run(executor=dask, keep_results=False)
    assert state.result[first].result == [1, 2]


def test_limit_of_inline_results_is_set_by_the_executor(dask_client):
    with Flow("limit") as flow:
        made = make_bytes.map(range(1, 3))
        mark.map(made)
    state = flow.run(executor=DaskExecutor(client=dask_client, max_inline_bytes=2 * LARGE), keep_results=False)
    assert [len(value) for value in state.result[made].result] == [LARGE, LARGE]


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("alone", [True, False])
def test_large_exception_of_a_child_is_reported_whatever_is_kept(dask, batch, alone):
    @task(batch_size=batch)
    def fail(x):
        raise ValueError("no", "x" * 20_000, x)

    @task(batch_size=batch, trigger=triggers.all_finished)
    def see(x):
        return type(x).__name__

    with Flow("errors") as flow:
        failed = fail.map(range(6))
        if not alone:
            seen = see.map(failed)
            flow.set_reference_tasks([seen])
    state = flow.run(executor=dask, keep_results=False)
    for i, child in enumerate(state.result[failed].map_states):
        assert type(child.result) is ValueError
        assert child.result.args[2] == i
    if not alone:
        assert state.result[seen].result == ["ValueError"] * 6
