"""The signatures of task functions: read once per function, checked at every call while a flow is built.

The engine knows arguments by name, so task functions must not take ``*args``. A body is given by position what the call
gave by position, where that can make a difference: a decorated function may have other names than its signature says,
or look at its positional arguments. Positional-only arguments (those of ``len`` and ``operator.add``) are filled by
:class:`ByKeyword`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial, singledispatchmethod
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from prefectish.validation import did_you_mean

if TYPE_CHECKING:
    from inspect import Signature

#: Flag of the code of an async function, as `inspect` has it, which takes long to import.
CO_COROUTINE = 0x80
#: Reserved keywords of a call.
RESERVED = frozenset({"flow", "mapped", "task_args", "upstream_tasks", "return_state", "allow_failure", "wait_for"})

#: The arguments of functions, and of functions as methods of an object, which give the first argument themselves.
_known: WeakKeyDictionary[Any, Inputs] = WeakKeyDictionary()
_known_as_methods: WeakKeyDictionary[Any, Inputs] = WeakKeyDictionary()


class Inputs:
    """The arguments of one task function."""

    __slots__ = ("accepted", "is_plain", "positional", "required", "signature", "spreads")

    def __init__(self, signature: Signature, is_plain: bool) -> None:
        self.is_plain = is_plain  # whether by position and by name are the same to the function
        takes = list(signature.parameters.values())
        self.signature = signature
        # Names that can be passed by position, in order.
        self.positional = tuple(p.name for p in takes if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
        # Names that can be passed, and names that must be passed.
        self.accepted = frozenset(p.name for p in takes if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
        self.required = frozenset(p.name for p in takes if p.name in self.accepted and p.default is p.empty)
        self.spreads = any(p.kind is p.VAR_KEYWORD for p in takes)  # whether the function takes ``**kwargs``

    def bind(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name; a TypeError, as Python would raise it, names the task."""
        bound = dict(zip(self.positional, args, strict=False))
        fits = len(args) <= len(self.positional) and bound.keys().isdisjoint(kwargs)
        bound.update(kwargs)
        if not fits or not bound.keys() >= self.required or not (self.spreads or bound.keys() <= self.accepted):
            self._refuse(name, args, kwargs)
        if self.spreads and not RESERVED.isdisjoint(kwargs):
            reserved = min(RESERVED & kwargs.keys())
            raise TypeError(
                f"{name}: {reserved!r} is a reserved keyword of a call and cannot be passed to the task function"
            )
        return bound

    @property
    def defaults(self) -> dict[str, Any]:
        """Return what the function gets for arguments that are not passed, by name."""
        takes = self.signature.parameters
        return {name: takes[name].default for name in takes if name in self.accepted and name not in self.required}

    def by_position(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """Return the arguments to pass by position if those of these names were given so."""
        return () if self.is_plain or self.positional[: len(given)] != given else given

    def _refuse(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise with the message of `inspect`, which describes any invalid call; a misspelt name is said first."""
        unknown = [] if self.spreads else sorted(kwargs.keys() - self.accepted)
        if unknown:
            meant = did_you_mean(unknown[0], sorted(self.accepted - kwargs.keys()))
            from prefectish.tasks.options import OPTION_NAMES  # here: only an error needs it

            if not meant and unknown[0] in OPTION_NAMES:
                meant = f", an option of tasks: write @task({unknown[0]}=...), or task_args=dict({unknown[0]}=...)"
            raise TypeError(
                f"{name}: got an unexpected keyword argument {unknown[0]!r}{meant}; the task takes {self.signature}"
            )
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}: {error}; the task takes {self.signature}") from None


def check_async(body: Callable[..., Any], name: str) -> None:
    """Refuse to let children share a slot whose function is not async: ValueError."""
    if not any(getattr(f, "__code__", None) and f.__code__.co_flags & CO_COROUTINE for f in functions_behind(body)):
        raise ValueError(f"{name}: async_concurrency needs an async function; write `async def`, or leave it out")


class ByKeyword:
    """A function with positional-only arguments, callable by keyword."""

    __slots__ = ("__weakref__", "function", "names")

    def __init__(self, function: Callable[..., Any], names: tuple[str, ...]) -> None:
        self.function = function
        self.names = names

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function; keywords of positional-only arguments are passed by position."""
        values = list(args)
        for name in self.names[len(args) :]:
            if name not in kwargs:
                break
            values.append(kwargs.pop(name))
        return self.function(*values, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return ByKeyword, (self.function, self.names)

    def __repr__(self) -> str:
        return f"ByKeyword({self.function!r})"


def name_of_function(function: Callable[..., Any]) -> str:
    """Return the name of a function, also of one inside a partial; of another callable, that of its class."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def functions_behind(body: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Yield a body and what is inside of it: of methods, partials, callable objects and decorated functions.

    Examples
    --------
    >>> import functools
    >>> [each.__class__.__name__ for each in functions_behind(functools.partial(sum))]
    ['partial', 'builtin_function_or_method']
    """
    seen: set[int] = set()
    inside: Any = body
    while inside is not None and id(inside) not in seen:
        seen.add(id(inside))
        yield inside
        if isinstance(inside, partial):
            inside = inside.func
        elif isinstance(inside, MethodType):
            inside = inside.__func__
        elif isinstance(inside, ByKeyword):
            inside = inside.function
        elif (wrapped := getattr(inside, "__wrapped__", None)) is not None:
            inside = wrapped
        else:
            found = (vars(cls).get("__call__") for cls in type(inside).__mro__)
            inside = next((method for method in found if isinstance(method, FunctionType)), None)


def callable_by_keyword(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return the function, wrapped if it takes positional-only arguments."""
    takes = inputs_of(function, name).signature.parameters.values()
    names = tuple(p.name for p in takes if p.kind is p.POSITIONAL_ONLY)
    return ByKeyword(function, names) if names else function


def inputs_of(run: Callable[..., Any], name: str) -> Inputs:
    """Return the arguments of a task function; cached for plain functions and methods.

    Raises ValueError if it takes ``*args`` or an argument with a reserved name, or has no signature.
    """
    function = _inner(run)
    if not isinstance(function, FunctionType | BuiltinFunctionType):
        return _read(run, name)
    known = _known_as_methods if isinstance(run, MethodType) else _known
    found = known.get(function)
    if found is None:
        found = known[function] = _read(run, name)
    return found


def _read(run: Callable[..., Any], name: str) -> Inputs:
    import inspect  # takes 10 ms, so it is imported with the first task

    try:
        function = run.function if isinstance(run, ByKeyword) else run
        signature = _own_signature(function) if hasattr(function, "__wrapped__") else inspect.signature(function)
        if _is_bound_dispatch(function):  # it is that of the method, whose first argument it gives itself
            signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    except ValueError:
        raise ValueError(f"{name}: {run!r} has no signature; wrap it in a function") from None
    _check(signature.parameters, name)
    return Inputs(signature, is_plain(function))


def _own_signature(function: Callable[..., Any]) -> Signature:
    """Return the signature by which a decorated function can be called.

    A decorator whose function takes ``*args`` or ``**kwargs`` passes them on: the arguments are those of the function
    inside. Another may add an argument, or fill one in itself.
    """
    import inspect

    variadic = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS

    def tells(f: Any) -> bool:
        return hasattr(f, "__signature__") or (isinstance(f, FunctionType) and not f.__code__.co_flags & variadic)

    told = inspect.unwrap(_inner(function), stop=tells)
    signature = inspect.signature(told, follow_wrapped=False)
    if isinstance(function, MethodType):
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    return signature


def _is_bound_dispatch(function: Any) -> bool:
    """Whether a callable is a ``functools.singledispatchmethod`` of an instance; Python 3.14 knows its signature."""
    code = getattr(function, "__code__", None)
    return code is not None and code in _dispatch_codes()


@cache
def _dispatch_codes() -> frozenset[CodeType]:
    inner = getattr(singledispatchmethod.__get__, "__code__", None)
    return frozenset(c for c in getattr(inner, "co_consts", ()) if isinstance(c, CodeType))


def _inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of a method."""
    return function.__func__ if isinstance(function, MethodType) else function


def is_plain(function: Callable[..., Any]) -> bool:
    """Whether a callable is a function, or a method, whose signature is that of its own code."""
    inner = _inner(function)
    return isinstance(inner, FunctionType) and inner.__dict__.keys().isdisjoint(("__wrapped__", "__signature__"))


def as_given(arguments: Mapping[str, Any], by_position: Iterable[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call by position and by name.

    Examples
    --------
    >>> as_given({"x": 1, "y": 2, "z": 3}, ["x", "y"])
    ([1, 2], {'z': 3})
    """
    named = dict(arguments)
    return [named.pop(name) for name in by_position], named


def _check(parameters: Mapping[str, Any], name: str) -> None:
    for parameter in parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise ValueError(f"{name}: a task cannot take *{parameter.name}; take one list instead, or **kwargs")
    if not RESERVED.isdisjoint(parameters):
        reserved = min(RESERVED & parameters.keys())
        raise ValueError(f"{name}: the argument name {reserved!r} is reserved for calls of tasks; rename it")
