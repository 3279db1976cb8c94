"""Tasks as methods: one that is defined in a class receives its object, or its class, first."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, overload

from prefectish.edges import unmapped

if TYPE_CHECKING:
    from typing import Self


class _SignatureOfRun:
    """The signature of the function, for `inspect`: it takes an object with a `__get__` for a builtin."""

    def __get__(self, task: Any, owner: type) -> Any:
        from inspect import signature

        if task is None:
            raise AttributeError("__signature__")
        try:
            return signature(task.run)
        except ValueError as error:  # a builtin that does not tell
            raise AttributeError(str(error)) from None


class Method:
    """Mixin of tasks made from functions."""

    run: Callable[..., Any]
    __signature__ = _SignatureOfRun()
    #: What a ``classmethod`` or ``staticmethod`` says that it receives; None: an object, if it is defined in its class.
    method: type | None = None

    def as_method(self, kind: type | None) -> Self:
        """Note what a ``classmethod`` or ``staticmethod`` says that it receives."""
        if kind is not None:
            self.method = kind
        return self

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Any: ...
    def __get__(self, instance: object | None, owner: type) -> Any:
        """Return the task, or a task of an object, whose calls pass the object first."""
        if self.method is classmethod:
            return TaskOfObject(self, owner)
        if instance is None or self.method is staticmethod or not _is_defined_in(owner, self.run):
            return self
        return TaskOfObject(self, instance)


class TaskOfObject:
    """A task as a method of an object: the object is the first argument of each call."""

    __slots__ = ("_object", "_task")
    __signature__ = _SignatureOfRun()

    def __init__(self, task: Any, instance: object) -> None:
        self._task = task
        self._object = instance

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the task with the object and the arguments."""
        first = unmapped(self._object) if kwargs.get("mapped") else self._object
        return self._task(first, *args, **kwargs)

    def submit(self, /, *args: Any, **kwargs: Any) -> Any:
        """Submit a call of the task with the object and the arguments."""
        return self._task.submit(self._object, *args, **kwargs)

    def map(self, /, *args: Any, **kwargs: Any) -> Any:
        """Map the task over the arguments, with the object for each item."""
        return self._task.map(unmapped(self._object), *args, **kwargs)

    def copy(self, **options: Any) -> TaskOfObject:
        """Return the method with other options."""
        return TaskOfObject(self._task.copy(**options), self._object)

    with_options = copy

    @property
    def run(self) -> Callable[..., Any]:
        """The method itself, which runs without a flow."""
        return MethodType(self._task.run, self._object)

    fn = run

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_task"), name)

    def __repr__(self) -> str:
        return f"<{self._task!r} of {type(self._object).__name__}>"


def plain_function(function: Any) -> tuple[Any, type | None]:
    """Return the function in a ``classmethod`` or ``staticmethod``, and which of them it is."""
    kind = next((kind for kind in (classmethod, staticmethod) if isinstance(function, kind)), None)
    return (function, None) if kind is None else (function.__func__, kind)


def _is_defined_in(owner: type, run: Callable[..., Any]) -> bool:
    """Whether a function stands in a class, or in one of its bases; others are attributes, as in Prefect 1."""
    name: str = getattr(getattr(run, "function", run), "__qualname__", "")
    where = name.rpartition(".")[0]
    return any(each.__qualname__ == where for each in owner.__mro__)
