"""The tasks behind control flow: compare, convert to bool, merge, filter.

:mod:`prefectish.control_flow` connects them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self, Unpack

from prefectish.engine.signals import SKIP
from prefectish.missing_names import lead_out
from prefectish.tasks.options import TaskOptions
from prefectish.tasks.task import Task
from prefectish.triggers import Upstream, all_finished, not_all_skipped

#: Maximum length of a value in names and messages.
MAX_VALUE_LENGTH = 40
#: Types whose repr is the same in every process.
_STEADY = frozenset({type(None), bool, int, float, str, bytes})


class Compare(Task):
    """Skip downstream tasks unless a result equals a value.

    Raises
    ------
    TypeError
        If the value is a task: the branches of a flow are fixed before it runs.
    """

    auto_generated = True

    def __new__(cls, value: Any = None) -> Self:
        """Reject a task before the general warning about tasks as arguments; unpickling passes no arguments."""
        if isinstance(value, Task):
            raise TypeError(
                f"case: the value must not be a task, got {value!r}; compare two results with case(x.is_equal(y), True)"
            )
        return super().__new__(cls)

    def __init__(self, value: Any) -> None:
        self.expected = value  # the value to compare with
        # The name becomes part of the slug, which must be the same in other processes; the repr of sets is not.
        super().__init__(f"case[{_cut_repr(value) if type(value) in _STEADY else type(value).__name__}]")

    @property
    def value(self) -> Any:
        """The value to compare with."""
        return self.expected

    def run(self, value: Any) -> None:
        """Raise SKIP unless `value` is the expected one."""
        if not value == self.expected:
            raise SKIP(f"got {_cut_repr(value)}, this branch is for {_cut_repr(self.expected)}")


def _cut_repr(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - 1] + "…"


class AsBool(Task):
    """Convert a result to True or False."""

    auto_generated = True

    def run(self, value: Any) -> bool:
        """Return the truth of `value`."""
        return bool(value)


class Merge(Task):
    """Return the result of the branch that ran."""

    auto_generated = True

    def __init__(self) -> None:
        super().__init__(skip_on_upstream_skip=False, trigger=not_all_skipped)

    def run(self, **branches: Any) -> Any:
        """Return the first input, in alphabetical order of the names, that is not None."""
        return next((branches[name] for name in sorted(branches) if branches[name] is not None), None)


def is_result(value: Any) -> bool:
    """Whether a member of a list of results is neither None nor an exception."""
    return value is not None and not isinstance(value, BaseException)


def all_finished_and_not_skipped(upstream: Upstream) -> bool:
    """Run once all upstream tasks have finished, unless all of them were skipped: then skip."""
    if upstream and all(state.is_skipped() for state in upstream.values()):
        raise SKIP("All upstream tasks were skipped.", result=None)
    return all_finished(upstream)


class FilterTask(Task):
    """Filter a list; by default remove members that are None or exceptions.

    It runs even if mapped children upstream failed, so that it can remove their failures from the results.

    Parameters
    ----------
    filter_func
        Function of a member that returns whether to keep it.
    name, **options
        As for :class:`prefectish.Task`.

    Examples
    --------
    >>> FilterTask().run([1, None, ValueError("no"), 0])
    [1, 0]
    >>> FilterTask(lambda n: n > 1).run([1, 2, 3])
    [2, 3]
    """

    def __init__(
        self,
        filter_func: Callable[[Any], object] | None = None,
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        if filter_func is not None and not callable(filter_func):
            raise TypeError(f"filter_func must be a function, got {filter_func!r}")
        self.filter_func = filter_func or is_result
        options.setdefault("trigger", all_finished_and_not_skipped)
        options.setdefault("skip_on_upstream_skip", False)
        super().__init__(name, **options)

    def run(self, task_results: Iterable[Any]) -> list[Any]:
        """Return the members that are kept, in their order.

        Raises
        ------
        TypeError
            If there is no list, because the upstream task failed as a whole.
        """
        if task_results is None or isinstance(task_results, BaseException):
            raise TypeError(f"{self.name}: expected a list, got {task_results!r}")
        return [result for result in task_results if self.filter_func(result)]


if not TYPE_CHECKING:
    __path__ = []  # in Prefect it is a package: imports of what was in it are answered, too
    __getattr__ = lead_out(__name__)
