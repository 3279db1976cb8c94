"""Fields of templates: of inputs, child, run and context."""

from __future__ import annotations

from test_storage import context_of

from prefectish.engine.worker.template_fields import TemplateFields


def test_fields_of_a_template_are_those_of_run_child_and_inputs():
    fields = TemplateFields(context_of(1), {"x": 2})
    assert (fields["task_slug"], fields["map_index"], fields["item_key"], fields["x"]) == ("load-1", 1, "1", 2)
    assert fields["parameters_day"] == fields["day"] == fields["parameters"]["day"] == "monday"
    assert "map_index" not in TemplateFields(context_of(-1), {})
    assert TemplateFields(context_of(1), {"task_name": "mine"})["task_name"] == "mine"
    assert fields["context"]["flow_name"] == "flow"
    assert {"date", "parameters", "day", "x"} <= set(fields)
