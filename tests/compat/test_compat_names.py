"""The table of names: each is importable, and those of a star import are there."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from prefectish import compat
from prefectish.compat.names import MODULES


@pytest.mark.parametrize("module", MODULES)
def test_every_name_of_a_module_is_there(module):
    found = import_module(module)
    for name in MODULES[module]:
        assert getattr(found, name, None) is not None, name
    assert {*MODULES[module]} <= {*dir(found)}


def test_modules_are_attributes_of_their_packages():
    import prefect

    assert prefect.engine.signals.FAIL is import_module("prefect.engine.signals").FAIL
    with pytest.raises(AttributeError, match="'prefect' has no attribute 'nothing'"):
        prefect.nothing  # noqa: B018


def test_modules_hold_their_names_from_the_start():
    import prefect.engine.state as states

    assert {"State", "Success", "ClientFailed"} <= vars(states).keys()


def test_dask_is_imported_where_it_is_asked_for():
    code = (
        "import prefectish.compat, sys; prefectish.compat.install(); import prefect, prefect.executors; "
        "from prefect.executors import Executor; prefect.Flow; print('distributed' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "False\n", done.stderr


def test_installing_twice_changes_nothing():
    before = list(sys.meta_path)
    compat.install()
    assert sys.meta_path == before


def test_another_prefect_that_is_imported_already_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "prefect", sys)
    with pytest.raises(RuntimeError, match="prefect is imported already"):
        compat.install()


SCRIPT = """
import sys
from prefect import Flow, task
import prefect

@task
def add(x, y):
    return prefect.context.get("map_index") + x + y

with Flow("sums") as flow:
    sums = add.map([1, 2, 3], y=[10, 20])

if __name__ == "__main__":
    state = flow.run(executor=prefect.executors.LocalDaskExecutor(scheduler=sys.argv[1], num_workers=1))
    print(state.result[sums].result)
"""


def test_workers_install_it_before_they_import_what_a_body_needs(tmp_path):
    (tmp_path / "helper_of_sums.py").write_text(
        "import prefect\nfrom prefect import task\n\n@task\ndef double(x):\n"
        "    return 2 * x, prefect.context.task_name\n"
    )
    script = tmp_path / "sums.py"
    script.write_text(
        "from helper_of_sums import double\nfrom prefect import Flow\nfrom prefect.executors import LocalDaskExecutor\n"
        "with Flow('sums') as flow:\n    doubled = double.map([1, 2])\n"
        "state = flow.run(executor=LocalDaskExecutor(scheduler='processes', num_workers=1))\n"
        "print(state.result[doubled].result)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "prefectish.compat", str(script)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "[(2, 'double'), (4, 'double')]\n", done.stderr


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_a_script_runs_as_it_is(tmp_path, scheduler):
    script = tmp_path / "sums.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "prefectish.compat", str(script), scheduler],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "[11, 23]\n", done.stderr


def test_a_script_that_is_missing_is_an_error(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "prefectish.compat", "nothing.py"],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "prefectish.compat: no such file: nothing.py\n")


def test_the_command_runs_a_file_for_prefect_1(tmp_path):
    (tmp_path / "sums.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "prefectish.cli", "run", "--prefect1", "sums.py", "--history", "h.db"],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "add" in done.stdout


def test_a_name_stays_when_the_module_with_that_name_is_imported():
    both = [(place, name) for place, names in MODULES.items() for name in names if f"{place}.{name}" in MODULES]
    assert ("prefect.tasks.control_flow", "case") in both
    for place, name in both:
        before = getattr(import_module(place), name)
        import_module(f"{place}.{name}")
        assert getattr(import_module(place), name) is before
