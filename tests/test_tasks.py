"""Tasks: made of functions and by subclasses, copied, called, pickled."""

from __future__ import annotations

import functools
import logging
import math
import operator
import pickle
import warnings
from datetime import timedelta
from typing import Any

import cloudpickle
import pytest

from prefectish import Flow, Parameter, Task, tags, task
from prefectish.errors import FlowDefinitionError
from prefectish.tasks import FunctionTask
from prefectish.tasks.returns import annotated_nout
from prefectish.triggers import all_successful


@task
def double(x: int) -> int:
    """Return twice x."""
    return 2 * x


@task(name="pair", nout=2)
def make_pair(x: int) -> tuple[int, ...]:
    return x, x


class Scale(Task):
    def __init__(self, factor: int, **options: Any) -> None:
        self.factor = factor
        super().__init__(**options)

    def run(self, x: int) -> int:
        return self.factor * x


# ---------------------------------------------------------------------- making


def test_bare_task_runs_and_returns_none() -> None:
    assert Task().run() is None
    assert Task().name == "Task"


def test_defaults_are_those_of_an_ordinary_task() -> None:
    made = Task()
    assert (made.slug, made.tags, made.max_retries, made.nout) == (None, frozenset(), 0, None)
    assert (made.skip_on_upstream_skip, made.strict_map, made.on_child_failure) == (True, True, "continue")
    assert (made.trigger, made.state_handlers, made.isolation) == (all_successful, [], "thread")
    assert not made.auto_generated


def test_repr_is_what_handlers_print() -> None:
    assert repr(Task()) == "<Task: Task>"
    assert repr(double) == "<Task: double>"


def test_decorated_function_still_runs_by_run() -> None:
    assert double.run(4) == 8
    assert double.name == "double"


def test_decorator_takes_options() -> None:
    assert (make_pair.name, make_pair.nout) == ("pair", 2)
    assert isinstance(make_pair, FunctionTask)


def test_task_takes_function_and_options_at_once() -> None:
    assert task(math.sqrt, name="root").name == "root"


@pytest.mark.parametrize(
    ("function", "name", "arguments", "result"),
    [
        (functools.partial(operator.add, 1), "add", [2], 3),
        (functools.partial(functools.partial(pow, exp=2), mod=5), "pow", [3], 4),
        (math.sqrt, "sqrt", [9], 3),
        (Scale(3).run, "run", [2], 6),
    ],
)
def test_any_callable_makes_a_task(function: Any, name: str, arguments: list[Any], result: Any) -> None:
    made = task(function)
    assert (made.name, made.run(*arguments)) == (name, result)


def test_lambda_keeps_its_name() -> None:
    assert task(lambda x: x).name == "<lambda>"


def test_callable_object_makes_a_task() -> None:
    class Greeter:
        def __call__(self, who: str) -> str:
            return f"hello {who}"

    made = task(Greeter())
    assert (made.name, made.run("you")) == ("Greeter", "hello you")


def test_subclass_is_named_after_its_class() -> None:
    assert Scale(2).name == "Scale"
    assert Scale(2, name="twice").name == "twice"
    assert Scale(2).run(4) == 8


@pytest.mark.parametrize("value", [3, "f"])
def test_only_callables_make_tasks(value: Any) -> None:
    with pytest.raises(TypeError, match="task must be used on a function, got "):
        task(value)


@pytest.mark.parametrize("value", [double, Scale])
def test_task_of_a_task_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="is already a task; use copy"):
        task(value)


def test_star_args_are_refused_at_the_decorator() -> None:
    with pytest.raises(ValueError, match=r"total: a task cannot take \*numbers"):

        @task
        def total(*numbers: int) -> int:
            return sum(numbers)


def test_reserved_argument_is_refused_in_a_subclass() -> None:
    class Bad(Task):
        def run(self, mapped: Any) -> None: ...

    with pytest.raises(ValueError, match="Bad: the argument name 'mapped' is reserved"):
        Bad()


def test_task_passed_to_init_warns_that_it_is_not_a_call() -> None:
    with pytest.warns(UserWarning, match=r"Scale\(\.\.\.\) was created with <Task: double>"):
        Scale(double)  # type: ignore[arg-type]


def test_option_set_before_init_warns() -> None:
    class Early(Task):
        def __init__(self) -> None:
            self.max_retries = 3
            super().__init__()

    with pytest.warns(UserWarning, match=r"Early sets self.max_retries before super\(\).__init__\(\)"):
        Early()


def test_option_as_class_attribute_warns() -> None:
    with pytest.warns(UserWarning, match="Early.timeout has the name of an option"):

        class Early(Task):
            timeout = 3


def test_logger_is_named_after_the_task() -> None:
    assert double.logger is logging.getLogger("prefectish.double")


# ---------------------------------------------------------------------- nout


def test_nout_is_read_from_the_annotation() -> None:
    @task
    def divide(a: int, b: int) -> tuple[int, int]:
        return divmod(a, b)

    assert divide.nout == 2


def no_annotation():  # type: ignore[no-untyped-def]
    return 1, 2


def many() -> tuple[int, ...]:
    return 1, 2


def bare() -> tuple:  # type: ignore[type-arg]
    return 1, 2


def unknown() -> tuple[Missing, int]:  # type: ignore[name-defined]  # noqa: F821
    return 1, 2


def three() -> tuple[int, str, None]:
    return 1, "2", None


@pytest.mark.parametrize(
    ("function", "nout"),
    [(no_annotation, None), (many, None), (bare, None), (unknown, None), (three, 3), (len, None), (double.run, None)],
)
def test_only_a_fixed_length_tuple_tells_nout(function: Any, nout: int | None) -> None:
    assert annotated_nout(function) == nout


def test_explicit_nout_beats_the_annotation() -> None:
    assert task(three, nout=1).nout == 1


def test_nout_lets_a_result_be_unpacked() -> None:
    with Flow("f") as flow:
        first, second = make_pair(1)
    assert [first.name, second.name] == ["pair[0]", "pair[1]"]
    assert [flow.constants[each]["b"] for each in (first, second)] == [0, 1]


def test_iterating_without_nout_is_refused() -> None:
    with Flow("f"):
        with pytest.raises(TypeError, match=r"<Task: double> is not iterable.*set nout="):
            _, _ = double(1)
        with pytest.raises(TypeError, match="not iterable"):
            double(*double(1))


def test_map_drops_nout() -> None:
    with Flow("f"), pytest.raises(TypeError, match="not iterable"):
        _, _ = make_pair.map([1, 2])
    assert make_pair.nout == 2


# ---------------------------------------------------------------------- copying


def test_copy_keeps_attributes_and_takes_options() -> None:
    original = Scale(3, tags=["a"], retries=1)
    new = original.copy(name="thrice", tags=["b"], factor=4)
    assert (new.name, new.factor, new.tags, new.max_retries) == ("thrice", 4, frozenset("ab"), 1)
    assert (original.name, original.factor, original.tags) == ("Scale", 3, frozenset("a"))
    assert type(new) is Scale


def test_copies_do_not_share_handlers() -> None:
    original = Task()
    original.copy().state_handlers.append(print)
    assert original.state_handlers == []


def test_copy_of_an_explicit_slug_differs() -> None:
    assert Task(slug="s").copy().slug == "s-copy"
    assert Task(slug="s").copy(slug="t").slug == "t"
    assert Task().copy().slug is None


def test_copy_refuses_an_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="<Task: double> does not have 'colour'"):
        double.copy(colour="red")


def test_copy_of_a_task_with_edges_warns_in_its_flow() -> None:
    with Flow("f"):
        bound = double(double(1))
        with pytest.warns(UserWarning, match="has edges in <Flow: name=f>"):
            copied = bound.copy()
        copied.bind(1)


# ---------------------------------------------------------------------- tags


def test_tags_of_a_block_reach_tasks_made_called_and_copied_in_it() -> None:
    plain = Task()
    with Flow("f") as flow, tags("outer"), tags("inner", "third"):
        made, called, copied, bound = Task(tags=["own"]), double(1), plain.copy(), Task()
        for each in (made, copied, bound):
            flow.add_task(each)
    assert made.tags == {"own", "outer", "inner", "third"}
    assert called.tags == copied.tags == {"outer", "inner", "third"}
    assert plain.tags == double.tags == frozenset()


def test_tags_of_a_block_reach_a_bound_task() -> None:
    plain = Task()
    with Flow("f"), tags("t"):
        plain.bind()
    assert plain.tags == {"t"}


def test_tags_are_strings() -> None:
    with pytest.raises(TypeError, match="tags must be a list of strings, got 1"), tags(1):  # type: ignore[arg-type]
        pass


# ---------------------------------------------------------------------- calling


def test_call_outside_a_flow_names_the_ways_out() -> None:
    with pytest.raises(ValueError, match=r"^no active Flow.*@flow.*double\.run\(\.\.\.\)"):
        double(1)


@pytest.mark.parametrize("use", [double.map, double.bind, double.set_upstream, lambda x: double + x])
def test_every_use_outside_a_flow_is_refused(use: Any) -> None:
    with pytest.raises(FlowDefinitionError, match=r"^no active Flow"):
        use([1])


def test_call_binds_a_copy() -> None:
    with Flow("f") as flow:
        result = double(1)
    assert result is not double
    assert list(flow.tasks) == [result]
    assert flow.constants == {result: {"x": 1}}


def test_bind_binds_the_task_itself() -> None:
    made = Scale(2)
    with Flow("f") as flow:
        assert made.bind(1) is made
    assert flow.constants == {made: {"x": 1}}


def test_call_takes_a_flow() -> None:
    flow = Flow("f")
    result = double(1, flow=flow)
    assert flow.tasks == {result}


def test_call_takes_options_of_its_copy() -> None:
    with Flow("f"):
        result = double(1, task_args={"name": "twice", "retries": 2})
    assert (result.name, result.max_retries, double.max_retries) == ("twice", 2, 0)


def test_call_keeps_an_explicit_slug() -> None:
    with Flow("f") as flow:
        result = Task(slug="s")()
        with pytest.raises(FlowDefinitionError, match="the slug 's' of <Task: Task> is used by another task"):
            Task(slug="s")()
    assert flow.slugs[result] == "s"


def test_call_with_wrong_arguments_is_refused_while_building() -> None:
    with Flow("f") as flow:
        with pytest.raises(TypeError, match="double: missing a required argument: 'x'"):
            double()
        with pytest.raises(TypeError, match="double: too many positional arguments"):
            double.map([1], [2])
        with pytest.raises(TypeError, match="double: got an unexpected keyword argument 'y'"):
            double(1, y=2)
    assert not flow.edges


def test_self_is_an_argument_like_any_other() -> None:
    @task
    def show(self: Any) -> Any:
        return self

    with Flow("f") as flow:
        shown = show(self=3)
    assert flow.constants == {shown: {"self": 3}}


def test_upstream_tasks_must_be_a_list() -> None:
    with Flow("f"):
        first = double(1)
        with pytest.raises(TypeError, match="upstream_tasks must be a list of tasks, got <Task: double>; pass"):
            double(2, upstream_tasks=first)


def test_kwargs_are_spread_into_edges() -> None:
    @task
    def collect(**more: Any) -> Any:
        return more

    with Flow("f") as flow:
        first = double(1)
        both = collect(a=first, b=5)
    assert [(e.upstream_task, e.key) for e in flow.edges_to(both)] == [(first, "a")]
    assert flow.constants[both] == {"b": 5}


# ---------------------------------------------------------------------- pickling


@pytest.mark.parametrize("made", [Task(), Scale(3, tags=["t"], retries=2), Parameter("p", default=[1])])
def test_task_pickles(made: Task) -> None:
    copy = pickle.loads(pickle.dumps(made))
    assert type(copy) is type(made)
    assert vars(copy) == vars(made)


def test_function_task_pickles_by_value() -> None:
    copy = cloudpickle.loads(cloudpickle.dumps(double))
    assert copy.run(5) == 10


def test_pickled_task_does_not_drag_its_flow_along() -> None:
    ballast = "x" * 100_000
    with Flow("f"):
        result = double(double(ballast)) + 1
    for each in (result, double):
        assert len(cloudpickle.dumps(each)) < 1500
    assert "_home" not in vars(pickle.loads(pickle.dumps(result)))


def test_only_given_options_are_carried() -> None:
    assert vars(Task()).keys() == {"name", "trigger", "state_handlers"}
    assert vars(Task(timeout=timedelta(seconds=1))).keys() - vars(Task()).keys() == {"timeout"}


def test_making_tasks_warns_of_nothing() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        Scale(1, name="n", slug="s", tags=["t"])
    assert seen == []
