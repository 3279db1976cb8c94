"""Names of results through whole runs, on every executor, in both front ends: E7 and MR1."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from real import spend

from prefectish import Flow, Parameter, context, flatten, flow, task
from prefectish.engine.state import Cached, Failed, State, Success
from prefectish.engine.worker.cache import CACHES
from prefectish.errors import FlowDefinitionError
from prefectish.results import LocalResult

Run = Callable[..., State]


def ends(states: Any) -> list[tuple[str, Any]]:
    return [(type(s).__name__, s.result if s.is_successful() else s.message) for s in states]


def refused(name: str, holder: str, child: str, what: str = "target") -> tuple[str, str]:
    fields = "${item_key} or ${map_index}" if holder.partition("[")[0] == child.partition("[")[0] else "${task_slug}"
    text = f"{name!r} is where {holder} keeps its result, not {child}; put {fields} into the {what}"
    return "Failed", f"result could not be stored: ValueError: {text}"


def load_body(day: Any, x: str) -> str:
    spend(0.2 if x == "slow" else 0)
    return f"{day}/{x}"


TARGETS = {"template": "${day}.pkl", "braces": "{day}.pkl", "function": lambda day, **_: f"{day}.pkl"}
TAKEN = [
    (["mon", "mon", "tue"], ["slow", "B", "C"], "mon.pkl"),
    (["mon", "mon", "tue"], ["slow", "slow", "slow"], "mon.pkl"),
    ([1, "1", 2], ["slow", "B", "C"], "1.pkl"),
    ([True, "True", 1.0], ["slow", "B", "C"], "True.pkl"),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("days", "xs", "name"), TAKEN)
def test_e7_children_of_one_target_fail_but_the_first(
    run: Run, tmp_path: Path, target: str, days: list[Any], xs: list[str], name: str
) -> None:
    store = LocalResult(tmp_path)
    load = task(load_body, name="load", target=TARGETS[target])
    with Flow("e7", result=store) as built:
        loaded = load.map(days, xs)
    first, _, third = [f"{day}/{x}" for day, x in zip(days, xs, strict=True)]
    found = ends(run(built).result[loaded].map_states)
    assert found == [("Success", first), refused(name, "load[0]", "load[1]"), ("Success", third)]
    assert store.load(name) == first
    found = ends(run(built).result[loaded].map_states)  # what is there already stands for one child only
    assert found == [("Cached", first), refused(name, "load[0]", "load[1]"), ("Cached", third)]


@pytest.mark.parametrize("target", TARGETS)
def test_e7_calls_of_one_target_fail_but_the_first(executor: Any, tmp_path: Path, target: str) -> None:
    load = task(load_body, name="load", target=TARGETS[target])
    other = task(load_body, name="other", target=TARGETS[target])

    @flow(result=LocalResult(tmp_path), executor=executor)
    def days() -> Any:
        calls = [load.submit("mon", "slow"), load.submit("mon", "B"), load.submit("tue", "C")]
        mapped = load.map(["wed", "wed"], ["slow", "E"])
        last = other.submit("tue", "F", wait_for=calls[::2])
        return [call.wait() and call.state for call in (*calls, *mapped, last)]

    assert ends(days()) == [
        ("Success", "mon/slow"),
        refused("mon.pkl", "load[0]", "load[1]"),
        ("Success", "tue/C"),
        ("Success", "wed/slow"),
        refused("wed.pkl", "load-2[0]", "load-2[1]"),
        refused("tue.pkl", "load[2]", "other[0]"),
    ]


def test_e7_equal_names_of_two_tasks_fail_the_second(spelled: Any, tmp_path: Path) -> None:
    one = task(load_body, name="one", target=lambda **_: "same.pkl")
    two = task(load_body, name="two", target=lambda **_: "same.pkl")
    away = task(load_body, name="away", target=lambda **_: "same.pkl", result=LocalResult(tmp_path / "other"))

    def program() -> dict[str, Any]:
        calls = [(one, "slow"), (two, "slow"), (away, "B")]
        return {each.name: spelled.call(each, "mon", x) for each, x in calls}

    states = spelled.states(program, result=LocalResult(tmp_path))
    row = "[0]" if spelled.in_function else ""
    second = refused("same.pkl", f"one{row}", f"two{row}")
    assert ends(states.values()) == [("Success", "mon/slow"), second, ("Success", "mon/B")]


def test_e7_equal_names_of_children_of_two_tasks_fail_those_of_the_second(spelled: Any, tmp_path: Path) -> None:
    one = task(load_body, name="one", target="{day}.pkl")
    two = task(load_body, name="two", target=lambda day, **_: f"{day}.pkl")

    def program() -> dict[str, Any]:
        first = one.map(["mon", "tue"], ["slow", "slow"])
        return {"one": first, "two": two.map(["tue", "wed"], ["slow", "B"], **spelled.waited([first]))}

    states = spelled.states(program, result=LocalResult(tmp_path))
    assert ends(states["one"].map_states) == [("Success", "mon/slow"), ("Success", "tue/slow")]
    assert ends(states["two"].map_states) == [refused("tue.pkl", "one[1]", "two[0]"), ("Success", "wed/B")]


def test_e7_names_made_of_a_result_are_of_one_child(spelled: Any, tmp_path: Path) -> None:
    store = LocalResult(tmp_path)
    day_of = task(lambda x: "mon" if x < 3 else "tue", name="day_of")
    load = task(lambda day, x: (day, x), name="load", target="{day}.pkl")
    states = spelled.states(lambda: {"load": load.map(day_of.map([1, 2, 3]), [1, 2, 3])}, result=store)
    found = ends(states["load"].map_states)
    assert found == [("Success", ("mon", 1)), refused("mon.pkl", "load[0]", "load[1]"), ("Success", ("tue", 3))]
    assert [store.load("mon.pkl"), store.load("tue.pkl")] == [("mon", 1), ("tue", 3)]


def day_of(x: int) -> str:
    """Return one day for the first two, late for the first of them."""
    spend(0.3 if x == 1 else 0)
    return "mon" if x < 3 else "tue"


COMPUTED: dict[str, dict[str, Any]] = {
    "template": {"target": "{day}.pkl"},
    "function": {"target": lambda day: f"{day}.pkl"},
    "any": {"target": lambda day, **_: f"{day}.pkl"},
    "location": {"location": "{day}.pkl"},
    "batch": {"target": "{day}.pkl", "batch_size": 2},
    "limit": {"target": "{day}.pkl", "max_concurrency": 2},
    "retried": {"target": "{day}.pkl", "max_retries": 1},
    "cached": {"target": "{day}.pkl", "cache_for": 60},
}


@pytest.mark.parametrize("how", COMPUTED)
@pytest.mark.parametrize("front", ["graph", "function"])
def test_e7_of_names_made_of_results_the_lower_index_wins(
    executor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, front: str
) -> None:
    monkeypatch.setattr(CACHES, "_shelves", {})
    options = dict(COMPUTED[how])
    store = LocalResult(tmp_path, location=options.pop("location", None))

    def body(day: str, x: int) -> tuple[str, int]:
        if how == "retried" and context.task_run_count == 1:
            raise OSError("once")
        return day, x

    load = task(body, name="load", **options, **({"retry_delay": 0.01} if how == "retried" else {}))
    name_of = task(day_of, name="day_of", result=LocalResult(tmp_path / "days"))
    items = [1, 2, 3, 1, 4]
    if front == "graph":
        with Flow("e7", result=store) as built:
            loaded = load.map(name_of.map(items), items)
        children = built.run(executor=executor, history=False).result[loaded].map_states
    else:

        @flow(result=store, executor=executor, history=False)
        def built() -> Any:
            mapped = load.map(name_of.map(items), items)
            mapped.wait()
            return mapped.state.map_states

        children = built()
    what = "location" if how == "location" else "target"
    kept = "Cached" if how == "cached" else "Success"
    assert ends(children) == [
        (kept, ("mon", 1)),
        refused("mon.pkl", "load[0]", "load[1]", what),
        (kept, ("tue", 3)),
        refused("mon.pkl", "load[0]", "load[3]", what),
        refused("tue.pkl", "load[2]", "load[4]", what),
    ]
    assert [store.load("mon.pkl"), store.load("tue.pkl")] == [("mon", 1), ("tue", 3)]


def test_e7_large_results_are_named_too(spelled: Any, tmp_path: Path) -> None:
    make = task(lambda x: bytes([x]) * 400_000, name="make", result=LocalResult(tmp_path / "made"), checkpoint=False)
    load = task(lambda data, x: x, name="load", target=lambda data: f"{data[0] // 2}.pkl")
    program = lambda: {"load": load.map(make.map([2, 3, 4]), [2, 3, 4])}  # noqa: E731
    found = ends(spelled.states(program, result=LocalResult(tmp_path))["load"].map_states)
    assert found == [("Success", 2), refused("1.pkl", "load[0]", "load[1]"), ("Success", 4)]


ANY_FIELDS: dict[str, Any] = {
    "constant": (lambda **_: "same.pkl", [0, None, None, None]),
    "key": (lambda **fields: f"{fields['x'] // 2}.pkl", [0, 1, None, 3]),
    "content": (lambda **fields: f"{fields['data'][0] // 3}.pkl", [0, 1, None, None]),
    "careless": (lambda **fields: f"{str(fields['data'])[:5] and fields['x'] // 2}.pkl", [0, 1, None, 3]),
}


@pytest.mark.parametrize("how", ANY_FIELDS)
def test_e7_of_names_made_beside_large_results_the_lower_index_wins(spelled: Any, tmp_path: Path, how: str) -> None:
    target, kept = ANY_FIELDS[how]

    def load_body(data: bytes, x: int) -> int:
        spend(0.1 if data[0] == 2 else 0)
        return x

    def program() -> dict[str, Any]:
        made = task(
            lambda x: bytes([x]) * 400_000, name="make", result=LocalResult(tmp_path / "made"), checkpoint=False
        )
        load = task(load_body, name="load", target=target, result=LocalResult(tmp_path))
        return {"load": load.map(made.map([2, 3, 4, 5]), [1, 2, 3, 6])}

    children = spelled.states(program)["load"].map_states
    found = [number if child.is_successful() else None for number, child in enumerate(children)]
    assert found == kept, [child.message for child in children]


def test_e7_rows_of_a_priority_are_named_in_their_order(spelled: Any, tmp_path: Path) -> None:
    load = task(load_body, name="load", target="{day}.pkl", priority=lambda x: ord(x))
    program = lambda: {"load": load.map(x=["a", "b", "c"], day=["mon", "mon", "tue"])}  # noqa: E731
    found = ends(spelled.states(program, result=LocalResult(tmp_path))["load"].map_states)
    assert found == [("Success", "mon/a"), refused("mon.pkl", "load[0]", "load[1]"), ("Success", "tue/c")]


def test_e7_nothing_is_read_twice_without_checkpoints(spelled: Any, tmp_path: Path) -> None:
    store = LocalResult(tmp_path)
    store.save("mon.pkl", "there before")
    load = task(load_body, name="load", target="{day}.pkl", checkpoint=False)
    program = lambda: {"load": load.map(["mon", "mon", "tue"], ["A", "B", "C"])}  # noqa: E731
    found = ends(spelled.states(program, result=store)["load"].map_states)
    assert found == [("Cached", "there before"), refused("mon.pkl", "load[0]", "load[1]"), ("Success", "tue/C")]


def test_e7_calls_take_their_names_in_the_order_of_the_calls(executor: Any, tmp_path: Path) -> None:
    load = task(load_body, name="load", target="{day}.pkl")
    limited = task(load_body, name="limited", target="{day}.pkl", max_concurrency=1)

    @flow(result=LocalResult(tmp_path), executor=executor, history=False)
    def days() -> Any:
        early, late = load.submit("mon", "slow"), load("mon", "B", return_state=True)
        early.wait()
        queued = [limited.submit(day, "slow") for day in ("tue", "wed", "tue", "wed")]
        return [early.state, late, *(call.wait() and call.state for call in queued)]

    assert ends(days()) == [
        ("Success", "mon/slow"),
        refused("mon.pkl", "load[0]", "load[1]"),
        ("Success", "tue/slow"),
        ("Success", "wed/slow"),
        refused("tue.pkl", "limited[0]", "limited[2]"),
        refused("wed.pkl", "limited[1]", "limited[3]"),
    ]


@task
def first() -> tuple[str, int]:
    return "first", 1


@task
def second(x: Any) -> tuple[str, Any]:
    return "second", x


def test_mr1_templates_of_prefect_1_keep_tasks_apart(run: Run, tmp_path: Path) -> None:
    store = LocalResult(tmp_path)
    with Flow("mr1", result=store) as built:
        a = first(task_args={"target": "{date:%A}/{task_name}.prefect"})
        b = second(a, task_args={"target": "{date:%A}/{task_name}.prefect"})
    state = run(built)
    found = ends([state.result[a], state.result[b]])
    assert found == [("Success", ("first", 1)), ("Success", ("second", ("first", 1)))]
    day = f"{datetime.now(UTC):%A}"
    assert {f"{day}/first.prefect", f"{day}/second.prefect"} <= set(store.list())


NAMES = {
    "{flow_name}/{task_name}-{map_index}": "mr1/show-1",
    "{task_full_name}": "show[1]",
    "{task_slug}.{map_index:03d}": "show-1.001",
    "{parameters[region]}/{x}": "eu/b",
    "{region}/{x}": "eu/b",
    "{context[team]}-{x!r}": "red-'b'",
    "{x}-{{x}}-${x}-$$": "b-{x}-b-$",
    "{task_loop_count}{x}{task_run_count}": "1b1",
    "{scheduled_start_time:YYYY}/{map_index}": f"{datetime.now(UTC):%Y}/1",
}


@pytest.mark.parametrize("text", NAMES)
def test_mr1_fields_mean_the_same_in_targets_locations_and_names(run: Run, tmp_path: Path, text: str) -> None:
    show = task(lambda x: context.task_run_name, name="show", task_run_name=text)
    with Flow("mr1", result=LocalResult(tmp_path / "l", location=text)) as built:
        built.add_task(Parameter("region"))
        a = show.map(["a", "b"])
        show.map(["a", "b"], task_args={"target": text, "result": LocalResult(tmp_path / "t")})
    with context(team="red"):
        state = run(built, parameters={"region": "eu"})
    assert state.result[a].result[1] == NAMES[text]
    assert LocalResult(tmp_path / "l").exists(NAMES[text])
    assert LocalResult(tmp_path / "t").exists(NAMES[text].replace("show-1", "show-2", "slug" in text))


@pytest.mark.parametrize("text", NAMES)
def test_mr1_fields_mean_the_same_in_flow_functions(executor: Any, tmp_path: Path, text: str) -> None:
    show = task(lambda x: context.task_run_name, name="show", task_run_name=text)
    other = task(lambda x: x, name="show", target=text, result=LocalResult(tmp_path / "t"))

    @flow(name="mr1", result=LocalResult(tmp_path / "l", location=text), executor=executor, history=False)
    def built(region: str) -> Any:
        return [*show.map(["a", "b"]).result(), *other.map(["a", "b"]).result()]

    with context(team="red"):
        found = built("eu")
    assert (found[1], found[2:]) == (NAMES[text], ["a", "b"])
    assert LocalResult(tmp_path / "l").exists(NAMES[text])
    assert LocalResult(tmp_path / "t").exists(NAMES[text].replace("show-1", "show-2", "slug" in text))


def test_mr1_field_of_the_context_is_looked_up_in_calls(executor: Any, tmp_path: Path) -> None:
    @flow(result=LocalResult(tmp_path), executor=executor, history=False)
    def built() -> Any:
        found.append(first.with_options(target="{context[team]}")(return_state=True))

    found: list[State] = []
    built()
    assert "ValueError: template '{context[team]}': there is no 'context[team]' here" in found[0].message
    with context(team="red"):
        built()
        built()
    assert [type(state) for state in found] == [Failed, Success, Cached]


def test_mr1_unknown_field_is_refused_before_the_run(tmp_path: Path) -> None:
    for options in ({"target": "{day}"}, {"task_run_name": "{day}"}, {"target": "{parameters[day]}"}):
        with Flow("mr1", result=LocalResult(tmp_path)) as built:
            first(task_args=options)
        with pytest.raises(FlowDefinitionError, match=r"first: .* has an unknown (field|parameter) 'day'; "):
            built.run(history=False)

        @flow(result=LocalResult(tmp_path))
        def calls(options: Any = options) -> Any:
            return first.copy(**options)()

        with pytest.raises(FlowDefinitionError, match=r"first: .* has an unknown (field|parameter) 'day'; "):
            calls()


def test_mr1_field_of_the_context_is_looked_up_in_the_run(run: Run, tmp_path: Path) -> None:
    with Flow("mr1", result=LocalResult(tmp_path)) as built:
        out = first(task_args={"target": "{context[team]}"})
    state = run(built).result[out]
    assert (type(state), state.message[:40]) == (Failed, "result could not be stored: ValueError: ")
    assert "there is no 'context[team]' here" in state.message
    with context(team="red"):
        assert type(run(built).result[out]) is Success
        assert type(run(built).result[out]) is Cached


def test_e7_constant_targets_of_two_tasks_are_refused_before_the_run(tmp_path: Path) -> None:
    for text, other in (("x", "x"), ("{task_name}", "$task_name"), ("{date:%A}", "{date:%A}")):
        with Flow("e7", result=LocalResult(tmp_path)) as built:
            first(task_args={"target": text})
            first(task_args={"target": other})
        with pytest.raises(FlowDefinitionError, match="first-2: its result would overwrite the result of first-1, at"):
            built.run(history=False)


@pytest.mark.parametrize("target", ["{x}.pkl", "n{map_index}.pkl"])
def test_e7_children_of_flattened_maps_are_named_in_their_order(spelled: Any, tmp_path: Path, target: str) -> None:
    def spread(n: int) -> list[int]:
        spend(0.3 if n == 3 else 0)
        return list(range(n))

    store = LocalResult(tmp_path)

    def program() -> dict[str, Any]:
        spreads = task(spread, name="spread", checkpoint=False).map([3, 1, 2])
        loaded = task(lambda x: x, name="load", target=target).map(flatten(spreads))
        return {"load": loaded, "later": task(lambda x: x, name="later", target="later/{x}.pkl").map(loaded)}

    states = spelled.states(program, result=store)
    found = [type(child).__name__ for child in states["load"].map_states]
    if target == "{x}.pkl":
        assert found == ["Success"] * 3 + ["Failed"] * 3
    else:
        assert found == ["Success"] * 6
        assert [store.load(f"n{n}.pkl") for n in range(6)] == [0, 1, 2, 0, 0, 1]
        ends_later = [type(child).__name__ for child in states["later"].map_states]
        assert ends_later == ["Success"] * 3 + ["Failed"] * 3


def test_results_of_a_store_that_only_travels_by_value_can_be_read(run: Run, tmp_path: Path) -> None:
    class Reversed:
        def serialize(self, value: Any) -> bytes:
            return str(value)[::-1].encode()

        def deserialize(self, content: bytes) -> Any:
            return bytes(content).decode()[::-1]

    store = LocalResult(tmp_path, serializer=Reversed(), location=lambda map_index, **_: f"{map_index}.txt")
    load = task(lambda x: "ab" * x, name="load", result=store)
    with Flow("by value") as built:
        loaded = load.map([1, 5000])
    assert run(built).result[loaded].result == ["ab", "ab" * 5000]


def test_e7_a_store_in_the_folder_of_another_shares_no_file_with_it(spelled: Any, tmp_path: Path) -> None:
    outer, inner = LocalResult(tmp_path), LocalResult(tmp_path / "sub")

    def program() -> dict[str, Any]:
        one = task(lambda x: ("one", x), name="one", result=outer, target="sub/{x}.pkl").map([1, 2])
        two = task(lambda x: ("two", x), name="two", result=inner, target="{x}.pkl")
        return {"one": one, "two": two.map([1, 3], **spelled.waited([one]))}

    states = spelled.states(program)
    assert [child.result for child in states["one"].map_states] == [("one", 1), ("one", 2)]
    first, second = states["two"].map_states
    assert "'1.pkl' is where one[0] keeps its result, not two[0]" in first.message
    assert second.result == ("two", 3)


def test_e7_constant_targets_in_one_file_of_two_stores_are_refused_before_the_run(tmp_path: Path) -> None:
    with Flow("e7") as built:
        first(task_args={"target": "sub/x", "result": LocalResult(tmp_path)})
        first(task_args={"target": "x", "result": LocalResult(tmp_path / "sub")})
    with pytest.raises(FlowDefinitionError, match="first-2: its result would overwrite the result of first-1, at 'x'"):
        built.run(history=False)


@pytest.mark.parametrize("names", [["a", "a/b", "c"], ["a/b/c", "a", "c"]])
def test_e7_of_a_name_and_a_folder_of_that_name_the_lower_index_has_it(
    spelled: Any, tmp_path: Path, names: list[str]
) -> None:
    def program() -> dict[str, Any]:
        return {"load": task(lambda x: x, name="load", result=LocalResult(tmp_path), target="{x}").map(names)}

    kept, failed, other = spelled.states(program)["load"].map_states
    assert (kept.result, other.result) == (names[0], "c")
    assert f"{names[1]!r} cannot be a file beside {names[0]!r}, where load[0] keeps its result" in failed.message


@pytest.mark.parametrize("source", ["constant", "result", "flattened"])
def test_e7_equal_items_are_told_apart_in_names_wherever_their_list_was_made(
    spelled: Any, tmp_path: Path, source: str
) -> None:
    def program() -> dict[str, Any]:
        items = [0, 1, 0]
        given: Any = items
        if source == "result":
            given = spelled.call(task(lambda: items, name="items", checkpoint=False))
        elif source == "flattened":
            given = flatten(task(lambda n: items[n:], name="items", checkpoint=False).map([1, 2]))
        store, key = LocalResult(tmp_path), str
        loaded = task(lambda x: x, name="load", result=store, target="{item_key}.pkl", item_key=key)
        return {"load": loaded.map(given)}

    children = spelled.states(program)["load"].map_states
    assert [child.result for child in children] == ([1, 0, 0] if source == "flattened" else [0, 1, 0])
    assert sorted(path.name for path in tmp_path.glob("*.pkl")) == ["0#2.pkl", "0.pkl", "1.pkl"]


def test_an_item_key_that_comes_too_late_or_names_nothing_is_refused(spelled: Any) -> None:
    keyed = task(lambda x: x, name="keyed", item_key=str)
    named = task(lambda x: x, name="keyed", item_key="y")
    with pytest.raises(FlowDefinitionError, match="keyed: item_key=<class 'str'> comes too late: "):
        spelled.states(lambda: {"keyed": keyed.map(task(lambda x: x, name="before").map([1, 2]))})
    with pytest.raises(FlowDefinitionError, match="keyed: item_key must be a mapped argument, got 'y'; pass 'x'"):
        spelled.states(lambda: {"keyed": named.map([1, 2])})
