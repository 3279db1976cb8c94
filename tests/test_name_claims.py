"""Names that the client can tell before a row starts, and those that it cannot."""

from __future__ import annotations

import pytest
from test_progress import Owner, named, shown

from prefectish import Flow, task
from prefectish.engine.plan.compile import compile_flow
from prefectish.engine.plan.names import computes_name, fields_of
from prefectish.engine.scheduling.run_state import NOT_RUN
from prefectish.engine.state import Success
from prefectish.engine.worker.result_names import TAKEN
from prefectish.results import LocalResult


@task
def load(x):
    return x


def test_fields_of_templates_and_functions():
    assert fields_of("${a}/{b:03d}") == {"a", "b"}
    assert fields_of(lambda a, map_index: a) == {"a", "map_index"}
    assert fields_of(lambda **all: "x") is None


@pytest.mark.parametrize(
    ("target", "computed"), [("{x}", True), ("{map_index}", False), (lambda x: x, True), (lambda map_index: "a", False)]
)
def test_name_of_what_the_same_row_returned_is_computed(tmp_path, target, computed):
    with Flow("names", result=LocalResult(tmp_path)) as flow:
        load.map(load.map([1, 2]), task_args={"target": target})
    steps = compile_flow(flow, {}).steps
    found = [computes_name(step, steps) for step in steps if step.slug.startswith("load")]
    assert found == [False, computed]


def test_rows_whose_names_are_made_of_results_start_in_their_order(tmp_path):
    with Flow("names", result=LocalResult(tmp_path)) as flow:
        named("load").map(named("day").map([0, 1, 2]), task_args={"target": "{x}.pkl"})
    owner = Owner(flow)
    owner.progress.ready.facts = {"checkpointing": True, "flow_run_id": "a", "parameters": {}}
    days = owner.start()
    assert shown(days) == ["day[0]", "day[1]", "day[2]"]
    assert owner.tell(days[1], Success(None, "mon")) == []
    assert owner.tell(days[2], Success(None, "tue")) == []
    loads = owner.tell(days[0], Success(None, "mon"))
    assert shown(loads) == ["load[0]", "load[1]", "load[2]"]
    assert [TAKEN in job.starts.get(0, NOT_RUN).context for job in loads] == [False, True, False]
