"""Values of the history are checked where they are read: one that nobody could have written hides nothing else."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest
from postgres import forget_histories

from prefectish import Flow, history, task
from prefectish.errors import HistoryCorrupt, HistoryWriteError, PrefectishError
from prefectish.history import holders, schema
from prefectish.history.cells import BadCell, Cell, json_of
from prefectish.history.rows import MAX_OPEN, ranges, rows_of
from prefectish.history.store import FileStore, open_store
from prefectish.results import LocalResult


def build(folder):
    with Flow("cells", result=LocalResult(folder / "results")) as flow:
        task(lambda i: 1 / (i - 2), name="divide", retries=1, item_key="i").map([0, 1, 2, 3])
    return flow


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Return the history of two runs, and the ids of them."""
    folder = tmp_path_factory.mktemp("cells")
    path = folder / "history.db"
    ids = [build(folder).run(history=str(path)).context["flow_run_id"] for _ in range(2)]
    with sqlite3.connect(path) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    forget_histories()
    return path, ids


@pytest.fixture
def altered(recorded, tmp_path):
    """Return a function that alters a copy of the history, and returns its path."""

    def alter(statement, *values):
        path = tmp_path / "copy.db"
        shutil.copy(recorded[0], path)
        with sqlite3.connect(path) as connection:
            connection.execute(statement, values)
        return str(path)

    yield alter
    forget_histories()


BAD = {True: [99, -7, float("inf"), "0-99999999999"], False: [b"\xff\x00", "[" * 5000]}
READERS = {
    "runs": lambda folder, run: repr(run) + run._repr_html_(),
    "tasks": lambda folder, run: run.tasks(),
    "failures": lambda folder, run: [repr(group.children) for group in run.failures()],
    "children": lambda folder, run: [child.earlier() for child in run.children("divide-1")],
    "logs": lambda folder, run: run.logs(),
    "paused": lambda folder, run: run.paused(),
    "report": lambda folder, run: run.report(folder / "x.html"),
}
CELLS = [
    (table.name, column.name, column.type.is_number)
    for table in schema.metadata.sorted_tables
    for column in table.c
    if isinstance(column.type, Cell)
    if table.name != "about"
]


@pytest.mark.parametrize(("table", "column", "is_number"), CELLS)
@pytest.mark.filterwarnings("ignore")
def test_x18_no_value_leads_to_an_error_of_ours(altered, tmp_path, table, column, is_number):
    for number, value in enumerate(BAD[is_number]):
        try:
            path = altered(f"update {table} set {column} = ? where rowid = (select min(rowid) from {table})", value)
        except sqlite3.Error:
            try:
                path = altered(f"update {table} set {column} = ?", value)
            except sqlite3.Error:
                continue  # the database refuses it itself
        runs = list(history.runs(store=path))
        assert runs, "a bad value hides the runs"
        for run in runs:
            for read in list(READERS.values())[: -1 if number else None]:  # one report is enough
                with suppress(PrefectishError):
                    try:
                        read(tmp_path, run)
                    except KeyError as error:
                        if "is called" not in str(error):
                            raise
        forget_histories()


def test_x18_bad_run_hides_no_other(altered, recorded):
    path = altered("update runs set state = 99, message = ? where number = 1", b"\xff")
    newest, bad = history.runs(store=path)
    assert (newest.id, newest.state, bad.id, bad.state) == (recorded[1][1], "Failed", recorded[1][0], "Unreadable")
    assert "state must be a number from 0 to 19, got 99" in bad.message
    assert len(newest.children("divide")) == 4
    assert "Unreadable" in history.runs(store=path)._repr_html_()
    with pytest.raises(HistoryCorrupt, match="state must be"):
        bad.tasks()
    with pytest.raises(HistoryCorrupt, match="state must be"):
        history.run(bad.id, store=path)


def test_x18_rows_that_ran_are_bounded(altered, recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(holders, "STANDSTILL", 0.2)  # its client was on a machine that cannot be asked
    monkeypatch.setattr(holders, "LOOK_INTERVAL", 0.1)
    path = altered("update steps set open = '0-1000000'")
    with sqlite3.connect(path) as connection:
        connection.execute("update runs set holder = 'gone:1', heartbeat = 1, state = 7")
    with pytest.raises(HistoryCorrupt, match="open must be at most"):
        build(tmp_path).resume(recorded[1][1], history=path)


@pytest.mark.parametrize("text", ["0-1000000", "5-1", "a", "1-2-3", "-1", "1e3", "٣"])
def test_ranges_that_nobody_wrote_are_refused(text):
    with pytest.raises(BadCell):
        rows_of(text)


def test_ranges_are_cut_where_they_are_written():
    assert len(rows_of(ranges(range(MAX_OPEN + 5)))) == MAX_OPEN


@pytest.mark.parametrize("text", ["[" * 5000, "{", "3", "{}"])
def test_json_that_is_no_list_is_refused(text):
    with pytest.raises(BadCell, match="reads must be"):
        json_of("reads", text, list)


def test_bytes_that_are_no_text_make_one_text_odd(altered, recorded):
    path = altered("update runs set message = cast(x'61ff62' as text) where number = 1")
    assert history.run(recorded[1][0], store=path).message == "a\ufffdb"
    assert ["a\ufffdb" in (run.message or "") for run in history.runs(store=path)].count(True) == 1  # it hides no run
    assert len(history.runs(store=path)) == 2


@pytest.mark.parametrize("kind", ["wal", "journal"])
def test_file_that_another_process_is_writing_to_is_not_taken_for_cut(recorded, tmp_path, kind):
    """Its header says how many pages it will have; missing ones are in its journal, or about to be written."""
    path = tmp_path / "growing.db"
    path.write_bytes(recorded[0].read_bytes()[:-4096])
    store = FileStore.__new__(FileStore)
    store.location = str(path)
    with pytest.raises(HistoryCorrupt, match="was cut"):
        store._check_whole("growing.db")
    Path(f"{path}-{kind}").write_bytes(b"pages")
    store._check_whole("growing.db")


@pytest.mark.parametrize("pages", [1, 2, 3])
def test_file_without_its_last_pages_is_refused(recorded, tmp_path, pages):
    path = tmp_path / "cut.db"
    content = recorded[0].read_bytes()
    path.write_bytes(content[: -4096 * pages])
    with pytest.raises(HistoryCorrupt, match=r"cut\.db was cut: it has|malformed"):
        history.runs(store=str(path))


def test_fifo_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "history.db")
    with pytest.raises(HistoryWriteError, match="must be a file"):
        open_store(str(tmp_path / "history.db"))
