"""Final states, masks and counters of a run are written by one class of the engine, read from the sources."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefectish.engine.scheduling.run_state import MapRow, MapState, RunState, StepChain, StepState

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent / "prefectish"
FOLDERS = ("engine/scheduling", "engine/driver", "functions")
#: The writer, and the part of it that is about maps.
WRITER = [ROOT / "engine/scheduling" / name for name in ("changes.py", "map_changes.py")]

#: By class, the attributes that only the writer assigns, or changes in place.
GUARDED = {
    StepState: {
        "state", "final", "blocked", "children", "left", "failures", "kinds", "measurement", "widths", "starts",
        "rerun", "chain", "map_state", "cancelled_early",
    },
    MapRow: {"final", "submitted", "waiting", "starts", "jobs", "submissions", "seconds", "counted", "probing"},
    StepChain: {"open_rows", "done", "probing", "batches", "mean", "admission_mode", "has_cancelled_early"},
    MapState: {"width", "closed", "source", "paths", "before"},
    RunState: {"submitted_jobs", "over", "paused", "now", "raised"},
}  # fmt: skip
NAMES = set().union(*GUARDED.values()) | {"awaiting", "open", "single", "bundles", "cells"}
#: Methods that change a list, a set or a dict in place.
IN_PLACE = {"append", "extend", "insert", "add", "update", "setdefault", "pop", "remove", "discard", "clear", "popitem"}
#: Where an attribute of the same name belongs to another object, or is that object's own counter.
OTHERS = {
    ("functions/calls.py", "chain"),
}
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path not in WRITER)


def base(node: ast.expr) -> ast.expr:
    """Return what an item or a slice is taken of."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node


def targets(node: ast.AST) -> Iterator[ast.expr]:
    """Yield what a statement assigns or deletes, and the object whose method changes it in place."""
    if isinstance(node, ast.Assign | ast.Delete):
        for target in node.targets:
            yield from target.elts if isinstance(target, ast.Tuple | ast.List) else (target,)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        yield node.target
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in IN_PLACE:
        yield node.func.value


def writes(tree: ast.AST) -> list[tuple[int, str]]:
    """Return line and name of each guarded attribute that is written, but for what an object sets on itself."""
    return sorted(
        (found.lineno, found.attr)
        for node in ast.walk(tree)
        for target in targets(node)
        if isinstance(found := base(target), ast.Attribute)
        and found.attr in NAMES
        and not (isinstance(found.value, ast.Name) and found.value.id == "self")
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_writes_no_state_of_a_run(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    assert [
        (line, attribute) for line, attribute in writes(ast.parse(path.read_text())) if (name, attribute) not in OTHERS
    ] == []


@pytest.mark.parametrize("cls", GUARDED, ids=lambda cls: cls.__name__)
def test_tables_write_themselves_only_when_they_are_made(cls: type) -> None:
    assert GUARDED[cls] <= set(cls.__slots__), "a guarded attribute has another name now"
    tree = ast.parse(Path(inspect.getfile(cls)).read_text())
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__).body
    methods = [node for node in body if isinstance(node, ast.FunctionDef) and node.name != "__init__"]
    found = [
        (target.lineno, base(target).attr)
        for method in methods
        for node in ast.walk(method)
        for target in targets(node)
        if isinstance(base(target), ast.Attribute) and base(target).attr in GUARDED[cls] - {"measurement"}
    ]
    assert found == []


def test_writes_in_any_form_are_seen() -> None:
    source = """
run.left -= 1
a.children.cells[3], b.final = None, True
run.kinds.update(x)
del chain.open_rows[2]
run.measurement: int = 3
job.awaiting ^= 2
self.final = True
final = run.final
"""
    assert [name for _, name in writes(ast.parse(source))] == [
        "left", "cells", "final", "kinds", "open_rows", "measurement", "awaiting",
    ]  # fmt: skip
