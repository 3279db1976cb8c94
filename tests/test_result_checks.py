"""Names of results that cannot work are found while the flow is built."""

from __future__ import annotations

import pytest

from prefectish import Flow, Parameter, Task, task, unmapped
from prefectish.errors import FlowDefinitionError
from prefectish.results import LocalResult


@task
def load(url, width=1):
    return url


def complaint(flow):
    """Return what is wrong with a flow; None if nothing is."""
    try:
        flow.validate()
    except FlowDefinitionError as error:
        return str(error)
    return None


def flow_of(store=None, **options):
    with Flow("f", result=store) as flow:
        load.map(["a", "b"], width=unmapped(2), task_args=options)
    return flow


@pytest.mark.parametrize("text", ["all.pickle", "${task_slug}/${flow_run_id}", "${width}.pickle", "$$item_key"])
@pytest.mark.parametrize("where", ["target", "result", "flow"])
def test_map_whose_children_would_write_to_one_place_is_refused(tmp_path, text, where):
    stores = {"result": {"result": LocalResult(tmp_path, location=text)}, "target": {"target": text}}
    flow_store = LocalResult(tmp_path, location=text) if where == "flow" else None
    with pytest.raises(FlowDefinitionError) as caught:
        flow_of(flow_store, **stores.get(where, {}))
    message = str(caught.value)
    assert message.startswith("load: target " if where == "target" else "load: the location of its result ")
    assert message.endswith("add one of ${item_key}, ${map_index}, ${url}")
    assert caught.value.exit_code == 2


def test_map_added_outside_a_block_is_refused_by_validate():
    flow = Flow("f")
    flow.set_dependencies(mapped := Task("t", target="x"), upstream_tasks=[[1, 2]], mapped=True)
    with pytest.raises(FlowDefinitionError, match=r"t: target 'x' is the same for all children"):
        flow.validate()
    assert mapped in flow.tasks


@pytest.mark.parametrize("text", ["${item_key}", "$map_index.json", "${task_slug}/${url}", "${url}-${width}"])
def test_name_that_tells_children_apart_is_fine(tmp_path, text):
    assert complaint(flow_of(target=text)) is None
    assert complaint(flow_of(LocalResult(tmp_path, location=text))) is None


def test_function_and_default_location_are_not_asked(tmp_path):
    assert complaint(flow_of(target=lambda **fields: "x")) is None
    assert complaint(flow_of(LocalResult(tmp_path))) is None
    assert complaint(flow_of(LocalResult(tmp_path, location="x"), checkpoint=False)) is None


@pytest.mark.parametrize(
    ("text", "field"), [("${slug}", "slug"), ("${parameters_day}", "parameters_day"), ("${map_index}", "map_index")]
)
def test_field_that_a_task_has_not_is_named_with_those_it_has(text, field):
    with Flow("f") as flow:
        load("a", task_args={"target": text})
    with pytest.raises(
        FlowDefinitionError, match=f"load: target .* has an unknown field '{field}'; available are flow_name, "
    ):
        flow.validate()


def test_fields_are_those_of_the_task_its_arguments_and_the_parameters():
    with Flow("f") as flow:
        load(Parameter("day"), task_args={"target": "${parameters_day}/${url}/${flow_name}/${task_slug}"})
    assert complaint(flow) is None


def test_two_tasks_that_would_write_to_one_place_are_refused(tmp_path):
    for text, good in (("x", False), ("${task_name}", False), ("${task_slug}", True), ("${url}", True)):
        with Flow("f", result=LocalResult(tmp_path, location=text)) as flow:
            load("a")
            load("b")
        if good:
            flow.validate()
            continue
        with pytest.raises(FlowDefinitionError, match="load-2: its result would overwrite the result of load-1, at"):
            flow.validate()


def test_tasks_of_different_names_may_share_a_template_with_the_name(tmp_path):
    with Flow("f", result=LocalResult(tmp_path, location="${task_name}.pickle")) as flow:
        load("a")
        load("b", task_args={"name": "other"})
    assert complaint(flow) is None


@pytest.mark.parametrize("key", ["width", "none"])
def test_item_key_that_is_not_a_mapped_argument_is_refused(key):
    with pytest.raises(FlowDefinitionError, match=f"load: item_key must be a mapped argument, got '{key}'; pass 'url'"):
        flow_of(item_key=key).validate()


def test_item_key_may_be_a_mapped_argument_or_a_function():
    assert complaint(flow_of(item_key="url")) is None
    assert complaint(flow_of(item_key=len)) is None
