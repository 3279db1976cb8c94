"""Flows as functions, on every executor: what calls, submit and map give, and that both front ends end alike."""

from __future__ import annotations

import os
import threading

import pytest
from bodies import inc, inverse, skip_odd, total
from real import spend

from prefectish import (
    Flow,
    allow_failure,
    as_completed,
    context,
    flatten,
    flow,
    mapped,
    tags,
    task,
    triggers,
    unmapped,
    wait,
)
from prefectish.engine import signals
from prefectish.engine.state import (
    Cached,
    Cancelled,
    Failed,
    Mapped,
    Retrying,
    Running,
    Skipped,
    State,
    Success,
    TimedOut,
    TriggerFailed,
)
from prefectish.errors import FlowDefinitionError, ParameterError, PrefectishError, TaskRunFailed
from prefectish.tasks import task_input_hash


@task
def add(x, y=1):
    return x + y


@task
def twice(x):
    return [x, x]


@task
def repeat(x, times):
    return bytes([x]) * times


@task
def sizes(parts):
    return [len(part) for part in parts]


@task
def values(parts):
    return sorted(parts.items())


@task
def boom():
    raise ValueError("boom")


@task(trigger=triggers.all_finished)
def finish(x):
    return "ended"


@task
def where():
    return context.map_index, context.task_full_name, context.flow_name


def run_with(executor, function, *args, **options):
    """Call a function as a flow on an executor."""
    return flow(function, executor=executor, history=False, **options)(*args)


# ---------------------------------------------------------------------- calls, submit, map


def test_call_runs_and_returns(executor):
    def doubles():
        return [inc(1), add(inc(2), y=10)]

    assert run_with(executor, doubles) == [2, 13]


def test_submit_passes_futures_at_any_depth(executor):
    def nested():
        one, two = inc.submit(0), inc.submit(1)
        large = repeat.submit(1, 100_000)
        return (
            add.submit(one, y=two).result(),
            total.submit([one, two, add.submit(one)]).result(),
            sizes.submit([large, b"abc"]).result(),
            values.submit({"a": one, "b": [two][0]}).result(),
            total.submit((one, 5)).result(),
            len(large.result()),
        )

    assert run_with(executor, nested) == (3, 5, [100_000, 3], [("a", 1), ("b", 2)], 6, 100_000)


def test_map_gives_results_in_map_order(executor):
    def maps(n):
        first = inc.map(range(n))
        second = add.map(first, y=unmapped(inc.submit(9)))
        return (
            len(first),
            second.result(),
            total.submit(second).result(),
            [f.result() for f in second[1:3]],
            first[-1].result(),
        )

    assert run_with(executor, maps, 5) == (5, [11, 12, 13, 14, 15], 65, [12, 13], 5)


def test_map_takes_futures_as_items_flattens_and_large_results(executor):
    def maps():
        items = inc.map([inc.submit(0), 5, inc.submit(1)])
        return (
            items.result(),
            inc.map(flatten(twice.map([1, 2]))).result(),
            sizes.submit(repeat.map([1, 2], times=unmapped(50_000))).result(),
            inc.map([]).result(),
            inc.map(twice.submit(3)).result(),
            add.map([1, 2], y=unmapped(inc.submit(1))).result(),
        )

    assert run_with(executor, maps) == ([2, 6, 3], [2, 2, 3, 3], [50_000, 50_000], [], [4, 4], [3, 4])


def test_failed_child_leaves_its_siblings_and_says_why(executor):
    def partly():
        found = inverse.map([1, 0, 2])
        after = inc.map(found)
        with pytest.raises(ZeroDivisionError):
            found.result()
        kept = found.result(raise_on_failure=False)
        with pytest.raises(
            TaskRunFailed, match=r"inc\[1\].*TriggerFailed.*First cause: inverse\[1\] is Failed: ZeroDivisionError"
        ) as why:
            after[1].result()
        assert isinstance(why.value.__cause__, ZeroDivisionError)
        with pytest.raises(TaskRunFailed, match=r"First cause: inverse\[1\] is Failed: ZeroDivisionError") as of_all:
            total(after)
        assert isinstance(of_all.value.__cause__, ZeroDivisionError)
        return [type(f.state) for f in _ended(after)], kept[0], type(kept[1]), kept[2], after[2].result()

    states, *rest = run_with(executor, partly)
    assert states == [Success, TriggerFailed, Success]
    assert rest == [1.0, ZeroDivisionError, 0.5, 1.5]


def test_wait_for_orders_and_keeps_from_starting(executor, tmp_path):
    @task
    def note(name, fails=False):
        with open(tmp_path / "order", "a") as file:
            file.write(f"{name}\n")
        if fails:
            raise OSError(name)
        return name

    def ordered():
        first = [note.submit(f"first-{i}") for i in range(3)]
        last = note.submit("last", wait_for=first)
        last.wait()
        broken = note.submit("broken", True)
        never = note.submit("never", wait_for=[broken])
        after_all = note.submit("after all", wait_for=[broken, never], allow_failure=True)
        with pytest.raises(TaskRunFailed) as why:
            never.result()
        cause = why.value.__cause__
        return type(never.state), after_all.result(), type(cause), str(cause)

    assert run_with(executor, ordered) == (TriggerFailed, "after all", OSError, "broken")
    order = (tmp_path / "order").read_text().split("\n")
    assert sorted(order[:3]) == ["first-0", "first-1", "first-2"]
    assert order[3] == "last"
    assert "never" not in order


def test_wait_for_a_map_and_item_by_item(executor):
    def waits():
        found = inverse.map([1, 0])
        whole = inc.submit(1, wait_for=found)
        each = inc.map([1, 2], wait_for=[mapped(found)])
        rest = inc.map([1, 2], wait_for=[found])
        return (
            type(whole.state if whole.wait() else None),
            [type(f.state) for f in _ended(each)],
            {type(f.state) for f in _ended(rest)},
        )

    assert run_with(executor, waits) == (TriggerFailed, [Success, TriggerFailed], {TriggerFailed})


def _ended(futures):
    futures.wait()
    return futures


def test_states_instead_of_exceptions(executor):
    @task(return_state=True)
    def quiet():
        raise ValueError("quiet")

    def states():
        return [
            quiet(),
            boom(return_state=True),
            boom(allow_failure=True),
            inc(1, return_state=True),
            inc(1, allow_failure=True),
        ]

    first, second, third, fourth, fifth = run_with(executor, states, validate_parameters=False)
    assert [type(s) for s in (first, second, third, fourth)] == [Failed, Failed, Failed, Success]
    assert fifth == 2
    assert "quiet" in first.message


def test_allow_failure_hands_over_the_exception(executor):
    def allows():
        broken = boom.submit()
        shown = named.submit(allow_failure(broken))
        return shown.result()

    @task
    def named(error):
        return type(error).__name__

    assert run_with(executor, allows) == "ValueError"


def test_triggers_see_as_many_states_as_there_are(executor):
    def count():
        parts = [inc.submit(1), inc.submit(2), boom.submit()]
        return counted.submit(1, wait_for=parts).result()

    @task(trigger=triggers.some_failed(at_least=1, at_most=1))
    def counted(x):
        return "one failed"

    assert run_with(executor, count) == "one failed"


def test_retries_and_skips(executor, tmp_path):
    @task(retries=2, retry_delay_seconds=[0.01, 0.02])
    def unsteady(name):
        tries = len([p for p in os.listdir(tmp_path) if p.startswith(name)])
        (tmp_path / f"{name}-{tries}").touch()
        if tries < 2:
            raise OSError(name)
        return tries

    def flaky():
        called = unsteady("a")
        submitted = unsteady.submit("b").result()
        children = unsteady.map(["c", "d"]).result()
        skipped = inc.map(skip_odd.map([1, 2]))
        skipped.wait()
        return (
            called,
            submitted,
            children,
            [type(f.state) for f in skipped],
            skip_odd(3),
            skip_odd(3, return_state=True),
        )

    *found, state = run_with(executor, flaky)
    assert found[:4] == [2, 2, [2, 2], [Skipped, Success]]
    assert isinstance(found[4], signals.SKIP)  # what the signal carries, as for a task that reads it
    assert isinstance(state, Skipped)


def test_context_in_a_body(executor):
    def told():
        return where(), where.submit().result()

    direct, submitted = run_with(executor, told)
    assert direct == submitted == (None, "where", "told")


def test_as_completed_and_wait(executor):
    def waits():
        calls = [inc.submit(i) for i in range(5)]
        ended = sorted(f.result() for f in as_completed(calls))
        children = sorted(f.result() for f in as_completed(inc.map(range(20))))
        done, not_done = wait(calls)
        return ended, children, len(done), len(not_done)

    assert run_with(executor, waits) == ([1, 2, 3, 4, 5], list(range(1, 21)), 5, 0)


def test_flow_inside_a_flow_and_inside_a_task(executor):
    @flow(history=False)
    def inner(x):
        return inc.submit(x).result() + total(inc.map([1, 2]).result())

    @task
    def in_a_task(x):
        return inner(x)

    def outer():
        return inner(1), in_a_task(2), in_a_task.map([1, 2]).result()

    assert run_with(executor, outer) == (7, 8, [7, 8])


def test_recorded_flow_inside_a_flow_function(executor):
    def outer():
        with Flow("recorded") as recorded:
            made = inc.map([inc(1), 2])
        state = recorded.run(history=False)
        return state.result[made].result, inc(1)

    assert run_with(executor, outer) == ([3, 3], 2)


def test_coroutine_functions(executor):
    @task
    async def soon(x):
        import asyncio

        await asyncio.sleep(0)
        return x + 1

    def plain():
        return soon(1), soon.submit(2).result(), soon.map([1, 2]).result()

    async def asynchronous():
        import asyncio

        one = await soon(1)
        two = await soon.submit(one)
        many = await asyncio.gather(*[soon(i) for i in range(3)])
        with pytest.raises(ValueError, match="boom"):
            await boom.submit()
        return one, two, many, inc(1), await soon.map([5, 6])

    import asyncio

    assert run_with(executor, plain) == (2, 3, [2, 3])
    assert asyncio.run(run_with(executor, asynchronous)) == (2, 3, [1, 2, 3], 2, [6, 7])


def test_cache_by_inputs(executor, tmp_path):
    from prefectish.results import LocalResult

    @task(cache_key_fn=task_input_hash, result=LocalResult(dir=str(tmp_path / "store")))
    def noted(x):
        with open(tmp_path / "ran", "a") as file:
            file.write("x")
        return x

    def cached():
        first = noted(1)
        again = noted.submit(1)
        other = noted(2)
        return first, again.result(), other, type(again.state)

    assert run_with(executor, cached) == (1, 1, 2, Cached)
    assert (tmp_path / "ran").read_text() == "xx"


@pytest.mark.parametrize(
    ("options", "location"), [({"target": "one.pickle"}, None), ({}, "${task_name}.pickle")], ids=["target", "location"]
)
def test_map_whose_children_would_write_to_one_place_is_refused_where_it_is_called(tmp_path, options, location):
    from prefectish.results import LocalResult

    same = task(lambda x, y: x, name="same", **options)

    def maps():
        same.map([1, 2], unmapped(3))

    with pytest.raises(FlowDefinitionError, match=r"same: .* is the same for all children of the map; .*\$\{x\}"):
        flow(maps, history=False, result=LocalResult(tmp_path / "results", location=location))()


def test_limit_holds_for_each_task_by_itself(executor, tmp_path):
    @task
    def counted(i):

        (tmp_path / f"in-{i}").touch()
        running = len(list(tmp_path.glob("in-*")))
        spend(0.02)
        (tmp_path / f"in-{i}").unlink()
        return running

    def limited():
        slow = [counted.submit(i) for i in range(6)]
        other = inc.submit(1).result()
        return max(f.result() for f in slow), max(counted.map(range(6, 12)).result()), counted(99), other

    most, most_children, alone, other = run_with(executor, limited, task_runner_max_concurrency=2)
    assert 1 <= most <= 2
    assert 1 <= most_children <= 2
    assert (alone, other) == (1, 2)


def test_mapped_policies_hold(executor):
    @task(on_child_failure="stop", max_concurrency=1)
    def strict(x):
        return 1 / x

    def stops():
        children = strict.map([1, 0, 2, 3, 4, 5])
        children.wait()
        return [type(f.state) for f in children]

    states = run_with(executor, stops)
    assert states[:2] == [Success, Failed]
    assert Cancelled in states[2:]


# ---------------------------------------------------------------------- both front ends

PROGRAMS = {
    "chain": lambda call, each: [call(inc, call(inc, 1))],
    "fan in": lambda call, each: [call(total, [call(inc, 1), call(inc, 2)])],
    "map and reduce": lambda call, each: [each(inc, [1, 2, 3]), call(total, each(inc, [1, 2]))],
    "failed child": lambda call, each: [each(inc, each(inverse, [1, 0, 2])), call(total, each(inverse, [0]))],
    "skipped child": lambda call, each: [each(inc, each(skip_odd, [1, 2]))],
    "cleanup": lambda call, each: [call(finish, call(boom))],
    "unequal": lambda call, each: [each(add, [1, 2], y=[1, 2, 3])],
    "flatten": lambda call, each: [each(inc, flatten(each(twice, [1, 2])))],
    "unmapped": lambda call, each: [each(add, [1, 2], y=unmapped(call(inc, 1)))],
    "map over a failure": lambda call, each: [each(inc, call(boom))],
    "map over a number": lambda call, each: [each(inc, call(twice, 1))],
    "empty": lambda call, each: [each(inc, []), call(total, each(inc, []))],
    "allowed": lambda call, each: [call(finish, allow_failure(call(boom)))],
}


def shown(state: State):
    """Return what is comparable of a state: its kind, children, and result, or what failed."""
    if isinstance(state, Mapped):
        return ("Mapped", [shown(child) for child in state.map_states])
    result = state.result
    return (type(state).__name__, repr(result) if isinstance(result, BaseException) else result)


@pytest.mark.parametrize("program", PROGRAMS)
def test_both_front_ends_end_alike(executor, program):
    write = PROGRAMS[program]
    with Flow("recorded") as recorded:
        made = write(lambda t, *a, **k: t(*a, **k), lambda t, *a, **k: t.map(*a, **k))
    state = recorded.run(executor=executor, history=False)
    expected = [shown(state.result[t]) for t in made]

    def function():
        futures = write(lambda t, *a, **k: t.submit(*a, **k), lambda t, *a, **k: t.map(*a, **k))
        for future in futures:
            future.wait()
        return [shown(future.state) for future in futures]

    assert run_with(executor, function) == expected


# ---------------------------------------------------------------------- the flow as a whole, in this process


def local(function=None, /, **options):
    """Make a flow function on threads, without a history."""
    from prefectish.executors import LocalDaskExecutor

    return (
        flow(executor=LocalDaskExecutor(num_workers=2), history=False, **options)(function)
        if function
        else (lambda f: local(f, **options))
    )


def test_value_state_and_exception_of_the_flow():
    @local
    def good(x: int):
        return [inc.submit(x), {"a": inc.submit(x)}]

    @local
    def bad():
        raise KeyError("mine")

    assert good(1) == [2, {"a": 2}]
    state = good(1, return_state=True)
    assert isinstance(state, Success)
    assert state.result == [2, {"a": 2}]
    assert state.context["flow_run_id"]
    with pytest.raises(KeyError, match="mine"):
        bad()
    failed = bad(return_state=True)
    assert isinstance(failed, Failed)
    assert isinstance(failed.result, KeyError)
    assert failed.message == "Error during execution of flow: KeyError('mine')"
    assert failed.exit_code == 1
    assert isinstance(bad.run(), Failed)


def test_failure_of_a_call_fails_the_flow_unless_it_is_caught():
    @local
    def uncaught():
        boom()

    @local
    def caught():
        try:
            boom()
        except ValueError:
            return "caught"

    with pytest.raises(ValueError, match="boom"):
        uncaught()
    assert caught() == "caught"


def test_failure_that_is_never_read_causes_a_warning():
    @local
    def careless():
        boom.submit()
        inverse.map([0, 1])
        return "fine"

    with pytest.warns(
        UserWarning,
        match=r"careless: 2 task runs failed and their results were never retrieved.*boom\[0\], inverse",
    ):
        assert careless() == "fine"


def test_parameters_are_checked():
    @local
    def typed(n: int, name: str = "x", *, rate: float = 1.0):
        return n, name, rate

    assert typed("3", rate=2) == (3, "x", 2.0)
    with pytest.raises(ParameterError, match="missing: n"):
        typed()
    with pytest.raises(ParameterError, match="unknown: m"):
        typed(1, m=2)
    with pytest.raises(ParameterError, match="parameter 'n' must be int, got 'many'"):
        typed("many")
    with pytest.raises(ParameterError, match="by position"):
        typed(1, "a", 3.0)
    with pytest.raises(ParameterError, match="and n by name"):
        typed(1, n=1)
    assert local(typed.function, validate_parameters=False)("3") == ("3", "x", 1.0)


def test_flow_retries_and_handlers():
    seen = []
    tries = []

    def note(obj, old, new):
        seen.append((type(old), type(new)))

    @local(
        retries=2,
        retry_delay_seconds=lambda attempt: 0.01 * attempt,
        state_handlers=[note],
        on_failure=lambda f, s: tries.append(repr(f)),
    )
    def unsteady():
        if len(seen) < 3:
            raise OSError("again")
        return inc(1)

    assert unsteady() == 2
    kinds = [new for _, new in seen]
    assert kinds == [Running, Failed, Running, Success]
    assert tries == ["<Flow: name=unsteady>"]


def test_flow_timeout():
    released = threading.Event()

    @task
    def slow():
        released.wait(30)

    @local(timeout=0.2)
    def late():
        return slow.submit().result()

    try:
        state = late(return_state=True)
    finally:
        released.set()
    assert isinstance(state, TimedOut)


def test_misuse_is_refused_by_name():
    with pytest.raises(FlowDefinitionError, match=r"inc\.submit\(\.\.\.\) runs inside a @flow function.*inc\.run"):
        inc.submit(1)
    with pytest.raises(FlowDefinitionError, match=r"no active Flow.*@flow"):
        inc(1)
    with Flow("recorded"), pytest.raises(FlowDefinitionError, match=r"inside a @flow function"):
        inc.submit(1)

    @local
    def outlived():
        return inc, [inc.submit(1)], threading.current_thread()

    @local
    def wrong():
        with pytest.raises(TypeError, match="inc: got an unexpected keyword argument"):
            inc.submit(1, z=1)
        with pytest.raises(TypeError, match="wait_for must hold futures, got 3"):
            inc.submit(1, wait_for=[3])
        with pytest.raises(TypeError, match=r"use \.map\(\.\.\., wait_for=\.\.\.\)"):
            inc.submit(1, wait_for=[mapped(inc.submit(1))])
        with pytest.raises(TypeError, match="cannot be mapped over: got set"):
            inc.map({1, 2})
        with pytest.raises(TypeError, match="is not iterable"):
            list(inc.submit(1))
        with pytest.raises(TypeError, match="neither true nor false"):
            bool(inc.submit(1))
        with pytest.raises(IndexError, match="inc-2 has 2 children, and none at 5"):
            inc.map([1, 2])[5]
        return "refused"

    assert wrong() == "refused"
    with pytest.raises(FlowDefinitionError, match="task_runner_max_concurrency must be an int >= 1, got 0"):
        flow(task_runner_max_concurrency=0)(lambda: 1)
    with pytest.raises(FlowDefinitionError, match="retries must be an int >= 0, got -1"):
        flow(retries=-1)(lambda: 1)
    with pytest.raises(FlowDefinitionError, match="one of executor and task_runner"):
        flow(executor=1, task_runner=2)(lambda: 1)
    with pytest.raises(FlowDefinitionError, match="@flow needs a function"):
        flow(inc)


def test_future_of_another_run_is_refused_and_resolved_for_a_flow():
    kept = []

    @local
    def first():
        kept.append(inc.submit(1))
        kept.append(inc.map([1]))

    first()

    @local
    def inner(x):
        return inc(x)

    @local
    def second():
        for use in (lambda: inc.submit(kept[0]), lambda: inc([kept[0]]), lambda: inc.map(kept[1])):
            with pytest.raises(
                PrefectishError, match=r"inc.* belongs to run .* of first, and this is run .* of second"
            ):
                use()
        return inner(inc.submit(1)), inner(kept[0])

    assert second() == (3, 3)


def test_submit_after_the_end_is_refused():
    kept = []

    @local
    def leaks():
        from prefectish.engine.context import current

        kept.append(current()["function_run"])
        kept.append(inc.submit(1))

    leaks()
    run, future = kept
    assert future.result() == 2
    from prefectish.tasks.call_options import CallOptions

    with pytest.raises(PrefectishError, match="inc cannot run: its flow run of leaks has ended"):
        run.submit(inc, (1,), {}, CallOptions())


def test_cancelled_future():
    entered, released = threading.Event(), threading.Event()

    @task
    def slow():
        entered.set()
        released.wait(30)
        return "late"

    @local
    def cancels():
        running = slow.submit()
        entered.wait(30)
        waiting = inc.submit(1, wait_for=[running])
        running.cancel()
        with pytest.raises(TaskRunFailed, match="Cancelled: cancelled"):
            running.result(timeout=30)
        released.set()
        waiting.wait(30)
        return running.cancelled(), type(running.state), type(waiting.state)

    assert cancels() == (True, Cancelled, TriggerFailed)


def test_futures_time_out_and_call_back():
    released, called = threading.Event(), []

    @task
    def slow():
        released.wait(30)
        return "done"

    @local
    def patient():
        future = slow.submit()
        future.add_done_callback(lambda f: called.append(f.result()))
        with pytest.raises(TimeoutError, match=r"slow\[0\] did not finish within 0\.01 s"):
            future.result(timeout=0.01)
        with pytest.raises(TimeoutError, match="1 of the futures did not finish"):
            list(as_completed([future], timeout=0.01))
        done, not_done = wait([future], timeout=0.01)
        assert (len(done), len(not_done)) == (0, 1)
        assert not future.done()
        released.set()
        return future.result()

    assert patient() == "done"
    assert called == ["done"]


def test_paused_call_says_so_and_does_not_hang():
    @task
    def gated():
        raise signals.PAUSE("ask first")

    @local
    def waits():
        future = gated.submit()
        with pytest.raises(TaskRunFailed, match="Paused: ask first"):
            future.result()
        with pytest.raises(TaskRunFailed, match="Paused: ask first"):
            gated()
        return type(future.state).__name__

    assert waits() == "Paused"


def test_future_cannot_be_pickled():
    import pickle

    @local
    def tries():
        with pytest.raises(TypeError, match="pass it as an argument"):
            pickle.dumps(inc.submit(1))

    tries()


def test_options_and_tags_of_a_call_hold():
    tries = []

    @task
    def unsteady():
        tries.append(context.task_tags)
        if len(tries) % 2:
            raise OSError
        return context.task_name

    @local
    def calls():
        again = {"max_retries": 1, "retry_delay": 0, "name": "again"}
        with tags("night"):
            called = unsteady(task_args=again)
            submitted = unsteady.submit(task_args=again).result()
        return called, submitted, unsteady.map(task_args=again).result()

    assert calls() == ("again", "again", "again")
    assert tries == [frozenset({"night"})] * 4 + [frozenset()] * 2


def test_task_that_cannot_be_sent_is_rejected_each_time_without_harm_to_others():
    from prefectish.executors import LocalDaskExecutor

    held = threading.Lock()

    @task
    def closes_over():
        return held

    @flow(executor=LocalDaskExecutor("processes", num_workers=1), history=False)
    def sends():
        for use in (closes_over, closes_over.submit, closes_over):
            with pytest.raises(FlowDefinitionError, match="task closes_over cannot be pickled"):
                use()
        return inc(1)

    assert sends() == 2


def test_methods_and_options():
    class Thing:
        offset = 10

        @flow(history=False)
        def shifted(self, x):
            return inc(x) + self.offset

    assert Thing().shifted(1) == 12
    renamed = local(lambda: context.flow_name).with_options(name="renamed")
    assert repr(renamed) == "<Flow: name=renamed>"
    assert renamed() == "renamed"


def test_handlers_of_tasks_see_the_transitions():
    seen = []

    def note(obj, old, new):
        seen.append((type(old).__name__, type(new).__name__))

    @task(max_retries=1, retry_delay=0.01, state_handlers=[note])
    def unsteady():
        if len(seen) < 3:
            raise OSError("again")

    @local
    def once():
        unsteady()

    once()
    assert seen == [
        ("Pending", "Running"), ("Running", "Failed"), ("Failed", "Retrying"), ("Retrying", "Running"),
        ("Running", "Success"),
    ]  # fmt: skip


def test_one_worker_one_thread_does_not_deadlock():
    from prefectish.executors import LocalDaskExecutor

    @flow(history=False, executor=LocalDaskExecutor(num_workers=1))
    def inner(x):
        return total(inc.map([x, x]).result())

    @task
    def nested(x):
        return inner(x)

    @flow(history=False, executor=LocalDaskExecutor(num_workers=1))
    def outer():
        return total(nested.map([1, 2, 3])), nested(1)

    assert outer() == (18, 4)


def test_map_with_an_iterator_and_unmapped_only():
    @local
    def maps():
        return inc.map(iter([1, 2, 3])).result(), add.map(unmapped(1), y=unmapped(2)).result()

    assert maps() == ([2, 3, 4], 3)


def test_retrying_state_shows_while_it_waits():
    @task(max_retries=1, retry_delay=0.3)
    def unsteady():
        if context.task_run_count == 1:
            raise OSError
        return "done"

    @local
    def watches():
        future = unsteady.submit()
        seen = set()
        while not future.done():
            seen.add(type(future.state))
            future.wait(0.01)
        return Retrying in seen, future.result()

    assert watches() == (True, "done")


def test_flow_takes_arguments_by_position_and_by_name_in_any_number():
    @flow(history=False)
    def takes(x, *rest: int, k=2, **more):
        return x, rest, k, more

    assert takes(1, 2, "3", k=5, z=1) == (1, (2, 3), 5, {"z": 1})
    assert takes.run(x=1, z=2).result == (1, (), 2, {"z": 2})
    with pytest.raises(ParameterError, match="and rest by name too"):
        takes(1, rest=3)


def test_items_of_a_flow_that_yields_are_a_list(executor):
    def yields(n):
        for i in range(n):
            yield inc.submit(i)

    assert flow(yields, executor=executor, history=False)(3) == [1, 2, 3]

    def breaks():
        yield inc(1)
        raise OSError("half way")

    with pytest.raises(OSError, match="half way"):
        flow(breaks, executor=executor, history=False)()

    async def streams():
        yield 1

    with pytest.raises(FlowDefinitionError, match="is an async generator, which cannot be a flow"):
        flow(streams)


def test_flows_are_methods_of_classes_too():
    class Owner:
        factor = 3

        @classmethod
        @flow(history=False)
        def of_class(cls, x):
            return cls.factor * inc(x)

        @staticmethod
        @flow(history=False)
        def of_nobody(x):
            return inc(x)

    assert (Owner.of_class(1), Owner().of_class(2), Owner.of_nobody(3)) == (6, 9, 4)
