"""A flow function that runs in the background: the handle of every run, for tasks that become known as it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefectish.engine.driver.handle import RunHandle
from prefectish.engine.driver.progress_view import counts_by_state
from prefectish.engine.task_states import is_call
from prefectish.slugs import meant
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.engine.scheduling.run_state import StepState


class FunctionHandle(RunHandle):
    """A run of a flow function in a thread of its own; made by ``my_flow.start(...)``.

    It does what the handle of every run does. A task is one that the function has called so far; all of its calls and
    maps are meant, unless it is given by the slug of one of them, or with an index: then by what that one is called.
    Limits hold for tasks that are still to be called, too.
    """

    def _steps(self, task: Any = None, index: int | None = None) -> list[StepState]:
        """Return the steps of a task, or of all; those so far."""
        progress = self._control.progress
        states = [] if progress is None else list(progress.run_state.step_states)
        own = [s for s in states if s.step.literal is None]
        if task is None:
            return own
        if isinstance(task, str):
            # With an index it is what a child is called, otherwise the name of all its calls and maps.
            slugs = meant(
                task, ((s.step.slug, s.step.name if index is None else s.step.label, s.step.name) for s in own)
            )
            return [s for s in own if s.step.slug in slugs]
        return [s for s in own if s.step.task is task] or [s for s in own if is_call(s.step.task, task)]

    def _slugs(self, task: Any, index: int | None = None) -> Sequence[str]:
        slugs = [step_state.step.slug for step_state in self._steps(task, index)]
        if not slugs:
            called = sorted({step_state.step.name for step_state in self._steps()})
            raise ValueError(
                f"{task!r} was not called so far in {self._flow!r}; called were: {', '.join(called) or 'none'}"
            )
        if index is not None and len(slugs) > 1:
            raise ValueError(
                f"{len(slugs)} calls and maps are of {task!r}, so an index is not enough; take one by its slug: "
                f"{', '.join(map(repr, slugs))}"
            )
        return slugs

    def _limited(self, task: Any) -> Any:
        if not isinstance(task, Task):
            raise TypeError(f"task_or_tag must be a task or a tag, got {task!r}")
        return task

    def _tag(self, tag: str) -> str:
        return tag  # tasks that are still to be called may have it

    def counts(self, task: Any = None) -> dict[str, int]:
        """Return how many calls and children are in which state so far, by the name of the state.

        Parameters
        ----------
        task
            Count only calls and maps of this task.

        Raises
        ------
        ValueError
            No task that was called so far has the name.
        """
        progress = self._control.progress
        if progress is None:
            return {}
        steps = self._steps(task)
        slugs = [s.step.slug for s in steps] if steps or isinstance(task, Task | None) else self._slugs(task)
        total: Counter[str] = Counter()
        for slug in slugs:
            total += Counter(counts_by_state(progress, slug))
        return dict(total)
