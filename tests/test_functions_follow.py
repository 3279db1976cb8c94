"""Calls that read open ones: on a cluster they go to Dask with their dependency; all see the same everywhere."""

from __future__ import annotations

import gc
import os
import signal
from datetime import timedelta

import pytest
from bodies import add, give, inc
from real import note, notes, until

from prefectish import allow_failure, as_completed, flow, task, triggers, wait
from prefectish.engine import signals
from prefectish.engine.jobs.job import Job
from prefectish.engine.plan.placement import Placement
from prefectish.engine.state import Cancelled, Crashed, Paused, Skipped, Success, TriggerFailed
from prefectish.errors import TaskRunFailed
from prefectish.executors import DaskExecutor, past_queue, session
from prefectish.executors.follow import beside
from prefectish.executors.open_keys import Sending
from prefectish.executors.session import ClusterSession


def run(function, executor, *arguments, **options):
    return function.with_options(executor=executor, history=False, **options)(*arguments)


@pytest.fixture
def following(monkeypatch):
    """Count the jobs that were sent while what they read was open."""
    sent = []
    keys = session.followed_keys

    def followed(job, run_id):
        found = keys(job, run_id)
        sent.extend(found)
        return found

    monkeypatch.setattr(session, "followed_keys", followed)
    return sent


def test_what_is_read_is_known_before_what_reads_it(dask_client, monkeypatch):
    read = session.read

    async def in_any_order(*given):  # as workers answer
        found = await read(*given)
        return found._replace(values=dict(reversed(found.values.items())))

    monkeypatch.setattr(session, "read", in_any_order)
    monkeypatch.setattr(session.ReadingPace, "is_time", lambda self, ready, opened, now: len(ready) == 2)

    @flow
    def ends():
        first = inc.submit(0)
        second = inc.submit(first)
        return [{first: "first", second: "second"}[ended] for ended in as_completed([first, second])]

    assert run(ends, DaskExecutor(client=dask_client)) == ["first", "second"]


def test_chain_and_tree(executor, following):
    @flow
    def both():
        last = inc.submit(0)
        for _ in range(49):
            last = inc.submit(last)
        level = [give.submit(n) for n in range(16)]
        while len(level) > 1:
            level = [add.submit(a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
        return last.result(), level[0].result()

    assert run(both, executor) == (50, 120)
    if isinstance(executor, DaskExecutor):
        assert len(following) > 40


def test_open_call_inside_of_collections_twice_and_waited_for(executor, following, tmp_path):
    gate = tmp_path / "gate"

    @task
    def held(x, gate):
        until(lambda: os.path.exists(gate))
        return x

    @task
    def read(pair, again, **more):
        return pair, again, more

    @flow
    def several():
        first, second = held.submit(1, gate), held.submit([2], gate)
        found = read.submit({"a": [first, {"b": second}]}, second, more=first, wait_for=[first])
        gate.touch()
        return found.result()

    assert run(several, executor) == ({"a": [1, {"b": [2]}]}, [2], {"more": 1})


@task
def fails_first(x, path):
    note(path, "attempt")
    if len(notes(path)) == 1:
        raise OSError("once")
    return x


def test_retry_of_what_is_followed(executor, following, tmp_path):
    path, bodies = tmp_path / "attempts", tmp_path / "bodies"

    @task
    def after(x, path):
        note(path, x)
        return x + 1

    @flow
    def retried():
        first = fails_first.with_options(retries=1, retry_delay_seconds=0.3).submit(1, path)
        return after.submit(after.submit(first, bodies), bodies).result()

    assert run(retried, executor) == 3
    assert notes(bodies) == ["1", "2"]  # no body ran before what it reads had ended


@pytest.mark.parametrize("how", ["fails", "skips", "trigger fails"])
def test_trigger_sees_how_what_is_followed_ended(executor, following, how):
    @task
    def ends():
        if how == "fails":
            raise ValueError("no")
        if how == "skips":
            raise signals.SKIP("not today")
        raise signals.TRIGGERFAIL("refused")

    @task(trigger=triggers.all_finished, skip_on_upstream_skip=False)
    def whatever(x):
        return type(x).__name__

    @flow
    def judged():
        first = ends.submit()
        plain, second = inc.submit(first), inc.submit(inc.submit(first))
        seen, allowed = whatever.submit(first), whatever.submit(allow_failure(first))
        for future in (plain, second, seen, allowed):
            future.wait()
        return [f.state for f in (plain, second, seen, allowed)]

    plain, second, seen, allowed = run(judged, executor)
    kind = Skipped if how == "skips" else TriggerFailed
    assert (type(plain), type(second)) == (kind, kind)
    assert isinstance(seen, Success)
    assert seen.result == allowed.result


def test_pause_of_what_is_followed(executor, following):
    @task
    def asks():
        raise signals.PAUSE("may I?")

    @flow
    def paused():
        first = asks.submit()
        second = inc.submit(first)
        with pytest.raises(TaskRunFailed, match="Paused"):
            second.result()
        return type(first.state)

    state = paused.with_options(executor=executor, history=False).run()
    assert state.is_running() or state.result is Paused


def test_cancelled_while_it_is_followed(executor, following, tmp_path, in_process):
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    if not isinstance(executor, DaskExecutor) and in_process and "threads" not in repr(executor):
        pytest.skip("one body at a time: none runs while the function goes on")

    @task
    def held(gate, begun):
        note(begun, "x")
        until(lambda: os.path.exists(gate))
        return 1

    @flow
    def cancelled():
        first = held.submit(gate, begun)
        second = inc.submit(first)
        third = inc.submit(second)
        until(lambda: notes(begun))
        first.cancel()
        third.wait()
        gate.touch()
        return [type(f.state) for f in (first, second, third)]

    assert run(cancelled, executor) == [Cancelled, TriggerFailed, TriggerFailed]


def test_large_results_are_followed(executor, following):
    @task
    def large(n):
        return bytes(n)

    @task
    def longer(data):
        return data + b"x"

    @flow
    def chained():
        last = large.submit(100_000)
        for _ in range(5):
            last = longer.submit(last)
        return len(last.result())

    assert run(chained, executor) == 100_005


def test_limits_hold_for_calls_that_could_follow(executor, following, tmp_path):
    path = tmp_path / "open"

    @task(max_concurrency=1)
    def alone(x, path):
        note(path, "+")
        note(path, "-")
        return x + 1

    @flow
    def limited():
        last = alone.submit(0, path)
        for _ in range(5):
            last = alone.submit(inc.submit(last), path)
        return last.result()

    assert run(limited, executor) == 11
    assert notes(path) == ["+", "-"] * 6


def test_children_of_maps_are_followed(executor, following):
    @flow
    def mixed():
        children = inc.map(range(20))
        pairs = zip(children[:10], children[10:], strict=True)
        return [future.result() for future in [add.submit(a, b) for a, b in pairs]]

    assert run(mixed, executor) == [12 + 2 * n for n in range(10)]


def test_cached_and_mapped_readers_of_open_calls(executor, following):
    cached = task(lambda x: x + 1, name="cached", cache_for=timedelta(hours=1))

    @flow
    def mixed():
        first = inc.submit(1)
        second = cached.submit(first)
        pair = give.submit([second])
        return inc.map(pair).result(), second.result()

    assert run(mixed, executor) == ([4], 3)


# -- faults on a cluster -----------------------------------------------------------------------------------------------


@task
def dies_once(path, pid=None):
    note(path, "attempt")
    if len(notes(path)) <= 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


@task
def dies(path):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def own_cluster():
    return DaskExecutor(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1})


@pytest.mark.time_limit(120)
def test_death_of_what_is_followed_leaves_readers_unharmed(own_cluster, following, tmp_path):
    @flow
    def deadly():
        first = dies.submit(tmp_path / "x")
        second = inc.submit(first)
        third = give.submit(second)
        seen = give.with_options(trigger=triggers.all_finished).submit(first)
        for future in (third, seen):
            future.wait()
        return [f.state for f in (first, second, third, seen)]

    first, second, third, seen = run(deadly, own_cluster)
    assert [type(state) for state in (first, second, third, seen)] == [Crashed, TriggerFailed, TriggerFailed, Success]
    assert following


@pytest.mark.time_limit(120)
def test_worker_dies_once_under_what_is_followed(own_cluster, following, tmp_path):
    path = tmp_path / "attempts"

    @flow
    def deadly():
        return inc.submit(inc.submit(dies_once.submit(path))).result()

    assert run(deadly, own_cluster) == 3
    assert following


@pytest.mark.time_limit(120)
def test_reader_that_kills_its_worker_is_blamed_itself(own_cluster, following, tmp_path):
    @task
    def kills(x):
        os.kill(os.getpid(), signal.SIGKILL)

    @flow
    def deadly():
        first = inc.submit(1)
        second = kills.submit(first)
        third = give.submit(second)
        third.wait()
        return [type(f.state) for f in (first, second, third)]

    assert run(deadly, own_cluster) == [Success, Crashed, TriggerFailed]


@pytest.mark.time_limit(120)
def test_isolated_body_that_dies_is_retried_before_its_readers_run(executor, tmp_path):
    path = tmp_path / "attempts"

    @flow
    def isolated():
        first = dies_once.with_options(isolation="process", crash_retries=2).submit(path)
        return inc.submit(first).result()

    assert run(isolated, executor) == 2


def test_short_calls_go_ahead_of_their_turn(dask, monkeypatch):
    told = []
    real = session.submit_graph

    def submit(client, graph, *rest):
        told.append(rest[-1].get(past_queue.ANNOTATION))
        return real(client, graph, *rest)

    @flow
    def called():
        wait([inc.submit(n) for n in range(40)])  # how short they are is known from here on
        monkeypatch.setattr(session, "submit_graph", submit)
        return [call.result() for call in [inc.submit(n) for n in range(60)]]

    assert run(called, dask) == [n + 1 for n in range(60)]
    assert told
    assert all(run_and_number[1] > 0 for run_and_number in told)


def test_reader_is_sent_in_one_graph_with_what_it_reads():
    anywhere, there = Placement((), (), 0.0), Placement((), ("tcp://there:1",), 0.0)
    graphs = {Sending(anywhere, ahead=64): ({"read": None}, {}), Sending(there): ({"other": None}, {})}
    assert beside(["read"], Sending(anywhere), graphs) == Sending(anywhere, ahead=64)
    assert beside(["other", "read"], Sending(there), graphs) == Sending(there)
    for keys, sending in [(["read"], Sending(there)), (["read"], Sending(anywhere, True)), ([], Sending(anywhere))]:
        assert beside(keys, sending, graphs) == sending


def test_session_takes_back_a_job_whose_source_it_does_not_know(dask, monkeypatch):
    monkeypatch.setattr(ClusterSession, "_can_follow", lambda *_: False)

    @flow
    def chained():
        last = inc.submit(0)
        for _ in range(5):
            last = inc.submit(last)
        return last.result()

    assert run(chained, dask) == 6


def test_long_chain_keeps_no_job_that_has_ended(dask, following, tmp_path):
    gate = tmp_path / "gate"

    @task
    def link(x):  # a name of its own: other tests of this process may have left jobs of theirs
        return x + 1

    @task
    def held(x, gate):
        until(lambda: os.path.exists(gate))
        return x

    @flow
    def chained():
        last = link.submit(0)
        for _ in range(39):
            last = link.submit(last)
        tail = held.submit(last, gate)
        last.wait()
        until(lambda: jobs_of("link") < 3)  # what has just ended is let go when the loop has turned
        gate.touch()
        return tail.result()

    assert run(chained, dask) == 40
    assert following


def jobs_of(name):
    gc.collect()
    return sum(isinstance(thing, Job) and thing.chain.steps[0].name == name for thing in gc.get_objects())
