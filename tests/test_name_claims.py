"""Names that the client can tell before a row starts, and those that it cannot."""

from __future__ import annotations

import pytest

from prefectish import Flow, task
from prefectish.engine.plan.compile import compile_flow
from prefectish.engine.scheduling.name_claims import computes_name, fields_of
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
