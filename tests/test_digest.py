"""The digest for the console: what of a large map is shown, and what is counted."""

from __future__ import annotations

import logging

import pytest

from prefectish.engine.worker.logs import digest


def record(text="hello", level=logging.INFO, index=3, name="prefectish.load[3]", **more):
    about = {"task_slug": "load-1", "task_name": "load", "map_index": index, "flow_run_id": "run"}
    made = {"name": name, "levelno": level, "levelname": logging.getLevelName(level), "msg": text, "created": 0.0}
    return logging.makeLogRecord(about | made | more)


@pytest.fixture(autouse=True)
def fresh_counts(monkeypatch):
    monkeypatch.setattr(digest, "_lines", digest.Counts())


def test_counts_of_old_runs_are_forgotten():
    counts = digest.Counts()
    for number in range(digest.RUNS + 1):
        assert counts.count(str(number), "load") == 1
    assert counts.count("1", "load") == 2
    assert counts.count("0", "load") == 1
    assert counts.take("1") == {"load": 2}
    assert counts.take("1") == {}


def test_lines_of_a_map_are_shown_up_to_a_number(capsys):
    for _ in range(digest.LINES + 3):
        digest.show(record())
    assert len(capsys.readouterr().err.splitlines()) == digest.LINES
    assert digest.summary("run") == [f"load: 3 more lines were not shown ({digest.LINES + 3} in all)"]
    assert digest.summary("run") == []


@pytest.mark.parametrize("more", [{"level": logging.ERROR}, {"index": None, "name": "prefectish.load"}])
def test_errors_and_lines_of_single_tasks_are_all_shown(capsys, more):
    for _ in range(digest.LINES + 3):
        digest.show(record(**more))
    assert len(capsys.readouterr().err.splitlines()) == digest.LINES + 3
    assert digest.summary("run") == []


@pytest.mark.parametrize(
    ("made", "where"),
    [
        (record(), "load[3]"),
        (record(task_run_name="eu"), "load[3] (eu)"),
        (record(index=None, name="prefectish.load"), "load"),
        (record(name="prefectish.mine"), "load[3] mine"),
    ],
)
def test_line_names_its_child(made, where):
    assert digest.text_of(made)[9:] == f"INFO    {where}: hello"


def test_traceback_follows_its_line():
    assert digest.text_of(record(exc_text="  Traceback")).splitlines()[1] == "  Traceback"
