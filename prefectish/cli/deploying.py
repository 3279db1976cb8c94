"""Subcommands about deployments, agents and runs of other processes."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from typing import Annotated, Any, Literal

import typer

from prefectish.cli import showing
from prefectish.cli.app import History, Json, Param, Prefect1, app, use_prefect1
from prefectish.cli.app import _exit_with as exit_with
from prefectish.cli.app import _report_errors as report_errors
from prefectish.cli.loading import parse_parameters, parse_value
from prefectish.display.page import when
from prefectish.engine.state import Scheduled
from prefectish.environments import Environment
from prefectish.flow_loading import load_flow, module_of
from prefectish.history import shared_limits
from prefectish.next_command import NextCommand
from prefectish.registry import attach as attach_run
from prefectish.registry import deployments as deployed
from prefectish.registry import find, serve
from prefectish.registry.agent import Agent, agents
from prefectish.registry.deployment import Deployment

agent_app = typer.Typer(no_args_is_help=True, help="Begin runs of deployed flows.")
limits_app = typer.Typer(no_args_is_help=True, help="Limits across runs, by name.")
app.add_typer(agent_app, name="agent")
app.add_typer(limits_app, name="limits")

Labels = Annotated[list[str], typer.Option("--label", "-l", help="A label; can be given several times.")]
Overlap = Annotated[
    Literal["skip", "queue", "allow", "cancel"] | None, typer.Option(help="While another run of it is open.")
]
OnLost = Annotated[Literal["resume", "fail"] | None, typer.Option(help="When its driver dies, or is terminated.")]
MaxResumes = Annotated[int | None, typer.Option(help="How often a run is continued at most.")]
Path = Annotated[str, typer.Argument(help="project/name of a deployment.")]


def _facts(deployment: Deployment) -> dict[str, Any]:
    return {
        "id": deployment.id,
        "project": deployment.project,
        "name": deployment.name,
        "version": deployment.version,
        "flow": deployment.flow_name,
        "active": deployment.active,
        "archived": None if deployment.archived is None else deployment.archived.isoformat(),
        "created": deployment.created.isoformat(),
        "created_by": deployment.created_by,
        "labels": list(deployment.labels),
        "next": [moment.isoformat() for moment in deployment.next(3)],
    }


@app.command(epilog="Example: prefectish deploy reports.py:daily --project sales -p region=eu")
def deploy(
    flow: Annotated[str, typer.Argument(help="FILE.py, FILE.py:name or module:name.")],
    project: Annotated[str, typer.Option("--project", "-P", help="The project to deploy it under.")],
    name: Annotated[str | None, typer.Option(help="Name of the deployment; default: the flow's.")] = None,
    param: Param = [],  # noqa: B006  read by typer, never modified
    environment: Annotated[
        str | None, typer.Option(help="Variable of the flow's file that holds its environment.")
    ] = None,
    label: Labels = [],  # noqa: B006
    active: Annotated[bool, typer.Option("--active/--inactive", help="Whether its schedule is followed.")] = True,
    build: Annotated[bool, typer.Option("--build/--no-build", help="Whether to build the environment.")] = True,
    push: Annotated[bool, typer.Option("--push", help="Push the image to its registry.")] = False,
    overlap: Overlap = None,
    catch_up: Annotated[bool, typer.Option("--catch-up", help="Make up for all missed times.")] = False,
    on_lost: OnLost = None,
    max_resumes: MaxResumes = None,
    timeout: Annotated[float | None, typer.Option(help="Longest time of a run, in seconds.")] = None,
    store: History = None,
    as_json: Json = False,
    prefect1: Prefect1 = False,
) -> None:
    """Register a flow, to be run by agents."""
    use_prefect1(prefect1)
    with report_errors():
        loaded = load_flow(flow)
        place = None if environment is None else _environment(flow, environment)
        made = loaded.deploy(
            project, name=name, environment=place, parameters=parse_parameters(param), labels=label, build=build,
            push=push, set_schedule_active=active, store=store, overlap=overlap, catch_up=catch_up or None,
            on_lost=on_lost, max_resumes=max_resumes, timeout=timeout,
        )  # fmt: skip
        if as_json:
            showing.show_json(_facts(made))
            return
        print(f"deployed {made.path}, version {made.version}")
        for moment in made.next(1):
            print(f"next run: {when(moment)}")
        print(f"run it now: {NextCommand(history=store).command('trigger', made.path)}")


def _environment(flow: str, variable: str) -> Environment:
    found = getattr(module_of(flow), variable, None)
    if not isinstance(found, Environment):
        raise typer.BadParameter(f"--environment must name an environment in the flow's file, {variable} is {found!r}")
    return found


@app.command(epilog="Example: prefectish deployments --project sales")
def deployments(
    project: Annotated[str | None, typer.Option("--project", "-P", help="Only those of a project.")] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="Former versions too.")] = False,
    store: History = None,
    as_json: Json = False,
) -> None:
    """List deployed flows, and when they run next."""
    with report_errors():
        found = deployed(project, store, archived=every)
        if as_json:
            showing.show_json([_facts(each) for each in found])
            return
        if not found:
            print("nothing is deployed; prefectish deploy FILE.py --project NAME deploys a flow", file=sys.stderr)
            return
        rows = [(each.path, each.version, _use(each), ", ".join(each.labels), _next(each)) for each in found]
        showing.show_table(("deployment", "version", "schedule", "labels", "next run"), rows)


def _use(deployment: Deployment) -> str:
    if deployment.archived is not None:
        return "archived"
    if not deployment.schedules:
        return "none"
    return "followed" if deployment.active else "not followed"


def _next(deployment: Deployment) -> str:
    return next((when(moment) for moment in deployment.next(1)), "")


@app.command(epilog="Example: prefectish archive sales/daily")
def archive(path: Path, store: History = None, as_json: Json = False) -> None:
    """Take a deployment out of use: its schedule is not followed, and nothing of it runs any more."""
    with report_errors():
        found = find(path, store)
        found.archive()
        if as_json:
            showing.show_json(_facts(found))
            return
        print(f"archived {found.path}, version {found.version}")


@app.command(epilog="Example: prefectish trigger sales/daily -p region=eu --wait")
def trigger(
    path: Path,
    param: Param = [],  # noqa: B006
    at: Annotated[str | None, typer.Option(help="When, as 2026-12-01T09:00; default: now.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; the exit code shows how it ended.")] = False,
    store: History = None,
    as_json: Json = False,
) -> None:
    """Ask for a run of a deployed flow, which an agent begins."""
    with report_errors():
        found = find(path, store)
        run_id = found.run(parse_parameters(param), at=_moment(at))
        if not wait:
            showing.show_json({"id": run_id}) if as_json else print(run_id)
            return
        print(f"run {run_id}", file=sys.stderr)
        state = attach_run(run_id, store).wait()
        if as_json:
            showing.show_json({"id": run_id, "state": type(state).__name__, "message": str(state.message)})
        else:
            print(f"{type(state).__name__}: {state.message} (run {run_id})")
        raise typer.Exit(state.exit_code)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"--at must be a time such as 2026-12-01T09:00, got {text}") from None
    return moment if moment.tzinfo is not None else moment.astimezone()  # of this machine, as a person means it


@app.command(epilog="Example: prefectish attach 6b02f871 --pause")
def attach(
    run_id: Annotated[str, typer.Argument(help="Id of the run or the beginning of it.")],
    pause: Annotated[bool, typer.Option("--pause", help="Start nothing more until it is resumed.")] = False,
    unpause: Annotated[bool, typer.Option("--resume", help="Continue after a pause.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the run.")] = False,
    limit: Annotated[str | None, typer.Option(help="TASK_OR_TAG=N: how many may run at once.")] = None,
    retry: Annotated[str | None, typer.Option(help="TASK or TASK=ERROR: run failed children again.")] = None,
    story: Annotated[str | None, typer.Option(help="TASK or TASK[INDEX]: what happened to it.")] = None,
    store: History = None,
    as_json: Json = False,
) -> None:
    """Follow a run that another process drives, or ask it for something. Ctrl-C ends only the following.

    With --json each line is an object: at each change the state and counts, in the end also message and exit code.
    """
    with report_errors():
        run = _attached(run_id, store)
        asked = _ask(run, pause, unpause, cancel, limit, retry, story)
        if asked is not None:
            print(json.dumps({"id": run.id, "answer": str(asked)}) if as_json else asked)
            return
        _follow(run, store, as_json)


def _attached(run_id: str, store: str | None) -> Any:
    try:
        return attach_run(run_id, store)
    except KeyError as error:
        raise exit_with(error.args[0], 2) from None


def _ask(run: Any, pause: bool, unpause: bool, cancel: bool, limit: str | None, retry: str | None, story: Any) -> Any:
    """Ask a run for what an option says; return what to print, None without an option."""
    if pause:
        run.pause()
        return f"run {run.id} is paused"
    if unpause:
        run.resume()
        return f"run {run.id} continues"
    if cancel:
        run.cancel()
        return f"run {run.id} was asked to end"
    if limit is not None:
        task, _, size = limit.partition("=")
        run.set_limit(task, parse_value(size))
        return f"{task}: at most {size} at once"
    if retry is not None:
        task, _, error = retry.partition("=")
        return f"{run.retry(task, error or None)} children of {task} run again"
    return None if story is None else run.story(story)


def _follow(run: Any, store: str | None, as_json: bool) -> None:
    last = None
    try:
        while True:
            state = run.state
            name, counts = type(state).__name__, {} if isinstance(state, Scheduled) else run.counts()
            facts = {"id": run.id, "state": name, "counts": counts}
            line = json.dumps(facts) if as_json else f"{name}  {showing.counts_text(counts)}".rstrip()
            if line != last:
                print(line, flush=True)
                last = line
            if run.has_ended():
                break
            time.sleep(1.0)
    except KeyboardInterrupt:
        again = NextCommand(history=store).command("attach", run.id)
        print(f"run {run.id} continues; {again} follows it again", file=sys.stderr)
        raise typer.Exit(130) from None
    end = {"message": str(state.message), "exit_code": state.exit_code}
    print(json.dumps(facts | end) if as_json else f"{type(state).__name__}: {state.message} (run {run.id})")
    raise typer.Exit(state.exit_code)


@agent_app.command("start", epilog="Example: prefectish agent start --limit 4")
def agent_start(
    label: Labels = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option(help="Runs at the same time, at most.")] = None,
    store: History = None,
    once: Annotated[bool, typer.Option("--once", help="Begin what is due now, wait for its end, and end.")] = False,
) -> None:
    """Start the runs that are due or were requested, until SIGTERM or Ctrl-C; runs that have started continue."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s")
    with report_errors():
        Agent(store, label, limit).start(once)


@agent_app.command("list", epilog="Example: prefectish agent list")
def agent_list(store: History = None, as_json: Json = False) -> None:
    """List the agents that have worked with a history."""
    with report_errors():
        found = agents(store)
        if as_json:
            showing.show_json([each._asdict() for each in found])
            return
        rows = [(a.id, ", ".join(a.labels), a.limit, when(a.started), when(a.stopped or a.seen)) for a in found]
        showing.show_table(("agent", "labels", "limit", "started", "last seen"), rows)


@limits_app.command("set", epilog="Example: prefectish limits set database 4")
def limits_set(
    name: Annotated[str, typer.Argument(help="Name of the limit.")],
    size: Annotated[int, typer.Argument(help="Children of all runs that may run at once; 0 for none.", min=0)],
    store: History = None,
) -> None:
    """Set a limit across runs; it beats what tasks say by shared_limits=."""
    with report_errors():
        shared_limits.set_limit(name, size, store)
        print(f"{name}: at most {size} at once, in all runs")


@limits_app.command("remove", epilog="Example: prefectish limits remove database")
def limits_remove(name: Annotated[str, typer.Argument(help="Name of the limit.")], store: History = None) -> None:
    """Remove a limit that was set; what tasks say holds again."""
    with report_errors():
        if not shared_limits.remove_limit(name, store):
            raise exit_with(f"no limit {name!r} is set", 2)
        print(f"{name}: not set any more")


@limits_app.command("list", epilog="Example: prefectish limits list")
def limits_list(store: History = None, as_json: Json = False) -> None:
    """List the limits across runs, and how much of each is held."""
    with report_errors():
        found = shared_limits.limits(store)
        if as_json:
            showing.show_json([each._asdict() for each in found])
            return
        rows = [(each.name, each.size, each.held, ", ".join(each.runs)) for each in found]
        showing.show_table(("limit", "size", "held", "by runs"), rows)


@app.command("serve", epilog="Example: prefectish serve reports.py:daily --catch-up")
def serve_files(
    flow: Annotated[list[str], typer.Argument(help="FILE.py, FILE.py:name or module:name; several.")],
    overlap: Overlap = None,
    catch_up: Annotated[bool, typer.Option("--catch-up", help="Make up for all missed times.")] = False,
    on_lost: OnLost = None,
    max_resumes: MaxResumes = None,
    store: History = None,
) -> None:
    """Run flows on their schedules in this process, until Ctrl-C."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s")
    with report_errors():
        flows = map(load_flow, flow)
        serve(
            *flows, overlap=overlap, catch_up=catch_up or None, on_lost=on_lost, max_resumes=max_resumes, history=store
        )
