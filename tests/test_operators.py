"""Operators on tasks: which task they add, and in which order it takes its operands."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from prefectish import Flow, Parameter, Task
from prefectish.tasks.task import Operation


def compute(flow: Flow, result: Task, **values: Any) -> Any:
    """Run an operator's task by hand on parameters and constants."""
    inputs = dict(flow.constants.get(result, {}))
    inputs |= {edge.key: values[edge.upstream_task.name] for edge in flow.edges_to(result) if edge.key}
    return result.run(**inputs)


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": operator.truediv,
    "FloorDiv": operator.floordiv,
    "Mod": operator.mod,
    "Pow": operator.pow,
    "LessThan": operator.lt,
    "LessThanOrEqual": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqual": operator.ge,
}


@pytest.mark.parametrize("name", BINARY)
def test_operator_of_two_tasks(name: str) -> None:
    with Flow("f") as flow:
        result = BINARY[name](Parameter("x"), Parameter("y"))
    assert result.name == name
    assert compute(flow, result, x=7, y=3) == BINARY[name](7, 3)


@pytest.mark.parametrize("name", BINARY)
def test_operator_of_a_task_and_a_constant(name: str) -> None:
    with Flow("f") as flow:
        result = BINARY[name](Parameter("x"), 3)
    assert compute(flow, result, x=7) == BINARY[name](7, 3)


@pytest.mark.parametrize("name", BINARY)
def test_reflected_operator(name: str) -> None:
    with Flow("f") as flow:
        result = BINARY[name](7, Parameter("x"))
    assert compute(flow, result, x=3) == BINARY[name](7, 3)


@pytest.mark.parametrize(
    ("make", "name", "value", "expected"),
    [
        (operator.neg, "Neg", 3, -3),
        (operator.pos, "Pos", 3, 3),
        (abs, "Abs", -3, 3),
        (Task.not_, "Not", 0, True),
        (lambda x: x.is_equal(3), "Equal", 3, True),
        (lambda x: x.is_not_equal(3), "NotEqual", 3, False),
        (lambda x: x.and_("y"), "And", "x", "y"),
        (lambda x: x.and_("y"), "And", "", ""),
        (lambda x: x & "y", "And", "x", "y"),
        (lambda x: "y" & x, "And", "x", "x"),
        (lambda x: x.or_("y"), "Or", "", "y"),
        (lambda x: x.or_("y"), "Or", "x", "x"),
        (lambda x: x[1], "x[1]", "ab", "b"),
        (lambda x: x["k"], "x['k']", {"k": 1}, 1),
        (lambda x: x[1:], "x[1:]", "abc", "bc"),
    ],
)
def test_expression(make: Callable[[Task], Task], name: str, value: Any, expected: Any) -> None:
    with Flow("f") as flow:
        result = make(Parameter("x"))
    assert result.name == name
    assert compute(flow, result, x=value) == expected


def test_matrix_product_uses_the_operands_own() -> None:
    class Doubler:
        def __matmul__(self, other: int) -> int:
            return 2 * other

    with Flow("f") as flow:
        result = Parameter("x") @ 4
    assert compute(flow, result, x=Doubler()) == 8


def test_index_by_a_task_is_named_after_it() -> None:
    with Flow("f") as flow:
        result = Parameter("x")[Parameter("key")]
    assert result.name == "x[key]"
    assert compute(flow, result, x={"a": 1}, key="a") == 1


def test_long_index_is_cut_in_the_name() -> None:
    with Flow("f"):
        result = Parameter("x")["k" * 1000]
    assert result.name == "x['" + "k" * 38 + "…]"


def test_operators_are_generated_and_pickle() -> None:
    with Flow("f"):
        result = Parameter("x") + 1
    assert result.auto_generated
    assert isinstance(result, Operation)
    assert cloudpickle.loads(cloudpickle.dumps(result)).run(1, 2) == 3


def test_equality_of_tasks_is_identity() -> None:
    a, b = Task("t"), Task("t")
    assert a == a
    assert a != b
    assert len({a, b}) == 2


def test_truth_of_an_expression_is_refused_while_building() -> None:
    with Flow("f"):
        x = Parameter("x")
        for ask in (lambda: bool(x > 1), lambda: 1 < x < 3, lambda: not x[0]):
            with pytest.raises(TypeError, match="has no truth value while the flow is built, so `if`,"):
                ask()
        with pytest.raises(TypeError, match="has no truth value while the flow is built"):
            bool(x)


def test_bar_says_then_and_returns_the_right_side() -> None:
    with Flow("f") as flow:
        a, b, c = Task("a")(), Task("b")(), Task("c")()
        assert (a | b | c) is c
    assert [(e.upstream_task, e.downstream_task, e.key) for e in flow.edges] == [(a, b, None), (b, c, None)]


def test_bar_with_a_list_waits_for_each_member() -> None:
    with Flow("f") as flow:
        a, b, c = Task("a")(), Task("b")(), Task("c")()
        assert ([a, b] | c) is c
    assert flow.upstream_tasks(c) == {a, b}
    assert flow.tasks == {a, b, c}


def test_bar_into_something_else_is_refused() -> None:
    with Flow("f"), pytest.raises(TypeError, match="unsupported operand"):
        Task()() | 3  # type: ignore[operator]
