from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import textwrap

import nbformat
import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbclient import NotebookClient
from pages import EVIL, safe
from rich.console import Console

from prefectish import Flow, Parameter, history, task
from prefectish.display import lines, notebook, terminal, words
from prefectish.display.fitting import fitted
from prefectish.display.pace import PRIOR_WEIGHT, RateMeter
from prefectish.display.region import Region
from prefectish.engine.driver.failure_log import CauseCount
from prefectish.engine.driver.progress_view import RunProgress, StepCounts
from prefectish.engine.state import Success
from prefectish.history.last_durations import last_time


def counts(ended=0, width=100, **more):
    facts = dict.fromkeys(StepCounts._fields, 0)
    facts |= {"slug": "load-1", "label": "load", "mapped": True, "closed": True, "final": False}
    return StepCounts(**{**facts, "ended": ended, "width": width, **more})


def single(**more):
    return counts(**{"slug": "total-1", "label": "total", "mapped": False, "width": 1, **more})


# ---------------------------------------------------------------------- how far, how fast, how long


def test_rate_and_rest_follow_from_what_ended_lately():
    pace = RateMeter("f", 0.0)
    pace.scene(RunProgress([counts(0, running=2)]), 1.0)
    (line,) = pace.scene(RunProgress([counts(20, running=2)]), 3.0).maps
    assert (line.rate, line.left, line.seconds, line.share) == (10.0, 8.0, 2.0, 0.2)
    for second in range(4, 60):  # ten times slower
        (line,) = pace.scene(RunProgress([counts(20 + second - 3, running=2)]), float(second)).maps
    assert line.rate == pytest.approx(1.0)
    assert line.left == pytest.approx(100 - line.counts.ended)


def test_nothing_is_promised_where_nothing_is_known():
    pace = RateMeter("f", 0.0)
    (line,) = pace.scene(RunProgress([counts(0, None, closed=False)]), 1.0).maps
    assert (line.rate, line.left, line.seconds, line.share, line.expected) == (None,) * 5
    assert words.how_many(line) == "waiting"
    (line,) = pace.scene(RunProgress([counts(3, 7, closed=False, running=1)]), 2.0).maps
    assert (line.left, line.share) == (None, None)
    assert words.how_many(line) == "3 of 7 so far"


def test_former_run_helps_until_this_one_knows_better():
    pace = RateMeter("f", 0.0)
    pace.past = {"load-1": (100, 50.0)}
    (line,) = pace.scene(RunProgress([counts(0, running=1)]), 1.0).maps
    assert line.left == 50.0
    (line,) = pace.scene(
        RunProgress([counts(PRIOR_WEIGHT, running=1)]), 1.0 + PRIOR_WEIGHT
    ).maps  # a second each: half by this run
    assert line.left == pytest.approx((100 - PRIOR_WEIGHT) * 0.75)


def test_width_of_a_former_run_is_expected_while_this_one_is_unknown():
    pace = RateMeter("f", 0.0)
    pace.past = {"load-1": (100, 50.0)}
    (line,) = pace.scene(RunProgress([counts(0, None, closed=False)]), 1.0).maps
    assert words.how_many(line) == "of about 100"
    (line,) = pace.scene(RunProgress([counts(10, 20, closed=False, running=1)]), 2.0).maps
    assert (words.how_many(line), line.share) == ("10 of about 100", 0.1)
    (line,) = pace.scene(RunProgress([counts(10, 120, closed=False, running=1)]), 3.0).maps
    assert line.expected is None


def test_step_that_ended_shows_what_it_took():
    pace = RateMeter("f", 0.0)
    pace.scene(RunProgress([counts(0, running=1)]), 1.0)
    pace.scene(RunProgress([counts(100, final=True, failed=10, skipped=5, cancelled=1)]), 5.0)
    (line,) = pace.scene(RunProgress([counts(100, final=True, failed=10, skipped=5, cancelled=1)]), 50.0).maps
    assert (line.seconds, line.rate, line.left, line.done, line.share) == (4.0, 24.75, None, 84, 0.99)


def test_map_without_children_is_complete():
    (line,) = RateMeter("f", 0.0).scene(RunProgress([counts(0, 0, final=True)]), 1.0).maps
    assert line.share == 1.0


def test_tasks_of_one_name_are_distinguished_by_their_slugs():
    scene = RateMeter("f", 0.0).scene(
        RunProgress(
            [counts(label="load-1"), counts(slug="load-2", label="load-2"), counts(slug="keep-1", label="keep")]
        ),
        1.0,
    )
    assert [line.name for line in scene.maps] == ["load-1", "load-2", "keep"]


def test_single_tasks_are_summed_and_named_when_they_take_long():
    pace = RateMeter("f", 0.0)
    others = [single(slug=f"t-{n}", final=True, ended=1, failed=n % 2) for n in range(4)]
    pace.scene(RunProgress([single(running=1), *others]), 1.0)
    scene = pace.scene(RunProgress([single(running=1), *others]), 8.0)
    assert words.singles(scene) == "4 of 5 tasks done, 2 failed; running total (0:07)"
    scene = pace.scene(RunProgress([single(final=True, ended=1, not_run=1)]), 9.0)
    assert words.singles(scene) == "0 of 1 task done, 1 not run"


def test_durations_of_the_last_successful_run_are_found(tmp_path):
    place = tmp_path / "runs.db"

    @task
    def fails(x):
        if x > 3:
            raise ValueError(x)

    with Flow("past") as flow:
        fails.map(Parameter("rows"))
    first = flow.run(rows=[1, 2, 3], history=place)
    flow.run(rows=[4, 5], history=place)
    last = flow.run(rows=[1], history=place)
    past = last_time(last.context["flow_run_id"])
    assert past["fails-1"].children == 3
    assert past["fails-1"].seconds >= 0
    assert last_time(first.context["flow_run_id"]) == {}
    assert last_time("not recorded") == {}
    assert len(history.runs(store=place)) == 3


# ---------------------------------------------------------------------- plain lines


def test_lines_are_written_now_and_then_and_at_the_end(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(lines, "monotonic", lambda: now[0])
    shown = lines.ProgressLines(RateMeter("f", 0.0))
    shown.refresh(RunProgress([counts(1, running=2), single()]))
    assert capsys.readouterr() == ("", "")
    now[0] = lines.INTERVAL
    shown.refresh(RunProgress([counts(51, running=2, retrying=1, failed=3), single()]))
    shown.refresh(RunProgress([counts(52, running=2), single()]))
    shown.release_screen()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "f 0:05 load: 51 of 100, 2 running, 1 retrying, 3 failed, 10.0/s, about 0:04 left",
        "f 0:05 0 of 1 unmapped task done",
    ]
    now[0] = 9.0
    shown.ended(RunProgress([counts(100, final=True), single(final=True)]), Success("All went well."))
    assert capsys.readouterr().err.splitlines()[-1] == "f 0:09 Success: All went well."
    shown.ended(RunProgress([]), None)
    assert capsys.readouterr().err == "f 0:09 aborted\n"


def test_run_that_is_paused_says_so_and_promises_no_end(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(lines, "monotonic", lambda: now[0])
    pace = RateMeter("f", 0.0)
    shown = lines.ProgressLines(pace)
    shown.refresh(RunProgress([counts(1)]))
    now[0] = lines.INTERVAL
    shown.refresh(RunProgress([counts(51)], True))
    assert capsys.readouterr().err == "f 0:05 paused load: 51 of 100, 10.0/s\n"
    scene = pace.scene(RunProgress([counts(51)], True), 6.0)
    assert scene.maps[0].left is None
    assert "Paused" in safe(notebook.drawn(scene, None, last=False)).text
    assert "Running" not in notebook.drawn(scene, None, last=False)


def test_x8_no_name_can_forge_a_line(capsys, monkeypatch):
    monkeypatch.setattr(lines, "monotonic", lambda: 1.0)
    lines.ProgressLines(RateMeter(EVIL, 0.0)).ended(RunProgress([counts(label=EVIL)]), Success(EVIL))
    err = capsys.readouterr().err
    assert err.count("\n") == 2
    assert "\x1b" not in err


# ---------------------------------------------------------------------- a terminal


def rendered(drawn, width=120):
    console = Console(width=width, file=open(os.devnull, "w"), record=True, force_terminal=True)  # noqa: SIM115
    with console.file:
        console.print(drawn)
    return console.export_text()


def test_x8_no_name_can_act_on_the_terminal():
    shown = terminal.Terminal(RateMeter(EVIL, 0.0))
    causes = [CauseCount(EVIL, EVIL, 3, EVIL, True)]
    scene = RateMeter(EVIL, 0.0).scene(RunProgress([counts(label=EVIL), single(label=EVIL)], causes=causes), 9.0)
    drawn = shown._drawn(scene, 120, 5, "Success")
    text = rendered(drawn)
    assert "\x1b" not in text
    assert len(text.splitlines()) == 4, text


KINDS = {"running": 16, "retrying": 7, "skipped": 1_200, "failed": 345}


@pytest.mark.parametrize("columns", [200, 132, 120, 100, 80, 60, 40])
def test_narrow_terminal_shows_less_and_cuts_nothing(columns):
    pace = RateMeter("f", 0.0)
    steps = [counts(0, 9_999, slug="a-1", label="a"), counts(0, 100, slug="b-1", label="b" * 60)]
    pace.scene(RunProgress(steps), 1.0)
    steps = [steps[0]._replace(ended=5_000, **KINDS), steps[1]._replace(ended=50, failed=1)]
    drawn = fitted(pace.scene(RunProgress(steps), 11.0).maps, columns, "-")
    first, second = rendered(drawn, columns).splitlines()
    told = {
        200: "5,000 of 9,999  50%  500/s  0:09 left  16 running  7 retrying  1,200 skipped  345 failed",
        132: "5,000 of 9,999  50%  500/s  0:09 left  16 running  7 retrying  1,200 skipped  345 failed",
        120: "5,000 of 9,999  500/s  0:09 left  16 running  7 retrying  1,200 skipped  345 failed",
        100: "5,000 of 9,999  500/s  0:09 left  16 run 7 retry 1,200 skip 345 fail",
        80: "5,000 of 9,999  0:09 left  16 run 7 retry 1,200 skip 345 fail",
        60: "5,000 of 9,999  16 run 7 retry 345 fail",
        40: "5,000 of 9,999  345 fail",
    }[columns]
    assert first.rstrip().endswith(told)
    assert first.startswith("a ")
    assert "50 of 100 " in second
    assert second.startswith("bbbbbbbbb")
    assert second.count("\N{HORIZONTAL ELLIPSIS}") == 1, "of the name"


def test_maps_that_continue_have_the_first_right_to_a_line():
    pace = RateMeter("f", 0.0)
    steps = [counts(100, slug=f"a-{n}", label=f"ended {n}", final=True) for n in range(9)]
    steps += [counts(0, None, slug=f"b-{n}", label=f"waits {n}") for n in range(9)]
    steps += [counts(5, slug="c-1", label="runs", running=1)]
    maps = pace.scene(RunProgress(steps), 1.0).maps
    assert [line.name for line in terminal.chosen(maps, 3)] == ["waits 0", "waits 1", "runs"]
    assert terminal.chosen(maps, 99) == list(maps)


class Paper(io.StringIO):
    """Takes what is written to a terminal of a size that a test chooses."""

    size = (40, 12)


class FixedRegion(Region):
    def size(self):
        return self._stream.size


@given(st.lists(st.one_of(st.integers(1, 4), st.text("abc", min_size=1, max_size=9)), max_size=40), st.integers(0, 20))
def test_region_keeps_its_rows_and_loses_nothing_of_others(steps, before):
    paper = Paper()
    region = FixedRegion(paper)
    said = [f"before {n}" for n in range(before)]
    paper.write("".join(f"{line}\r\n" for line in said))
    height = 0
    for step in steps:  # a number: that many lines are shown; a text: somebody else writes it
        if isinstance(step, int):
            region.draw([f"line {n}" for n in range(step)])
            height = max(height, step)
        else:
            said.append(step)
            paper.write(f"{step}\r\n")
    shown = pyte.Screen(*paper.size)
    pyte.Stream(shown).feed(paper.getvalue())
    rows = [row.rstrip() for row in shown.display]
    room = 12 - height
    others = (said if len(said) < room else said[-(room - 1) :]) if height else said[-11:]
    assert [row for row in rows[:room] if row] == others
    if height:
        last = next(step for step in reversed(steps) if isinstance(step, int))
        assert rows[room:] == [f"line {n}" for n in range(last)] + [""] * (height - last)
    region.release()
    assert screen_of(paper) == others


def screen_of(paper):
    shown = pyte.Screen(*paper.size)
    pyte.Stream(shown).feed(paper.getvalue())
    return [row.rstrip() for row in shown.display if row.strip()]


def test_region_follows_the_size_of_the_terminal():
    paper = Paper()
    region = FixedRegion(paper)
    region.draw(["one", "two"])
    paper.size = (40, 6)
    region.draw(["one", "two", "three", "four"])
    assert (region.rows, region.height) == (6, 3)
    assert screen_of(paper)[-3:] == ["one", "two", "three"]


def test_region_keeps_the_column_of_others():
    paper = Paper()
    region = FixedRegion(paper)
    paper.write("a line in two ")
    region.draw(["ours"])
    paper.write("parts")
    region.release()
    assert screen_of(paper) == ["a line in two parts"]


PROGRAM = """
import logging, sys, threading, time
from prefectish import Flow, task
logging.basicConfig(level=logging.WARNING)

@task
def load(x):
    if x == 2:
        print("printed in a body")
        logging.warning("logged in a body")
    time.sleep(0.4)
    return x

with Flow("loads") as flow:
    load.map([1, 2, 3, 4])
state = flow.run(history=False)
print("after", type(state).__name__)
logging.warning("logged after the run")
"""


def in_terminal(program, *, out=None):
    """Run a program with a terminal as its standard error, and as its standard output if `out` is None."""
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        stdout=far if out is None else out,
        stderr=far,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(far)
    seen = b""
    ready = select.poll()  # `select` takes no descriptor above 1,023, however few of them it is given
    ready.register(near, select.POLLIN)
    while ready.poll(120_000):
        try:
            piece = os.read(near, 65536)
        except OSError:  # the other end was closed
            break
        if not piece:
            break
        seen += piece
    assert child.wait(120) == 0, seen.decode()
    os.close(near)
    return seen.decode()


ROWS, COLUMNS = 30, 120


def screen(written, rows=ROWS):
    """Return what a terminal shows in the end, by a terminal emulator."""
    shown = pyte.Screen(COLUMNS, rows)
    pyte.Stream(shown).feed(written)
    assert shown.margins is None  # all of it scrolls again
    return [row.rstrip() for row in shown.display if row.strip()]


def test_terminal_keeps_its_lines_below_prints_and_logs():
    shown = screen(in_terminal(PROGRAM))
    assert shown[:2] == ["printed in a body", "WARNING:root:logged in a body"]
    assert re.fullmatch(r"loads  Success: 4 items succeeded  0:0\d", shown[2])
    assert re.match(r"load .* 4 of 4  100%", shown[3])
    assert shown[4:] == ["after Success", "WARNING:root:logged after the run"]


TWO = PROGRAM.replace(
    "state = flow.run(history=False)",
    "other = threading.Thread(target=lambda: flow.copy().run(history=False))\n"
    "other.start()\nstate = flow.run(history=False)\nother.join()",
)


def test_two_runs_at_once_do_not_share_the_lines():
    shown = screen(in_terminal(TWO))
    assert sum("4 of 4  100%" in row for row in shown) == 2
    assert sum("loads  Success" in row for row in shown) == 2
    assert not any("of 4" in row and "4 of 4" not in row for row in shown)


def test_output_that_goes_elsewhere_stays_there(tmp_path):
    with open(tmp_path / "out.txt", "w") as out:
        shown = screen(in_terminal(PROGRAM, out=out))
    assert (tmp_path / "out.txt").read_text().split("\n") == ["printed in a body", "after Success", ""]
    assert "printed in a body" not in shown
    assert any("4 of 4" in row for row in shown)


def test_output_of_other_processes_is_neither_lost_nor_torn():
    program = PROGRAM.replace('print("printed in a body")', 'subprocess.run(["echo", "said by another program"])')
    shown = screen(in_terminal(program.replace("import logging,", "import subprocess, logging,")))
    assert shown[:2] == ["said by another program", "WARNING:root:logged in a body"]
    assert re.match(r"load .* 4 of 4  100%", shown[3])


def test_interrupted_run_leaves_a_usable_terminal():
    program = PROGRAM.replace("    time.sleep(0.4)", "    time.sleep(0.4)\n    if x == 3: raise KeyboardInterrupt")
    ending = "try:\n    state = flow.run(history=False)\nexcept KeyboardInterrupt as stop:\n    state = stop.state"
    written = in_terminal(program.replace("state = flow.run(history=False)", ending))
    assert screen(written)[-2] in ("after Cancelled", "after Failed")


# ---------------------------------------------------------------------- a notebook


def test_notebook_shows_parts_and_words():
    pace = RateMeter("f", 0.0)
    step = counts(50, running=2, retrying=3, failed=4, skipped=5, cached=6, cancelled=1)
    page = safe(notebook.drawn(pace.scene(RunProgress([step, single()]), 9.0), None, last=False))
    for part in ("Running", "49 of 100", "2 running", "3 retrying", "4 failed", "5 skipped", "6 cached", "0 of 1"):
        assert part in page.text
    assert "aborted" in safe(notebook.drawn(pace.scene(RunProgress([step]), 9.0), None, last=True)).text


def test_x9_names_are_shown_in_a_notebook_not_obeyed():
    scene = RateMeter(EVIL, 0.0).scene(RunProgress([counts(label=EVIL, slug=EVIL), single(label=EVIL, running=1)]), 0.0)
    page = safe(notebook.drawn(scene, Success(EVIL), last=True))
    assert page.text.count("alert('x')") >= 2


def test_notebook_with_many_maps_stays_small():
    steps = [counts(slug=f"s-{n}", label=f"s{n}") for n in range(notebook.MAX_MAPS + 5)]
    html = notebook.drawn(RateMeter("f", 0.0).scene(RunProgress(steps), 1.0), None, last=False)
    assert "and 5 more maps" in safe(html).text


CELL = """
import time
from prefectish import Flow, task

@task
def load(x):
    time.sleep(0.02)
    if x == 7:
        raise ValueError("seven")
    return x

with Flow("loads") as flow:
    load.map(list(range(60)))
state = flow.run(history=False)
"""


@pytest.fixture(scope="module")
def executed():
    cells = [
        CELL,
        "state",
        "flow",
        "handle = flow.start(history=False)",
        "ended = handle.wait(120)",
        "short = flow.run(history=False, progress=False)",
        "from prefectish.display import notebook\nassert state['load'].results().failed",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent(cell)) for cell in cells])
    NotebookClient(book, timeout=300, kernel_name="python3").execute()
    return book


def pages(cell):
    return [output["data"]["text/html"] for output in cell["outputs"] if "text/html" in output.get("data", {})]


def test_notebook_keeps_how_a_run_ended(executed):
    (html,) = pages(executed.cells[0])
    page = safe(html)
    for part in ("loads", "Failed", "60 of 60", "1 failed"):
        assert part in page.text


def test_notebook_shows_states_and_flows(executed):
    assert "ValueError: seven" in safe(pages(executed.cells[1])[0]).text
    assert "svg" in safe(pages(executed.cells[2])[0]).tags


def test_notebook_shows_a_run_in_the_background(executed):
    (html,) = pages(executed.cells[3])
    assert "60 of 60" in safe(html).text, "in the cell that started it, which had ended long before"
    assert pages(executed.cells[4]) == []


def test_notebook_shows_nothing_without_progress(executed):
    assert pages(executed.cells[5]) == []
