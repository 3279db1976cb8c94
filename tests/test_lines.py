"""Lines of an attempt: how many are kept, and in which form."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefectish.engine.jobs.log_lines import KEPT, LONGEST_LINE, LogLine, LogLines, block, one_line


def lines_of(count):
    lines = LogLines()
    for number in range(count):
        lines.add(LogLine(float(number), 20, None, str(number)))
    return [line.text for line in lines.all()]


@given(st.integers(0, 4 * KEPT))
def test_first_and_last_lines_are_kept_and_the_others_counted(count):
    kept = lines_of(count)
    if count <= 2 * KEPT:
        assert kept == [str(n) for n in range(count)]
        return
    assert kept[:KEPT] == [str(n) for n in range(KEPT)]
    assert kept[KEPT] == f"... dropped {count - 2 * KEPT} lines ..."
    assert kept[KEPT + 1 :] == [str(n) for n in range(count - KEPT, count)]


def test_l6_a_million_lines_leave_a_thousand_and_their_number():
    kept = lines_of(1_000_000)
    assert len(kept) == 2 * KEPT + 1
    assert kept[KEPT] == "... dropped 999000 lines ..."


def test_line_travels_as_it_is():
    line = LogLine(1.5, 40, "mine", "text", "  Traceback")
    assert pickle.loads(pickle.dumps(line)) == line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\tb\xa0ü", "a\tb\xa0ü"),
        ("ok\n2026-01-01 INFO forged", r"ok\n2026-01-01 INFO forged"),
        ("\x1b[2J\r\x9b", r"\x1b[2J\r\x9b"),
        ("\u202eevil\u2028new", r"\u202eevil\u2028new"),
        ("\ud800", r"\ud800"),
    ],
)
def test_x8_line_is_one_line(text, shown):
    assert one_line(text) == shown


@given(st.text())
def test_x8_no_text_makes_two_lines_or_breaks_a_terminal(text):
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown
    shown.encode()


@given(st.text())
def test_x8_block_never_begins_a_line(text):
    shown = block(text)
    assert all(line.startswith("  ") for line in shown.splitlines() if line)
    assert "\x1b" not in shown
    shown.encode()


def test_long_line_is_cut_and_says_so():
    assert one_line("x" * 5000) == "x" * LONGEST_LINE + "… (cut, 5000 characters)"
