"""Writes ``docs/fault_table.md``: each fault, what is promised, the tests that carry its id and the executors they use.

``python tests/fault_table.py`` writes the page; ``test_fault_table.py`` checks that it is current and complete.

A test carries an id in its name (``test_w3_...``, ``test_p4_p5_...``, ``test_u2_to_u5_...``) or at the beginning of its
docstring (``"U10."``, ``"U1 for the first."``). The executors of a test are read from its source, and from what it uses
of its own file: fixtures, helpers, scripts for other processes.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
ROWS = ROOT / "docs" / "faults.toml"
PAGE = ROOT / "docs" / "fault_table.md"
#: Executors of the contract suite, in the order in which they are shown.
ALL = ("local", "synchronous", "threads", "processes", "dask")
#: Tests shown in a cell, at most; the rest is found by the id.
SHOWN = 4
#: Fixtures of ``conftest.py`` that stand for executors.
FIXTURES = {"run": ALL, "executor": ALL, "spelled": ALL, "in_process": ALL, "dask_client": ("dask",)}

_NAME = re.compile(r"(?<![a-z0-9])([upwschdxlt])(\d{1,2})(?:_to_\1(\d{1,2}))?(?![0-9])")
_DOCSTRING = re.compile(r"([UPWSCHDXLT]\d{1,2}(?:(?:,| and) [UPWSCHDXLT]\d{1,2})*)\b(?:[.:]| for )")


class Found(NamedTuple):
    """A test with ids."""

    ids: frozenset[str]
    file: str
    name: str
    executors: frozenset[str]


def rows() -> dict[str, dict[str, Any]]:
    """Return the rows by id, in order."""
    content = tomllib.loads(ROWS.read_text())
    return {ident: row for ident, row in content.items() if ident != "section"}


def sections() -> dict[str, str]:
    """Return the titles by letter."""
    return {letter: section["title"] for letter, section in tomllib.loads(ROWS.read_text())["section"].items()}


def ids_of(name: str, docstring: str | None) -> frozenset[str]:
    """Return the ids that a test carries.

    >>> sorted(ids_of("test_u2_to_u4_whatever", None)), sorted(ids_of("test_p4_p5_x", None)), ids_of("test_a", "U10.")
    (['U2', 'U3', 'U4'], ['P4', 'P5'], frozenset({'U10'}))
    """
    found = set()
    for letter, first, last in _NAME.findall(name):
        found.update(f"{letter.upper()}{n}" for n in range(int(first), int(last or first) + 1))
    told = _DOCSTRING.match(docstring or "")
    if told is not None:
        found.update(re.findall(r"[A-Z]\d+", told[1]))
    return frozenset(found)


def tests_of(path: Path) -> Iterator[Found]:
    """Yield the tests of a file that carry ids."""
    source = path.read_text()
    tree = ast.parse(source)
    parts = dict(_top_level(tree, source))
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
            continue
        ids = ids_of(node.name, ast.get_docstring(node))
        if ids:
            yield Found(ids, path.name, node.name, _executors(node, parts, tree))


def _top_level(tree: ast.Module, source: str) -> Iterator[tuple[str, str]]:
    """Yield the names that a file defines, and their source."""
    for node in tree.body:
        text = _text(node, source)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, text
        elif isinstance(node, ast.Assign):
            yield from ((target.id, text) for target in node.targets if isinstance(target, ast.Name))


def _text(node: ast.stmt, source: str) -> str:
    decorators = getattr(node, "decorator_list", [])
    lines = source.splitlines()
    assert node.end_lineno is not None
    return "\n".join(lines[min([node.lineno, *(d.lineno for d in decorators)]) - 1 : node.end_lineno])


def _executors(test: ast.FunctionDef, parts: dict[str, str], tree: ast.Module) -> frozenset[str]:
    """Return what a test runs on: by its fixtures, its parameter `executor`, else by what it and its helpers name."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    fixtures = _fixtures(test, functions) - _parametrized(test)
    found = {executor for name in fixtures for executor in FIXTURES.get(name, ())}
    chosen = _chosen(test, parts)
    return frozenset(found | (chosen or _named_in("\n".join([test.name, *_closure(test.name, parts)]))))


def _fixtures(test: ast.FunctionDef, functions: dict[str, ast.FunctionDef]) -> set[str]:
    """Return the names of the fixtures that a test asks for, itself or through fixtures of its file."""
    found: set[str] = set()
    open_ = [test]
    while open_:
        for argument in open_.pop().args.args:
            own = functions.get(argument.arg)
            if own is not None and argument.arg not in found and "fixture" in map(_decorator, own.decorator_list):
                open_.append(own)
            found.add(argument.arg)
    return {name for name in found if name not in functions}


def _parametrized(test: ast.FunctionDef) -> set[str]:
    """Return the names of the parameters of a test, which are no fixtures."""
    calls = [d for d in test.decorator_list if isinstance(d, ast.Call) and _decorator(d) == "parametrize"]
    return {name for call in calls for name in re.findall(r"\w+", ast.unparse(call.args[0]))}


def _decorator(node: ast.expr) -> str:
    """Return the last part of the name of a decorator."""
    return ast.unparse(node.func if isinstance(node, ast.Call) else node).rpartition(".")[2]


def _chosen(test: ast.FunctionDef, parts: dict[str, str]) -> set[str]:
    """Return the executors that a test is parametrized with by its argument of that name."""
    texts = [
        ast.unparse(d) for d in test.decorator_list if _decorator(d) == "parametrize" and "'executor'" in ast.unparse(d)
    ]
    named = [parts[name] for text in texts for name in re.findall(r"\b\w+\b", text) if name in parts]
    return set(re.findall(rf"[\"']({'|'.join(ALL)})[\"']", "\n".join(texts + named)))


def _closure(name: str, parts: dict[str, str]) -> list[str]:
    """Return the source of a test, and of everything in its file that it, or such a thing, names."""
    texts, open_, seen = [], [name], {name}
    while open_:
        text = parts[open_.pop()]
        texts.append(text)
        named = set(re.findall(r"\b\w+\b", text)) & parts.keys() - seen
        seen |= named
        open_.extend(sorted(named))
    return texts


def _named_in(text: str) -> set[str]:
    found = set()
    if re.search(r"(?<!Local)DaskExecutor\b|command_line_scheduler|LocalCluster|(?<![.\w])connect\(", text):
        found.add("dask")
    if "LocalDaskExecutor" in text or re.search(r"\bprocesses\b.*\bexecutor\b", text):
        quoted = set(re.findall(r"[\"'](threads|processes|synchronous)[\"']", text))
        found |= quoted or {"threads"}
    if "LocalExecutor" in text or re.search(r"\.(run|start|resume|wait)\((?!.*executor=)", text) or not found:
        local = re.search(r"flow\w*\.(run|start)\((?![^)]*executor=)", text) or "LocalExecutor" in text
        if local:
            found.add("local")
    return found


def collected() -> list[Found]:
    """Return all tests with ids, by file and place."""
    return [found for path in sorted(Path(__file__).parent.glob("test_*.py")) for found in tests_of(path)]


def wanted(row: dict[str, Any]) -> set[str]:
    """Return the executors on which a row is to be tested."""
    return {e for word in row["on"] for e in (ALL if word == "all" else () if word == "rules" else (word,))}


def missing(row: dict[str, Any], tests: list[Found]) -> list[str]:
    """Return what a row lacks: words, tests, executors."""
    lacks = [word for word in ("fault", "promise", "on") if not row.get(word)]
    if not tests:
        return [*lacks, "a test"]
    gone = wanted(row) - {executor for test in tests for executor in test.executors}
    return [*lacks, *(f"a test on {executor}" for executor in ALL if executor in gone)]


def page() -> str:
    """Return the text of the page."""
    tests = collected()
    lines = [
        "# Faults, and what happens then",
        "",
        "Every row is a fault that tests inject for real, with what is promised then, the tests that carry the id, and",
        "the executors they use: `local` is `LocalExecutor`, `synchronous`, `threads` and `processes` are the kinds of",
        "`LocalDaskExecutor`, `dask` is `DaskExecutor`; *rules* need none. This page is written by",
        "`python tests/fault_table.py`.",
    ]
    known = rows()
    for letter, title in sections().items():
        lines += ["", f"## {title}", "", "| id | fault | what happens | executors | tests |", "|---|---|---|---|---|"]
        lines += [_line(ident, row, tests) for ident, row in known.items() if ident[0] == letter]
    return "\n".join(lines) + "\n"


def _line(ident: str, row: dict[str, Any], tests: list[Found]) -> str:
    own = [test for test in tests if ident in test.ids]
    used = {executor for test in own for executor in test.executors}
    executors = ", ".join(executor for executor in ALL if executor in used) or ("rules" if own else "")
    return f"| {ident} | {_cell(row['fault'])} | {_cell(row['promise'])} | {executors} | {_names(own)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _names(tests: list[Found]) -> str:
    """Name the first tests of each file."""
    names = [f"`{test.file}::{test.name}`" for test in tests[:SHOWN]]
    return ", ".join(names) + (", ..." if len(tests) > SHOWN else "")


if __name__ == "__main__":
    PAGE.write_text(page())
    every = collected()
    for ident, row in rows().items():
        lacks = missing(row, [test for test in every if ident in test.ids])
        if lacks:
            print(ident, "lacks", ", ".join(lacks))
