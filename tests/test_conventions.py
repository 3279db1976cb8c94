"""What CONTRIBUTING.md says of tests: a file for each module of the engine's rooms, and no test that cannot fail."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ENGINE = HERE.parent / "prefectish" / "engine"
ROOMS = ["scheduling", "worker", "wire"]
MODULES = sorted(path for room in ROOMS for path in (ENGINE / room).rglob("*.py") if path.stem != "__init__")
FILES = {path.stem for path in HERE.glob("test_*.py")}


def name_of(module: Path) -> str:
    return module.relative_to(ENGINE).with_suffix("").as_posix()


def files_of(module: Path) -> set[str]:
    """Return the names that the file of its tests may have: its own, or behind that of a folder that it is in."""
    rooms = module.relative_to(ENGINE).parts[:-1]
    return {f"test_{module.stem}", *(f"test_{room}_{module.stem}" for room in rooms)}


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_module_has_a_file_of_tests(module):
    names = files_of(module)
    assert names & FILES, f"write one of {', '.join(sorted(names))}"


# ---------------------------------------------------------------------- tests that cannot fail


def calls_of(node: ast.AST) -> set[str]:
    called = (call.func for call in ast.walk(node) if isinstance(call, ast.Call))
    return {getattr(name, "id", None) or getattr(name, "attr", "") for name in called}


def asserts(node: ast.AST) -> bool:
    """Whether a function asserts or expects something by itself."""
    return any(isinstance(part, ast.Assert) for part in ast.walk(node)) or any(
        name in ("raises", "warns", "fail", "see") or name.startswith("assert") for name in calls_of(node)
    )


def functions_of(path: Path) -> dict[str, ast.AST]:
    tree = ast.parse(path.read_text())
    return {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("path", sorted(HERE.glob("test_*.py")), ids=lambda path: path.stem)
def test_each_test_asserts_something(path):
    functions = functions_of(path)
    checks = {name for name, node in functions.items() if asserts(node)}
    tests = {name: node for name, node in functions.items() if name.startswith("test_")}
    assert [name for name, node in tests.items() if name not in checks and not calls_of(node) & checks] == []
