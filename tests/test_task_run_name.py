"""What runs are called: templates and functions of the inputs, in states, context, logs and the history."""

from __future__ import annotations

import logging

import pytest

from prefectish import Flow, Parameter, context, history, task
from prefectish.errors import FlowDefinitionError
from prefectish.executors import LocalDaskExecutor, LocalExecutor
from prefectish.results import LocalResult
from prefectish.tasks.naming import MAX_NAME_LENGTH, RunNaming

FIELDS = {"task_slug": "load-1", "x": "eu", "map_index": 3}


@task(task_run_name="load ${url} (${map_index})")
def load(url):
    if url == "bad":
        raise ValueError("no such page")
    return context.task_run_name


def names(state):
    return [child.context.get("task_run_name") for child in state.map_states]


@pytest.mark.parametrize(
    "executor", [LocalExecutor(), LocalDaskExecutor(num_workers=2), LocalDaskExecutor("processes", num_workers=2)]
)
def test_names_are_in_states_and_in_the_context_of_bodies(executor):
    with Flow("names") as flow:
        loaded = load.map(["a", "bad", "c"])
    state = flow.run(history=False, executor=executor).result[loaded]
    assert names(state) == ["load a (0)", "load bad (1)", "load c (2)"]
    assert [child.result for child in state.map_states if child.is_successful()] == ["load a (0)", "load c (2)"]


def test_arguments_that_are_left_to_their_defaults_are_fields_too(spelled, tmp_path):
    @task(task_run_name="{x} of {size}", target="${x}-${size}.pickle")
    def cut(x, size=3):
        return context.task_run_name

    @task(task_run_name=lambda x, size, **fields: f"{x} of {size}")
    def paste(x, size=4):
        return context.task_run_name

    found = spelled.states(
        lambda: {"cut": cut.map([1, 2]), "all": spelled.call(cut, 3, size=9), "paste": spelled.call(paste, 5)},
        result=LocalResult(str(tmp_path)),
    )
    assert [child.result for child in found["cut"].map_states] == ["1 of 3", "2 of 3"]
    assert (found["all"].result, found["paste"].result) == ("3 of 9", "5 of 4")
    assert {path.name for path in tmp_path.glob("*.pickle")} == {"1-3.pickle", "2-3.pickle", "3-9.pickle"}


def test_name_of_a_retry_stays_with_its_child():
    @task(task_run_name="try ${x}", max_retries=1, retry_delay=0)
    def fail(x):
        raise ValueError(context.task_run_name)

    with Flow("names") as flow:
        failed = fail("a")
    state = flow.run(history=False).result[failed]
    assert str(state.result) == "try a"
    assert state.context["task_run_name"] == "try a"


def test_name_by_a_function_takes_what_it_names():
    with Flow("names") as flow:
        place = Parameter("place")
        one = load.copy(task_run_name=lambda url, parameters_place, other="-": f"{parameters_place}/{url}/{other}")(
            place
        )
        two = load.copy(task_run_name=lambda **all: f"{all['url']} of {all['flow_name']}")(place)
    state = flow.run(place="eu", history=False)
    assert state.result[one].context["task_run_name"] == "eu/eu/-"
    assert state.result[two].context["task_run_name"] == "eu of names"


def test_task_without_a_name_is_called_by_its_index():
    @task
    def plain(x):
        return context.task_run_name

    with Flow("names") as flow:
        called = plain.map([1, 2])
    state = flow.run(history=False).result[called]
    assert state.result == ["plain[0]", "plain[1]"]
    assert names(state) == [None, None]


@pytest.mark.parametrize("text", ["${", "", "load $"])
def test_template_that_is_none_is_refused_with_the_task(text):
    with pytest.raises(ValueError, match=r"template|task_run_name"):
        load.copy(task_run_name=text)


def test_option_that_makes_no_name_is_refused():
    with pytest.raises(TypeError, match="task_run_name must be a function, got 3"):
        load.copy(task_run_name=3)


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ("${link}", r"load: task_run_name '\$\{link\}' has an unknown field 'link';"),
        (lambda link: link, "load: task_run_name takes an unknown field 'link'; available are"),
        ("${map_index}", r"load: task_run_name '\$\{map_index\}' has an unknown field"),
    ],
)
def test_name_of_what_the_task_has_not_is_refused_with_the_flow(wanted, text):
    with Flow("names") as flow:
        load.copy(task_run_name=wanted)("a")
    with pytest.raises(FlowDefinitionError, match=text):
        flow.run(history=False)


def test_name_that_cannot_be_made_warns_once_and_the_children_run(caplog):
    with Flow("names") as flow:
        loaded = load.copy(task_run_name=lambda url: 1 / 0).map(["a", "b"])
    state = flow.run(history=False).result[loaded]
    assert state.result == ["load[0]", "load[1]"]
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warned == ["load: task_run_name could not be rendered: ZeroDivisionError('division by zero')"]


@pytest.mark.parametrize(
    ("wanted", "value", "name"),
    [
        ("get ${x}", "eu", "get eu"),
        ("get ${x}", "a\n2026-01-01 INFO forged\x1b[2J", r"get a\n2026-01-01 INFO forged\x1b[2J"),
        ("${x}", "../../etc/passwd", "../../etc/passwd"),
        ("${x}", "long" * 100, ("long" * 100)[: MAX_NAME_LENGTH - 1] + "…"),
        (lambda x: 7, "eu", "7"),
    ],
)
def test_names_are_one_safe_line(wanted, value, name):
    assert RunNaming(wanted).name({**FIELDS, "x": value}, "load", pytest.fail) == name


class Secretive:
    def __str__(self):
        return "swordfish"


@pytest.mark.parametrize("wanted", ["${x}", lambda x: x])
def test_names_show_no_objects(wanted):
    said = []
    assert RunNaming(wanted).name({**FIELDS, "x": Secretive()}, "load", lambda *told: said.append(told)) is None
    assert len(said) == 1
    assert "swordfish" not in str(said)


def test_log_of_a_failure_has_the_name(caplog):
    with Flow("names") as flow:
        load.copy(task_run_name="get ${url}")("bad")
    flow.run(history=False)
    assert "get bad: failed: " in caplog.text


def test_history_keeps_the_names(tmp_path):
    with Flow("names") as flow:
        load.map(["a", "bad"])
    store = tmp_path / "history.db"
    run_id = flow.run(history=store).context["flow_run_id"]
    children = history.run(run_id, store=store).children("load")
    assert [child.name for child in children] == ["load a (0)", "load bad (1)"]
    assert repr(children[1]) == "<child load[1] (load bad (1)): Failed, ValueError: no such page>"
