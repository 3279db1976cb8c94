"""Local code that travels: to workers that do not have it, in two versions side by side, to late ones too."""

from __future__ import annotations

import subprocess
import sys

import pytest
from distributed import LocalCluster

from prefectish.errors import EnvironmentMismatch
from prefectish.executors.shipping import Source, checked, unpack

LIMIT = 120
PROGRAM = """
import sys
from prefectish import Flow, flow, task
from prefectish.executors import DaskExecutor
import mine.tools
from mine import steps

def run(address, ship, spelled):
    executor = DaskExecutor(address, ship=ship)
    if spelled == "graph":
        with Flow("ships") as made:
            found = steps.factor_of.map([1, 2])
        state = made.run(executor=executor, history=False, progress=False)
        return state, [child.result for child in state.result[found].map_states]
    @flow
    def made():
        return [future.result() for future in steps.factor_of.map([1, 2])]
    state = made.run(executor=executor, history=False, progress=False)
    return state, state.result

if __name__ == "__main__":
    ship = {"project": "project", "module": [mine], "folder": [sys.argv[4]], "none": None}[sys.argv[2]]
    try:
        state, results = run(sys.argv[1], ship, sys.argv[3])
    except Exception as error:
        print(type(error).__name__, error)
    else:
        print(results)
"""
STEPS = """
from prefectish import task
from mine import tools
from mine.tools import Row

@task
def factor_of(i):
    {lazy}
    return (Row(i).value * tools.factor(), type(Row(i)).__name__)
"""
TOOLS = """
class Row:
    def __init__(self, value):
        self.value = value

def factor():
    return {factor}
"""


@pytest.fixture(scope="module")
def address():
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


def project(folder, factor, lazy="pass"):
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / "__init__.py").write_text("")
    (folder / "mine" / "tools.py").write_text(TOOLS.format(factor=factor))
    (folder / "mine" / "late.py").write_text(f"EXTRA = {factor}\n")
    (folder / "mine" / "steps.py").write_text(STEPS.format(lazy=lazy))
    (folder / "program.py").write_text(PROGRAM)
    return folder


def told(folder, address, ship, spelled="graph"):
    command = [sys.executable, "program.py", address, ship, spelled, str(folder)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False)
    return (done.stdout.strip().splitlines() or [done.stderr[-2000:]])[-1]


@pytest.mark.parametrize("spelled", ["graph", "function"])
@pytest.mark.parametrize("ship", ["project", "module", "folder"])
def test_modules_travel_to_workers_that_lack_them(tmp_path, address, ship, spelled):
    assert told(project(tmp_path / "a", 10), address, ship, spelled) == "[(10, 'Row'), (20, 'Row')]"


def test_w24_two_versions_of_a_module_do_not_mix_on_one_cluster(tmp_path, address):
    """W24. On DaskExecutor."""
    first, second = project(tmp_path / "a", 10), project(tmp_path / "b", 100)
    assert told(first, address, "project") == "[(10, 'Row'), (20, 'Row')]"
    assert told(second, address, "project") == "[(100, 'Row'), (200, 'Row')]"
    assert told(first, address, "project") == "[(10, 'Row'), (20, 'Row')]"


def test_modules_that_import_one_another_and_packages_without_a_file_travel(tmp_path, address):
    folder = project(tmp_path / "a", 10)
    (folder / "mine" / "tools.py").write_text("from . import rates\n" + TOOLS.format(factor="rates.FACTOR"))
    (folder / "mine" / "rates.py").write_text("from . import tools\nfrom plain import more\nFACTOR = more.FACTOR\n")
    (folder / "plain").mkdir()
    (folder / "plain" / "more.py").write_text("FACTOR = 10\ndef known():\n    import plain.more\n")
    steps = (folder / "mine" / "steps.py").read_text()
    (folder / "mine" / "steps.py").write_text(f"import plain.more\n{steps}".replace("pass", "plain.more.known"))
    assert told(folder, address, "project") == "[(10, 'Row'), (20, 'Row')]"


def test_module_that_a_body_imports_travels_too(tmp_path, address):
    lazy = "from mine import late; assert late.EXTRA == 10"
    assert told(project(tmp_path / "a", 10, lazy), address, "project") == "[(10, 'Row'), (20, 'Row')]"


def test_without_the_option_the_error_names_it(tmp_path):
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        said = told(project(tmp_path / "a", 10), cluster.scheduler_address, "none")
    assert said.startswith("EnvironmentMismatch")
    assert 'DaskExecutor(ship="project")' in said


@pytest.mark.parametrize("ship", [3, [3], "no such thing"])
def test_odd_option_is_refused(ship):
    with pytest.raises((TypeError, ValueError), match="ship"):
        checked(ship)


def test_second_content_of_a_module_that_is_imported_by_name_is_a_mismatch(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    unpack([tuple(Source("shipped_for_a_test", "A = 1", "a.py", False, True))])
    import shipped_for_a_test

    assert shipped_for_a_test.A == 1
    with pytest.raises(EnvironmentMismatch, match="module shipped_for_a_test has another content"):
        unpack([tuple(Source("shipped_for_a_test", "A = 2", "a.py", False, True))])
    unpack([tuple(Source("shipped_for_a_test", "A = 2", "a.py", False, False))])
    del sys.modules["shipped_for_a_test"]
