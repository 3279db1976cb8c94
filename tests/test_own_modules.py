"""The user's own modules are the same on workers as here: what is reached, and what differs (rules, without Dask)."""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple

import pytest

from prefectish import flow, task
from prefectish.engine.jobs.envelope import dumps
from prefectish.executors import LocalDaskExecutor, processes
from prefectish.executors.own_modules import (
    ComparedTasks,
    content,
    differences,
    is_own,
    reached,
    references,
    stale_here,
)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module into a folder of the search path, and import it."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(name, source, load=True):
        (tmp_path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        names.append(name)
        return importlib.import_module(name) if load else None

    yield write
    for name in names:
        sys.modules.pop(name, None)


HELPER = "LIMIT = 3\ndef factor():\n    return LIMIT\nclass Scale:\n    def by(self):\n        return 1\n"


def wanted_by(body):
    return reached([dumps(task(body))], [body])


def test_modules_that_a_body_reaches_are_found(write):
    write("om_far", "def f():\n    return 1\n")
    write("om_late", "X = 1\n", load=False)
    write("om_inside", "X = 2\n", load=False)
    helper = write("om_helper", "import json, om_far\ndef factor():\n    import om_late\n    return om_far.f()\n")

    def by_module(x):
        return helper.factor() * x

    factor = helper.factor

    def by_name(x):
        import om_inside

        return factor() * x * om_inside.X

    assert set(wanted_by(by_module)) == {"om_helper", "om_far", "om_late"}
    found = wanted_by(by_name)
    assert set(found) == {"om_helper", "om_far", "om_late", "om_inside"}
    assert [name for name, c in found.items() if c.is_needed] == ["om_helper"]


def test_installed_modules_and_those_of_python_and_prefectish_are_not_compared(write):
    write("om_own", "X = 1\n")
    assert is_own("om_own")
    assert not any(map(is_own, ("json", "numpy", "pytest", "prefectish.tasks", "sys", "__main__", "not_there", "")))


def test_a_pickle_of_a_class_refers_to_its_module(write):
    helper = write("om_classes", HELPER)
    assert "om_classes" in references(dumps([helper.Scale(), helper.Scale]))
    assert "om_classes" not in references(dumps({"om_classes": "a text"}))


@pytest.mark.parametrize(
    ("source", "differs"),
    [
        (HELPER, False),
        ("# another comment\n\n" + HELPER.replace("    return LIMIT", "    'A docstring.'\n    return LIMIT"), False),
        (HELPER.replace("LIMIT = 3", "LIMIT = 4"), True),
        (HELPER.replace("return 1", "return 2"), True),
        (HELPER + "def more():\n    return 1\n", True),
    ],
    ids=["same", "comments", "constant", "method", "more"],
)
def test_another_file_on_a_worker_differs_by_what_it_does(write, source, differs):
    write("om_files", HELPER)
    wanted = {"om_files": content("om_files")}
    sys.modules.pop("om_files")
    write("om_files", source, load=False)
    found = differences(wanted)
    assert bool(found) is differs
    assert all("module om_files differs: " in text for text in found)


@pytest.mark.parametrize("change", [("LIMIT = 3", "LIMIT = 4"), ("return 1", "return 2")], ids=["constant", "method"])
def test_what_is_imported_counts_and_not_the_file_that_changed_since(write, change):
    loaded = write("om_stale", HELPER)
    before = {"om_stale": content("om_stale")}
    assert differences(before) == []
    write("om_stale", "# moved\n" + HELPER.replace(*change), load=False)
    stale = {"om_stale": content("om_stale")}
    assert stale["om_stale"].is_stale
    assert "has changed since this program imported it" in stale_here(stale)
    assert differences(stale) == []  # imported at the same time, it runs the same code
    importlib.reload(loaded)
    now = {"om_stale": content("om_stale")}
    assert not now["om_stale"].is_stale
    assert stale_here(now) is None
    assert "and there it is what" in differences(stale)[0]
    assert "imported there before" in differences(now, lambda name: stale["om_stale"])[0]


def test_only_comments_that_changed_make_nothing_stale(write):
    write("om_comments", HELPER)
    write("om_comments", "# one more line\n" + HELPER, load=False)
    assert not content("om_comments").is_stale


def test_state_that_a_module_keeps_for_itself_is_not_compared(write):
    module = write(
        "om_state", "import time\ncount = 0\nbegun = time.time()\ndef f():\n    global count\n    count += 1\n"
    )
    wanted = {"om_state": content("om_state")}
    module.f()
    module.begun = 0
    module.more = "set from outside"
    assert differences(wanted) == []


def test_a_module_that_is_missing_is_named_if_a_body_needs_it(write):
    write("om_missing", HELPER)
    here = content("om_missing")
    assert differences({"om_missing": here}, lambda name: None) == []
    found = differences({"om_missing": here._replace(is_needed=True)}, lambda name: None)
    assert found == ["ModuleNotFoundError: No module named 'om_missing'"]


class Numbered(NamedTuple):
    """What is read of a step."""

    number: int


def test_steps_of_one_task_are_compared_once():
    compared = ComparedTasks()
    first, second, third = Numbered(0), Numbered(1), Numbered(2)
    assert compared.add([first, second], {0: b"load", 1: b"load"}) == [first]
    assert compared.add([second, third], {1: b"load", 2: b"save"}) == [third]
    assert compared.add([third, Numbered(3)], {2: b"save", 3: b"load"}) == []


def test_modules_are_looked_for_once_for_all_calls_of_a_task(monkeypatch):
    looked = []
    monkeypatch.setattr(processes, "reached", lambda *found: looked.append(found) or reached(*found))

    @task
    def increment(x):
        return x + 1

    @flow(executor=LocalDaskExecutor(scheduler="processes", num_workers=2), history=False)
    def chained():
        last = increment.submit(0)
        for _ in range(9):
            last = increment.submit(last)
        return last.result()

    assert chained() == 10
    assert len([tasks for tasks, _ in looked if tasks]) == 1
