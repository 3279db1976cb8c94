"""The graph of a flow as a picture, with the states of its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from prefectish.display import views
from prefectish.display.page import markup, rendered
from prefectish.display.svg import Box, SvgEdge, picture
from prefectish.display.views import RunView, TaskView, is_failure
from prefectish.engine.state import State
from prefectish.engine.task_states import is_by_task
from prefectish.parameters import Parameter
from prefectish.slugs import labels_of_tasks
from prefectish.tasks.collections import Constant


def of_flow(flow: Any) -> str:
    """Return the picture of a flow without states; constants are omitted."""
    slugs, called = flow.slugs, labels_of_tasks(flow.slugs)
    boxes = [
        Box(
            slugs[task],
            [called[task], "parameter"] if isinstance(task, Parameter) else [called[task]],
            any(edge.mapped for edge in flow.edges_to(task)),
            title=called[task],
        )
        for task in flow.sorted_tasks()
        if not isinstance(task, Constant)
    ]
    wires = [SvgEdge(slugs[e.upstream_task], slugs[e.downstream_task], e.key or "", e.mapped) for e in flow.edges]
    return _picture(boxes, wires)


def of_drawing(flow: Any, state: State | None) -> str:
    """Return what a notebook shows of ``flow.visualize(state)``; empty if there is nothing to draw, or too much."""
    is_run = state is not None and is_by_task(state._raw_result)
    picture = of_run(views.of_run(state)) if is_run and state is not None else of_flow(flow)
    return rendered("drawing.html", picture=markup(picture)) if picture else ""


def of_run(view: RunView) -> str:
    """Return the picture of a run, with states."""
    boxes = [_box(task) for task in view.tasks if task.kind != "constant"]
    return _picture(boxes, [SvgEdge(arrow.start, arrow.end, arrow.key or "", arrow.mapped) for arrow in view.arrows])


def _picture(boxes: Sequence[Box], wires: Iterable[SvgEdge]) -> str:
    known = {box.ident for box in boxes}
    drawn = picture(boxes, [wire for wire in wires if wire.start in known and wire.end in known])
    return f'<div class="pf-scroll">{drawn}</div>' if drawn else ""


def _box(task: TaskView) -> Box:
    if task.kind == "parameter":
        return Box(task.slug, [task.name, "parameter"], title=task.name)
    if task.kind == "task":
        color = task.counts[0].color if task.counts else None
        return Box(task.slug, [task.name, task.state or ""], False, color, (), f"{task.name} {task.message}")
    text = ", ".join(f"{count.number:,} {count.kind}" for count in task.counts) or "no children"
    parts = [(count.color, count.share) for count in task.counts]
    return Box(task.slug, [task.name, _short(task)], True, _color(task), parts, f"{task.name}: {text}")


def _short(task: TaskView) -> str:
    if task.failed:
        return f"{task.failed:,} of {task.total:,} failed"
    return f"{task.total:,} {'child' if task.total == 1 else 'children'}"


def _color(task: TaskView) -> str | None:
    """Return the colour of a map: that of its most frequent failure, else of its most frequent state."""
    failed = [count for count in task.counts if is_failure(count.kind)]
    ranked = failed or task.counts
    return max(ranked, key=lambda count: count.number).color if ranked else None
