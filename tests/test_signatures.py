"""What bodies take, and how a call's arguments find their names."""

from __future__ import annotations

import functools
import math
import operator
import pickle
from typing import Any

import pytest

from prefectish.tasks.signatures import RESERVED, ByKeyword, callable_by_keyword, inputs_of


def body(x: Any, y: int = 2, *, z: Any, **more: Any) -> None: ...


def test_positional_and_named_arguments_find_their_names() -> None:
    inputs = inputs_of(body, "body")
    assert inputs.bind("body", (1,), {"z": 3, "w": 4}) == {"x": 1, "z": 3, "w": 4}


def test_defaults_are_left_to_the_body() -> None:
    assert "y" not in inputs_of(body, "body").bind("body", (1,), {"z": 3})


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "missing a required argument: 'x'"),
        ((1,), {}, "missing a required.* argument: 'z'"),
        ((1, 2, 3), {"z": 1}, "too many positional arguments"),
        ((1,), {"x": 1, "z": 1}, "multiple values for argument 'x'"),
    ],
)
def test_wrong_call_is_a_type_error_that_names_the_task(args: Any, kwargs: Any, words: str) -> None:
    with pytest.raises(TypeError, match=f"^load: {words}"):
        inputs_of(body, "load").bind("load", args, kwargs)


def test_unexpected_argument_is_refused() -> None:
    def strict(x: Any) -> None: ...

    with pytest.raises(TypeError, match=r"unexpected keyword argument 'y'; the task takes \(x: 'Any'\) -> 'None'"):
        inputs_of(strict, "strict").bind("strict", (), {"x": 1, "y": 2})


@pytest.mark.parametrize("word", sorted(RESERVED))
def test_reserved_argument_name_is_refused(word: str) -> None:
    reserved = eval(f"lambda x, {word}: x")
    with pytest.raises(ValueError, match=f"f: the argument name '{word}' is reserved"):
        inputs_of(reserved, "f")


def test_reserved_word_does_not_slip_through_kwargs() -> None:
    with pytest.raises(TypeError, match="'wait_for' is a reserved keyword of a call and cannot be passed to the"):
        inputs_of(body, "body").bind("body", (1,), {"z": 1, "wait_for": []})


def test_star_args_are_refused() -> None:
    with pytest.raises(ValueError, match=r"f: a task cannot take \*args"):
        inputs_of(lambda *args: args, "f")


def test_body_that_does_not_tell_its_arguments_is_refused() -> None:
    with pytest.raises(ValueError, match="max: <built-in function max> has no signature; wrap it in a function"):
        inputs_of(max, "max")


def test_wrapped_function_counts_as_what_it_wraps() -> None:
    @functools.wraps(body)
    def logged(*args: Any, **kwargs: Any) -> None: ...

    assert inputs_of(logged, "logged").positional == ("x", "y")


def test_wrapper_with_arguments_of_its_own_counts_as_itself() -> None:
    """A decorator may fill an argument in, or add one, under whatever other decorator."""

    @functools.wraps(body)
    def filled(y: Any) -> None: ...

    @functools.wraps(filled)
    def logged(*args: Any, **kwargs: Any) -> None: ...

    class Box:
        @functools.wraps(body)
        def run(self, client: Any, x: Any, y: Any) -> None: ...

    assert inputs_of(filled, "filled").positional == ("y",)
    assert inputs_of(logged, "logged").positional == ("y",)
    assert inputs_of(Box().run, "run").positional == ("client", "x", "y")


def test_partial_takes_the_rest() -> None:
    inputs = inputs_of(functools.partial(body, 1, z=2), "body")
    assert inputs.bind("body", (), {}) == {}


def test_function_is_read_once() -> None:
    assert inputs_of(body, "a") is inputs_of(body, "b")


def test_method_is_read_once_for_all_instances() -> None:
    class Box:
        def run(self, x: Any) -> None: ...

    assert inputs_of(Box().run, "a") is inputs_of(Box().run, "b")
    assert inputs_of(Box().run, "a").positional == ("x",)


def test_method_of_an_object_and_the_function_of_its_class_are_told_apart() -> None:
    class Scale:
        def by(self, x: int, /, y: int = 1) -> Any: ...

    for method, names in ((Scale().by, ("x", "y")), (Scale.by, ("self", "x", "y")), (Scale().by, ("x", "y"))):
        assert inputs_of(method, "by").positional == names


@pytest.mark.parametrize(("function", "values", "result"), [(math.sqrt, [4], 2.0), (operator.sub, [5, 3], 2)])
def test_positional_only_function_is_called_by_keyword(function: Any, values: list[Any], result: Any) -> None:
    wrapped = callable_by_keyword(function, "f")
    names = inputs_of(wrapped, "f").positional
    assert wrapped(**dict(zip(names, values, strict=True))) == result
    assert wrapped(*values) == result
    assert pickle.loads(pickle.dumps(wrapped))(*values) == result


def test_by_keyword_leaves_defaults_alone() -> None:
    def power(x: int, n: int = 2, /, *, scale: int = 1) -> Any:
        return scale * x**n

    wrapped = callable_by_keyword(power, "power")
    assert isinstance(wrapped, ByKeyword)
    assert (wrapped(x=3), wrapped(x=3, n=3), wrapped(3, scale=2)) == (9, 27, 18)


def test_function_callable_by_keyword_is_left_as_it_is() -> None:
    assert callable_by_keyword(body, "body") is body
