"""Count the syntax nodes in every Python file this interpreter can see.

``python -m prefectish.examples.census`` maps over each Python file of the running interpreter's standard library, of
the environment's site-packages and of a small packaged folder of files that are broken on purpose. Each file is read,
parsed and measured by itself; one report adds the numbers up. A file that does not decode or parse fails its own
children and no others, and the report, which runs whatever became of them, lists it with its error.

Not decided here: where the files are measured. ``--executor`` picks that, and the totals are the same on each.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
import sysconfig
import time
import tokenize
import warnings
from collections import Counter
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefectish import Flow, Parameter, get_logger, task
from prefectish.errors import PrefectishError
from prefectish.triggers import all_finished

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefectish.engine.state import State

# By name, as a configuration would give them: the package must not import what is installed above it.
EXECUTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "local": ("LocalExecutor", {}),
    "threads": ("LocalDaskExecutor", {"scheduler": "threads"}),
    "processes": ("LocalDaskExecutor", {"scheduler": "processes"}),
    "dask": ("DaskExecutor", {}),
}
# Compiled copies come and go while the census runs; other packages' folders are not the standard library.
SKIPPED_FOLDERS = frozenset({"__pycache__", "site-packages", "dist-packages"})
# The double suffix keeps compilers, linters and installers, which take every *.py, away from the broken files.
SUFFIXES = (".py", ".py.txt")
SLOWEST_SHOWN = 5


@task
def find(folders: list[str], limit: int | None) -> list[str]:
    """Return the Python files below `folders`, sorted; at most `limit` of each folder."""
    paths: list[str] = []
    for folder in folders:
        paths += sorted(python_files(folder))[:limit]
    if not paths:
        raise FileNotFoundError(f"no Python files below {', '.join(folders) or 'no folders at all'}")
    return paths


@task
def read(path: str) -> str:
    """Return the text of one file, decoded as its own encoding line says."""
    with tokenize.open(path) as file:
        return file.read()


# CPython 3.11 counts the depth of trees for all threads together: one that parses beside another may fail so.
@task(max_retries=5, retry_delay=0, retry_on=SystemError)
def parse(path: str, text: str) -> dict[str, Any]:
    """Return how many syntax nodes of each kind stand in `text`, and the seconds it took to tell."""
    start = time.perf_counter()
    # Counted here because a tree is many times its text, and this way it never leaves the process.
    nodes = Counter(type(node).__name__ for node in ast.walk(ast.parse(text, path)))
    return {"nodes": dict(nodes), "seconds": time.perf_counter() - start}


# The trigger lets this run behind a failed step, to pass on what broke the file: the report then has the reason
# itself, where it would otherwise have the news that a trigger was not satisfied.
@task(trigger=all_finished)
def measure(text: str | Exception, parsed: dict[str, Any] | Exception) -> dict[str, Any]:
    """Return the numbers of one file, its seconds among them."""
    if isinstance(text, Exception):
        raise text
    if isinstance(parsed, Exception):
        raise parsed
    nodes = parsed["nodes"]
    return {
        "lines": len(text.splitlines()),
        "functions": nodes.get("FunctionDef", 0) + nodes.get("AsyncFunctionDef", 0),
        "classes": nodes.get("ClassDef", 0),
        "imports": nodes.get("Import", 0) + nodes.get("ImportFrom", 0),
        "nodes": sum(nodes.values()),
        "seconds": parsed["seconds"],
    }


@task(trigger=all_finished)
def report(paths: list[str] | BaseException, measures: list[dict[str, Any] | BaseException]) -> dict[str, Any]:
    """Return the totals, the slowest files, and the failed ones with their errors.

    A failed child stands in `measures` as its exception.
    """
    if isinstance(paths, BaseException):
        raise paths
    totals: Counter[str] = Counter(files=len(paths))
    seconds: list[tuple[float, str]] = []
    failed: list[tuple[str, str]] = []
    for path, measured in zip(paths, measures, strict=True):
        if isinstance(measured, BaseException):
            failed.append((path, f"{type(measured).__name__}: {measured}"))
        else:
            seconds.append((measured["seconds"], path))
            totals.update({name: number for name, number in measured.items() if name != "seconds"})
    totals["failed"] = len(failed)
    slowest = sorted(seconds, reverse=True)[:SLOWEST_SHOWN]
    return {"totals": dict(totals), "slowest": slowest, "failed": failed}


def build_flow(*, strict: bool = False) -> Flow:
    """Return the census as a flow with the parameters `folders` and `limit`.

    A census with broken files is a good one: the flow's state is the report's. With `strict` each file must be
    measured as well, or the flow has failed.
    """
    with Flow("census") as flow:
        paths = find(Parameter("folders"), Parameter("limit", default=None))
        texts = read.map(paths)
        parsed = parse.map(paths, texts)
        measures = measure.map(texts, parsed)
        last = report(paths, measures)
    flow.set_reference_tasks([last, measures] if strict else [last])
    return flow


def python_files(folder: str) -> Iterator[str]:
    """Yield the path of each Python file below `folder`, in no particular order."""
    for parent, children, names in os.walk(folder):
        children[:] = [child for child in children if child not in SKIPPED_FOLDERS]
        yield from (os.path.join(parent, name) for name in names if name.endswith(SUFFIXES))


def census_folders() -> list[str]:
    """Return the standard library, the virtual environment's packages if there is one, and the broken files."""
    names = ["stdlib"]
    if sys.prefix != sys.base_prefix:  # otherwise they are the interpreter's own packages
        names += ["purelib", "platlib"]
    # lib64 may be a link to lib, and both names of a pair are often one folder: the dict keeps the first of each.
    folders = dict.fromkeys(os.path.realpath(sysconfig.get_path(name)) for name in names)
    return [*folders, str(Path(__file__).with_name("broken_files"))]


def make_executor(name: str, address: str | None = None) -> Any:
    """Return an executor of the kind that `--executor` calls `name`; `address` is a Dask scheduler's."""
    class_name, options = EXECUTORS[name]
    if address is not None:
        options = {**options, "address": address}
    return getattr(import_module("prefectish.executors"), class_name)(**options)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep other people's odd escapes and broken files out of the terminal, here and in processes started from here.

    The report lists each failed file; its traceback in the log would bury that. Set from the main thread, around the
    whole run: filters and levels are shared by all threads, so bodies cannot set their own.
    """
    logger = get_logger()
    level = logger.level
    with (
        warnings.catch_warnings(),
        environment(PYTHONWARNINGS="ignore::SyntaxWarning", PREFECTISH_LOG_LEVEL="CRITICAL"),
    ):
        for category in (SyntaxWarning, DeprecationWarning):  # the second until Python 3.12
            warnings.simplefilter("ignore", category)
        logger.setLevel("CRITICAL")
        try:
            yield
        finally:
            logger.setLevel(level)


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables, for processes that start meanwhile."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


def report_of(flow: Flow, state: State) -> dict[str, Any]:
    """Return what the report task of a finished census found; raise the error that kept it from reporting."""
    if state.is_failed() and isinstance(state.result, BaseException):
        raise state.result
    (last,) = flow.terminal_tasks()
    found = state.result[last].result
    if isinstance(found, BaseException):
        raise found
    return dict(found)


def render(found: dict[str, Any]) -> str:
    """Return the report as text."""
    totals = ", ".join(f"{number:,} {name}" for name, number in found["totals"].items())
    slowest = [f"  {seconds:7.3f} s  {path}" for seconds, path in found["slowest"]]
    failed = [f"  {path}\n      {error}" for path, error in found["failed"]]
    return "\n".join(["failed:", *failed, "slowest:", *slowest, f"totals: {totals}"])


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's options, checked."""
    parser = argparse.ArgumentParser(prog="python -m prefectish.examples.census", description=__doc__.splitlines()[0])
    parser.add_argument("--executor", choices=EXECUTORS, default="local", help="where the files are measured")
    parser.add_argument("--address", help="a running Dask scheduler, for --executor dask")
    parser.add_argument("--limit", type=int, metavar="N", help="measure the first N files of each folder only")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if any file cannot be measured")
    parser.add_argument("--verbose", action="store_true", help="log the tracebacks of the failed files as well")
    options = parser.parse_args(argv)
    if options.address and options.executor != "dask":
        parser.error(f"--address is for --executor dask, not for {options.executor}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Take the census, print the report and return the exit code."""
    options = arguments(argv)
    flow = build_flow(strict=options.strict)
    start = time.perf_counter()
    try:
        with nullcontext() if options.verbose else quiet():
            state = flow.run(
                parameters={"folders": census_folders(), "limit": options.limit},
                executor=make_executor(options.executor, options.address),
            )
        print(render(report_of(flow, state)))
    except PrefectishError as error:
        print(f"census: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{state!r} with {options.executor} in {time.perf_counter() - start:.1f} s")
    return state.exit_code


if __name__ == "__main__":
    # Not this copy but the importable one, under whose name other processes find it too.
    sys.exit(import_module("prefectish.examples.census").main())
