"""`prefect.utilities.tasks` and what else stands around tasks there."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import Any

import cloudpickle

from prefectish.compat.tasks import FunctionTask
from prefectish.engine import pause
from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.context import current
from prefectish.tasks.collections import Constant, holds_tasks
from prefectish.tasks.collections import as_task as task_of
from prefectish.tasks.task import Task as OwnTask


def task(fn: Callable[..., Any] | None = None, **task_init_kwargs: Any) -> Any:
    """Make a task from a function; can be used as a decorator, with or without options."""
    if fn is None:
        return functools.partial(task, **task_init_kwargs)
    return FunctionTask(fn=fn, **task_init_kwargs)


def as_task(x: Any, flow: Any = None, convert_constants: bool = True) -> Any:
    """Return a value as a task: a task as it is, a collection that holds tasks, or a constant.

    Parameters
    ----------
    x
        Any value.
    flow
        Where the task of a collection is recorded; default: the flow whose `with` block is open.
    convert_constants
        False to leave a value without tasks as it is.
    """
    if isinstance(x, OwnTask):
        return x
    if not holds_tasks(x):
        return Constant(x) if convert_constants else x
    active = flow if flow is not None else current().get("flow")
    if active is None:
        raise ValueError("Could not infer an active Flow context: pass flow=, or call it in `with Flow(...)`")
    return task_of(x, active)


def pause_task(message: str | None = None, duration: timedelta | None = None) -> Any:
    """Pause the task that calls it; see :func:`prefectish.pause_task`."""
    return pause.pause_task(message, duration)


def defaults_from_attrs(*attr_args: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator of `run` that takes arguments that are None, or left out, from attributes of the task."""

    def decorator(run_method: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(run_method)

        @functools.wraps(run_method)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            bound = signature.bind_partial(self, *args, **kwargs)
            for name in attr_args:
                if bound.arguments.get(name) is None:
                    bound.arguments[name] = getattr(self, name)
            # By position only as far as there are no gaps, in the order of the parameters.
            bound.arguments = {name: bound.arguments[name] for name in signature.parameters if name in bound.arguments}
            return run_method(*bound.args, **bound.kwargs)

        return method

    return decorator


def import_object(name: str) -> Any:
    """Return a module, or an object of one, by its dotted name, ``module:name`` or ``module.name``."""
    try:
        module_name, attribute = name.split(":") if ":" in name else name.rsplit(".", 1)
    except ValueError:
        return import_module(name)
    return operator.attrgetter(attribute)(import_module(module_name))


class RecursiveCall(Exception):
    """Raised by a function under :func:`tail_recursive` to call one anew, without a frame for each call."""

    def __init__(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(func)
        self.func = func
        self.args = args
        self.kwargs = kwargs


def tail_recursive(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls what :class:`RecursiveCall` asks for, until something is returned."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call, given, named = func, args, kwargs
        while True:
            try:
                return call(*given, **named)
            except RecursiveCall as again:
                call = getattr(again.func, "__wrapped_tail__", again.func)
                given, named = again.args, again.kwargs

    wrapper.__wrapped_tail__ = func  # type: ignore[attr-defined]
    return wrapper


def is_serializable(obj: Any, raise_on_error: bool = False) -> bool:
    """Tell whether an object can be sent to another process.

    Parameters
    ----------
    obj
        Any object.
    raise_on_error
        Whether to raise what its pickling raises.
    """
    packed = capture(cloudpickle.dumps, obj)
    unpacked = capture(cloudpickle.loads, packed.value) if isinstance(packed, Value) else packed
    if isinstance(unpacked, Error) and raise_on_error:
        raise unpacked.exception
    return isinstance(unpacked, Value)
