"""The pages about moving: what stands on the left runs, and becomes, or prints, what stands on the right.

What stands on the right is one program for `tests/test_docs.py`, and prints what the page says.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a language; those of none are what a program prints."""
    fenced = re.findall(r"^```([^\n]*)\n(.*?)^```$", (DOCS / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return [content for label, content in fenced if label == language]


def left(page: str) -> str:
    return blocks(page, "{code-block} python")[0]


def printed(folder: Path, text: str, *options: str) -> str:
    script = folder / "left.py"
    script.write_text(text)
    command = [sys.executable, *options, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", ["moving.md", "moving-later.md"])
def test_right_side_is_what_the_command_makes_of_the_left_one(page: str) -> None:
    pytest.importorskip("libcst")
    from prefectish.moving import move

    moved = move(left(page))
    assert (moved.source, moved.left) == (blocks(page, "python")[0], [])


def test_flow_of_prefect_1_prints_the_same_as_it_is(tmp_path: Path) -> None:
    assert printed(tmp_path, left("moving.md"), "-m", "prefectish.compat") == blocks("moving.md", "")[0]


@pytest.mark.parametrize(("page", "library"), [("moving-dask.md", "distributed"), ("moving-joblib.md", "joblib")])
def test_program_of_another_library_prints_the_same(page: str, library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    assert printed(tmp_path, left(page)) == blocks(page, "")[0]


def test_options_that_the_pages_name_are_there(tmp_path: Path) -> None:
    """In tables nothing runs them."""
    program = """
from prefectish import Flow, flow, task
from prefectish.cache_policies import INPUTS
from prefectish.executors import DaskExecutor, LocalDaskExecutor
from prefectish.results import LocalResult
from prefectish.tasks.flows import RunFlow

@task(retries=3, resources={"GPU": 1}, workers=["a"], priority=1, timeout=60, batch_size=100)
def first(x): ...

@task(cache_policy=INPUTS, result=LocalResult("results"), on_child_failure="cancel")
def second(x): ...

DaskExecutor("tcp://somewhere:8786")
LocalDaskExecutor(scheduler="processes", num_workers=4)
RunFlow("project/name", wait=False)
"""
    assert printed(tmp_path, program) == ""
