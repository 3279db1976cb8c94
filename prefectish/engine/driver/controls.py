"""What a handle can ask of its run while it goes on: pause, other limits, failed children once more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.clock import Now
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.scheduling.retry_failed import CannotRetry, chooser
from prefectish.engine.task_states import task_of
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.engine.driver.handle import Control

#: Seconds between two looks at whether a run that is asked for something is still there.
LOOK = 0.05


class HandleControls:
    """The part of a handle that steers; the run's own thread does what is asked."""

    _flow: Any
    _control: Control
    _thread: threading.Thread
    _ended: threading.Event
    _is_paused: bool
    id: Any

    def pause(self) -> None:
        """Send nothing more to be run until :meth:`resume`. Retries that are due wait; time limits go on.

        What was sent already is run to its end: of a map up to a window, whose width ``DaskExecutor(max_branches=...)``
        says.
        """
        self._is_paused = True
        self._control.ask(lambda progress, now: progress.controls.pause())

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._is_paused = False
        self._control.ask(lambda progress, now: progress.controls.resume())

    def set_limit(self, task_or_tag: Task | str, n: int | None) -> None:
        """Change how many children may run at once, from now on; nothing that was sent to be run is taken back.

        Parameters
        ----------
        task_or_tag
            A task of the flow, whose `max_concurrency` it is; or a tag, of whose `tag_limits` it is.
        n
            0 to start none, None for no limit.

        Raises
        ------
        TypeError, ValueError
            The task or the tag is not in the flow, or `n` is no number of children.
        """
        if n is not None and (isinstance(n, bool) or not isinstance(n, int)):
            raise TypeError(f"n={n!r}: a number of children, or None for no limit, is wanted")
        if n is not None and n < 0:
            raise ValueError(f"n={n}: at least 0 is wanted")
        if isinstance(task_or_tag, str):
            tag = task_or_tag
            tags = {tag for task in self._flow.tasks for tag in task.tags}
            if tag not in tags:
                raise ValueError(f"no task of {self._flow!r} has the tag {tag!r}; there are {sorted(tags)}")
            self._control.ask(lambda progress, now: progress.controls.limit_tag(tag, n))
        else:
            slug = self._slug(task_or_tag)
            self._control.ask(lambda progress, now: progress.controls.limit_task(slug, n))

    def retry(self, task: Task, where: Any = None) -> int:
        """Run failed children of a map again, and what followed them, while the map goes on.

        Parameters
        ----------
        task
            A mapped task of the flow.
        where
            Which of them: an exception type or several, the name of one, a function of the failed state, or a group of
            ``history.run(id).failures()``. Default: all that failed by themselves.

        Returns
        -------
        How many run again.

        Raises
        ------
        RuntimeError
            The map, or the run, has ended, or what followed cannot be taken back; the error names the way out,
            :meth:`prefectish.Flow.resume`.
        TypeError, ValueError
            `where` is nothing of that kind, or `task` is not in the flow.
        """
        slug, chosen = self._slug(task), chooser(where)
        answer = self._answer(lambda progress, now: progress.retrier.retry(slug, chosen, now))
        hint = f"flow.resume({self.id!r}, retry_failed=True) runs failed children again once the run has ended"
        if answer is None:
            raise RuntimeError(f"run {self.id} has ended; {hint}")
        if isinstance(answer, Error):
            if isinstance(answer.exception, CannotRetry):
                raise RuntimeError(f"{slug} cannot run again now: {answer.exception}; {hint}")
            raise answer.exception
        count: int = answer.value
        return count

    def _slug(self, task: Any) -> str:
        """Return the slug of a task that is given as itself, as the one that was called, or by its name or slug."""
        slugs: Mapping[Any, str] = self._flow.slugs
        try:
            return slugs[task_of(slugs, task)]
        except KeyError as error:
            raise ValueError(f"{task!r} is not in {self._flow!r}: {error.args[0]}") from None

    def _answer(self, request: Callable[[Progress, Now], Any]) -> Value | Error | None:
        """Have a request done by the loop and return what came of it; None if the run has ended."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("a run cannot be asked from its own handlers and bodies: nobody would do it meanwhile")
        asked = _Asked(request)
        self._control.ask(asked)
        while not asked.seen.wait(LOOK) and not self._ended.is_set():
            pass
        return asked.answer


class _Asked:
    """A request whose answer somebody waits for."""

    def __init__(self, request: Callable[[Progress, Now], Any]) -> None:
        self._request = request
        self.seen = threading.Event()
        self.answer: Value | Error | None = None

    def __call__(self, progress: Progress, now: Now) -> None:
        self.answer = capture(self._request, progress, now)
        self.seen.set()
