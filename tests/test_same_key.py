"""Runs with equal keys in one run: one body, and a right value for each; on every executor, in both front ends."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from real import spend

from prefectish import Flow, flow, task
from prefectish.caching import (
    all_inputs,
    all_parameters,
    duration_only,
    partial_inputs_only,
    partial_parameters_only,
)
from prefectish.engine.state import Cached, State, Success
from prefectish.results import LocalResult
from prefectish.tasks import task_input_hash

Run = Callable[..., State]
HOUR = timedelta(hours=1)


class Bodies:
    """Counts bodies, wherever they run, in a file."""

    def __init__(self, path: Any) -> None:
        self.path = str(path)

    def note(self, text: Any) -> None:
        with open(self.path, "a") as file:
            file.write(f"{text}\n")

    def all(self) -> list[str]:
        try:
            with open(self.path) as file:
                return file.read().split()
        except FileNotFoundError:
            return []


@pytest.fixture
def bodies(tmp_path: Any) -> Bodies:
    return Bodies(tmp_path / "bodies")


def tenfold(bodies: Bodies, name: str, seconds: float = 0.0, **options: Any) -> Any:
    def body(x: Any) -> Any:
        bodies.note(x)
        spend(seconds)
        return x * 10

    return task(body, name=name, **options)


def mapped_in_a_flow(executor: Any, made: Any, items: list[Any]) -> list[State]:
    with Flow("map") as built:
        children = made.map(items)
    return list(built.run(executor=executor, history=False).result[children].map_states)


def mapped_in_a_function(executor: Any, made: Any, items: list[Any]) -> list[State]:
    @flow(name="map", executor=executor, history=False)
    def built() -> None:
        future = made.map(items)
        future.wait()
        found.extend(future.state.map_states)

    found: list[State] = []
    built()
    return found


def called_in_a_flow(executor: Any, made: Any, items: list[Any]) -> list[State]:
    with Flow("calls") as built:
        calls = [made(item) for item in items]
    state = built.run(executor=executor, history=False)
    return [state.result[call] for call in calls]


def called_in_a_function(executor: Any, made: Any, items: list[Any]) -> list[State]:
    @flow(name="calls", executor=executor, history=False)
    def built() -> None:
        found.extend(made(item, return_state=True) for item in items)

    found: list[State] = []
    built()
    return found


def submitted_in_a_function(executor: Any, made: Any, items: list[Any]) -> list[State]:
    @flow(name="submits", executor=executor, history=False)
    def built() -> None:
        futures = [made.submit(item) for item in items]
        for future in futures:
            future.wait()
            found.append(future.state)

    found: list[State] = []
    built()
    return found


FRONT_ENDS = [
    mapped_in_a_flow, mapped_in_a_function, called_in_a_flow, called_in_a_function, submitted_in_a_function,
]  # fmt: skip


@pytest.fixture(params=FRONT_ENDS, ids=lambda front_end: front_end.__name__)
def states_of(request: pytest.FixtureRequest, executor: Any) -> Callable[[Any, list[Any]], list[State]]:
    return lambda made, items: request.param(executor, made, items)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def results(states: list[State]) -> list[Any]:
    return [state.result for state in states]


OWN_VALUES: list[dict[str, Any]] = [
    {"cache_for": HOUR},
    {"cache_for": HOUR, "cache_key": "one name for all"},
    {"cache_for": HOUR, "cache_validator": all_inputs},
    {"cache_for": HOUR, "cache_validator": duration_only},
    {"cache_for": HOUR, "cache_validator": lambda state, inputs, parameters: True},
    {"cache_for": HOUR, "cache_validator": partial_inputs_only()},
    {"cache_for": HOUR, "cache_validator": all_parameters},
    {"cache_for": HOUR, "cache_validator": partial_parameters_only(["day"])},
    {"cache_key_fn": task_input_hash},
    {"cache_for": HOUR, "cache_isolation": False},
]


@pytest.mark.parametrize("options", OWN_VALUES, ids=lambda options: "-".join(options))
def test_e1_no_child_gets_the_value_of_another_input(
    states_of: Any, bodies: Bodies, name: str, options: dict[str, Any]
) -> None:
    if options.get("cache_key"):
        options = {**options, "cache_key": name}
    made = tenfold(bodies, name, **options)
    items = [1, 2, 3, 4, 5, 6]
    assert results(states_of(made, items)) == [10 * item for item in items]
    if not inspect.isfunction(own := options.get("cache_validator")) or own in (
        all_inputs,
        duration_only,
        all_parameters,
    ):
        assert results(states_of(made, [6, 7, 1])) == [60, 70, 10]
        assert sorted(bodies.all()) == ["1", "2", "3", "4", "5", "6", "7"]


def test_e1_tasks_of_one_name_keep_to_themselves(run: Run, bodies: Bodies, name: str) -> None:
    same, other = (task(body, name=name, cache_for=HOUR) for body in (lambda x: x, lambda x: -x))
    for _ in range(2):
        with Flow("names") as built:
            values = [same(1), other(5), other(1)]
        state = run(built)
        assert [state.result[value].result for value in values] == [1, -5, -1]


KEYS: list[dict[str, Any]] = [
    {"cache_key_fn": task_input_hash},
    {"cache_for": HOUR},
    {"cache_for": HOUR, "cache_validator": partial_inputs_only(["x"])},
    {"cache_key_fn": lambda context, arguments: str(arguments["x"] % 3)},
]


@pytest.mark.parametrize("options", KEYS, ids=["hash", "for", "partial", "function"])
def test_f13_equal_keys_run_one_body(states_of: Any, bodies: Bodies, name: str, options: dict[str, Any]) -> None:
    made = tenfold(bodies, name, 0.02, **options)
    items = [1, 2, 1, 1, 2, 1]
    states = states_of(made, items)
    assert results(states) == [10 * item for item in items]
    assert sorted(bodies.all()) == ["1", "2"]
    if "cache_key_fn" in options:
        assert sorted(type(state).__name__ for state in states) == ["Cached"] * 4 + ["Success"] * 2
    assert [state.why_not_cached() for state in states].count(None) == 4


def test_f13_next_one_runs_if_the_first_fails(states_of: Any, bodies: Bodies, name: str) -> None:
    path = bodies.path

    def fail_twice(x: int) -> int:
        bodies.note(x)
        spend(0.02)
        with open(path) as file:
            if len(file.readlines()) < 3:
                raise ValueError(x)
        return x

    states = states_of(task(fail_twice, name=name, cache_key_fn=task_input_hash), [7] * 5)
    assert len(bodies.all()) == 3
    assert sorted(type(state).__name__ for state in states) == ["Cached", "Cached", "Failed", "Failed", "Success"]
    assert results([state for state in states if state.is_successful()]) == [7] * 3


def test_f13_retry_of_the_first_is_waited_for(states_of: Any, bodies: Bodies, name: str) -> None:
    def fail_once(x: int) -> int:
        bodies.note(x)
        if len(bodies.all()) == 1:
            raise ValueError(x)
        return x

    made = task(fail_once, name=name, cache_key_fn=task_input_hash, max_retries=1, retry_delay=0.05)
    assert results(states_of(made, [3, 3, 3])) == [3, 3, 3]
    assert len(bodies.all()) == 2


def test_f13_isolation_can_be_left_out(states_of: Any, bodies: Bodies, name: str) -> None:
    made = tenfold(bodies, name, cache_key_fn=task_input_hash, cache_isolation=False)
    assert results(states_of(made, [1, 2, 1, 2])) == [10, 20, 10, 20]
    assert {"1", "2"} <= set(bodies.all())


def test_f13_waiting_takes_no_slot(states_of: Any, bodies: Bodies, name: str) -> None:
    """With room for one body, the other keys run while equal ones wait."""
    made = tenfold(bodies, name, cache_key_fn=task_input_hash, max_concurrency=1)
    items = [1] * 80 + [2] * 80 + [3]
    assert results(states_of(made, items)) == [10 * item for item in items]
    assert sorted(bodies.all()) == ["1", "2", "3"]


def test_f13_batches_of_equal_keys(states_of: Any, bodies: Bodies, name: str) -> None:
    made = tenfold(bodies, name, cache_key_fn=task_input_hash, batch_size=3)
    items = [1, 2, 3, 1, 2, 3, 4, 4, 5, 5]
    assert results(states_of(made, items)) == [10 * item for item in items]
    assert sorted(bodies.all()) == ["1", "2", "3", "4", "5"]


def test_f13_large_results_stand_for_several_children(run: Run, bodies: Bodies, name: str, tmp_path: Any) -> None:
    def large(x: int) -> bytes:
        bodies.note(x)
        spend(0.02)
        return bytes([x]) * 200_000

    with Flow("large", result=LocalResult(dir=tmp_path / "results")) as built:
        made = task(large, name=name, cache_key_fn=task_input_hash).map([1, 2, 1, 1])
        first = task(lambda value: (value[0], len(value)), name="first").map(made)
    for kinds in (["Cached"] * 2 + ["Success"] * 2, ["Cached"] * 4):
        state = run(built, keep_results=True)
        assert state.result[first].result == [(x, 200_000) for x in (1, 2, 1, 1)]
        assert sorted(type(child).__name__ for child in state.result[made].map_states) == kinds
        assert [value[0] for value in state.result[made].result] == [1, 2, 1, 1]
    assert sorted(bodies.all()) == ["1", "2"]


def test_f13_large_results_that_were_released_are_made_again(run: Run, bodies: Bodies, name: str) -> None:
    def large(x: int) -> bytes:
        bodies.note(x)
        return bytes([x]) * 200_000

    with Flow("large") as built:
        made = task(large, name=name, cache_key_fn=task_input_hash).map([1, 2, 1, 1])
        first = task(lambda value: (value[0], len(value)), name="first").map(made)
    for _ in range(2):
        assert run(built, keep_results=False).result[first].result == [(x, 200_000) for x in (1, 2, 1, 1)]


def test_f13_elements_of_equal_results_are_mapped(run: Run, bodies: Bodies, name: str) -> None:
    from prefectish import flatten

    def upto(n: int) -> list[int]:
        bodies.note(n)
        spend(0.02)
        return list(range(n))

    with Flow("flat") as built:
        made = task(upto, name=name, cache_key_fn=task_input_hash).map([2, 3, 2])
        doubled = task(lambda n: 2 * n, name="double").map(flatten(made))
    assert run(built).result[doubled].result == [0, 2, 0, 2, 4, 0, 2]
    assert sorted(bodies.all()) == ["2", "3"]


def test_f13_two_maps_share_their_keys(run: Run, bodies: Bodies, name: str) -> None:
    made = tenfold(bodies, name, 0.02, cache_key_fn=task_input_hash)
    with Flow("two") as built:
        one, other = made.map([1, 2, 3]), made.map([3, 2, 4])
    state = run(built)
    assert (state.result[one].result, state.result[other].result) == ([10, 20, 30], [30, 20, 40])
    assert sorted(bodies.all()) == ["1", "2", "3", "4"]


def test_f13_handlers_see_a_child_that_takes_the_result_of_another(executor: Any, bodies: Bodies, name: str) -> None:
    def see(task: Any, old: State, new: State) -> None:
        bodies.note(f"{type(old).__name__}-{type(new).__name__}")

    def body(x: int) -> int:
        spend(0.02)
        return x

    made = task(body, name=name, cache_key_fn=task_input_hash, state_handlers=[see])
    assert results(mapped_in_a_flow(executor, made, [1, 1])) == [1, 1]
    assert sorted(bodies.all()) == ["Pending-Cached", "Pending-Mapped", "Pending-Running", "Running-Success"]


def test_f13_stopped_map_starts_none_of_those_that_wait(run: Run, bodies: Bodies, name: str) -> None:
    def fail(x: int) -> int:
        bodies.note(x)
        spend(0.02)
        raise ValueError(x)

    made = task(fail, name=name, cache_key_fn=task_input_hash, on_child_failure="stop")
    with Flow("stop") as built:
        children = made.map([1] * 20)
    kinds = [type(child).__name__ for child in run(built).result[children].map_states]
    assert sorted(kinds) == ["Cancelled"] * 19 + ["Failed"]
    assert bodies.all() == ["1"]


def test_f9_computed_and_found_results_are_told_apart(states_of: Any, bodies: Bodies, name: str) -> None:
    made = tenfold(bodies, name, cache_key_fn=task_input_hash)
    for kind, why in ((Success, "nothing is cached yet"), (Cached, None)):
        states = states_of(made, [1, 2])
        assert [type(state) for state in states] == [kind, kind]
        assert [state.why_not_cached() for state in states] == [why, why]


def test_f9_cache_for_keeps_the_state_of_prefect_1(states_of: Any, bodies: Bodies, name: str) -> None:
    made = tenfold(bodies, name, cache_for=HOUR)
    for why in ("nothing is cached yet", None):
        states = states_of(made, [1, 2])
        assert [type(state) for state in states] == [Cached, Cached]
        assert [state.why_not_cached() for state in states] == [why, why]


@pytest.mark.parametrize("stored", [False, True], ids=["memory", "store"])
def test_f8_reason_names_the_argument_that_changed_for_each_child(
    run: Run, name: str, stored: bool, tmp_path: Any
) -> None:
    from prefectish import Parameter
    from prefectish.engine.worker.cache import CACHES

    made = task(lambda x, scale: x * scale, name=name, cache_key_fn=task_input_hash)
    with Flow("reasons", result=LocalResult(dir=tmp_path) if stored else None) as built:
        children = made.map([1, 2, 3, 4], scale=[Parameter("scale")] * 4)
    for scale, why in ((1, "nothing is cached yet"), (2, "argument 'scale' changed"), (2, "None")):
        if stored:
            CACHES._shelves.pop(name, None)
        states = run(built, scale=scale).result[children].map_states
        assert [str(state.why_not_cached()).partition(" since")[0] for state in states] == [why] * 4


def test_equal_keys_of_a_large_map_are_not_compared_with_one_another(bodies: Bodies, name: str) -> None:
    import time

    from prefectish.executors import LocalDaskExecutor

    made = tenfold(bodies, name, 0.3, cache_key_fn=task_input_hash)
    began = time.process_time()
    states = mapped_in_a_flow(LocalDaskExecutor(num_workers=2), made, [5] * 10_000)
    assert time.process_time() - began < 30
    assert {state.result for state in states} == {50}
    assert len(bodies.all()) == 1


def test_refresh_computes_anew_and_replaces_the_entry(executor: Any, tmp_path: Any, name: str) -> None:
    bodies = Bodies(tmp_path / "bodies")

    def body(x: int) -> int:
        bodies.note(x)
        return len(bodies.all())

    made = task(body, name=name, cache_key_fn=task_input_hash)
    with Flow("refresh", result=LocalResult(dir=tmp_path / "results")) as built:
        value = made(1)

    @flow(name="refreshed", executor=executor, history=False, result=LocalResult(dir=tmp_path / "results"))
    def function() -> Any:
        return made(1)

    def ran(**options: Any) -> Any:
        return built.run(executor=executor, history=False, **options).result[value].result

    assert [ran(), ran(), ran(refresh_cache=True), ran()] == [1, 1, 2, 2]
    assert function.run().result == 2
    assert function.run(refresh_cache=True).result == 3
    assert [function.run().result, ran()] == [3, 3]


def test_refresh_of_a_task_and_the_setting(bodies: Bodies, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Flow("task") as built:
        for x, refresh in ((1, True), (2, False), (3, None)):
            tenfold(bodies, f"{name} {x}", cache_key_fn=task_input_hash, refresh_cache=refresh)(x)
    built.run(history=False)
    assert sorted(bodies.all()) == ["1", "2", "3"]
    built.run(history=False)
    assert bodies.all()[3:] == ["1"]
    monkeypatch.setenv("PREFECTISH_REFRESH_CACHE", "true")
    built.run(history=False)
    assert sorted(bodies.all()[4:]) == ["1", "3"]


def test_option_of_a_run_is_not_taken_for_a_parameter() -> None:
    from prefectish import Parameter
    from prefectish.errors import ParameterError

    with Flow("named") as built:
        task(lambda x: x, name="same")(Parameter("refresh_cache", default=1))
    with pytest.raises(ParameterError, match=r"refresh_cache=True is an option of the run; .*={'refresh_cache'"):
        built.run(refresh_cache=True, history=False)
    with pytest.raises(TypeError, match="refresh_cache must be True or False, got 'yes'"):
        built.run(refresh_cache="yes", history=False)


def test_f9_counts_tell_what_was_saved(run: Run, bodies: Bodies, name: str) -> None:
    made = tenfold(bodies, name, cache_key_fn=task_input_hash)
    with Flow("counts") as built:
        children = made.map([1, 2, 3, 1])
    for text in ("<MapResult of 4: 4 ok, 0 failed, 0 skipped; 1 of 4 from the cache>", "4 of 4 from the cache>"):
        assert text in repr(run(built).results(children))


def test_keys_leave_arguments_out(states_of: Any, bodies: Bodies, name: str) -> None:
    made = tenfold(bodies, name, cache_key_fn=task_input_hash.without("client"))
    assert results(states_of(made, [1, 2, 1])) == [10, 20, 10]
    context: dict[str, Any] = {}
    key = task_input_hash.without("client")
    assert key(context, {"x": 1, "client": object()}) == key(context, {"x": 1, "client": object()})
    assert key(context, {"x": 1, "client": 1}) != key(context, {"x": 2, "client": 1})


@pytest.mark.parametrize("options", [{"cache_key_fn": task_input_hash}, {"cache_for": HOUR}], ids=["key", "for"])
@pytest.mark.parametrize("isolated", [True, False])
def test_all_that_an_earlier_run_made_is_found_however_much_that_is(
    run: Run, bodies: Bodies, name: str, options: dict[str, Any], isolated: bool
) -> None:
    items = list(range(1500))
    for found in (False, True):
        with Flow("many") as built:
            children = tenfold(bodies, name, batch_size="auto", cache_isolation=isolated, **options).map(items)
        states = run(built).result[children].map_states
        assert results(states) == [10 * item for item in items]
        assert [state.why_not_cached() is None for state in states] == [found] * 1500
    assert len(bodies.all()) == 1500


@pytest.mark.parametrize("options", [{"cache_for": HOUR}, {"cache_key_fn": task_input_hash}], ids=["for", "key"])
def test_body_that_changes_its_argument_is_cached_under_the_one_it_was_given(
    states_of: Any, bodies: Bodies, name: str, options: dict[str, Any]
) -> None:
    def grow(xs: list[int]) -> int:
        bodies.note(len(xs))
        xs.append(0)
        return len(xs)

    made = task(grow, name=name, **options)
    assert results(states_of(made, [[1], [2]])) == [2, 2]
    assert results(states_of(made, [[1], [1, 0], [2, 0, 0]])) == [2, 3, 4]
    assert sorted(bodies.all()) == ["1", "1", "2", "3"]


@pytest.mark.parametrize("options", [{"cache_for": HOUR}, {"cache_key_fn": task_input_hash}], ids=["for", "key"])
@pytest.mark.parametrize("front", ["flow", "function"])
def test_calls_without_arguments_are_found(
    executor: Any, bodies: Bodies, name: str, options: dict[str, Any], front: str
) -> None:
    def body(x: int = 1) -> int:
        bodies.note(x)
        return x

    made = task(body, name=name, **options)

    @flow(executor=executor, history=False)
    def calls() -> list[Any]:
        return [call.result() for call in (made.submit(), made.submit())]

    with Flow("calls") as built:
        called = [made(), made()]
    for _ in range(2):
        if front == "flow":
            state = built.run(executor=executor, history=False)
            assert [state.result[call].result for call in called] == [1, 1]
        else:
            assert calls() == [1, 1]
    assert bodies.all() == ["1"]
