"""A history and a store of results written by an older release, under ``stored/<commit>/``; test_stored.py reads them.

A folder is written once, from a checkout of the release, with its environment, and not again:
``PYTHON_OF_THE_RELEASE tests/stored.py COMMIT`` (it needs numpy). Neither the machine nor its folders are in what is
written: the store knows itself as ``results``, from the folder that it lies in, and the machine is called ``stored``.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import types
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "stored"
#: Python reads it when it starts, in the workers too.
SITECUSTOMIZE = """
import os, platform
known = os.uname()
os.uname = lambda: os.uname_result(("Linux", "stored", *known[2:]))
platform.node = lambda: "stored"
"""


def flows():
    """Import stored_flows with a file name that is the same on every machine."""
    name = "stored_flows"
    module = sys.modules[name] = types.ModuleType(name)
    module.__file__ = f"{name}.py"
    exec(compile((HERE / module.__file__).read_text(), module.__file__, "exec"), vars(module))
    return module


def store(folder=None):
    """Return the store in a folder; without one, a store that does not know where it is."""
    from prefectish.results import LocalResult

    if folder is not None:
        return LocalResult(folder)
    made = LocalResult("results")
    for holder in (made, *vars(made).values()):
        for name in ("dir", "root"):
            with contextlib.suppress(AttributeError):
                getattr(holder, name)
                setattr(holder, name, "results")
    return made


def run_all(module, history):
    """Run everything but the run whose client dies."""
    import cloudpickle

    from prefectish.executors import LocalDaskExecutor

    def run(flow, **options):
        return flow.run(history=history, **options).context["flow_run_id"]

    run(module.values(store()))
    module.settings["broken"] = True
    run_id = run(module.failing(store()))
    module.failing(store()).resume(run_id, history=history, retry_failed=True)
    cloudpickle.register_pickle_by_value(module)  # processes cannot import it
    processes = LocalDaskExecutor("processes", num_workers=2)
    run(module.failing(store(), "failing on processes"), executor=processes)
    cloudpickle.unregister_pickle_by_value(module)
    module.pages(store()).run(numbers=[1, 3, 2], history=history)
    run(module.asking(store()))
    run(module.cached(store()))


def die(module, history):
    """Run a flow whose body ends this process once the history knows what was prepared.

    On threads, so that the history is written while the body waits.
    """
    from prefectish import history as histories
    from prefectish.executors import LocalDaskExecutor

    def until_recorded():
        (run,) = histories.runs(flow="sending", store=history)
        end = time.monotonic() + 60
        while len(run.children("prepare", state="Success")) < 5:
            assert time.monotonic() < end, "the history does not fill"
            threading.Event().wait(0.05)

    module.settings["before_death"] = until_recorded
    module.sending(store()).run(history=history, executor=LocalDaskExecutor("threads", num_workers=2))


def write(version):
    """Write the folder of a release, in a process that calls its machine by another name."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "sitecustomize.py").write_text(SITECUSTOMIZE)
        environment = {**os.environ, "PYTHONPATH": home, "PREFECTISH_HOME": home, "PYTHONHASHSEED": "0"}
        folder = Path(home) / "made"
        (folder / "results").mkdir(parents=True)
        for part, code in (("runs", 0), ("death", 9)):
            command = [sys.executable, os.path.abspath(__file__), version, part]
            found = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
            assert found == code, f"{part} ended with {found}"
        finish(folder, version)
        check(folder, home)
        FOLDER.mkdir(exist_ok=True)
        shutil.copytree(folder, FOLDER / version)


def finish(folder, version):
    """Put the whole database into one file, and note what wrote it."""
    import prefectish

    with contextlib.closing(sqlite3.connect(folder / "history.db")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        runs = dict(connection.execute("SELECT flow_name, id FROM runs"))
        connection.execute("UPDATE runs SET source = NULL")
        # A client of another machine counts as lost after a minute without a sign of life.
        connection.execute("UPDATE runs SET heartbeat = heartbeat - 3600 WHERE holder IS NOT NULL")
        place = os.path.join(os.path.dirname(os.path.dirname(prefectish.__file__)), "")
        connection.execute("UPDATE errors SET traceback = replace(traceback, ?, '')", [place])
        connection.commit()
        connection.execute("VACUUM")
    results = store(folder / "results")
    values = sum("serializer" in results.facts(name) for name in results.list())
    about = {"commit": version, "python": platform.python_version(), "values": values, "runs": runs}
    (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n")


def check(folder, home):
    """Refuse what names this machine or a folder of it."""
    import prefectish

    names = [f"{platform.node()}:", home, str(HERE), str(Path.home()), os.path.dirname(prefectish.__file__), sys.prefix]
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        found = [name for name in names if name.encode() in content]
        assert not found, f"{path} names {found}"


def main(version, part=None):
    """Write a folder, or be the process that runs the flows in it."""
    if part is None:
        write(version)
    elif part == "runs":
        run_all(flows(), "history.db")
    else:
        die(flows(), "history.db")


if __name__ == "__main__":
    main(*sys.argv[1:])
