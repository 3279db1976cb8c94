"""What goes wrong with a history: dead writers, full disks, older and newer tables, network file systems."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from real import spend, until
from spellings import SPELLINGS, Spelled

from prefectish import Flow, history, task
from prefectish.engine.state import Success
from prefectish.errors import HistoryTooNew, HistoryUnavailable, HistoryUnsafe, HistoryWriteError
from prefectish.executors import LocalExecutor
from prefectish.hashing import stable_hash
from prefectish.history import filesystems, schema
from prefectish.history.rows import clean, ranges, rows_of
from prefectish.history.store import open_store

LIMIT = 60.0


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "history.db")


def is_sound(path: str) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        found: tuple[str] = connection.execute("pragma integrity_check").fetchone()
    return found == ("ok",)


def squares(width: int = 3) -> Flow:
    with Flow("squares") as flow:
        task(lambda x: x * x, name="square").map(list(range(width)))
    return flow


# -- H1: a client that is killed -------------------------------------------------------------------------------------

WRITER = """
import os, sys
from prefectish import Flow, task

folder = sys.argv[1]

@task
def note(x):
    file = os.open(os.path.join(folder, "bodies"), os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(file, f"{x}\\n".encode())
    os.close(file)
    if x % 5 == 0:
        raise ValueError(f"bad {x}")
    return x

with Flow("killed") as flow:
    note.map(list(range(100_000)))

print("ready", flush=True)
flow.run(history=os.path.join(folder, "history.db"))
"""


@pytest.mark.fault
def test_h1_killed_client_leaves_each_state_whole_or_absent(tmp_path: Path, path: str) -> None:
    """Twenty kills at random times: the file is sound each time, and says nothing that did not happen."""
    seed = random.randrange(1 << 30)
    times = random.Random(seed)
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    for _ in range(20):
        command = [sys.executable, "-c", "import logging; logging.disable(); exec(open('writer.py').read())", "."]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            until((tmp_path / "bodies").exists, LIMIT)
            spend(times.uniform(0.0, 1.2))  # into the midst of a commit, or between two
            writer.send_signal(signal.SIGKILL)
        assert is_sound(path), f"seed {seed}"
        [run] = history.runs(limit=1, store=path)
        children = run.children("note")
        ran = {int(x) for x in (tmp_path / "bodies").read_text().split()}
        assert {child.index for child in children} <= ran, f"seed {seed}"
        for child in children:
            index = child.index
            assert index is not None
            told = ("Failed", f"ValueError: bad {index}") if index % 5 == 0 else ("Success", None)
            assert (child.state, child.error) == told, f"seed {seed}"
        assert run.is_lost
        os.unlink(tmp_path / "bodies")
    assert len(history.runs(limit=None, store=path)) == 20


# -- H3: a full disk -------------------------------------------------------------------------------------------------

FILLS = """
import resource, signal, sys
from prefectish import Flow, task

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

@task
def fail(x):
    raise ValueError("x" * 50 + chr(97 + x % 26) * (x % 97 + 1))

path = sys.argv[1]
Flow("first", tasks=[]).run(history=path)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
with Flow("fills") as flow:
    fail.map(list(range(5000)))
state = flow.run(history=path)
children = next(s for t, s in state.result.items() if t.name == "fail").map_states
print(type(state).__name__, len(children), {type(child).__name__ for child in children}, state.exit_code)
sys.exit(state.exit_code)
"""


def test_h3_full_disk_leaves_the_run_going_and_earlier_rows_intact(path: str) -> None:
    done = subprocess.run([sys.executable, "-c", FILLS, path], capture_output=True, text=True, timeout=LIMIT * 2)
    assert done.stdout.strip() == "Failed 5000 {'Failed'} 4", done.stderr[-2000:]
    assert done.returncode == 4
    assert done.stderr.count("is no longer recorded") == 1
    assert [run.flow_name for run in history.runs(store=path)][-1] == "first"
    assert is_sound(path)


def test_bug_in_the_recorder_stops_the_record_and_not_the_run(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: Any) -> Any:
        raise ZeroDivisionError("in the recorder")

    monkeypatch.setattr("prefectish.history.rows.EventRows.child", broken)
    state = squares().run(history=path)
    assert (type(state), state.exit_code) == (Success, 4)
    assert "in the recorder" in caplog.text


def test_h11_thread_of_the_recorder_that_breaks_is_no_complete_record(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: Any) -> Any:
        raise SystemExit("beside the recorder")

    monkeypatch.setattr("prefectish.history.recorder.HistoryRecorder._cancel_child_runs", broken)
    state = squares().run(history=path)
    assert (type(state), state.exit_code) == (Success, 4)
    assert caplog.text.count("is no longer recorded") == 1


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_h12_history_that_goes_under_a_run_is_missed(
    path: str, spelling: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    squares().run(history=path)  # opened already, by a run before

    @task
    def work(x: int) -> int:
        if x == 1:
            os.unlink(path)
            if how == "replaced":
                Path(path).write_bytes(b"")
        return x

    state, _ = Spelled(spelling, LocalExecutor()).run(lambda: {"all": work.map(range(3))}, history=path)
    assert (state.is_successful(), state.exit_code) == (True, 4)
    assert caplog.text.count("was deleted or replaced since it was opened; the run continues, but is no longer") == 1
    assert squares().run(history=path).exit_code == 0
    assert len(history.runs(store=path)) == 1, "a new file has the next run"


# -- H11: locked -----------------------------------------------------------------------------------------------------

HOLDER = """
import fcntl, sys
with open(sys.argv[1] + "-shm", "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX, 5, 123)  # the locks of readers of a write-ahead log
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.fault
def test_h11_process_that_stands_still_in_a_lock_of_sqlite_is_waited_for(path: str) -> None:
    """As one that gets no processor does on a busy machine: after ten seconds SQLite says "locking protocol"."""
    squares().run(history=path)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    read = f"from prefectish import history; history.runs(store={path!r})"
    try:
        done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=False)
    finally:
        holder.communicate()
    assert "HistoryUnavailable" in done.stderr
    assert "locking protocol" in done.stderr


@pytest.fixture
def locked(path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """A connection of somebody else's to a history, whose writers wait for a moment only."""
    monkeypatch.setattr("prefectish.history.store.BUSY_TIMEOUT", 0.05)
    squares().run(history=path)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        yield connection


def test_h11_history_that_is_locked_for_a_while_is_written_once_it_is_free(
    path: str, locked: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    free = threading.Event()

    def step(x: int) -> int:
        if x == 3:
            locked.execute("BEGIN IMMEDIATE")
        if x == 4:
            until(lambda: "what is to be recorded waits" in caplog.text)
            locked.execute("ROLLBACK")
            free.set()
        return x

    with Flow("patient") as flow:
        task(step).map(list(range(20)))
    state = flow.run(history=path)
    assert (type(state), state.exit_code, free.is_set()) == (Success, 0, True)
    assert len(history.runs(store=path)[0].children("step")) == 20


def test_h11_history_that_stays_locked_is_given_up_when_the_run_is_over(
    path: str, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("prefectish.history.recorder.BUSY_TIMEOUT", 0.2)

    def step(x: int) -> int:
        if x == 3:
            locked.execute("BEGIN IMMEDIATE")
        return x

    with Flow("forlorn") as flow:
        task(step).map(list(range(5)))
    state = flow.run(history=path)
    assert (type(state), state.exit_code) == (Success, 4)
    assert caplog.text.count("is no longer recorded") == 1


def test_h11_locked_file_is_not_taken_for_something_else(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    squares().run(history=f"sqlite:///{path}?journal=delete")
    monkeypatch.setattr("prefectish.history.store.BUSY_TIMEOUT", 0.05)
    monkeypatch.setattr("prefectish.history.store._stores", {})  # as in another process
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(HistoryUnavailable, match="database is locked"):
            history.runs(store=path)


# -- H5: older and newer tables --------------------------------------------------------------------------------------


def test_h5_tables_change_only_with_their_version() -> None:
    """If this fails: raise VERSION, say in UPGRADES how tables of the version before become these, and pin them."""
    tables = [
        (
            table.name,
            [(c.name, str(c.type), c.primary_key, bool(c.nullable), bool(c.unique)) for c in table.columns],
            sorted((str(index.name), index.columns.keys()) for index in table.indexes),
        )
        for table in schema.metadata.sorted_tables
    ]
    pinned = {
        1: "610aef235d246ebbdb7ff00b3b86b007",
        2: "37b4090c2cf1c27d3a6911c1af8d7d3b",
        3: "a8c62209727ee507f8885d1156ccd3c4",
        4: "d418332bedf32af3d0f745ef1d34ccc7",
    }
    assert stable_hash(tables) == pinned[schema.VERSION], tables


def test_h5_older_history_is_brought_up_to_date(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = squares().run(history=path).context["flow_run_id"]
    open_store(path).engine.dispose()
    monkeypatch.setattr(schema, "VERSION", 5)
    monkeypatch.setattr(schema, "UPGRADES", {4: ("ALTER TABLE runs ADD COLUMN mood TEXT DEFAULT 'calm'",)})
    copy = f"{path}.copy"
    os.rename(path, copy)
    assert history.run(run_id, store=copy).state == "Success"
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("pragma user_version").fetchone() == (5,)
        assert connection.execute("select mood from runs").fetchall() == [("calm",)]


def test_h5_upgrade_that_breaks_changes_nothing(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    squares().run(history=path)
    open_store(path).engine.dispose()
    monkeypatch.setattr(schema, "VERSION", 5)
    monkeypatch.setattr(schema, "UPGRADES", {4: ("ALTER TABLE runs ADD COLUMN mood TEXT", "no SQL at all")})
    copy = f"{path}.copy"
    os.rename(path, copy)
    with pytest.raises(HistoryWriteError, match="could not be used"):
        history.runs(store=copy)
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("pragma user_version").fetchone() == (4,)
        assert "mood" not in {row[1] for row in connection.execute("pragma table_info(runs)")}


def test_h5_newer_history_is_left_as_it_is(path: str) -> None:
    squares().run(history=path)
    open_store(path).engine.dispose()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("pragma user_version = 7")
    copy = f"{path}.copy"
    os.rename(path, copy)
    before = Path(copy).read_bytes()
    with pytest.raises(HistoryTooNew, match="schema 7, this version knows 4") as caught:
        squares().run(history=copy)
    assert caught.value.exit_code == 4
    assert Path(copy).read_bytes() == before


# -- H6: where nothing can be written --------------------------------------------------------------------------------


def test_h6_read_only_history_stops_before_anything_runs(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    squares().run(history=path)
    open_store(path).engine.dispose()
    copy = f"{path}.copy"
    os.rename(path, copy)
    os.chmod(copy, 0o400)
    # root may write whatever the mode says
    monkeypatch.setattr(os, "access", lambda file, mode: not (os.fspath(file) == copy and mode & os.W_OK))
    ran: list[int] = []
    with Flow("never") as flow:
        task(ran.append, name="append").map([1])
    with pytest.raises(HistoryWriteError, match="is read-only") as caught:
        flow.run(history=copy)
    assert caught.value.exit_code == 4
    assert ran == []


def test_h6_home_that_cannot_be_made_is_named_to_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(HistoryWriteError, match=r"cannot be created: \[Errno 20\] Not a directory:"):
        history.runs()


def test_h6_folder_and_what_is_not_a_path_are_named(tmp_path: Path) -> None:
    with pytest.raises(HistoryWriteError, match="is a folder; pass a file in it"):
        squares().run(history=str(tmp_path))
    with pytest.raises(TypeError, match="history must be a path, a database URL, None or False, got 7"):
        squares().run(history=7)


@pytest.mark.parametrize("wrong", ["mysql://somewhere/x", "sqlite://", "sqlite:///:memory:", "://"])
def test_h6_places_that_are_none_are_named(wrong: str) -> None:
    with pytest.raises(HistoryWriteError, match="history"):
        squares().run(history=wrong)


def test_url_of_a_file_is_that_file(path: str) -> None:
    run_id = squares().run(history=f"sqlite:///{path}").context["flow_run_id"]
    assert history.run(run_id, store=path).state == "Success"


# -- H10: a network file system --------------------------------------------------------------------------------------


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems, "type_of", lambda folder: "nfs4")


@pytest.mark.usefixtures("network")
def test_h10_write_ahead_log_on_a_network_disk_is_refused(path: str) -> None:
    with pytest.raises(HistoryUnsafe, match=r"network file system \(nfs4\).*journal") as caught:
        squares().run(history=path)
    assert caught.value.exit_code == 4
    assert not os.path.exists(path)


def by_url(path: str, patch: pytest.MonkeyPatch) -> str:
    return f"sqlite:///{path}?journal=delete"


def by_environment(path: str, patch: pytest.MonkeyPatch) -> str:
    patch.setenv("PREFECTISH_HISTORY_JOURNAL", "delete")
    return path


def by_file(path: str, patch: pytest.MonkeyPatch) -> str:
    home = Path(path).parent / "home"
    home.mkdir()
    (home / "config.toml").write_text('history_journal = "delete"\n')
    patch.setenv("PREFECTISH_HOME", str(home))
    return path


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("way", [by_url, by_environment, by_file])
def test_h10_another_journal_is_taken(
    path: str, monkeypatch: pytest.MonkeyPatch, way: Callable[[str, pytest.MonkeyPatch], str]
) -> None:
    where = way(path, monkeypatch)
    run_id = squares().run(history=where).context["flow_run_id"]
    assert history.run(run_id, store=where).state == "Success"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("delete",)


@pytest.mark.usefixtures("network")
def test_h10_home_on_a_network_disk_warns_once_and_there_is_no_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    with pytest.warns(UserWarning, match="this run is not recorded.*network file system"):
        assert type(squares().run()) is Success
    assert type(squares().run()) is Success


def test_h10_unknown_journal_is_refused(path: str) -> None:
    with pytest.raises(HistoryWriteError, match="one of wal, delete"):
        squares().run(history=f"sqlite:///{path}?journal=none")


def test_h10_type_of_a_folder_is_that_of_its_innermost_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Partition:
        def __init__(self, mountpoint: str, fstype: str) -> None:
            self.mountpoint, self.fstype = mountpoint, fstype

    inner = tmp_path / "data"
    inner.mkdir()
    mounts = [Partition("/", "ext4"), Partition(str(inner), "NFS"), Partition(f"{inner}base", "tmpfs")]
    monkeypatch.setattr(filesystems.psutil, "disk_partitions", lambda all: mounts)
    assert filesystems.type_of(str(tmp_path)) == "ext4"
    assert filesystems.type_of(str(inner)) == "nfs"


# -- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[], [0], [5, 4, 3], [0, 2, 4], list(range(1000)), [9, 1, 2, 3, 100]])
def test_ranges_of_rows_are_read_as_they_were_written(rows: list[int]) -> None:
    assert rows_of(ranges(rows)) == sorted(rows)


def test_readers_do_not_block_writers(path: str) -> None:
    squares().run(history=path)
    with open_store(path).reading() as connection:
        connection.execute(schema.runs.select())
        assert type(squares().run(history=path)) is Success
    assert len(history.runs(store=path)) == 2


def test_texts_are_made_fit_for_every_database() -> None:
    assert clean("plain") == "plain"
    assert clean("größe") == "größe"
    assert clean("a\0b\udcff") == "a\\x00b\\udcff"


def test_each_child_keeps_its_own_message_in_a_group_of_one_cause(path: str) -> None:
    def read(x: int) -> None:
        raise ValueError(f"no file {x}")

    with Flow("own") as flow:
        task(read).map([1, 2, 3])
    run = history.run(flow.run(history=path).context["flow_run_id"], store=path)
    assert [child.error for child in run.children("read")] == [f"ValueError: no file {x}" for x in (1, 2, 3)]
    assert [group.count for group in run.failures()] == [3]
