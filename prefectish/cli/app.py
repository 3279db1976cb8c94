"""The subcommands of `prefectish`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from prefectish.cli import showing
from prefectish.cli.cleaning import find_garbage
from prefectish.cli.loading import load_executor, load_flow, parse_parameters
from prefectish.engine.state import Failed, State
from prefectish.engine.verdict import expand
from prefectish.errors import PrefectishError
from prefectish.printable import printable

app = typer.Typer(
    no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help="Run mapped flows on Dask."
)

Param = Annotated[
    list[str], typer.Option("--param", "-p", help="A parameter, key=value; JSON values are read as such.")
]
ExecutorName = Annotated[str | None, typer.Option("--executor", "-e", help="local, threads, processes or dask.")]
Address = Annotated[str | None, typer.Option(help="Of a Dask scheduler.")]
History = Annotated[str | None, typer.Option(help="Path or database URL; default: in the home folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def _told() -> Iterator[None]:
    """Say our own errors in one line, and end with their exit code."""
    try:
        yield
    except PrefectishError as error:
        print(f"prefectish: {printable(error)}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    except KeyError as error:
        print(f"prefectish: {printable(error.args[0])}", file=sys.stderr)
        raise typer.Exit(2) from None


@app.command()
def run(
    flow: Annotated[str, typer.Argument(help="FILE.py, FILE.py:name or module:name.")],
    param: Param = [],  # noqa: B006  typer reads it, nobody writes it
    executor: ExecutorName = None,
    address: Address = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this run.")] = None,
    history: History = None,
    as_json: Json = False,
) -> None:
    """Run a flow, and end with the exit code of its state."""
    with _told():
        loaded = load_flow(flow)
        options: dict[str, Any] = {"executor": load_executor(executor, address), "history": history}
        values = parse_parameters(param)
        if resume is None:
            _finish(lambda: loaded.run(parameters=values, **options), as_json)
        else:
            _finish(lambda: loaded.resume(resume, parameters=values, **options), as_json)


@app.command()
def resume(
    run_id: Annotated[str, typer.Argument(help="Identifier of the run, or its beginning.")],
    flow: Annotated[str, typer.Argument(help="FILE.py, FILE.py:name or module:name.")],
    param: Param = [],  # noqa: B006  typer reads it, nobody writes it
    executor: ExecutorName = None,
    address: Address = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed children again.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Accept changed tasks and run them again.")] = False,
    history: History = None,
    as_json: Json = False,
) -> None:
    """Go on with a run: what is finished is kept."""
    with _told():
        loaded = load_flow(flow)
        options: dict[str, Any] = {"executor": load_executor(executor, address), "history": history}
        values = parse_parameters(param)
        _finish(
            lambda: loaded.resume(run_id, retry_failed=retry_failed, force=force, parameters=values, **options), as_json
        )


def _finish(drive: Callable[[], State], as_json: bool) -> None:
    """Drive a run, print how it ended, and exit with its code."""
    try:
        state = drive()
    except KeyboardInterrupt as stop:
        _show_state(getattr(stop, "state", None), as_json)
        raise typer.Exit(130) from None
    _show_state(state, as_json)
    raise typer.Exit(state.exit_code)


def _show_state(state: State | None, as_json: bool) -> None:
    if state is None:
        return
    rows = []
    for task, task_state in (state.result or {}).items():
        counts: dict[str, int] = {}
        for child in expand(task_state):
            counts[type(child).__name__] = counts.get(type(child).__name__, 0) + 1
        rows.append((task.name, showing.counts_text(counts), _first_error(task_state)))
    run_id = state.context.get("flow_run_id")
    if as_json:
        tasks = [{"task": name, "states": counts, "error": error} for name, counts, error in rows]
        facts = {"id": run_id, "state": type(state).__name__, "message": state.message, "exit_code": state.exit_code}
        showing.show_json({**facts, "tasks": tasks})
        return
    showing.show_table(("task", "states", "first error"), rows)
    print(f"{type(state).__name__}: {printable(state.message)} (run {run_id})")


def _first_error(state: State) -> str | None:
    return next((str(child.message) for child in expand(state) if isinstance(child, Failed)), None)


@app.command()
def runs(
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many, newest first.")] = 20,
    flow: Annotated[str | None, typer.Option(help="Only those of the flow of this name.")] = None,
    history: History = None,
    as_json: Json = False,
) -> None:
    """List recorded runs."""
    from prefectish import history as recorded

    with _told():
        found = recorded.runs(limit=limit, flow=flow, store=history)
        if as_json:
            showing.show_json([showing.run_facts(run) for run in found])
            return
        rows = [(r.id, r.flow_name, r.state, showing.when(r.started), f"{r.duration:.1f} s", r.message) for r in found]
        showing.show_table(("run", "flow", "state", "started", "took", "message"), rows)


@app.command()
def show(run_id: str, history: History = None, as_json: Json = False) -> None:
    """Show a run: its tasks and how many of their children are in which state."""
    from prefectish import history as recorded

    with _told():
        found = recorded.run(run_id, store=history)
        tasks = found.tasks()
        if as_json:
            showing.show_json({**showing.run_facts(found), "tasks": tasks})
            return
        print(f"{found.id}  {printable(found.flow_name)}  {found.state}  {showing.when(found.started)}")
        rows = [(t["slug"], t["state"], showing.counts_text(t["counts"])) for t in tasks]
        showing.show_table(("task", "state", "children"), rows)


@app.command()
def failures(run_id: str, history: History = None, as_json: Json = False) -> None:
    """Show the failures of a run, grouped by cause."""
    from prefectish import history as recorded

    with _told():
        groups = recorded.run(run_id, store=history).failures()
        if as_json:
            showing.show_json([showing.failure_facts(group) for group in groups])
            return
        for group in groups:
            first = ", ".join(f"{c.slug}" if c.index is None else f"{c.slug}[{c.index}]" for c in group.children[:5])
            print(f"{group.count} x {group.type}: {printable(group.message)}")
            print(f"    {first}{', ...' if group.count > 5 else ''}")
            for line in (group.traceback or "").splitlines():
                print(f"    | {printable(line)}")


@app.command()
def logs(
    run_id: str,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Only this task, by slug or name.")] = None,
    item: Annotated[str | None, typer.Option("--item", "-i", help="Only this child: map index or item key.")] = None,
    level: Annotated[str, typer.Option("--level", "-l", help="Only lines of this level and above.")] = "DEBUG",
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="Only the last so many.")] = None,
    history: History = None,
    as_json: Json = False,
) -> None:
    """Show what the bodies of a run logged."""
    from prefectish import history as recorded

    with _told():
        which = int(item) if item is not None and item.isdecimal() else item
        try:
            found = recorded.run(run_id, store=history).logs(task, which, level=level, limit=limit)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if as_json:
            showing.show_json([showing.line_facts(line) for line in found])
            return
        for line in found:
            for part in str(line).split("\n"):
                print(printable(part))


@app.command()
def report(
    run_id: str,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="The file to write; default: run-<id>.html here.")
    ] = None,
    history: History = None,
) -> None:
    """Write a page about a run: graph, failures by cause, times, what ran when and where."""
    from prefectish import history as recorded

    with _told():
        found = recorded.run(run_id, store=history)
        print(found.report(output or f"run-{found.id}.html"))


@app.command()
def cancel(run_id: str, history: History = None) -> None:
    """Cancel a run that another process of this machine drives: as Ctrl-C there."""
    from prefectish import history as recorded
    from prefectish.engine.wire import process_name

    with _told():
        found = recorded.run(run_id, store=history)
        if found.holder is None:
            print(f"run {found.id} is not running: {found.state}")
            raise typer.Exit(2)
        host, _, pid = found.holder.rpartition(":")
        if host != process_name().rpartition(":")[0]:
            print(f"run {found.id} is driven by {found.holder}; cancel it there")
            raise typer.Exit(2)
        os.kill(int(pid), signal.SIGINT)
        print(f"asked process {pid} to end run {found.id}")


@app.command()
def gc(
    store: Annotated[str | None, typer.Option(help="Folder of results; default: in the home folder.")] = None,
    older_than: Annotated[float, typer.Option(help="Days since a run ended.")] = 30.0,
    delete: Annotated[bool, typer.Option("--delete", help="Delete; without it, only say what would be.")] = False,
    history: History = None,
) -> None:
    """Remove results of successful runs, and what dead writers left; never what an unfinished run needs."""
    with _told():
        total = 0
        for item in find_garbage(store, older_than, history):
            total += item.nbytes
            print(f"{item.path}  {item.nbytes} bytes  ({item.reason})")
            if delete:
                item.remove()
        print(f"{'deleted' if delete else 'would delete'} {total} bytes{'' if delete else '; --delete does it'}")


@app.command()
def version() -> None:
    """Print the version."""
    from prefectish import __version__

    print(__version__)
