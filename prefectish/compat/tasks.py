"""`prefect.Task` and its kin: tasks with the arguments that they had there."""

from __future__ import annotations

import inspect
import operator
import sys
import typing
import warnings
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from importlib import import_module
from typing import Any

from prefectish.caching.validators import duration_only, never_use, partial_inputs_only, partial_parameters_only
from prefectish.compat.configuration import __version__, config
from prefectish.compat.results import Result
from prefectish.tasks.operators import both, either
from prefectish.tasks.task import FunctionTask as OwnFunctionTask
from prefectish.tasks.task import Task as OwnTask
from prefectish.triggers import bounds_of

#: Options in the order in which they could be given by position.
_OPTIONS = (
    "name", "slug", "tags", "max_retries", "retry_delay", "retry_on", "timeout", "trigger", "skip_on_upstream_skip",
    "cache_for", "cache_validator", "cache_key", "checkpoint", "state_handlers", "on_failure", "log_stdout", "result",
    "target", "task_run_name", "nout",
)  # fmt: skip


class TaskMetaclass(type):
    """Lets every task be an instance of `prefect.Task`, also those that the engine makes of collections."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) or (cls is Task and isinstance(instance, OwnTask))

    def __subclasscheck__(cls, other: type) -> bool:
        return super().__subclasscheck__(other) or (cls is Task and issubclass(other, OwnTask))


class _CallSignature:
    """The signature of a call of a task: that of its `run`, and the keywords of every call."""

    def __get__(self, task: Any, owner: type | None = None) -> inspect.Signature:
        if task is None:
            raise AttributeError("__signature__")
        own = list(inspect.signature(task.run).parameters.values())
        spread = [p for p in own if p.kind is p.VAR_KEYWORD]
        keyword = inspect.Parameter.KEYWORD_ONLY
        more = [
            inspect.Parameter("mapped", keyword, default=False, annotation=bool),
            *(inspect.Parameter(name, keyword, default=None) for name in ("task_args", "upstream_tasks", "flow")),
        ]
        return inspect.Signature([*(p for p in own if p not in spread), *more, *spread], return_annotation="Task")


class Task(OwnTask[Any], metaclass=TaskMetaclass):
    """A task as in Prefect 1; see :class:`prefectish.Task`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        if len(args) > 5 and isinstance(args[5], int | timedelta):  # before 1.2, which brought `retry_on`
            args = (*args[:5], None, *args[5:])
        if len(args) > len(_OPTIONS):
            raise TypeError(f"Task takes at most {len(_OPTIONS)} arguments by position, got {len(args)}")
        options.update(zip(_OPTIONS, args, strict=False))
        if isinstance(options.get("name"), OwnTask):
            options["name"] = None  # there was a warning
        super().__init__(**_settled(options))
        self.tags = _Tags(self.tags)  # type: ignore[assignment]  # it can be added to
        if self.timeout is not None:
            self.timeout = int(self.timeout)
        if self.retry_on is not None:
            self.retry_on = _ErrorTypes(self.retry_on)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "tags": _Tags(self.tags)}

    __signature__ = _CallSignature()

    def __bool__(self) -> bool:  # type: ignore[override]
        return True

    def pipe(self, *args: Any, **kwargs: Any) -> Any:
        """Call a task with this one as its first argument: ``a.pipe(b, c=1)`` is ``b(a, c=1)``."""
        if not args:
            raise TypeError("pipe() takes the task to call")
        call, *rest = args
        return call(self, *rest, **kwargs)

    def _change(self, options: Mapping[str, Any]) -> None:
        if options.get("cache_for") is not None and "cache_validator" not in {**self.__dict__, **options}:
            options = {**options, "cache_validator": duration_only}
        super()._change(options)

    def not_equal(self, other: Any) -> Any:
        """Add a task that compares results by `!=`."""
        return self.is_not_equal(other)

    def inputs(self) -> dict[str, dict[str, Any]]:
        """Return the arguments of `run`: for each its type, and whether it is required."""
        takes = inspect.signature(self.run).parameters.values()
        hints = _hints(self.run)
        return {
            p.name: {"type": hints.get(p.name, Any), "required": p.default is p.empty}
            for p in takes
            if p.kind in _NAMED
        }

    def outputs(self) -> Any:
        """Return the type that `run` returns."""
        return _hints(self.run).get("return", Any)

    def serialize(self) -> dict[str, Any]:
        """Return what the task is as plain values."""
        return described(self)

    def _operate(self, name: str, function: Callable[..., Any], /, *operands: Any) -> Any:
        kind = BY_FUNCTION.get(function)
        if kind is None:
            return super()._operate(name, function, *operands)
        self._flow(None)
        return kind(name=name)(*operands)


class _Tags(set[str]):
    """Tags; tasks of equal tags are told apart by more than them, so that a set that can change has a hash."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self))


class _ErrorTypes(tuple[type[BaseException], ...]):
    """Types of errors that are compared as a set."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return set(self) == other if isinstance(other, set | frozenset) else super().__eq__(other)

    __hash__ = tuple.__hash__


# Not in the class, where they would be taken for mistakes: the shortest list decides, and nothing is cached.
Task.strict_map = False
Task.cache_validator = staticmethod(never_use)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _settled(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as the engine takes them: with the defaults of the settings, and time limits in whole seconds."""
    defaults = config.tasks.defaults
    no_retries = options.get("max_retries") == 0  # then the default delay has nothing to delay
    for name in ("max_retries", "timeout") if no_retries else ("max_retries", "retry_delay", "timeout"):
        if options.get(name) is None and defaults.get(name) not in (None, 0):
            options[name] = defaults[name]
    delay = options.get("retry_delay")
    if isinstance(delay, int | float) and not isinstance(delay, bool):
        options["retry_delay"] = timedelta(seconds=delay)
    if options.get("timeout") is not None:
        options["timeout"] = _whole_seconds(options["timeout"])
    if options.get("cache_for") is not None and options.get("cache_validator") is None:
        options["cache_validator"] = duration_only
    result, target = options.get("result"), options.get("target")
    if isinstance(result, Result) and target is not None:
        if result.location not in (None, target):
            warnings.warn(f"Both `result.location` and `target` set on task: `target={target!r}` is used", stacklevel=3)
        result = options["result"] = result.copy()
        result.location = target
    return options


def _whole_seconds(timeout: Any) -> int:
    if isinstance(timeout, timedelta):
        seconds = int(timeout.total_seconds())
        if seconds != timeout.total_seconds():
            warnings.warn(f"timeout={timeout!r}: time limits are whole seconds; {seconds} s it is", stacklevel=4)
        return seconds
    if not isinstance(timeout, int):
        raise TypeError(f"Only integer timeouts (in seconds) are supported, got {timeout!r}")
    return timeout


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # annotations are user code
        return dict(getattr(function, "__annotations__", {}))


def place_of(found: Any) -> str:
    """Return the dotted name of a class or a function: that of Prefect 1, if it had it."""
    name = getattr(found, "__qualname__", type(found).__qualname__)
    module = getattr(found, "__module__", type(found).__module__)
    return _places(len(sys.modules)).get((module, name), f"{module}.{name}")


@lru_cache(maxsize=1)
def _places(loaded: int) -> dict[tuple[str, str], str]:
    """Return the names of Prefect 1 of what is imported, each in the innermost module that has it."""
    table = import_module("prefectish.compat.names").MODULES
    found: dict[tuple[str, str], str] = {}
    for place, names in sorted(table.items(), key=lambda item: item[0].count(".")):
        for name, source in names.items():
            here: Any = getattr(sys.modules.get(source.module), source.name or "", None)
            if hasattr(here, "__qualname__"):
                found[here.__module__, here.__qualname__] = f"{place}.{name}"
    return found


def _function(found: Callable[..., Any] | None) -> dict[str, Any] | None:
    """Return a trigger or a validator as plain values; its `kwargs` are None if what it was made with is not known."""
    if found is not None and (bounds := bounds_of(found)) is not None:
        return {"fn": f"prefect.triggers.{found.__name__}", "kwargs": bounds}
    if isinstance(found, partial_inputs_only | partial_parameters_only):
        return {"fn": place_of(type(found)), "kwargs": {"validate_on": sorted(found.names)}}
    return None if found is None else {"fn": place_of(found), "kwargs": {} if inspect.isroutine(found) else None}


def described(task: OwnTask[Any]) -> dict[str, Any]:
    """Return what a task is as plain values."""
    delay = task.retry_delay
    inputs: dict[str, Any] = getattr(task, "inputs", dict)()
    return {
        "name": task.name,
        "slug": task.slug,
        "type": place_of(type(task)),
        "tags": sorted(task.tags),
        "max_retries": task.max_retries,
        "retry_delay": delay.total_seconds() if isinstance(delay, timedelta) else delay,
        "timeout": task.timeout,
        "trigger": _function(task.trigger),
        "skip_on_upstream_skip": task.skip_on_upstream_skip,
        "cache_for": None if task.cache_for is None else task.cache_for.total_seconds(),
        "cache_key": task.cache_key,
        "cache_validator": _function(task.cache_validator),
        "auto_generated": task.auto_generated,
        "is_mapped": False,
        "inputs": {name: {**facts, "type": str(facts["type"])} for name, facts in inputs.items()},
        "outputs": str(getattr(task, "outputs", lambda: Any)()),
        "__version__": __version__,
    }


class FunctionTask(OwnFunctionTask[..., Any, Any], Task):
    """A task made of a function; see :class:`prefectish.tasks.FunctionTask`."""

    __signature__ = _CallSignature()

    def __init__(self, fn: Callable[..., Any], name: str | None = None, **kwargs: Any) -> None:
        if not callable(fn):
            raise TypeError("fn must be callable.")
        super().__init__(fn, name, **kwargs)
        for attribute in ("__name__", "__doc__"):
            if (found := getattr(fn, attribute, None)) is not None:
                self.__dict__[attribute] = found
        self.__dict__["__wrapped__"] = fn


_ABSENT: Any = object()


class _Access(Task):
    """Base class of tasks that take a part of a result; `default`, if there is one, stands for one that is missing."""

    auto_generated = True
    #: Errors that say that it is missing.
    missing: tuple[type[Exception], ...] = ()

    def __init__(self, *args: Any, default: Any = _ABSENT, **kwargs: Any) -> None:
        self.default = default
        super().__init__(*args, **kwargs)

    def _taken(self, take: Callable[..., Any], *args: Any) -> Any:
        try:
            return take(*args)
        except self.missing:
            if self.default is _ABSENT:
                raise
            return self.default


class GetItem(_Access):
    """Gives an item of a result."""

    missing = (KeyError, IndexError)

    def run(self, task_result: Any, key: Any) -> Any:
        """Return the item."""
        return self._taken(operator.getitem, task_result, key)


class GetAttr(_Access):
    """Gives an attribute of a result; ``"a.b"`` is one of its attribute."""

    missing = (AttributeError,)

    def run(self, task_result: Any, attr: str) -> Any:
        """Return the attribute."""
        return self._taken(operator.attrgetter(attr), task_result)


def _binary(name: str, function: Callable[[Any, Any], Any]) -> type[Task]:
    def run(self: Task, x: Any, y: Any) -> Any:
        return function(x, y)

    run.__doc__ = f"Return what {name} gives of both."
    attributes = {"run": run, "auto_generated": True, "__module__": __name__, "__doc__": run.__doc__}
    made: type[Task] = TaskMetaclass(name, (Task,), attributes)  # type: ignore[assignment]
    return made


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
