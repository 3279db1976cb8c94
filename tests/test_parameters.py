"""Parameters, and the values that a run gives them."""

from __future__ import annotations

from typing import Any

import pytest
from bodies import take

from prefectish import Flow, Parameter, Task, context
from prefectish.errors import FlowDefinitionError, ParameterError
from prefectish.parameters import settle


def test_parameter_without_default_is_required() -> None:
    made = Parameter("x")
    assert (made.name, made.slug, made.required, made.default) == ("x", "x", True, None)


@pytest.mark.parametrize("default", [0, None, [], "a"])
def test_parameter_with_default_is_not(default: Any) -> None:
    made = Parameter("x", default=default)
    assert (made.required, made.default) == (False, default)


def test_parameter_may_be_optional_without_default() -> None:
    assert Parameter("x", required=False).default is None


def test_required_parameter_has_no_use_for_a_default() -> None:
    with pytest.raises(FlowDefinitionError, match="'x' is required, so its default 3"):
        Parameter("x", default=3, required=True)


@pytest.mark.parametrize("name", ["", None, 3])
def test_parameter_needs_a_name(name: Any) -> None:
    with pytest.raises(FlowDefinitionError, match="name of a parameter must be a non-empty string, got "):
        Parameter(name)


def test_parameter_repr_says_what_it_is() -> None:
    assert repr(Parameter("x")) == "<Parameter: x>"


def test_call_adds_the_parameter_itself() -> None:
    with Flow("f") as flow:
        made = Parameter("x")
        assert made() is made
    assert flow.parameters() == {made}


def test_call_takes_no_arguments() -> None:
    with Flow("f"), pytest.raises(TypeError, match="<Parameter: x> takes no arguments"):
        X(1)


def test_use_adds_the_parameter() -> None:
    with Flow("f") as flow:
        result = take(made := Parameter("x"))
    assert [(e.upstream_task, e.downstream_task, e.key) for e in flow.edges] == [(made, result, "x")]


def test_two_parameters_of_one_name_are_refused() -> None:
    first, second = Parameter("x"), Parameter("x")
    with Flow("f"):
        take(first)
        with pytest.raises(ValueError, match="the slug 'x' of <Parameter: x> is used by another task; use one"):
            take(second)


def test_parameter_cannot_wait_for_anything() -> None:
    flow = Flow("f")
    with pytest.raises(FlowDefinitionError, match="<Parameter: x> cannot wait for <Task: a>"):
        flow.add_edge(Task("a"), Parameter("x"))


def test_copy_needs_another_name() -> None:
    made = Parameter("x", default=3)
    other = made.copy("y")
    assert (other.name, other.slug, other.default) == ("y", "y", 3)
    for name in ("", "x"):
        with pytest.raises(FlowDefinitionError, match="a copy of <Parameter: x> must have another name, got"):
            made.copy(name)
    with pytest.raises(TypeError, match="name"):
        made.copy()


def test_run_reads_the_context() -> None:
    assert Parameter("x", default=1).run() == 1
    with context(parameters={"x": 2}):
        assert Parameter("x", default=1).run() == 2


X, Y, Z = Parameter("x"), Parameter("y", default=2), Parameter("z", required=False)


def test_given_value_beats_context_beats_default() -> None:
    assert settle([X, Y, Z], {"x": 1}, {}) == {"x": 1, "y": 2, "z": None}
    assert settle([X, Y, Z], {"x": 1, "y": None}, {"x": 5, "y": 5, "z": 5}) == {"x": 1, "y": None, "z": 5}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "missing: x"),
        ({"x": 1, "b": 1, "a": 1}, "unknown: a, b"),
        ({"w": 1}, "missing: x; unknown: w"),
    ],
)
def test_missing_and_unknown_are_named(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ParameterError) as caught:
        settle([X, Y, Z], given, {})
    assert str(caught.value) == text
    assert isinstance(caught.value, ValueError)


def test_unrelated_parameters_of_the_context_are_none_of_its_business() -> None:
    assert settle([Y], {}, {"other": 1}) == {"y": 2}
