"""`prefect.Task` and its kin: tasks with the arguments that they had there."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from prefectish.tasks.operators import both, either
from prefectish.tasks.task import FunctionTask as OwnFunctionTask
from prefectish.tasks.task import Task as OwnTask

#: Options in the order in which they could be given by position.
_OPTIONS = (
    "name", "slug", "tags", "max_retries", "retry_delay", "timeout", "trigger", "skip_on_upstream_skip", "cache_for",
    "cache_validator", "cache_key", "checkpoint", "state_handlers", "on_failure", "log_stdout", "result", "target",
    "task_run_name", "nout", "retry_on",
)  # fmt: skip


class TaskMetaclass(type):
    """Lets every task be an instance of `prefect.Task`, also those that the engine makes of collections."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) or (cls is Task and isinstance(instance, OwnTask))

    def __subclasscheck__(cls, other: type) -> bool:
        return super().__subclasscheck__(other) or (cls is Task and issubclass(other, OwnTask))


class Task(OwnTask[Any], metaclass=TaskMetaclass):
    """A task as in Prefect 1; see :class:`prefectish.Task`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        if len(args) > len(_OPTIONS):
            raise TypeError(f"Task takes at most {len(_OPTIONS)} arguments by position, got {len(args)}")
        options.update(zip(_OPTIONS, args, strict=False))
        super().__init__(**options)

    def pipe(self, *args: Any, **kwargs: Any) -> Any:
        """Call a task with this one as its first argument: ``a.pipe(b, c=1)`` is ``b(a, c=1)``."""
        if not args:
            raise TypeError("pipe() takes the task to call")
        call, *rest = args
        return call(self, *rest, **kwargs)

    def _operate(self, name: str, function: Callable[..., Any], /, *operands: Any) -> Any:
        kind = BY_FUNCTION.get(function)
        if kind is None:
            return super()._operate(name, function, *operands)
        self._flow(None)
        return kind(name=name)(*operands)


Task.strict_map = False  # the shortest list decides; not in the class, where it would be taken for a mistake


class FunctionTask(OwnFunctionTask[..., Any, Any], Task):
    """A task made of a function; see :class:`prefectish.tasks.FunctionTask`."""

    def __init__(self, fn: Callable[..., Any], name: str | None = None, **kwargs: Any) -> None:
        super().__init__(fn, name, **kwargs)


_ABSENT: Any = object()


class GetItem(Task):
    """Gives an item of a result; `default`, if there is one, where it is missing."""

    auto_generated = True

    def __init__(self, *args: Any, default: Any = _ABSENT, **kwargs: Any) -> None:
        self.default = default
        super().__init__(*args, **kwargs)

    def run(self, task_result: Any, key: Any) -> Any:
        """Return the item."""
        try:
            return task_result[key]
        except (KeyError, IndexError):
            if self.default is _ABSENT:
                raise
            return self.default


class GetAttr(Task):
    """Gives an attribute of a result, ``"a.b"`` of its attribute; `default`, if there is one, where it is missing."""

    auto_generated = True

    def __init__(self, *args: Any, default: Any = _ABSENT, **kwargs: Any) -> None:
        self.default = default
        super().__init__(*args, **kwargs)

    def run(self, task_result: Any, attr: str) -> Any:
        """Return the attribute."""
        found = task_result
        try:
            for name in attr.split("."):
                found = getattr(found, name)
        except AttributeError:
            if self.default is _ABSENT:
                raise
            return self.default
        return found


def _binary(name: str, function: Callable[[Any, Any], Any]) -> type[Task]:
    def run(self: Task, x: Any, y: Any) -> Any:
        return function(x, y)

    run.__doc__ = f"Return what {name} gives of both."
    return type(Task)(
        name, (Task,), {"run": run, "auto_generated": True, "__module__": __name__, "__doc__": run.__doc__}
    )


Add = _binary("Add", operator.add)
Sub = _binary("Sub", operator.sub)
Mul = _binary("Mul", operator.mul)
Div = _binary("Div", operator.truediv)
FloorDiv = _binary("FloorDiv", operator.floordiv)
Mod = _binary("Mod", operator.mod)
Pow = _binary("Pow", operator.pow)
And = _binary("And", both)
Or = _binary("Or", either)
Equal = _binary("Equal", operator.eq)
NotEqual = _binary("NotEqual", operator.ne)
GreaterThan = _binary("GreaterThan", operator.gt)
GreaterThanOrEqual = _binary("GreaterThanOrEqual", operator.ge)
LessThan = _binary("LessThan", operator.lt)
LessThanOrEqual = _binary("LessThanOrEqual", operator.le)


class Not(Task):
    """Gives the opposite of a result."""

    auto_generated = True

    def run(self, x: Any) -> bool:
        """Return `not x`."""
        return not x


#: The class of the task that applies a function, by the function.
BY_FUNCTION: dict[Callable[..., Any], type[Task]] = {
    operator.getitem: GetItem, operator.add: Add, operator.sub: Sub, operator.mul: Mul, operator.truediv: Div,
    operator.floordiv: FloorDiv, operator.mod: Mod, operator.pow: Pow, both: And, either: Or, operator.eq: Equal,
    operator.ne: NotEqual, operator.gt: GreaterThan, operator.ge: GreaterThanOrEqual, operator.lt: LessThan,
    operator.le: LessThanOrEqual, operator.not_: Not,
}  # fmt: skip
