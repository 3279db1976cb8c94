"""What a flow function holds: large results go with the last that may ask for them, and calls leave little behind."""

from __future__ import annotations

import gc
import threading
import tracemalloc

import pytest
from distributed.diagnostics.plugin import SchedulerPlugin
from real import until

from prefectish import flow, task, unmapped
from prefectish.errors import ResultReleased
from prefectish.executors import DaskExecutor

SIZE = 100_000  # of a result that stays on its worker


@task
def make(n):
    return bytes([n % 256]) * SIZE


@task
def first(data):
    return data[0]


@task
def pair(one, other):
    return one[0] + other[0]


@task
def count(several):
    return sum(len(data) for data in several)


def held(client):
    """Return how many large results the cluster holds."""
    return client.run_on_scheduler(
        lambda dask_scheduler: sum(
            t.state == "memory" and (t.nbytes or 0) >= SIZE and "make" in str(t.key)
            for t in dask_scheduler.tasks.values()
        )
    )


def run(function, dask, *arguments):
    return function.with_options(executor=dask, history=False)(*arguments)


def test_map_over_a_map_holds_no_more_than_are_open(dask, dask_client):
    narrow = DaskExecutor(client=dask_client, max_branches=4)
    seen = []

    @flow
    def mapped():
        means = first.map(make.map(range(40)))
        for future in means:
            future.wait()
            seen.append(held(dask_client))
        until(lambda: held(dask_client) == 0)
        return means.result()

    assert run(mapped, narrow) == list(range(40))
    assert max(seen) <= 6  # four, and what the scheduler has not heard of yet


class Most(SchedulerPlugin):
    """Counts on the scheduler how many large results there are, at each change of a key."""

    def __init__(self):
        self.now, self.most = set(), 0

    def transition(self, key, start, finish, *args, **kwargs):
        if "make" in str(key):
            (self.now.add if finish == "memory" else self.now.discard)(key)
            self.most = max(self.most, len(self.now))


def test_result_is_let_go_of_before_the_next_one_is_made(dask_client):
    narrow = DaskExecutor(client=dask_client, max_branches=4)

    @flow
    def mapped():
        return first.map(make.map(range(150))).result()

    dask_client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.add_plugin(Most(), name="most"))
    try:
        assert run(mapped, narrow) == list(range(150))
        most = dask_client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.plugins["most"].most)
    finally:
        dask_client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.remove_plugin("most"))
    assert 1 <= most <= 4


@pytest.mark.parametrize("shape", ["list of calls", "calls one by one", "calls in a list", "chain", "blocking"])
def test_loop_of_calls_lets_go_of_what_nobody_asks_for(dask, dask_client, shape):
    @flow
    def looped():
        if shape == "list of calls":
            found = first.map([make.submit(n) for n in range(20)]).result()
        elif shape == "calls one by one":
            found = [future.result() for future in [first.submit(make.submit(n)) for n in range(20)]]
        elif shape == "calls in a list":
            found = [count.submit([make.submit(n), make.submit(n)]).result() // SIZE for n in range(10)]
        elif shape == "chain":
            last = make.submit(1)
            for _ in range(10):
                last = make.submit(first.submit(last))
            found = last.result()[0]
            del last
        else:
            found = [make(n)[0] for n in range(20)]
        until(lambda: held(dask_client) == 0)
        return found

    assert run(looped, dask)


def test_whole_map_stays_as_long_as_a_call_reads_it(dask, dask_client):
    @flow
    def collected():
        total = count.submit(make.map(range(10)))
        again = first.map(make.map(range(5)), wait_for=[total])
        found = total.result(), again.result()
        until(lambda: held(dask_client) == 0)
        return found

    assert run(collected, dask) == (10 * SIZE, [0, 1, 2, 3, 4])


def test_results_stay_as_long_as_a_future_or_a_state_may_ask(dask, dask_client):
    @flow
    def kept():
        future, children = make.submit(7), make.map(range(3))
        child = children[1]
        state = make(9, return_state=True)
        sizes = first.submit(future).result(), first.map(children).result()
        del children
        before = held(dask_client)
        read = future.result()[0], child.result()[0], state.result[0], child.state.result[0]
        states = make.map([4, 5], return_state=True)
        del future, child
        gc.collect()
        until(lambda: held(dask_client) <= 3)
        return sizes, read, [s.result[0] for s in states], before >= 5

    assert run(kept, dask) == ((7, [0, 1, 2]), (7, 1, 9, 1), [4, 5], True)


def test_later_map_reads_what_an_earlier_one_read_before(dask, dask_client):
    @flow
    def twice():
        source = make.map(range(6))
        earlier = first.map(source).result()
        later = pair.map(source, unmapped(make.submit(1)))
        del source
        found = later.result()
        until(lambda: held(dask_client) == 0)
        return earlier, found

    assert run(twice, dask) == (list(range(6)), [n + 1 for n in range(6)])


def test_map_that_waits_for_a_call_reads_results_whose_future_is_gone(dask, dask_client, tmp_path):
    gate = tmp_path / "gate"

    @task
    def held_call(gate):
        import os
        import time

        while not os.path.exists(gate):
            time.sleep(0.01)  # noqa: TID251  # a body
        return [1, 2, 3]

    @flow
    def waiting():
        source = make.map([1, 2, 3])
        source.wait()
        both = pair.map(source, [make.submit(0), make.submit(0), make.submit(0)])
        third = first.map(source, wait_for=[held_call.submit(gate)])
        del source
        gc.collect()
        both.wait()
        gate.touch()
        found = both.result(), third.result()
        until(lambda: held(dask_client) == 0)
        return found

    assert run(waiting, dask) == ([1, 2, 3], [1, 2, 3])


def test_failed_reader_lets_go_too(dask, dask_client):
    @task
    def refuse(data):
        raise ValueError(len(data))

    @flow
    def failing():
        futures = [refuse.submit(make.submit(n)) for n in range(5)]
        errors = [str(future.exception()) for future in futures]
        until(lambda: held(dask_client) == 0)
        return errors

    assert run(failing, dask) == [str(SIZE)] * 5


@pytest.mark.parametrize("executor", ["local", "threads"], indirect=True)
@pytest.mark.parametrize("how", ["call", "submit"])
def test_table_grows_by_a_few_bytes_a_call(executor, how):
    increment = task(lambda x: [x] * 10, name="increment")

    @flow(history=False)
    def looped(width):
        for x in range(width):
            if how == "call":
                increment(x)
            else:
                increment.submit(x).result()
            if x == 2000:
                gc.collect()
                tracemalloc.start()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return grown / (width - 2000)

    # A story, which the checks of the tests keep, grows with each call.
    assert looped.run(width=6000, executor=executor, story=False).result < 100


@pytest.mark.parametrize("keep", [True, make, [first, make]], ids=["all", "one", "several"])
def test_results_that_are_kept_can_be_read_after_the_run(executor, keep):
    assert sizes_after(executor, keep) == [[SIZE], [SIZE, SIZE]]


def test_large_results_that_are_not_kept_go_with_their_futures(dask):
    for keep in (None, False, first):
        with pytest.raises(ResultReleased, match="keep_results=True"):
            sizes_after(dask, keep)


def test_future_that_goes_after_the_run_lets_go_too(dask):
    futures = []

    @flow
    def called():
        futures.extend((make.submit(3), make.map([1, 2])))

    flow_run = called.start(executor=dask, history=False)
    assert flow_run.wait(60).is_successful()
    children = [child for state in flow_run.snapshot().result.values() for child in state.map_states]
    assert [len(child.result) for child in children] == [SIZE] * 3
    futures.clear()
    for child in children:
        with pytest.raises(ResultReleased, match="keep_results=True"):
            child.result  # noqa: B018  reading it raises


def sizes_after(executor, keep):
    @flow
    def called(numbers):
        first.submit(make.submit(3))
        first.map(make.map(numbers))

    run = called.start(executor=executor, history=False, numbers=[1, 2], keep_results=keep)
    assert run.wait(60).is_successful()
    states = [state for called, state in run.snapshot().result.items() if called.name == "make"]
    return [[len(child.result) for child in state.map_states] for state in states]


def test_futures_that_go_while_another_thread_answers_let_go_too(dask, monkeypatch):
    """Who cannot have the lock leaves it to the thread that has it, also if that is the same one."""
    futures, answered, begun, goes_on = [], [], threading.Event(), threading.Event()

    @flow
    def called():
        futures.extend(make.submit(n) for n in range(4))

    flow_run = called.start(executor=dask, history=False)
    assert flow_run.wait(60).is_successful()
    children = [child for state in flow_run.snapshot().result.values() for child in state.map_states]
    run = futures[0]._run
    carry_out = run.carry_out

    def answer(request, *rest):
        answered.append(threading.current_thread().name)
        if len(answered) == 1:
            begun.set()
            assert goes_on.wait(60)
            futures.pop()  # in the thread that answers
        carry_out(request, *rest)

    monkeypatch.setattr(run, "carry_out", answer)
    answering = threading.Thread(target=futures.pop, args=(0,), name="answering")
    answering.start()
    assert begun.wait(60)
    futures.pop()  # at once, although the other thread has the lock
    goes_on.set()
    answering.join(60)
    assert answered == ["answering"] * 3
    kept = [child for child in children if child._raw_result.handle is not None]
    assert (len(kept), len(futures)) == (1, 1)
