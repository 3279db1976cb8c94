"""Names of results through whole runs, on every executor, in both front ends: E7 and MR1."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from real import spend

from prefectish import Flow, Parameter, context, flow, task
from prefectish.engine.state import Cached, Failed, State, Success
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
    assert found == [("Success", first), refused(name, "load-1[0]", "load-1[1]"), ("Success", third)]
    assert store.load(name) == first
    found = ends(run(built).result[loaded].map_states)  # what is there already stands for one child only
    assert found == [("Cached", first), refused(name, "load-1[0]", "load-1[1]"), ("Cached", third)]


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
        refused("mon.pkl", "load-1[0]", "load-1[1]"),
        ("Success", "tue/C"),
        ("Success", "wed/slow"),
        refused("wed.pkl", "load-2[0]", "load-2[1]"),
        refused("tue.pkl", "load-1[2]", "other-1[0]"),
    ]


def test_e7_equal_names_of_two_tasks_fail_the_second(run: Run, tmp_path: Path) -> None:
    store = LocalResult(tmp_path)
    one = task(load_body, name="one", target=lambda **_: "same.pkl")
    two = task(load_body, name="two", target=lambda **_: "same.pkl")
    away = task(load_body, name="away", target=lambda **_: "same.pkl", result=LocalResult(tmp_path / "other"))
    with Flow("e7", result=store) as built:
        a, b, c = one("mon", "slow"), two("mon", "slow"), away("mon", "B")
    state = run(built)
    found = ends([state.result[t] for t in (a, b, c)])
    assert found == [("Success", "mon/slow"), refused("same.pkl", "one-1", "two-1"), ("Success", "mon/B")]


def test_e7_names_made_of_a_result_are_of_one_child(run: Run, tmp_path: Path) -> None:
    store = LocalResult(tmp_path)
    day_of = task(lambda x: "mon" if x < 3 else "tue", name="day_of")
    load = task(lambda day, x: (day, x), name="load", target="{day}.pkl")
    with Flow("e7", result=store) as built:
        loaded = load.map(day_of.map([1, 2, 3]), [1, 2, 3])
    children = run(built).result[loaded].map_states
    assert sorted(type(child).__name__ for child in children[:2]) == ["Failed", "Success"]
    good = [child.result for child in children if child.is_successful()]
    assert [store.load("mon.pkl"), store.load("tue.pkl")] == good
    [bad] = [child for child in children if child.is_failed()]
    assert "'mon.pkl' is where load-1[" in bad.message


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


def test_mr1_unknown_field_is_refused_before_the_run(tmp_path: Path) -> None:
    for options in ({"target": "{day}"}, {"task_run_name": "{day}"}, {"target": "{parameters[day]}"}):
        with Flow("mr1", result=LocalResult(tmp_path)) as built:
            first(task_args=options)
        with pytest.raises(FlowDefinitionError, match=r"first-1: .* has an unknown (field|parameter) 'day'; "):
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
