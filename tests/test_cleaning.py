"""What `prefectish gc` finds: what our stores wrote, and never a file of somebody else."""

from __future__ import annotations

import os
import time

import fsspec
import pytest

from prefectish import Flow, history, task
from prefectish.cli.cleaning import find_garbage
from prefectish.results import FSResult, LocalResult
from prefectish.results.names import UNFINISHED_SUFFIX

OLD = 10 * 86_400


@pytest.fixture
def done(tmp_path):
    """Return the id of a run that succeeded, and its history."""
    with Flow("done") as flow:
        task(lambda: 1, name="one")()
    db = str(tmp_path / "history.db")
    return flow.run(history=db).context["flow_run_id"], db


def aged(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - OLD,) * 2)
    return path


def cleaned(store, db):
    for item in list(find_garbage(str(store), 0.0, db)):
        item.remove()


def test_x17_files_of_others_are_left_alone(done, tmp_path):
    run_id, db = done
    store = tmp_path / "results"
    kept = [
        aged(store / name, b"mine")
        for name in ("a.tmp", "project/.tmp", "project/important.tmp", f".{16 * 'a'}.tmp", f"{run_id}/mine.csv")
    ]
    LocalResult(store).write(f"{run_id}/0/one-1/single.1", b"1")
    (store / run_id / "link").symlink_to(kept[0])
    cleaned(store, db)
    assert all(path.read_bytes() == b"mine" for path in kept)
    assert not (store / run_id / "0").exists()


def test_what_a_writer_that_died_left_is_found(done, tmp_path):
    store = tmp_path / "results"
    LocalResult(store).write("a/b", b"1")
    content = (store / "a" / "b").read_bytes()
    left = [aged(store / "a" / f".{n:016x}{UNFINISHED_SUFFIX}", content[:n]) for n in (5, 20, len(content))]
    fresh = store / f".{16 * 'f'}{UNFINISHED_SUFFIX}"
    fresh.write_bytes(content)
    cleaned(store, done[1])
    assert [path.exists() for path in (*left, fresh)] == [False, False, False, True]


def test_x17_files_of_others_behind_a_url_are_left_alone(done):
    run_id, db = done
    url = f"memory://cleaning-{run_id}"
    system = fsspec.filesystem("memory")
    FSResult(url).write(f"{run_id}/0/one-1/single.1", b"1")
    for name in ("a.tmp", f"{run_id}/mine.csv"):
        system.pipe_file(f"/cleaning-{run_id}/{name}", b"mine")
    cleaned(url, db)
    assert sorted(system.find(f"/cleaning-{run_id}")) == [
        f"/cleaning-{run_id}/{run_id}/mine.csv",
        f"/cleaning-{run_id}/a.tmp",
    ]
    assert history.run(run_id, store=db).state == "Success"
