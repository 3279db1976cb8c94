"""Words for the progress of a run, the same in every view."""

from __future__ import annotations

from prefectish.display.pace import PaceLine, Scene
from prefectish.engine.driver.failure_log import CauseCount
from prefectish.engine.state import State
from prefectish.engine.worker.body_progress import BodyProgress

#: Kinds of children that are shown if there are any, with their colour in a terminal.
CHILD_KINDS = (
    ("running", "blue"),
    ("retrying", "yellow"),
    ("paused", "magenta"),
    ("cached", "green"),
    ("skipped", "bright_black"),
    ("cancelled", "bright_black"),
    ("not_run", "dark_orange"),
    ("failed", "red"),
)


def how_many(line: PaceLine) -> str:
    """Return how many children have ended, of how many."""
    counts = line.counts
    if counts.width is None:
        return f"of about {line.expected:,}" if line.expected is not None else "waiting"
    if line.expected is not None:
        return f"{line.ended:,} of about {line.expected:,}"
    return f"{line.ended:,} of {counts.width:,}{'' if counts.closed else ' so far'}"


def others(line: PaceLine) -> list[tuple[str, int, str]]:
    """Return kind, number and colour of children in other states than success."""
    found = [(kind, getattr(line.counts, kind), color) for kind, color in CHILD_KINDS]
    return [(kind.replace("_", " "), number, color) for kind, number, color in found if number]


def pace(line: PaceLine) -> str:
    """Return how many children end in a second.

    Examples
    --------
    >>> from prefectish.engine.driver.progress_view import StepCounts
    >>> counts = StepCounts("a-1", "a", True, 9, True, 3, 0, 0, 0, 0, 1, 0, 0, False)
    >>> [pace(PaceLine("a", counts, 1.0, rate, None, None)) for rate in (1234.5, 7.25, 0.05, None)]
    ['1,234/s', '7.2/s', '3/min', '']
    """
    rate = line.rate
    if rate is None:
        return ""
    if rate >= 100:
        return f"{rate:,.0f}/s"
    return f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.3g}/min"


def clock(seconds: float | None) -> str:
    """Return a duration as hours, minutes and seconds.

    Examples
    --------
    >>> [clock(value) for value in (0.4, 75, 3725, None)]
    ['0:00', '1:15', '1:02:05', '']
    """
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def cause(count: CauseCount) -> str:
    """Return why children of a task failed, or were retried, and how many.

    Examples
    --------
    >>> cause(CauseCount("resize", "ValueError: not an image", 1037, "resize[7] (a.png)", True))
    'resize: 1,037 x ValueError: not an image, first: resize[7] (a.png)'
    """
    text = f"{count.task}: {count.number:,} x {count.reason}{'' if count.is_final else ', retried'}"
    return text if count.first == count.task else f"{text}, first: {count.first}"


def ending(state: State | None, stop: str | None) -> str:
    """Return how a run ended, and how many items succeeded: what stands beside the name of the flow at its end."""
    counts = None if state is None else state.counts()
    if stop is not None:
        return stop if counts is None else f"{stop}: {counts.stopped_text()}"
    if state is None:
        return "aborted"
    told = str(state.message or "") if counts is None else counts.text()
    return f"{type(state).__name__}: {told}" if told else type(state).__name__


def chosen_causes(scene: Scene, room: int) -> tuple[list[CauseCount], int]:
    """Return the causes that are shown, failures before what was retried, and how many there are beside them."""
    ranked = sorted(scene.causes, key=lambda count: not count.is_final)
    return ranked[:room], len(ranked[room:])


def inside(body: BodyProgress) -> str:
    """Return how far a body says that it is.

    Examples
    --------
    >>> inside(BodyProgress("fit-1", 3, "fit[3]", 12, 50, "loss 0.3"))
    'fit[3]: 12 of 50 (24%), loss 0.3'
    """
    text = f"{body.label}: {body.done or 0:,}"
    if body.total:
        text += f" of {body.total:,} ({100 * (body.done or 0) / body.total:.0f}%)"
    return text if body.message is None else f"{text}, {body.message}"


def singles(scene: Scene) -> str:
    """Return the progress of unmapped tasks in one line; empty if there are none."""
    if not scene.tasks:
        return ""
    kind = "unmapped task" if scene.maps else "task"
    done = scene.ended - scene.not_run  # what did not run has ended, but is not done
    text = f"{done:,} of {scene.tasks:,} {kind}{'s' if scene.tasks != 1 else ''} done"
    if scene.failed:
        text += f", {scene.failed:,} failed"
    if scene.not_run:
        text += f", {scene.not_run:,} not run"
    if scene.long:
        shown = ", ".join(f"{name} ({clock(seconds)})" for name, seconds in scene.long[:3])
        text += f"; running {shown}{', ...' if len(scene.long) > 3 else ''}"
    return text
