"""Links from the source of a name back to its documentation."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parent.parent / "docs" / "back_links.py"
LINK = '<a class="viewcode-back" href="../api/functions.html#{}">[docs]</a>'


@pytest.fixture(scope="module")
def mended():
    pytest.importorskip("sphinx", reason="the tools of the documentation are not installed")
    spec = importlib.util.spec_from_file_location("back_links", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.mended


@pytest.mark.parametrize(
    ("link", "anchors", "led"),
    [
        ("prefectish.FlowFunction.run", ["prefectish.functions.decorator.FlowFunction.run"], True),
        ("prefectish.Flow.run", ["prefectish.Flow.run", "prefectish.other.Flow.run"], False),
        ("prefectish.Edge", ["prefectish.a.Edge", "prefectish.b.Edge"], False),
        ("prefectish.Edge", [], False),
        ("prefectish.engine.state.MapResult", ["prefectish.engine.task_states.MapResult"], True),
    ],
)
def test_link_without_an_anchor_is_led_to_the_one_of_its_name(mended, link, anchors, led):
    assert mended(LINK.format(link), lambda address: anchors) == LINK.format(anchors[0] if led else link)
