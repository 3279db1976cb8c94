"""What a map costs on a cluster: bytes on the wire, keys on the scheduler, memory at the client; what starts when."""

from __future__ import annotations

import os
import threading

import psutil
import pytest
from bodies import inc, total
from real import kinds, meanwhile, note, notes, spend, until, wait_for_file

from prefectish import Flow, Parameter, flatten, flow, task, unmapped
from prefectish.executors import DaskExecutor

pytestmark = pytest.mark.time_limit(120)


# ---------------------------------------------------------------------- bytes on the wire


@pytest.fixture(scope="module")
def remote():
    """A cluster whose scheduler is in another process, so that what the client sends goes over a wire."""
    from prefectish.executors.connect import connect

    with connect(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}) as connection:
        yield connection.client


class CountedWrites:
    """Counts what this process writes to other processes through distributed."""

    def __init__(self, monkeypatch):
        from distributed.comm import tcp

        self.sent = 0
        original = tcp.TCP.write

        async def write(comm, msg, serializers=None, on_error="message"):
            count = await original(comm, msg, serializers, on_error)
            self.sent += count
            return count

        monkeypatch.setattr(tcp.TCP, "write", write)


@pytest.fixture
def sent(monkeypatch):
    return CountedWrites(monkeypatch)


def test_counted_writes_sees_what_is_sent(remote, sent):
    remote.submit(len, b"x" * 300_000, pure=False).result()
    assert 300_000 < sent.sent < 330_000


class CountedReads:
    """Counts what this process reads from other processes through distributed."""

    def __init__(self, monkeypatch):
        from distributed.comm import tcp

        self.read = 0
        original = tcp.from_frames

        async def from_frames(frames, *args, **options):
            self.read += sum(memoryview(frame).nbytes for frame in frames)
            return await original(frames, *args, **options)

        monkeypatch.setattr(tcp, "from_frames", from_frames)


def means_in_a_graph(made, size):
    with Flow("means") as graph:
        sizes = size.map(made.map(range(16)))
    return lambda executor: graph.run(executor=executor, history=False).result[sizes].result


def means_in_a_function(made, size):
    @flow(history=False)
    def means():
        called = [size.submit(made.submit(x)) for x in range(4)]
        return [*size.map(made.map(range(12))).result(), *(call.result() for call in called)]

    return lambda executor: means.run(executor=executor).result


@pytest.mark.parametrize("front", [means_in_a_graph, means_in_a_function])
def test_results_that_tasks_read_do_not_come_through_the_client(remote, monkeypatch, sent, front):
    @task
    def made(x):
        return os.urandom(1_000_000)

    @task
    def size(data):
        return len(data)

    counted = CountedReads(monkeypatch)
    remote.submit(bytes, 300_000, pure=False).result()
    assert counted.read > 300_000, "it sees what is read"
    before = counted.read, sent.sent
    assert front(made, size)(DaskExecutor(client=remote)) == [1_000_000] * 16
    assert max(counted.read - before[0], sent.sent - before[1]) < 500_000


@pytest.mark.parametrize("batch", [None, "auto"])
def test_body_goes_once_however_many_children(remote, sent, batch):
    ballast = os.urandom(100_000)

    def body(x):
        return x + len(ballast)

    with Flow("ballast") as flow:
        children = task(body, batch_size=batch).map(range(1000))
    state = flow.run(executor=DaskExecutor(client=remote))
    assert state.result[children].result == [x + 100_000 for x in range(1000)]
    assert 100_000 < sent.sent < 1_000_000
    assert sent.sent < 100_000 + 1000 * 600, "each child costs more than its key and its index"


def test_unmapped_argument_goes_once_however_many_children(remote, sent):
    ballast = [os.urandom(1000) for _ in range(3000)]

    @task
    def use(x, b):
        return x + len(b)

    with Flow("unmapped") as flow:
        children = use.map(range(500), b=unmapped(ballast))
    state = flow.run(executor=DaskExecutor(client=remote))
    assert state.result[children].result == [x + 3000 for x in range(500)]
    assert 3_000_000 < sent.sent < 4_000_000


@pytest.mark.parametrize("kind", ["array", "bytes", "list"])
@pytest.mark.parametrize("parameter", [False, True], ids=["constant", "parameter"])
def test_p10_large_argument_goes_once_and_a_warning_names_the_task(remote, sent, caplog, kind, parameter):
    if kind == "array":
        large = pytest.importorskip("numpy").zeros(5_000_000)
    else:
        large = b"x" * 40_000_000 if kind == "bytes" else [b"x" * 40_000_000]

    @task
    def use(x, y):
        return x + len(y)

    with Flow("p10") as flow:
        children = use.map(range(20), y=unmapped(Parameter("large") if parameter else large))
    given = {"large": large} if parameter else {}
    state = flow.run(executor=DaskExecutor(client=remote), parameters=given)
    assert state.result[children].result == [x + len(large) for x in range(20)]
    # A parameter goes once more, with the facts of the run that a body finds in its context.
    assert 40_000_000 < sent.sent < (90_000_000 if parameter else 50_000_000)
    told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert [line for line in told if line.startswith("argument 'y' of use has 40.0 MB")], told


def test_small_argument_is_not_warned_of(remote, caplog):
    @task
    def use(x, y):
        return len(y)

    with Flow("small") as flow:
        use.map(range(3), y=unmapped(b"x" * 900_000))
    flow.run(executor=DaskExecutor(client=remote))
    assert [r for r in caplog.records if r.levelname == "WARNING"] == []


# ---------------------------------------------------------------------- the window


def tasks_on(client):
    return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


@pytest.mark.parametrize("number", [3_000, pytest.param(20_000, marks=pytest.mark.fault)])
def test_l1_scheduler_holds_no_more_than_the_window(dask_client, number):
    most = []
    with Flow("window") as flow:
        children = inc.map(range(number))
        out = total(children)
    ended = threading.Event()

    def sample():
        while not ended.wait(0.1):
            most.append(tasks_on(dask_client))

    with meanwhile(sample):
        state = flow.run(executor=DaskExecutor(client=dask_client, max_branches=500))
        ended.set()
    assert state.result[out].result == sum(range(1, number + 1))
    assert len(most) > 5
    assert max(most) <= 500 + 250 + 10, "keys that are being read are not forgotten yet"


def test_futures_are_let_go_with_one_message_and_who_shares_a_key_keeps_it(dask_client, monkeypatch):
    from distributed import Future, wait

    from prefectish.executors.dask_api import release

    def keys():
        return dask_client.run_on_scheduler(lambda dask_scheduler: set(dask_scheduler.tasks))

    told = []
    send = dask_client._send_to_scheduler_safe
    monkeypatch.setattr(
        dask_client, "_send_to_scheduler_safe", lambda message: (told.append(message["op"]), send(message))
    )
    futures = dask_client.map(str, range(20), pure=False)
    shared = Future(futures[0].key, dask_client)
    wait(futures)
    release(dask_client, futures)
    release(dask_client, futures)  # there is nothing left to let go
    del futures
    until(lambda: keys() == {shared.key})
    assert told.count("client-releases-keys") == 1
    assert shared.result() == "0"


def test_never_more_branches_are_open_than_the_window(dask_client, tmp_path):
    """An iterator shows how far the owner is ahead of what has ended."""
    path = tmp_path / "notes"
    ahead = []

    def items():
        for x in range(300):
            ahead.append(x - len(notes(path)))
            yield x

    @task
    def work(x):
        note(path, x)
        return x

    with Flow("iterator") as flow:
        children = work.map(items())
    state = flow.run(executor=DaskExecutor(client=dask_client, max_branches=10))
    assert state.result[children].result == list(range(300))
    assert max(ahead) <= 10


def test_endless_iterator_is_pulled_on_demand(dask_client):
    pulled = []

    def items():
        n = 0
        while True:
            pulled.append(n)
            yield n
            n += 1

    @task(on_child_failure="stop")
    def work(x):
        if x == 100:
            raise ValueError("enough")
        return x

    with Flow("endless") as flow:
        children = work.map(items())
    state = flow.run(executor=DaskExecutor(client=dask_client, max_branches=20))
    mapped = state.result[children]
    assert [s.result for s in mapped.map_states[:100]] == list(range(100))
    assert kinds(mapped)["Failed"] == 1
    assert len(pulled) <= 100 + 2 * 20 + 250


# ---------------------------------------------------------------------- what starts when


def test_flattened_children_start_while_their_map_continues(dask_client, tmp_path):
    """The last item of the first map waits for a note of a child of the first item."""
    path = tmp_path / "notes"

    @task
    def parts(x):
        if x == 3:
            until(lambda: notes(path))
        return [10 * x, 10 * x + 1]

    @task
    def use(y):
        note(path, y)
        return y

    with Flow("streaming") as flow:
        out = use.map(flatten(parts.map(range(4))))
    state = flow.run(executor=DaskExecutor(client=dask_client))
    assert state.result[out].result == [0, 1, 10, 11, 20, 21, 30, 31]


def test_third_step_of_a_branch_starts_while_first_steps_wait(dask_client, tmp_path):
    path = tmp_path / "notes"

    @task
    def first(x):
        spend(0.02)
        note(path, "first")
        return x

    @task
    def third(x):
        note(path, "third")
        return x

    with Flow("depth") as flow:
        third.map(inc.map(first.map(range(200))))
    assert flow.run(executor=DaskExecutor(client=dask_client)).is_successful()
    assert notes(path).index("third") < 20


def test_step_that_reads_two_maps_waits_for_its_own_rows_only(dask_client, tmp_path):
    path, gate = tmp_path / "notes", tmp_path / "gate"

    @task
    def left(x):
        return x

    @task
    def right(x):
        if x == 9:
            wait_for_file(gate)
        return 10 * x

    @task
    def both(a, b):
        note(path, a)
        return a + b

    def open_gate():
        until(lambda: len(notes(path)) == 9)
        gate.touch()

    with Flow("diamond") as flow:
        out = both.map(left.map(range(10)), right.map(range(10)))
    with meanwhile(open_gate):
        state = flow.run(executor=DaskExecutor(client=dask_client))
    assert state.result[out].result == [11 * x for x in range(10)]


# ---------------------------------------------------------------------- fan-in


@pytest.mark.fault
def test_l7_reduction_over_a_hundred_thousand_children(dask_client):
    number = 100_000

    @task
    def are_in_order(xs):
        return xs == list(range(1, number + 1))

    with Flow("wide") as flow:
        out = are_in_order(inc.copy(batch_size="auto").map(range(number)))
    state = flow.run(executor=DaskExecutor(client=dask_client))
    assert state.result[out].result is True


def test_reduction_gets_its_list_in_map_order_whatever_ended_first(dask):
    @task
    def work(x):
        spend(0.3 if x < 4 else 0)
        return x

    @task
    def same(xs):
        return list(xs)

    with Flow("order") as flow:
        out = same(work.map(range(60)))
    assert flow.run(executor=dask).result[out].result == list(range(60))


def test_reduction_over_an_empty_map_gets_an_empty_list(dask):
    @task
    def nothing():
        return []

    @task
    def same(xs):
        return xs

    with Flow("empty") as flow:
        here = same(inc.map([]))
        there = same.copy(name="there")(inc.copy(name="other").map(nothing()))
    state = flow.run(executor=dask)
    assert (state.result[here].result, state.result[there].result) == ([], [])


def test_reduction_over_large_results_does_not_bring_them_to_the_client(remote, monkeypatch):
    from distributed.comm import tcp

    read = []
    original = tcp.TCP.read

    async def reading(comm, deserializers=None):
        return await original(comm, deserializers)

    monkeypatch.setattr(tcp.TCP, "read", reading)

    @task
    def make(x):
        return [bytes([x]) * 1_000_000]

    @task
    def weigh(values):
        return sum(len(value[0]) for value in values)

    before = psutil.Process().memory_info().rss
    with Flow("large") as flow:
        out = weigh(make.map(range(50)))
    state = flow.run(executor=DaskExecutor(client=remote))
    assert state.result[out].result == 50_000_000
    assert psutil.Process().memory_info().rss - before < 20_000_000
    assert read == []


# ---------------------------------------------------------------------- arrays


def test_arrays_of_one_task_are_mapped_over_without_the_client(remote):
    """64 arrays of 8 MB, made by one task: the client asks how many there are, and no more."""
    numpy = pytest.importorskip("numpy")

    @task
    def make():
        return [numpy.full(1_000_000, float(n)) for n in range(64)]

    @task
    def mean(a):
        return float(a.mean())

    with Flow("arrays") as flow:
        means = mean.map(make())
    process = psutil.Process()
    before = process.memory_info().rss
    state = flow.run(executor=DaskExecutor(client=remote))
    grown = process.memory_info().rss - before
    assert state.result[means].result == [float(n) for n in range(64)]
    assert grown < 20_000_000


@pytest.mark.parametrize("batch", [None, 2])
def test_arrays_arrive_as_they_were_and_where_they_came_from_is_untouched(dask, batch):
    numpy = pytest.importorskip("numpy")

    @task(batch_size=batch)
    def make(n):
        return numpy.arange(100_000.0) + n

    @task
    def change(a):
        ours = a if a.flags.writeable else a.copy()
        ours[0] = -1.0
        return float(ours.sum())

    @task
    def first(a):
        return float(a[1])

    with Flow("values") as flow:
        made = make.map(range(6))
        changed = change.map(made)
        read = first.map(made)
    state = flow.run(executor=dask, keep_results=True)
    base = float(sum(range(100_000)))
    assert state.result[changed].result == [base + 100_000 * n - n - 1 for n in range(6)]
    assert state.result[read].result == [1.0 + n for n in range(6)]
    array = state.result[made].map_states[2].result
    assert isinstance(array, numpy.ndarray)
    assert (array[1], array.shape) == (3.0, (100_000,))


def test_live_value_is_reused_on_its_worker(dask_client):
    """A branch stays on its worker, where a later step gets the very object that the earlier one returned."""

    class Heavy:
        loaded = 0

        def __init__(self, n):
            self.n = n
            self.filling = b"x" * 50_000

        def __setstate__(self, state):
            type(self).loaded += 1
            self.__dict__.update(state)

    @task
    def make(n):
        return Heavy(n)

    @task
    def loads(heavy):
        return type(heavy).loaded

    with Flow("live") as flow:
        out = loads.map(make.map(range(10)))
    state = flow.run(executor=DaskExecutor(client=dask_client))
    assert state.result[out].result == [0] * 10


def test_messages_that_were_sent_are_not_kept_by_the_log_of_dask(dask_client):
    from prefectish.executors.dask_api import MESSAGES_KEPT

    with Flow("messages") as flow:
        task(abs).map(range(3000))
    assert flow.run(executor=DaskExecutor(client=dask_client, max_branches=100)).is_successful()
    assert len(dask_client.scheduler_comm.recent_message_log) < 2 * MESSAGES_KEPT
