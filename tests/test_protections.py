"""Every fault has a test that was seen to fail without its protection, or says why there is none to switch off.

``python tests/protections.py`` runs them all, which takes half an hour; a few that are quick are run here.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from operator import attrgetter

import fault_table
import protections
import pytest
import switching
from protections import NONE, OFF, TESTS, TWINS, Off

IDS = set(fault_table.rows())
FOUND = {(found.file, found.name): found.ids for found in fault_table.collected()}
#: Rows that take three seconds.
QUICK = ("U12", "P14", "H5", "D1", "D6", "X5", "X6", "T5")


def test_no_fault_is_missing():
    assert {row.ids for row in OFF} | NONE.keys() == IDS
    assert not {row.ids for row in OFF} & NONE.keys()


def test_reasons_say_something():
    assert all(len(reason) > 20 for reason in NONE.values())


def test_each_fault_has_a_row_whose_test_carries_its_id():
    carried = {ident for row in OFF for ident in FOUND.get(name_of(row), ())}
    assert {row.ids for row in OFF} <= carried


@pytest.mark.parametrize("ident", TWINS)
def test_twin_carries_the_id(ident):
    assert [ids for (_, name), ids in FOUND.items() if name == TWINS[ident] and ident in ids]


@pytest.mark.parametrize("file", sorted({row.test.partition("::")[0] for row in OFF}))
def test_tests_of_the_table_are_there(file):
    tree = ast.parse((TESTS / file).read_text())
    there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {name_of(row)[1] for row in OFF if row.test.startswith(f"{file}::")} <= there


def name_of(row):
    file, _, test = row.test.partition("::")
    return file, test.partition("[")[0]


@pytest.mark.parametrize("place", sorted({place for row in OFF for place in row.off}))
def test_what_is_switched_off_is_there(place):
    module, _, path = place.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        assert hasattr(found, part), f"{place}: there is no {part}"
        found = getattr(found, part)


def test_what_is_put_in_a_place_takes_what_was_there_takes():
    """Else a test fails for its switch, and not for the protection that is missing."""
    Parameter = inspect.Parameter
    wrong = []
    for place, instead in {(place, instead) for row in OFF for place, instead in row.off.items()}:
        module, _, path = place.partition(":")
        old = attrgetter(path)(importlib.import_module(module))
        new = instead(old)
        if not (inspect.isfunction(new) and (inspect.isfunction(old) or inspect.isclass(old))):
            continue
        parameters = inspect.signature(old).parameters.values()
        positional = [p for p in parameters if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
        required = [None for p in positional if p.default is Parameter.empty]
        named = {
            p.name: None for p in parameters if p.kind is Parameter.KEYWORD_ONLY or p in positional[len(required) :]
        }
        try:
            inspect.signature(new).bind(*required, **named)
        except TypeError as error:
            wrong.append(f"{place}: {error}")
    assert not wrong


def test_rows_differ():
    assert len({(row.test, row.protection, *row.off) for row in OFF}) == len(OFF)


# -- the runner --------------------------------------------------------------------------------------------------------


def test_what_others_import_by_name_is_replaced_too(tmp_path):
    (tmp_path / "guard.py").write_text("LIMIT = 3\nclass Door:\n    def shut(self):\n        return True\n")
    (tmp_path / "house.py").write_text("from guard import LIMIT, Door\nprint(LIMIT, Door().shut())\n")
    code = (
        "import sys, switching\n"
        "wanted = {'guard': [('LIMIT', lambda old: old + 1), ('Door.shut', lambda old: lambda door: not old(door))]}\n"
        "sys.meta_path.insert(0, switching._Finder(wanted))\n"
        "import house"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path += {[str(TESTS), str(tmp_path)]!r}\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "4 False\n"


@pytest.mark.parametrize(
    ("body", "limit", "name"),
    [
        ("assert False, 'no'", 120, "failed"),
        ("raise SystemExit", 120, "failed"),
        ("pass", 120, "passed"),
        ("time.sleep(120)", 5, "hung"),
    ],
    ids=["fails", "exits", "passes", "hangs"],
)
def test_runner_tells_what_became_of_a_test(tmp_path, body, limit, name):
    path = tmp_path / "test_made_up.py"
    path.write_text(f"import time\ndef test_it():\n    {body}\n")
    row = Off("U1", str(path), "whatever", {})
    assert protections.run(row, on=True, limit=limit).name == name


def test_test_that_does_not_run_has_not_failed(tmp_path):
    assert protections.run(OFF[0]._replace(test="test_contract_faults.py::test_none"), on=True).name == "error"


def test_rows_are_chosen_by_id_letter_and_test():
    assert [row.ids for row in protections.chosen(["D6", "D8"])] == ["D6", "D8"]
    assert {row.ids[0] for row in protections.chosen(["S"])} == {"S"}
    assert protections.chosen([]) == list(OFF)


def test_variable_of_the_row_gets_past_the_fixture_that_hides_settings():
    assert not switching.ROW.startswith("PREFECTISH_")


@pytest.mark.fault
@pytest.mark.parametrize("ident", QUICK)
def test_test_fails_without_its_protection(ident):
    row = next(row for row in OFF if row.ids == ident)
    outcome = protections.run(row)
    assert outcome.name == "failed", outcome
