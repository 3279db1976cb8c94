"""The subcommands of `prefectish`."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer

from prefectish.cli import showing, watching
from prefectish.cli.cleaning import find_garbage
from prefectish.cli.loading import load_executor, parse_parameters, parse_value
from prefectish.cli.one_line_errors import OneLineErrors
from prefectish.display.recorded import commands, run_of
from prefectish.engine import clock
from prefectish.engine.context import get_logger
from prefectish.engine.driver.interrupts import stopped_by
from prefectish.engine.scheduling.verdict import expand
from prefectish.engine.state import Failed, State
from prefectish.errors import FlowDefinitionError, PrefectishError
from prefectish.flow_loading import load_flow
from prefectish.flow_source import origin_of
from prefectish.flows import Flow
from prefectish.history import RunRow, schema
from prefectish.history.cells import MOST
from prefectish.kinds import is_a
from prefectish.next_command import NextCommand, executor_options
from prefectish.parameters import Parameter
from prefectish.safe_repr import printable
from prefectish.tasks.collections import Constant

app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run mapped flows on Dask.",
    epilog="Example: prefectish run flows.py -p n=3 -e threads",
)

Param = Annotated[
    list[str], typer.Option("--param", "-p", help="A parameter, key=value; the value is parsed as JSON if possible.")
]
ExecutorName = Annotated[str | None, typer.Option("--executor", "-e", help="local, threads, processes or dask.")]
Address = Annotated[str | None, typer.Option(help="Address of a Dask scheduler.")]
_HISTORY = "History: path or database URL; default: in the home folder."
History = Annotated[str | None, typer.Option("--history", "--store", help=_HISTORY)]
Progress = Annotated[
    bool | None, typer.Option("--progress/--no-progress", help="Show live progress; default: in a terminal.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Log errors only, and show no progress and no table.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log everything, from DEBUG on.")]
Prefect1 = Annotated[bool, typer.Option("--prefect1", help="The file was written for Prefect 1.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
#: Name of the newest run, as `history.run` knows it.
LAST_RUN = "last"
RunFlow = Annotated[
    str | None, typer.Argument(help="FILE.py, FILE.py:name or module:name; default: as recorded in the history.")
]
RunId = Annotated[str, typer.Argument(help="Id of the run or the beginning of it; `last` is the newest run.")]


@contextmanager
def _report_errors() -> Iterator[None]:
    """Print prefectish's own errors in one line and exit with their code."""
    try:
        yield
    except PrefectishError as error:
        raise _exit_with(error, error.exit_code) from None
    except ConnectionError as error:
        raise _exit_with(error, 3) from None


def use_prefect1(wanted: bool) -> None:
    """Let ``import prefect`` give this package, if a file was written for Prefect 1."""
    if wanted:
        from prefectish.compat import install

        install()


def _exit_with(error: object, code: int) -> typer.Exit:
    print(f"prefectish: {printable(error)}", file=sys.stderr)
    return typer.Exit(code)


def _recorded_run(run_id: str | None, history: str | None) -> RunRow:
    """Return a recorded run, the newest one by default."""
    from prefectish import history as recorded

    try:
        return recorded.run(LAST_RUN if run_id is None else run_id, store=history)
    except KeyError as error:
        raise _exit_with(error.args[0], 2) from None


def _print_version(asked: bool) -> None:
    if asked:
        from prefectish import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def every_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Run mapped flows on Dask."""


def _set_verbosity(quiet: bool, verbose: bool) -> None:
    """Set what is logged: errors only, or everything; before the flow is loaded, whose file may say otherwise."""
    if quiet or verbose:
        get_logger().setLevel(logging.ERROR if quiet else logging.DEBUG)


@app.command(epilog="Example: prefectish run flows.py:flow -p n=3 -e dask --address tcp://host:8786")
def run(
    flow: Annotated[str, typer.Argument(help="FILE.py, FILE.py:name or module:name.")],
    param: Param = [],  # noqa: B006  read by typer, never modified
    executor: ExecutorName = None,
    address: Address = None,
    resume: Annotated[str | None, typer.Option(help="Resume this run; `last` is the newest run.")] = None,
    now: Annotated[bool, typer.Option("--now", help="Run once, now, ignoring the flow's schedule.")] = False,
    progress: Progress = None,
    history: History = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    prefect1: Prefect1 = False,
) -> None:
    """Run a flow; the exit code shows how it ended."""
    _set_verbosity(quiet, verbose)
    use_prefect1(prefect1)
    with _report_errors():
        loaded = load_flow(flow)
        options: dict[str, Any] = {"executor": load_executor(executor, address), "history": history}
        options["progress"] = False if quiet else progress
        values = parse_parameters(param)
        once: dict[str, Any] = {"run_on_schedule": False} if now and isinstance(loaded, Flow) else {}
        again = NextCommand(None if origin_of(loaded) else flow, param, history, executor, address)
        if resume is None:
            _finish(lambda: loaded.run(parameters=values, **once, **options), again, as_json, quiet)
        else:
            found = _recorded_run(resume, history).id
            _finish(lambda: loaded.resume(found, parameters=values, **options), again, as_json, quiet)


@app.command(epilog="Example: prefectish resume last --retry-failed -e threads")
def resume(
    run_id: RunId,
    flow: RunFlow = None,
    param: Param = [],  # noqa: B006  read by typer, never modified
    executor: ExecutorName = None,
    address: Address = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed children again.")] = False,
    where: Annotated[
        str | None, typer.Option("--where", help="Run only children again that failed with this error, by its name.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Accept changed tasks and rerun them.")] = False,
    progress: Progress = None,
    history: History = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Resume a run: finished work is kept."""
    _set_verbosity(quiet, verbose)
    with _report_errors():
        found = _recorded_run(run_id, history)
        loaded = load_flow(flow or _source_of(found))
        options: dict[str, Any] = {"executor": load_executor(executor, address), "history": history}
        options["progress"] = False if quiet else progress
        values = parse_parameters(param)
        more: dict[str, Any] = {"retry_failed": retry_failed, "where": where, "force": force, "parameters": values}
        again = NextCommand(None if origin_of(loaded) else flow, param, history, executor, address)
        _finish(lambda: loaded.resume(found.id, **more, **options), again, as_json, quiet)


@app.command(epilog="Example: prefectish approve last --task deploy --input yes")
def approve(
    run_id: RunId,
    flow: RunFlow = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Only this task, by slug or name.")] = None,
    item: Annotated[str | None, typer.Option("--item", "-i", help="Only this child: map index or item key.")] = None,
    answer: Annotated[str | None, typer.Option("--input", help="Answer to the task; JSON if possible.")] = None,
    note_only: Annotated[bool, typer.Option("--no-resume", help="Record the approval; resume the run later.")] = False,
    param: Param = [],  # noqa: B006  read by typer, never modified
    executor: ExecutorName = None,
    address: Address = None,
    history: History = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Approve paused tasks of a run and resume it."""
    _set_verbosity(quiet, verbose)
    with _report_errors():
        found = _recorded_run(run_id, history)
        source = flow or found.source
        loaded = None if note_only or source is None else load_flow(source)
        options: dict[str, Any] = {"executor": load_executor(executor, address), "history": history}
        values = parse_parameters(param)
        try:
            found.approve(task, item, None if answer is None else parse_value(answer))
        except KeyError as error:
            raise _exit_with(error.args[0], 2) from None
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if loaded is None:
            unnamed = None if found.source else flow or "FILE.py:name"
            again = NextCommand(unnamed, param, history, executor, address)
            print(f"approved; resume with: {again.resume_command('resume', found.id)}")
            return
        again = NextCommand(None if origin_of(loaded) else flow, param, history, executor, address)
        _finish(lambda: loaded.resume(found.id, parameters=values, **options), again, as_json, quiet)


def _source_of(run: RunRow) -> str:
    """Return the recorded location of the flow of a run."""
    if run.source is None:
        raise FlowDefinitionError(f"the location of the flow of run {run.id} is not recorded; pass FILE.py:name")
    return run.source


def _finish(drive: Callable[[], State], again: NextCommand, as_json: bool, quiet: bool) -> None:
    """Run a flow, print how it ended, and exit with its code."""
    try:
        state = drive()
    except (KeyboardInterrupt, SystemExit) as stop:
        left: State | None = getattr(stop, "state", None)
        _show_state(left, again, as_json, quiet, stopped_by(stop))
        raise typer.Exit(130 if left is None else left.exit_code) from None
    _show_state(state, again, as_json, quiet)
    raise typer.Exit(state.exit_code)


def _show_state(
    state: State | None, again: NextCommand, as_json: bool, quiet: bool = False, stop: str | None = None
) -> None:
    if state is None:
        return
    rows = []
    for task, task_state in (state.result if is_a(state.result, dict) else {}).items():
        if not isinstance(task_state, State) or isinstance(task, Parameter | Constant):
            continue
        kinds = Counter(type(child).__name__ for child in expand(task_state))
        rows.append((task.name, kinds, _first_error(task_state)))
    run_id, counts = str(state.context.get("flow_run_id")), state.counts()
    if as_json:
        tasks = [{"task": name, "states": counts, "error": error} for name, counts, error in rows]
        facts = {
            "id": run_id,
            "state": type(state).__name__,
            "message": None if state.message is None else str(state.message),
            "exit_code": state.exit_code,
            "counts": None if counts is None else counts._asdict(),
        }
        showing.show_json({**facts, "tasks": tasks})
        return
    if rows and not quiet:
        cells = [(name, showing.counts_text(counts), error) for name, counts, error in rows]
        showing.show_table(("task", "states", "first error"), cells)
    told = f"{type(state).__name__}: {printable(state.message)}{'' if counts is None else f' {counts.text()}'}"
    if stop is not None:
        told = f"{stop}: {type(state).__name__ if counts is None else counts.stopped_text()}"
    print(f"{told} (run {run_id})")
    again = _where_recorded(again, state)
    if state.is_failed():
        print(f"show failures: {again.command('failures', run_id)}")
    if any("Paused" in counts for _, counts, _ in rows):
        print(f"approve: {again.resume_command('approve', run_id)} [--input ANSWER]")
    elif not state.is_successful():
        print(f"resume: {again.resume_command('resume', run_id, *['--retry-failed'] * state.is_failed())}")


def _where_recorded(again: NextCommand, state: State) -> NextCommand:
    """Return commands that name the history if an option of the flow does, and no option of the command."""
    recorded = run_of(state) if again.history is None else None
    return again if recorded is None else again._replace(history=commands(recorded).history)


def _first_error(state: State) -> str | None:
    return next((str(child.message) for child in expand(state) if isinstance(child, Failed)), None)


@app.command(epilog="Example: prefectish runs -n 5 --flow thumbnails")
def runs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, max=MOST, help="How many, newest first.")] = 20,
    flow: Annotated[str | None, typer.Option(help="Only runs of the flow of this name.")] = None,
    history: History = None,
    as_json: Json = False,
) -> None:
    """List recorded runs."""
    from prefectish import history as recorded

    with _report_errors():
        found = recorded.runs(limit=limit, flow=flow, store=history)
        if as_json:
            showing.show_json([showing.run_context(run) for run in found])
            return
        if not found:
            print(f"no runs {'' if flow is None else f'of flow {printable(flow)!r} '}are recorded yet", file=sys.stderr)
            return
        showing.show_table(
            ("run", "flow", "state", "started", "took", "items and tasks", "message"),
            map(showing.run_cells, found),
        )


@app.command(epilog="Example: prefectish show last --watch")
def show(
    run_id: RunId = LAST_RUN,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again until it has ended.")] = False,
    history: History = None,
    as_json: Json = False,
) -> None:
    """Show the tasks of a run, with the number of children in each state."""
    with _report_errors():
        found = _recorded_run(run_id, history)
        if as_json:
            outside: dict[str, list[Any]] = {
                "paused": found.paused(),
                "notices": found.notices(),
                "progress": [] if found.is_lost else found.progress(),
            }
            lists = {name: [showing.tuple_facts(row) for row in rows] for name, rows in outside.items()}
            showing.show_json({**showing.run_context(found), "tasks": found.tasks(), **lists})
            return
        if watch:
            with suppress(KeyboardInterrupt):
                watching.watch_run(found)
            found = _recorded_run(found.id, history)
        showing.show_run(found)
        again = _about(found, history)
        for line in (*showing.pause_and_notice_lines(found, again), *_next_commands(found, again)):
            print(printable(line))


@app.command(epilog="Example: prefectish schedule flows.py:nightly -n 3")
def schedule(
    flow: Annotated[str, typer.Argument(help="FILE.py, FILE.py:name or module:name.")],
    number: Annotated[int, typer.Option("--number", "-n", help="How many.", min=1)] = 10,
    as_json: Json = False,
) -> None:
    """List the next times at which a flow runs by its schedule."""
    with _report_errors():
        loaded = load_flow(flow)
        found = getattr(loaded, "schedule", None)
        if found is None:
            raise FlowDefinitionError(f"flow {loaded.name!r} has no schedule; give it one: Flow(..., schedule=...)")
        moments = found.next(number)
        if as_json:
            showing.show_json([moment.isoformat() for moment in moments])
            return
        now = clock.now()
        for moment in moments:
            print(f"{moment.isoformat(sep=' ')}  in {showing.time_left(moment - now)}")
        if not moments:
            print("no more runs", file=sys.stderr)


def _about(run: RunRow, history: str | None) -> NextCommand:
    """Return the commands about a run that was found in a history; its parameters are not recorded."""
    executor, address = executor_options(run.executor)
    return NextCommand(None if run.source else "FILE.py:name", (), history, executor, address)


def _next_commands(run: RunRow, again: NextCommand) -> list[str]:
    """Return commands for a run that did not succeed."""
    if run.state == "Success" or run.paused():
        return []
    if run.ended is None and not run.is_lost:
        return [f"cancel: {again.command('cancel', run.id)}"]
    failed = schema.CODES[run.state] in schema.FAILED_CODES
    lines = [f"show failures: {again.command('failures', run.id)}"] if failed else []
    resume = again.resume_command("resume", run.id, *["--retry-failed"] * failed)
    return [*lines, f"resume: {resume} [-p PARAMETER=VALUE]"]


@app.command(epilog="Example: prefectish compare 6b02f871 last")
def compare(
    run_a: Annotated[str, typer.Argument(help="Id of the earlier run, or the beginning of it.")],
    run_b: RunId = LAST_RUN,
    history: History = None,
    as_json: Json = False,
) -> None:
    """Compare two runs: durations by task, new and gone failures, slower and larger children."""
    from prefectish.history import compare as compared

    with _report_errors():
        found = compared(_recorded_run(run_a, history), _recorded_run(run_b, history))
        if as_json:
            showing.show_json(showing.comparison_facts(found))
            return
        for line in repr(found).splitlines():
            print(printable(line))


@app.command(epilog="Example: prefectish failures last --all")
def failures(
    run_id: RunId = LAST_RUN,
    every: Annotated[bool, typer.Option("--all", "-a", help="Name every failed item, one a line.")] = False,
    history: History = None,
    as_json: Json = False,
) -> None:
    """Show the failures of a run grouped by cause; tasks that did not run because of others come last."""
    with _report_errors():
        groups = _recorded_run(run_id, history).failures()
        if as_json:
            showing.show_json([showing.failure_facts(group) for group in groups])
            return
        if not groups:
            print("no failures", file=sys.stderr)
        for group in groups:
            print(f"{group.count} x {printable(group.type)}: {printable(group.message)}")
            for line in showing.failed_items(group, every):
                print(f"    {printable(line)}")
            for line in () if group.is_consequence else (group.traceback or "").splitlines():
                print(f"    | {printable(line)}")


@app.command(epilog="Example: prefectish logs last --task load --item 3 -f")
def logs(
    run_id: RunId = LAST_RUN,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Only this task, by slug or name.")] = None,
    item: Annotated[str | None, typer.Option("--item", "-i", help="Only this child: map index or item key.")] = None,
    level: Annotated[str, typer.Option("--level", "-l", help="Only lines of this level or above.")] = "DEBUG",
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=0, max=MOST, help="Only the last N lines.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow new lines until it has ended.")] = False,
    history: History = None,
    as_json: Json = False,
) -> None:
    """Show the logs of a run."""
    with _report_errors():
        which = int(item) if item is not None and item.isdecimal() else item
        try:
            run = _recorded_run(run_id, history)
            found = run.logs(task, which, level=level, limit=limit)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        except KeyError as error:
            raise _exit_with(error.args[0], 2) from None
        if as_json:
            showing.show_json([showing.line_facts(line) for line in found])
            return
        watching.show_lines(found)
        if follow:
            with suppress(KeyboardInterrupt):
                watching.follow_lines(run, task, which, level, found)


@app.command(epilog="Example: prefectish report last -o run.html")
def report(
    run_id: RunId = LAST_RUN,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File to write; default: ./run-<id>.html.")
    ] = None,
    history: History = None,
) -> None:
    """Write an HTML report of a run: graph, failures by cause, durations, timeline."""
    with _report_errors():
        found = _recorded_run(run_id, history)
        print(found.report(output or f"run-{found.id}.html"))


@app.command(epilog="Example: prefectish cancel last")
def cancel(run_id: RunId = LAST_RUN, history: History = None, as_json: Json = False) -> None:
    """Cancel a run on any machine: nothing new starts, and running tasks are left to finish."""
    with _report_errors():
        found = _recorded_run(run_id, history)
        found.cancel()
        if as_json:
            showing.show_json({"id": found.id, "asked": found.holder})
        else:
            print(f"asked {found.holder} to cancel run {found.id}")


@app.command(epilog="Example: prefectish gc --older-than 7 --delete")
def gc(
    store: Annotated[
        str | None, typer.Option(help="Folder or fsspec URL of results; default: the one in the home folder.")
    ] = None,
    older_than: Annotated[float, typer.Option(help="Minimum number of days since a run ended.")] = 30.0,
    delete: Annotated[bool, typer.Option("--delete", help="Delete; without it, only list what can go.")] = False,
    history: Annotated[str | None, typer.Option(help=_HISTORY)] = None,  # its --store is that of results
    as_json: Json = False,
) -> None:
    """Delete results of successful runs and leftover temporary files; unfinished runs keep what they need."""
    with _report_errors():
        found = []
        for item in find_garbage(store, older_than, history):
            found.append(item)
            if not as_json:
                print(f"{printable(item.name)}  {item.nbytes} bytes  ({printable(item.reason)})")
            if delete:
                item.remove()
        total = sum(item.nbytes for item in found)
        if as_json:
            items = [{"name": item.name, "bytes": item.nbytes, "reason": item.reason} for item in found]
            showing.show_json({"deleted": delete, "bytes": total, "items": items})
        else:
            print(f"deleted {total} bytes" if delete else f"dry run: pass --delete to delete {total} bytes")


@app.command(epilog="Example: prefectish version")
def version(as_json: Json = False) -> None:
    """Print the version."""
    from prefectish import __version__

    if as_json:
        showing.show_json({"version": __version__})
    else:
        print(__version__)
