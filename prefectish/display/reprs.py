"""What a notebook shows of a flow, a state, a recorded run: ``_repr_html_``."""

from __future__ import annotations

from typing import Any

from prefectish.display import graph, views
from prefectish.display.page import markup, rendered
from prefectish.engine.outcome import is_by_task
from prefectish.engine.state import Mapped, State


def of_flow(flow: Any) -> str:
    """Return a flow: its graph, and what it is made of."""
    picture = graph.of_flow(flow)
    parameters = sorted(flow.parameters(), key=lambda parameter: parameter.name)
    facts = [f"{len(flow.tasks):,} tasks", f"{len(flow.edges):,} edges"]
    return rendered(
        "flow.html",
        name=flow.name,
        facts=facts,
        parameters=[parameter.name for parameter in parameters],
        picture=markup(picture),
        empty=not flow.tasks,
    )


def of_state(state: State) -> str:
    """Return a state: of a flow run, of a map, or of a single task."""
    if isinstance(state, Mapped):
        return of_view(views.of_map(state))
    if is_by_task(state._result):
        return of_view(_with_times(views.of_run(state), state))
    traceback = getattr(state, "traceback", None)
    message = views.text_of(state.message)
    return rendered("task_state.html", state=state, kind=type(state).__name__, message=message, traceback=traceback)


def of_view(view: views.RunView) -> str:
    """Return a run, or a map."""
    return rendered("state.html", view=view, picture=markup(graph.of_run(view)) if view.arrows else "")


def _with_times(view: views.RunView, state: State) -> views.RunView:
    """Add what only the history knows, if the run was recorded."""
    return view
