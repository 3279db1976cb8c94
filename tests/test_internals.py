"""docs/internals.md says where things are: it is held against the code."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from prefectish.engine.driver import control
from prefectish.engine.jobs import references

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "internals.md").read_text()
BASES = ("", "prefectish/engine")
FILES = sorted(set(re.findall(r"`([\w/]+\.py)`", PAGE)))
#: Files in which one of the questions that were hardest to follow may be decided, at most.
LONGEST_WALK = 9
FOLDERS = ("prefectish", "executors")
#: Lines of a module, at most.
LONGEST_MODULE = 650
#: Modules at the root of the engine, at most, beside those that only import what stands elsewhere.
MOST_AT_ROOT = 14
#: Files that the run of a plain child may call functions of, and calls from one file into another, at most.
MOST_FILES, MOST_CROSSINGS = 16, 40


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("file", FILES)
def test_files_that_the_page_names_are_there(file: str) -> None:
    assert any((ROOT / base / file).is_file() for base in BASES)


def test_page_names_every_request() -> None:
    requests = {name for name, value in vars(control).items() if inspect.isclass(value) and hasattr(value, "_fields")}
    named = set(re.findall(r"`([A-Z]\w+)`", section("Requests to a run")))
    assert requests
    assert requests == named


def test_table_of_references_names_every_class_beside_it() -> None:
    own = {name for name, value in vars(references).items() if getattr(value, "__module__", "") == references.__name__}
    assert references.__doc__ is not None
    assert {name for name in own if not name.startswith("_")} <= set(re.findall(r"\w+", references.__doc__))


def test_glossary_is_short() -> None:
    assert 10 < section("Glossary").count("\n| ") - 2 <= 25


@pytest.mark.parametrize("question", ["Is there a retry", "Is it cached", "Its worker died", "Its body pauses"])
def test_hard_questions_cross_few_files(question: str) -> None:
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| {question}")]
    walk = row.split(". ")[0]  # further sentences tell of other roads
    assert 0 < walk.count(".py`") <= LONGEST_WALK


def only_imports(path: Path) -> bool:
    """Whether a module is a name of what stands elsewhere."""
    body = ast.parse(path.read_text()).body
    return all(isinstance(part, ast.Expr | ast.Import | ast.ImportFrom | ast.Assign) for part in body)


def test_no_module_is_too_long_to_read() -> None:
    lines = {path: len(path.read_text().splitlines()) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert {str(path.relative_to(ROOT)): count for path, count in lines.items() if count > LONGEST_MODULE} == {}


def test_root_of_the_engine_has_few_modules() -> None:
    root = ROOT / "prefectish" / "engine"
    assert only_imports(root / "outcome.py")
    modules = [path.name for path in root.glob("[a-z]*.py") if not only_imports(path)]
    assert 10 < len(modules) <= MOST_AT_ROOT, "put what not every room stands on into the room that uses it"


def test_plain_child_crosses_few_files() -> None:
    checks_nothing = {name: value for name, value in os.environ.items() if name != "PREFECTISH_VALIDATE"}
    script = Path(__file__).parent / "crossings.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=checks_nothing)
    lines = done.stdout.splitlines()
    files = [line for line in lines if line.endswith(".py") and " " not in line]
    crossings = sum(int(line.split()[0]) for line in lines if "->" in line)
    assert 10 < len(files) <= MOST_FILES, done.stdout
    assert 20 < crossings <= MOST_CROSSINGS, done.stdout
