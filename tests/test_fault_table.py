"""The page of faults is current, and every row of it has its tests."""

from __future__ import annotations

import fault_table
import pytest

ROWS = fault_table.rows()
TESTS = fault_table.collected()

#: How many rows each letter has; the numbers have no gaps.
COUNTS = {"U": 24, "P": 17, "W": 31, "S": 8, "C": 11, "H": 12, "D": 10, "X": 22, "L": 8, "T": 11}


def test_no_row_was_dropped():
    assert list(ROWS) == [f"{letter}{n}" for letter, count in COUNTS.items() for n in range(1, count + 1)]
    assert list(fault_table.sections()) == list(COUNTS)


@pytest.mark.parametrize("ident", ROWS)
def test_row_has_no_empty_cell(ident):
    own = [test for test in TESTS if ident in test.ids]
    assert fault_table.missing(ROWS[ident], own) == []


def test_page_is_current():
    assert fault_table.PAGE.read_text() == fault_table.page(), "run `python tests/fault_table.py`"


def test_no_test_carries_an_id_that_is_not_a_row():
    assert {ident for test in TESTS for ident in test.ids} <= ROWS.keys()


@pytest.mark.parametrize(
    ("name", "docstring", "ids"),
    [
        ("test_w3_w4_child_dies", None, {"W3", "W4"}),
        ("test_u2_to_u5_whatever", None, {"U2", "U3", "U4", "U5"}),
        ("test_canaries_x11_are_nowhere", None, {"X11"}),
        ("test_error", "U10.", {"U10"}),
        ("test_error", "U1 for the first.", {"U1"}),
        ("test_error", "P4 and P5: what cannot be loaded.", {"P4", "P5"}),
        ("test_error", "A U10 in the middle.", set()),
        ("test_map3_and_blas2", None, set()),
        ("test_t10_late", None, {"T10"}),
    ],
)
def test_ids_are_read_from_names_and_docstrings(name, docstring, ids):
    assert fault_table.ids_of(name, docstring) == ids


def test_missing_says_what_a_row_lacks():
    found = fault_table.Found(frozenset({"U1"}), "test_a.py", "test_u1_x", frozenset({"local"}))
    assert fault_table.missing({"fault": "a", "promise": "", "on": ["local", "dask"]}, [found]) == [
        "promise", "a test on dask"
    ]  # fmt: skip
    assert fault_table.missing({"fault": "a", "promise": "b", "on": ["rules"]}, []) == ["a test"]
