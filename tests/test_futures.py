"""Futures of flow functions on every executor: their identity, states in their place, and where they may be read."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import contextmanager

import pytest
from bodies import inc, inverse

from prefectish import allow_failure, as_completed, flow, task, wait
from prefectish.engine.state import Cancelled, Failed, Success, TriggerFailed
from prefectish.errors import PrefectishError
from prefectish.executors import LocalDaskExecutor
from prefectish.results import LocalResult


def run_with(executor, function, *args):
    return flow(function, executor=executor, history=False)(*args)


def kinds(states):
    return [type(state) for state in states]


def test_e3_child_has_one_future_that_is_equal_and_a_key(executor):
    def keys():
        futures = inc.map(range(4))
        numbers = dict(zip(futures, range(4), strict=True))
        results = {numbers[future]: future.result() for future in as_completed(futures)}
        done, not_done = wait(futures)
        assert futures[1] is futures[1]
        assert all(future in done for future in futures)
        assert list(futures).index(futures[2]) == 2
        assert len({*futures, *futures}) == 4
        return results, len(not_done)

    assert run_with(executor, keys) == ({0: 1, 1: 2, 2: 3, 3: 4}, 0)


def test_e3_futures_of_children_are_kept_weakly():
    @flow(history=False)
    def drops():
        futures = inc.map(range(3))
        futures.wait()
        held = weakref.ref(futures[0])
        gc.collect()
        return held()

    assert drops() is None


def test_e3_large_result_of_a_child_can_be_read_again_once_a_future_of_it_is_gone(executor):
    @task
    def large(x):
        return bytes([x]) * 200_000

    def reads():
        mapped = large.map([1, 2, 3])
        first = len(mapped[0].result())  # the future of the child goes at once
        gc.collect()
        alone = [future for future in large.map([4])]  # the future of the map goes at once
        gc.collect()
        return first, [len(value) for value in mapped.result()], [len(future.result()) for future in alone]

    assert run_with(executor, reads) == (200_000, [200_000] * 3, [200_000])


def test_f12_mr3_return_state_gives_states_in_place_of_futures(executor):
    def states():
        failed = inverse.submit(0)
        return (
            inc.submit(1, return_state=True),
            inverse.submit(0, return_state=True),
            inc.map([1, 2], return_state=True),
            inverse.map([1, 0], return_state=True),
            inc.map(failed, return_state=True),
        )

    good, failed, both, one, none = run_with(executor, states)
    assert (good.result, type(failed)) == (2, Failed)
    assert [state.result for state in both] == [2, 3]
    assert kinds(one) == [Success, Failed]
    assert kinds(none) == [Failed]


def test_mr12_as_completed_takes_more_futures_and_gives_results(executor):
    def grows():
        ended = as_completed([inc.map([1, 2]), inc.submit(7)], with_results=True)
        found = []
        for future, result in ended:
            assert future.done()
            found.append(result)
            if result == 8:
                ended.add(inc.submit(100))
                ended.update([inc.submit(200), *inc.map([300])])
                ended.update(inc.map([400]))
        return sorted(found)

    assert run_with(executor, grows) == [2, 3, 8, 101, 201, 301, 401]


def test_mr12_as_completed_with_results_raises_what_failed():
    @flow(history=False)
    def reads():
        return list(as_completed(inverse.map([0]), with_results=True))

    with pytest.raises(ZeroDivisionError):
        reads()


def test_mr12_as_completed_refuses_what_is_no_future():
    @flow(history=False)
    def reads():
        as_completed([3])

    with pytest.raises(TypeError, match="as_completed takes futures, got 3"):
        reads()


def test_e5_future_read_in_a_body_of_its_run_is_refused_on_every_executor(executor):
    """What a closure brings into a body: refused where it is read, or where the task is pickled."""

    def reads():
        first, several = inc.submit(1), inc.map([1, 2])

        def refused(read):
            @task
            def closes_over(x):
                return read()

            with pytest.raises(PrefectishError, match=r"pass .* as an argument"):
                closes_over.submit(1).result()
            with pytest.raises(PrefectishError, match=r"pass .* as an argument"):
                closes_over.map([1]).result()
            with pytest.raises(PrefectishError, match=r"pass .* as an argument"):
                closes_over(1)

        refused(lambda: first.result())
        refused(lambda: first.wait())
        refused(lambda: several.result())
        refused(lambda: list(as_completed(several)))
        return first.result()

    assert run_with(executor, reads) == 2


def test_e5_flow_in_a_body_reads_its_own_futures_and_not_those_around_it(executor, in_process):
    def outer():
        first = inc.submit(1)

        @task
        def nested(x):
            @flow(executor=None, history=False)
            def inner():
                own = inc.submit(x).result()
                if in_process:
                    with pytest.raises(PrefectishError, match="pass the future as an argument"):
                        outside[0].result()
                return own

            return inner()

        outside = [first] if in_process else []
        return nested(3)

    assert run_with(executor, outer) == 4


def test_e13_wait_for_takes_states_and_failures_that_are_allowed(executor):
    def waits():
        failed, good = inverse(0, return_state=True), inc(1, return_state=True)
        future = inverse.submit(0)
        return [
            *(inc.submit(1, wait_for=w, return_state=True) for w in ([good], good, [failed], failed)),
            *(inc.submit(1, wait_for=[allow_failure(w)], return_state=True) for w in (failed, future, [future])),
            *inc.map([1], wait_for=[good], return_state=True),
            *inc.map([1], wait_for=[failed], return_state=True),
            *inc.map([1], wait_for=[allow_failure([future])], return_state=True),
        ]

    none, ran = TriggerFailed, Success
    assert kinds(run_with(executor, waits)) == [ran, ran, none, none, ran, ran, ran, ran, none, ran]


def test_e13_maps_add_up_to_lists(executor):
    def adds():
        one, two = inc.map([1]), inc.map([2, 3])
        return [future.result() for future in one + two], len(list(two) + one)

    assert run_with(executor, adds) == ([2, 3, 4], 3)


def test_states_as_arguments_are_their_results(executor):
    @task
    def show(x):
        return x

    def passes():
        good, bad = inc(1, return_state=True), inverse(0, return_state=True)
        never = show.submit(bad)
        return (
            show(good),
            show([good, {"k": good}]),
            show.map([good, 5]).result(),
            never.wait() and type(never.state),
            type(show(bad, allow_failure=True)),
            type(show(allow_failure(bad))),
        )

    expected = 2, [2, {"k": 2}], [2, 5], TriggerFailed, ZeroDivisionError, ZeroDivisionError
    assert run_with(executor, passes) == expected


def test_calls_with_other_states_are_other_calls_when_a_run_is_resumed(tmp_path):
    ran = []

    @task
    def show(x):
        ran.append(x)
        return x

    @flow(history=str(tmp_path / "history.db"), result=LocalResult(str(tmp_path)))
    def passes(numbers):
        return [show(inc(n, return_state=True)) for n in numbers]

    run_id = passes.run(numbers=[1, 2]).context["flow_run_id"]
    assert passes.resume(run_id, numbers=[2, 3, 1]).result == [3, 4, 2]
    assert ran == [2, 3, 4]


class Breaks(LocalDaskExecutor):
    """An executor that fails when it is given a job of a certain task; other bodies run until then."""

    broken = threading.Event()

    @contextmanager
    def start(self, plan, run):
        with super().start(plan, run) as session:
            submit = session.submit

            def breaks(jobs):
                if any(job.chain.steps[0].slug == "inverse-1" for job in jobs):
                    self.broken.set()
                    raise OSError("broken")
                submit(jobs)

            session.submit = breaks
            yield session


def test_child_of_a_run_that_broke_off_is_not_waited_for_for_ever():
    waited = []

    @task
    def hold(x):
        assert Breaks.broken.wait(20)

    @flow(executor=Breaks(num_workers=1), history=False)
    def broken():
        held = hold.map([1, 2, 3])
        last, middle = held[2], held[1]
        inverse.submit(1)
        waited.extend([last.wait(20), type(last.state), middle.wait(20)])

    with pytest.raises(OSError, match="broken"):
        broken()
    assert waited == [True, Cancelled, True]
