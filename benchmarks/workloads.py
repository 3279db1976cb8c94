"""What is measured: bodies, the flows made of them, and the same work typed in raw Dask.

Workers import the bodies from here, by name, for prefectish and for raw Dask alike.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from prefectish import Flow, Task, flow, task, unmapped
from prefectish.executors import DaskExecutor, LocalDaskExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distributed import Client

    from prefectish.engine.jobs.protocol import Executor
    from prefectish.engine.state import State


def increment(x: int) -> int:
    """Take no time."""
    return x + 1


def double(x: int) -> int:
    """Take no time either."""
    return 2 * x


def add(x: int, y: int) -> int:
    """Take no time for two."""
    return x + y


def total(numbers: Sequence[int]) -> int:
    """Take all there is."""
    return sum(numbers)


def make_arrays(count: int, mebibytes: int) -> list[Any]:
    """Return arrays of so many MiB, all with the value of their index."""
    import numpy as np

    return [np.full(mebibytes << 17, float(i)) for i in range(count)]


def mean(array: Any) -> float:
    """Read a whole array."""
    return float(array.mean())


def mean_of(arrays: Sequence[Any], index: int) -> float:
    """Read one of several arrays."""
    return mean(arrays[index])


def stamp(x: int) -> float:
    """Return the time now."""
    return time.time()


def stamp_after(seconds: float) -> float:
    """Work for so many seconds and return the time then."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return time.time()


def pause(seconds: float) -> float:
    """Take time, and no processor."""
    time.sleep(seconds)
    return seconds


def fail_first(index: int, seconds: float, every: int) -> int:
    """Take time; fail at the first attempt of every so manieth child."""
    from prefectish import context

    time.sleep(seconds)
    if index % every == 0 and context.task_run_count == 1:
        raise ConnectionError(f"child {index} is told to come back")
    return index


# -- flows -------------------------------------------------------------------------------------------------------------


def mapped(width: int, **options: Any) -> tuple[Flow, Task]:
    """Return a flow of one map over so many numbers, and its task."""
    with Flow("mapped") as flow:
        children = task(increment, **options).map(range(width))
    return flow, children


def pipeline(width: int, **options: Any) -> tuple[Flow, Task]:
    """Return a flow of three maps and a sum, and the sum."""
    with Flow("pipeline") as flow:
        first = task(increment, name="first", **options).map(range(width))
        second = task(double, name="second", **options).map(first)
        third = task(increment, name="third", **options).map(second)
        result = task(total)(third)
    return flow, result


def summed(width: int) -> tuple[Flow, Task]:
    """Return a flow of a map and a sum, and the sum."""
    with Flow("summed") as flow:
        result = task(total)(task(increment).map(range(width)))
    return flow, result


#: Calls in a chain.
CHAIN = 10


def run_chains(executor: Executor, count: int) -> None:
    """Run chains of calls side by side, without a map."""
    called = task(increment)
    with Flow("chains") as flow:
        ends = [_chained(called, x) for x in range(count)]
    state = succeed(flow, executor)
    check([state.result[end].result for end in ends], [x + CHAIN for x in range(count)])


def _chained(call: Callable[[Any], Any], x: int) -> Any:
    last: Any = x
    for _ in range(CHAIN):
        last = call(last)
    return last


def retried(width: int, seconds: float, every: int, delay: float) -> Flow:
    """Return a flow of sleeping children, of which every so manieth comes back once, `delay` seconds later."""
    with Flow("retried") as flow:
        task(fail_first, max_retries=1, retry_delay=timedelta(seconds=delay)).map(
            range(width), seconds=unmapped(seconds), every=unmapped(every)
        )
    return flow


def succeed(flow: Flow, executor: Executor | None = None, **options: Any) -> State:
    """Run a flow that has to succeed."""
    state = flow.run(executor=executor, history=False, **options)
    if not state.is_successful():
        raise AssertionError(f"{flow.name} did not succeed: {state!r}")
    return state


def run_mapped(client: Client, width: int, **options: Any) -> None:
    """Map on a cluster."""
    flow, children = mapped(width, **options)
    result = succeed(flow, DaskExecutor(client=client)).result[children].result
    check(result[-1], width)


def run_pipeline(client: Client, width: int, **options: Any) -> None:
    """Run three maps and a sum on a cluster."""
    flow, result = pipeline(width, **options)
    check(succeed(flow, DaskExecutor(client=client)).result[result].result, pipeline_answer(width))


def pipeline_answer(width: int) -> int:
    """Return what the pipeline adds up to."""
    return width * (width + 1) + width


def check(found: Any, expected: Any) -> None:
    """Compare a result with what it has to be: a quick wrong answer is none."""
    if found != expected:
        raise AssertionError(f"wrong answer: {found!r} instead of {expected!r}")


# -- flow functions ----------------------------------------------------------------------------------------------------


def submit_all(executor: Executor, width: int) -> int:
    """Submit so many calls in a flow function, and add up their results."""
    called = task(increment)

    @flow(executor=executor, history=False)
    def submitted() -> int:
        futures = [called.submit(x) for x in range(width)]
        return sum(future.result() for future in futures)

    return submitted()


def call_in_turn(width: int) -> int:
    """Call a task so many times in a flow function on threads, each call after the one before."""
    called = task(increment)

    @flow(executor=LocalDaskExecutor(num_workers=2), history=False)
    def calls() -> int:
        return sum(called(x) for x in range(width))

    return calls()


def chain_of(executor: Executor, length: int) -> int:
    """Submit so many calls, each of which reads the one before."""
    called = task(increment)

    @flow(executor=executor, history=False)
    def chained() -> int:
        last = called.submit(0)
        for _ in range(length - 1):
            last = called.submit(last)
        return last.result()

    return chained()


def tree_of(executor: Executor, leaves: int) -> int:
    """Submit a call for each leaf, and calls that add up two of those before until one is left."""
    called, added = task(increment), task(add)

    @flow(executor=executor, history=False)
    def reduced() -> int:
        level = [called.submit(x) for x in range(leaves)]
        while len(level) > 1:
            level = _halved(level, added.submit)
        return level[0].result()

    return reduced()


def _halved(level: Sequence[Any], pair: Callable[[Any, Any], Any]) -> list[Any]:
    """Return what pairs make, and the last one if it has no other."""
    odd = [level[-1]] if len(level) % 2 else []
    return [*map(pair, level[:-1:2], level[1::2]), *odd]


def map_in_function(executor: Executor, width: int, **options: Any) -> int:
    """Map in a flow function."""
    called = task(increment, **options)

    @flow(executor=executor, history=False)
    def mapped_there() -> int:
        return called.map(range(width)).result()[-1]

    return mapped_there()


# -- the same in raw Dask ----------------------------------------------------------------------------------------------


def raw_mapped(client: Client, width: int) -> None:
    """Map with ``client.map`` and gather."""
    result = client.gather(client.map(increment, range(width), pure=False))
    check(result[-1], width)


def raw_pipeline(client: Client, width: int) -> None:
    """Run three ``client.map`` and a ``client.submit``."""
    first = client.map(increment, range(width), pure=False)
    second = client.map(double, first, pure=False)
    third = client.map(increment, second, pure=False)
    check(client.submit(total, third, pure=False).result(), pipeline_answer(width))


def raw_submitted(client: Client, width: int) -> None:
    """Submit calls in a loop and gather."""
    futures = [client.submit(increment, x, pure=False) for x in range(width)]
    check(sum(client.gather(futures)), width * (width + 1) // 2)


def raw_chain(client: Client, length: int) -> None:
    """Submit calls, each of which reads the one before."""
    last = client.submit(increment, 0, pure=False)
    for _ in range(length - 1):
        last = client.submit(increment, last, pure=False)
    check(last.result(), length)


def raw_tree(client: Client, leaves: int) -> None:
    """Submit a call for each leaf, and calls that add up two of those before until one is left."""
    level = [client.submit(increment, x, pure=False) for x in range(leaves)]
    while len(level) > 1:
        level = _halved(level, lambda a, b: client.submit(add, a, b, pure=False))
    check(level[0].result(), leaves * (leaves + 1) // 2)


def delayed_chains(count: int) -> list[Any]:
    """Return the ends of the same chains by ``dask.delayed``."""
    import dask

    call = dask.delayed(increment)
    return [_chained(call, x) for x in range(count)]


def raw_chains(client: Client, count: int) -> None:
    """Compute chains of calls."""
    check(client.gather(client.compute(delayed_chains(count))), [x + CHAIN for x in range(count)])


def run_submitted(client: Client, width: int) -> None:
    """Submit calls in a flow function, and read each result."""
    check(submit_all(DaskExecutor(client=client), width), width * (width + 1) // 2)


#: What can be run on a cluster, by name.
ARMS: dict[str, Callable[[Client, int], None]] = {
    "dask": raw_mapped,
    "prefectish": run_mapped,
    "prefectish, batched": lambda client, width: run_mapped(client, width, batch_size="auto"),
    "dask submit": raw_submitted,
    "prefectish submit": run_submitted,
    "dask chain": raw_chain,
    "prefectish chain": lambda client, length: check(chain_of(DaskExecutor(client=client), length), length),
    "dask chains": raw_chains,
    "prefectish chains": lambda client, count: run_chains(DaskExecutor(client=client), count),
    "dask tree": raw_tree,
    "prefectish tree": lambda client, leaves: check(
        tree_of(DaskExecutor(client=client), leaves), leaves * (leaves + 1) // 2
    ),
    "prefectish @flow": lambda client, width: check(map_in_function(DaskExecutor(client=client), width), width),
    "prefectish @flow, batched": lambda client, width: check(
        map_in_function(DaskExecutor(client=client), width, batch_size="auto"), width
    ),
    "dask pipeline": raw_pipeline,
    "prefectish pipeline": run_pipeline,
    "prefectish pipeline, batched": lambda client, width: run_pipeline(client, width, batch_size="auto"),
}
