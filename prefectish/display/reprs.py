"""HTML representations of flows, states and recorded runs for notebooks: ``_repr_html_``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefectish.display import graph, notebook, recorded, views
from prefectish.display.pace import RateMeter
from prefectish.display.page import markup, rendered
from prefectish.engine.driver.progress_view import RunProgress, counted
from prefectish.engine.state import Mapped, State
from prefectish.engine.task_states import is_by_task
from prefectish.errors import FlowDefinitionError
from prefectish.secrets.masking import mask
from prefectish.tasks.collections import Constant

if TYPE_CHECKING:
    from prefectish.engine.driver.control import RunControl
    from prefectish.engine.scheduling.progress import Progress
    from prefectish.history import RunRow
    from prefectish.history.measures import Measures

#: Maximum number of children whose durations are read for a notebook; a report reads all.
MAX_CHILDREN_MEASURED = 200_000
#: Maximum number of runs in a list.
MAX_RUNS = 200


def of_flow(flow: Any) -> str:
    """Return a flow: its graph, tasks and parameters."""
    trouble, picture = "", ""
    try:
        picture = graph.of_flow(flow)
    except FlowDefinitionError as error:
        trouble = str(error)
    parameters = sorted(flow.parameters(), key=lambda parameter: parameter.name)
    tasks = sum(not isinstance(task, Constant) for task in flow.tasks)
    edges = sum(not isinstance(edge.upstream_task, Constant) for edge in flow.edges)
    facts = [f"{tasks:,} {'task' if tasks == 1 else 'tasks'}", f"{edges:,} {'edge' if edges == 1 else 'edges'}"]
    return rendered(
        "flow.html",
        name=flow.name,
        facts=facts,
        parameters=[parameter.name for parameter in parameters],
        picture=markup(picture),
        empty=not flow.tasks,
        trouble=trouble,
    )


def of_state(state: State) -> str:
    """Return a state: of a flow run, of a map, or of a single task."""
    if isinstance(state, Mapped):
        return of_view(views.of_map(state))
    if is_by_task(state._raw_result):
        view = views.of_run(state)
        return of_view(recorded.read(state, lambda run: recorded.with_record(view, run, _measures(run))) or view)
    shown = recorded.read(state, of_recorded)
    if shown is not None:  # a flow function: its state has the value that it returned, its record has the tasks
        return shown
    traceback = mask(getattr(state, "traceback", None) or "")
    message = views.text_of(state.message)
    return rendered("task_state.html", state=state, kind=type(state).__name__, message=message, traceback=traceback)


def of_active_run(name: str, progress: Progress | None, run_id: str, control: RunControl) -> str:
    """Return the current progress of an active run, `progress` None if it has not started, or only where it is shown.

    What is shown live moves; a second table beside it would not.
    """
    facts = {"name": name, "run_id": run_id, "link": control.dashboard, "page": control.page}
    if control.is_shown:
        return rendered("handle.html", table="", **facts)
    shown = RunProgress(())
    if progress is not None:
        shown = RunProgress(counted(progress, progress.admission.slots), progress.run_state.paused)
    scene = RateMeter(name, 0.0).scene(shown, 0.0)
    table = markup(notebook.drawn(scene, None, last=False))
    return rendered("handle.html", table=table, **facts)


def of_view(view: views.RunView) -> str:
    """Return a run, or a map."""
    return rendered("state.html", view=view, picture=markup(graph.of_run(view)) if view.arrows else "")


def of_recorded(run: RunRow) -> str:
    """Return a recorded run."""
    return of_view(recorded.of_run(run, _measures(run)))


def of_runs(runs: Sequence[RunRow]) -> str:
    """Return a list of recorded runs."""
    rows = []
    for run in runs[:MAX_RUNS]:
        counts = run.counts()
        rows.append((run, views.color_of(run.state), counts, run.state in views.SUCCESSES and bool(counts.failed)))
    return rendered("runs.html", rows=rows, rest=len(runs) - MAX_RUNS)


def _measures(run: RunRow) -> Measures | None:
    """Return the measures of a run; None if it is so large that it would block the notebook."""
    from prefectish.history.measures import measure

    if sum(sum(task["counts"].values()) for task in run.tasks()) > MAX_CHILDREN_MEASURED:
        return None
    return measure(run)
