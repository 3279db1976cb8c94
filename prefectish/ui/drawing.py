"""What pages draw: graphs, small charts, and the colours of states. All of it by attributes, without styles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefectish.display.page import markup
from prefectish.display.svg import Box, SvgEdge, picture
from prefectish.display.views import color_of as color_of_state
from prefectish.engine.task_counts import KINDS
from prefectish.history.schema import STATES
from prefectish.ui.paths import url

if TYPE_CHECKING:
    from markupsafe import Markup

    from prefectish.ui.records import RunDetail, TaskRow, Track

#: The states whose colours counts and runs have that are called otherwise.
_LIKE = {
    **{kind: name for name, kind in reversed(KINDS.items())},
    "not started": "Pending",
    "not finished": "Pending",
    "Lost": "Crashed",
    "Unfinished": "Cancelled",
    "Unreadable": "Crashed",
}
#: What the bytes of the picture of a map say, besides states: an item that has not ended, one that is running.
NOT_ENDED, RUNNING = 0, 255
#: Size of a small chart, in units of its own.
CHART_WIDTH, CHART_HEIGHT = 1000, 24


def color_of(kind: str) -> str:
    """Return the colour of a state, or of what states count as.

    Examples
    --------
    >>> color_of("succeeded") == color_of("Success"), color_of("not run") == color_of("TriggerFailed")
    (True, True)
    """
    return color_of_state(_LIKE.get(kind, kind))


def map_states() -> list[tuple[str, str] | None]:
    """Return the name and colour of each byte of the picture of a map."""
    found: list[tuple[str, str] | None] = [None] * 256
    found[NOT_ENDED] = ("not ended", color_of("Pending"))
    found[RUNNING] = ("Running", color_of("Running"))
    for code, name in enumerate(STATES):
        found[code + 1] = (name, color_of(name))
    return found


def graph(page: RunDetail) -> Markup:
    """Return the graph of a run, each task a link; empty if it has too many tasks, or none."""
    boxes = [
        Box(
            str(task.step),
            [task.label, *_said(task)],
            task.is_map,
            _color(task),
            [(color_of(count.state), count.number / max(task.total or 1, _known(task))) for count in task.counts]
            if task.is_map
            else (),
            task.slug,
            url("task", run=page.run.id, step=task.step)
            if task.is_map or not task.done
            else url("item", run=page.run.id, step=task.step, row=0),
        )
        for task in page.tasks
    ]
    known = {box.ident for box in boxes}
    wires = [SvgEdge(str(edge.start), str(edge.end), edge.argument or "", edge.mapped) for edge in page.edges]
    drawn: Markup = markup(picture(boxes, [w for w in wires if w.start in known and w.end in known], fits=False))
    return drawn


def _known(task: TaskRow) -> int:
    return sum(count.number for count in task.counts) or 1


def _said(task: TaskRow) -> list[str]:
    if not task.is_map:
        return [task.state] if task.state else []
    return [f"{task.done:,} of {task.total:,}" if task.total is not None else f"{task.done:,} done"]


def _color(task: TaskRow) -> str | None:
    if task.is_map:
        if task.failed:
            return color_of("Failed")
        if task.state == "Mapped" and any(count.state == "Cancelled" for count in task.counts):
            return color_of("Cancelled")
        return color_of("Success") if task.state else color_of("Running") if task.done or task.running else None
    return color_of(task.state) if task.state else color_of("Running") if task.running else None


def busy(track: Track) -> Markup:
    """Return how many items of a worker or a task ran over time, as a small chart with steps."""
    most = max(track.busy, default=0.0) or 1.0
    drawn: Markup = markup(
        f'<svg class="busy" viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="at most {max(track.busy, default=0.0):.1f} at once"><path d="{_steps(track.busy, most)}"/></svg>'
    )
    return drawn


def _steps(values: Sequence[float], most: float) -> str:
    wide = CHART_WIDTH / (len(values) or 1)
    parts = [f"M0,{CHART_HEIGHT}"]
    last = None
    for n, value in enumerate(values):
        high = round(CHART_HEIGHT * (1 - value / most), 1)
        if high != last:
            parts.append(f"H{n * wide:.0f}V{high:g}")
            last = high
    return "".join([*parts, f"H{CHART_WIDTH}V{CHART_HEIGHT}z"])
