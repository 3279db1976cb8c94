"""Tasks, parameters and operators as Prefect 1 documents them."""

from __future__ import annotations

import inspect
import pickle
from datetime import timedelta

import pytest


class TestOptions:
    def test_defaults(self):
        from prefect import Task
        from prefect.engine.cache_validators import never_use
        from prefect.triggers import all_successful

        task = Task()
        assert (task.name, task.slug, task.tags, task.max_retries) == ("Task", None, set(), 0)
        assert (task.trigger, task.cache_validator) == (all_successful, never_use)
        unset = [
            "retry_delay",
            "timeout",
            "cache_for",
            "cache_key",
            "checkpoint",
            "result",
            "target",
            "task_run_name",
            "nout",
            "retry_on",
        ]
        assert [getattr(task, name) for name in unset] == [None] * len(unset)

    def test_arguments_by_position(self):
        from prefect import Task

        task = Task("a name", "a-slug", ["x"], 2, timedelta(seconds=1), 30)
        assert (task.name, task.slug, task.tags) == ("a name", "a-slug", {"x"})
        assert (task.max_retries, task.retry_delay, task.timeout) == (2, timedelta(seconds=1), 30)
        with pytest.raises(TypeError, match="at most 20 arguments"):
            Task(*range(21))

    def test_time_limits_are_whole_seconds(self):
        from prefect import Task

        with pytest.raises(TypeError, match="integer"):
            Task(timeout=0.5)
        with pytest.warns(UserWarning, match="whole seconds"):
            assert Task(timeout=timedelta(seconds=1.5)).timeout == 1

    def test_settings_are_defaults(self):
        from prefect import Task
        from prefect.utilities.configuration import set_temporary_config

        with set_temporary_config({"tasks.defaults.max_retries": 3, "tasks.defaults.retry_delay": 2}):
            assert (Task().max_retries, Task().retry_delay) == (3, timedelta(seconds=2))
        with set_temporary_config({"tasks.defaults.timeout": 5}):
            assert Task().timeout == 5
        assert Task().timeout is None

    def test_a_cache_without_a_validator_takes_any_inputs(self):
        from prefect import Task
        from prefect.engine.cache_validators import all_inputs, duration_only

        day = timedelta(days=1)
        assert Task(cache_for=day).cache_validator is duration_only
        assert Task().copy(cache_for=day).cache_validator is duration_only
        assert Task(cache_for=day, cache_validator=all_inputs).cache_validator is all_inputs

    def test_types_of_errors_are_a_set(self):
        from prefect import Task

        task = Task(max_retries=1, retry_delay=timedelta(0), retry_on=[KeyError, OSError])
        assert task.retry_on == {KeyError, OSError}

    def test_tags_can_be_added_to_and_copies_have_their_own(self):
        from prefect import Task, tags

        task = Task(tags=["a"])
        copy = task.copy()
        task.tags.add("b")
        with tags("c"):
            other = task.copy(tags=["d"])
        assert (task.tags, copy.tags, other.tags) == ({"a", "b"}, {"a"}, {"a", "b", "c", "d"})

    def test_a_target_is_the_location_of_the_result(self, tmp_path):
        from prefect import Task
        from prefect.engine.results import LocalResult

        given = LocalResult(str(tmp_path))
        assert Task(target="{task_name}.x", result=given).result.location == "{task_name}.x"
        assert given.location is None
        with pytest.warns(UserWarning, match="target='b'"):
            assert Task(target="b", result=LocalResult(str(tmp_path), location="a")).result.location == "b"


def test_inputs_outputs_and_signature():
    from prefect import Task

    class Add(Task):
        def run(self, x: int, y: str = "", **more) -> float:
            return 0.0

    assert Add().inputs() == {"x": {"type": int, "required": True}, "y": {"type": str, "required": False}}
    assert Add().outputs() is float
    names = ["x", "y", "mapped", "task_args", "upstream_tasks", "flow", "more"]
    assert list(inspect.signature(Add()).parameters) == names


def test_a_function_task_keeps_name_and_documentation():
    from prefect import Task, task
    from prefect.tasks.core.function import FunctionTask

    def add(x, y):
        """Add two numbers."""
        return x + y

    made = task(add)
    assert isinstance(made, FunctionTask)
    assert isinstance(made, Task)
    assert (made.name, made.__name__, made.__doc__, made.__wrapped__) == ("add", "add", "Add two numbers.", add)
    assert list(inspect.signature(made).parameters) == ["x", "y", "mapped", "task_args", "upstream_tasks", "flow"]
    assert pickle.loads(pickle.dumps(Task(name="x"))).name == "x"
    with pytest.raises(TypeError, match="callable"):
        FunctionTask(3)


def test_every_task_is_an_instance_of_task():
    from prefect import Flow, Task, task
    from prefect.tasks.core.collections import Dict, List
    from prefect.utilities.tasks import as_task

    assert Task()  # no value, but not false
    with Flow("all") as flow:
        one = task(lambda: 1, name="one")()
        made = as_task([one, 2])
        nested = as_task({"a": [one]})
    assert isinstance(made, List)
    assert isinstance(nested, Dict)
    assert all(isinstance(each, Task) for each in flow.tasks)
    assert issubclass(List, Task)
    with pytest.raises(ValueError, match="active Flow"):
        as_task([one])


def test_pipe_calls_with_the_task_first():
    from prefect import Flow, task

    plus = task(lambda x, y=1: x + y, name="plus")
    with Flow("pipe") as flow:
        end = plus(1).pipe(plus, y=10).pipe(plus)
        with pytest.raises(TypeError, match="task to call"):
            end.pipe()
    assert flow.run(history=False).result[end].result == 13


def test_defaults_from_attributes():
    from prefect import Task
    from prefect.utilities.tasks import defaults_from_attrs

    class Greet(Task):
        def __init__(self, word=None, **options):
            self.word = word
            super().__init__(**options)

        @defaults_from_attrs("word")
        def run(self, name, word=None):
            return f"{word} {name}"

    greet = Greet("hello")
    assert [greet.run("a"), greet.run("a", "bye"), greet.run(name="a", word=None)] == ["hello a", "bye a", "hello a"]


def test_children_with_a_cache_have_values_of_their_own(executor):
    from prefect import Flow, task
    from prefect.engine.cache_validators import partial_inputs_only, partial_parameters_only

    def times_ten(x):
        return x * 10

    with Flow("cached") as flow:
        maps = [
            task(times_ten, name=f"of_{number}", cache_for=timedelta(1), cache_validator=validator).map([1, 2, 3])
            for number, validator in enumerate([partial_inputs_only(), partial_parameters_only(["p"])])
        ]
    for _ in range(2):
        state = flow.run(executor=executor)
        assert [state.result[found].result for found in maps] == [[10, 20, 30]] * 2


def test_operators_are_tasks_of_their_classes():
    from prefect import Flow, Parameter
    from prefect.tasks.core import operators

    with Flow("operators") as flow:
        x = Parameter("x")
        made = [x + 1, 2 * x, x > 1, x["a"], x.is_equal(1), x.not_equal(2), x.not_(), x.and_(3), x.or_(4)]
    kinds = [type(each).__name__ for each in made]
    assert kinds == ["Add", "Mul", "GreaterThan", "GetItem", "Equal", "NotEqual", "Not", "And", "Or"]
    assert len([each for each in flow.tasks if isinstance(each, operators.GetItem)]) == 1


def test_items_and_attributes_with_defaults():
    from prefect.tasks.core.operators import GetAttr, GetItem

    assert GetItem(default=3).run({}, "a") == 3
    assert GetAttr().run(1 + 2j, "real.imag") == 0.0
    assert GetAttr(default=None).run(1, "nothing") is None
    with pytest.raises(KeyError):
        GetItem().run({}, "a")
    with pytest.raises(AttributeError):
        GetAttr().run(1, "nothing")


def test_parameters():
    from prefect import Parameter
    from prefect.core.parameter import DateTimeParameter, no_default

    required, optional = Parameter("x"), Parameter("y", default=2)
    assert (required.required, required.default, required.slug) == (True, no_default, "x")
    assert (optional.required, optional.default) == (False, 2)
    assert Parameter("z", default=2, required=True).required
    assert DateTimeParameter("since", required=False).default is None
    with pytest.raises(AttributeError, match="copy"):
        required.name = "other"
    with pytest.raises(TypeError, match="cannot be mapped"):
        required.map([1])


def test_collections_take_their_members_by_position():
    from prefect import Flow
    from prefect.tasks.core.collections import Dict, List, Set, Tuple

    with Flow("collections") as flow:
        made = [List().bind(1, 2), Tuple().bind(1, 2), Set().bind(1, 1), Dict().bind(keys=["a"], values=[1])]
    state = flow.run(history=False)
    assert [state.result[each].result for each in made] == [[1, 2], (1, 2), {1}, {"a": 1}]


def test_annotations_say_what_they_are():
    from prefect import flatten, mapped, unmapped

    assert unmapped(1).annotations == {"mapped": False}
    assert flatten(mapped(1)).annotations == {"mapped": True, "flattened": True}


def test_a_tail_recursive_function_needs_no_frames():
    from prefect.utilities.executors import RecursiveCall, tail_recursive

    @tail_recursive
    def count(n, total=0):
        if n:
            raise RecursiveCall(count, n - 1, total=total + 1)
        return total

    assert count(5000) == 5000


def test_flows_and_tasks_as_plain_values():
    import json

    from prefect import Flow, Parameter, task
    from prefect.triggers import all_failed

    with Flow("plain") as flow:
        x = Parameter("x", default=3)
        task(lambda n: n, name="mapped", trigger=all_failed).map(x)
    found = json.loads(json.dumps(flow.serialize()))
    assert (found["type"], found["__version__"]) == ("prefect.core.flow.Flow", "1.4.1")
    assert found["parameters"][0]["type"] == "prefect.core.parameter.Parameter"
    mapped = next(facts for facts in found["tasks"] if facts["name"] == "mapped")
    assert mapped["trigger"] == {"fn": "prefect.triggers.all_failed", "kwargs": {}}
    assert mapped["cache_validator"]["fn"] == "prefect.engine.cache_validators.never_use"
    assert (mapped["is_mapped"], mapped["inputs"]["n"]["required"]) == (True, True)
    second = flow.get_tasks("mapped")[0]
    flow.add_edge(second, task(lambda: 1, name="end"))
    flow.add_edge(flow.get_tasks("end")[0], second)
    with pytest.raises(ValueError, match="cycle"):
        flow.serialize()


def test_edges_are_checked_as_they_come_if_that_is_asked_for():
    from prefect import Flow, Parameter, Task

    class Takes(Task):
        def run(self, x):
            return x

    flow, takes = Flow("checks"), Takes()
    flow.add_edge(Task(), takes, key="x")
    with pytest.raises(ValueError, match=r'Argument "x" for task .* has already been assigned in this flow'):
        flow.add_edge(Task(), takes, key="x", validate=True)
    with pytest.raises(TypeError):
        flow.add_edge(Task(), takes, key="y", validate=True)
    with pytest.raises(ValueError, match="Parameters must be root tasks"):
        flow.add_edge(Task(), Parameter("p"))
    with pytest.raises(ValueError, match="was not found in"):
        flow.edges_to(Task())


def test_tasks_of_collections_and_branches_run_by_themselves():
    from prefect import Flow, Parameter, context, task
    from prefect.engine import signals
    from prefect.tasks.control_flow import merge
    from prefect.tasks.control_flow.conditional import CompareValue, Merge
    from prefect.tasks.core.collections import Dict, Tuple

    assert Dict().run(keys=["a", 1], values=[1, 2]) == {"a": 1, 1: 2}
    with pytest.raises(ValueError, match="zip"):
        Dict().run(keys=["a"], values=[])
    assert Tuple(name="pair").name == "pair"
    assert Merge(name="first").run(task_1=None, task_2=2) == 2
    with pytest.raises(signals.SKIP, match='Provided value "b" did not match "a"'):
        CompareValue("a").run("b")
    with Flow("merges") as flow:
        merged = merge(task(lambda: 1, name="one")(), checkpoint=False)
    assert merged.checkpoint is False
    assert flow.run(history=False).result[merged].result == 1
    with context(parameters={}), pytest.raises(signals.FAIL, match='Parameter "x" was required'):
        Parameter("x").run()


def test_saved_flows_have_readable_names(tmp_path):
    from prefect import Flow
    from prefect.utilities.configuration import set_temporary_config

    with set_temporary_config({"home_dir": str(tmp_path)}):
        assert Flow("I am_a flow!").save().endswith("/i-am-a-flow.prefect")
        assert Flow.load("I am_a flow!").name == "I am_a flow!"


def test_blocks_and_parameters_tell_what_they_are():
    from prefect import Flow, Parameter, Task, case, resource_manager, task
    from prefect.tasks.control_flow.conditional import CompareValue

    @resource_manager
    class Manager:
        def setup(self):
            return 1

        def cleanup(self, resource):
            pass

    with Flow("blocks") as flow:
        x = Parameter("x", default="a")
        with case(x, "a"):
            used = task(lambda: 1, name="used")()
        managed = Manager()
        with managed:
            task(lambda: 2, name="managed")()
    compared = [each for each in flow.tasks if isinstance(each, CompareValue)]
    assert [each.name for each in compared] == ['CompareValue: "a"']
    assert flow.upstream_tasks(used) == set(compared)
    assert managed.flow is flow
    assert flow.run(history=False).result[used].result == 1
    assert flow.run(history=False, x="b").result[used].is_skipped()
    with pytest.raises(ValueError, match="reference tasks must be part of the flow"):
        flow.set_reference_tasks([Task()])
    assert len(flow.serialized_hash()) == 64


def test_options_by_position_come_in_the_order_of_the_reference():
    from prefect import Task
    from prefect.triggers import any_failed

    delay = timedelta(seconds=1)
    task = Task("n", "s", ["t"], 1, delay, ValueError, 5, any_failed, False)
    assert (task.name, task.slug, task.tags, task.max_retries, task.retry_delay) == ("n", "s", {"t"}, 1, delay)
    assert (task.retry_on, task.timeout, task.trigger) == ({ValueError}, 5, any_failed)
    assert task.skip_on_upstream_skip is False
