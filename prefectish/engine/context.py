"""The context of the current run, for the code that runs in it.

`context` is a window on one mapping, which belongs to the current thread or coroutine.  Outside a run
the mapping is empty.  It is read-only: `with context(x=1):` lays new values over the old ones and
takes them away again.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import Any, NoReturn

_current: ContextVar[Mapping[str, Any]] = ContextVar("prefectish.context", default={})  # noqa: B039  never written to

current = _current.get
"""Return the mapping behind `context`: the quickest way to several look-ups in a row."""


bind = _current.set
"""Make a mapping the whole context, and return a token; the mapping may compute its values when they are read."""

unbind = _current.reset
"""Restore the context as it was before the `bind` that returned this token."""


_root_logger = "prefectish"


def name_root_logger(name: str) -> None:
    """Let the logger above those of tasks be another one: under `prefectish.compat` it is `prefect`."""
    global _root_logger
    _root_logger = name


def logger_name(name: str, index: int | None = None) -> str:
    """Return what the logger of a task is called, or that of a child of a map."""
    return f"{_root_logger}.{name}" if index is None else f"{_root_logger}.{name}[{index}]"


def get_logger(name: str | None = None) -> logging.Logger:
    """Return the logger `prefectish`, or `prefectish.<name>`.

    Lines of a task function name its child if they are logged by :func:`get_run_logger`.

    Parameters
    ----------
    name
        What stands behind ``prefectish.``, characters that would break a line as escapes; default: nothing, the logger
        of the package, whose level and handlers hold for all.
    """
    if not name:
        return logging.getLogger(_root_logger)
    if not name.isprintable():
        name = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return logging.getLogger(logger_name(name))


def get_run_logger() -> logging.Logger:
    """Return the logger of the task whose body this is, or else the logger of the package."""
    logger: logging.Logger = context["logger"]
    return logger


def _set_level(level: str) -> None:
    try:
        get_logger().setLevel(level.upper())
    except ValueError as error:
        warnings.warn(f"PREFECTISH_LOG_LEVEL is ignored: {error}; give DEBUG, INFO, WARNING, ...", stacklevel=2)


# By the environment, since that is what reaches the worker processes that a run starts: bodies log there.
if os.environ.get("PREFECTISH_LOG_LEVEL"):
    _set_level(os.environ["PREFECTISH_LOG_LEVEL"])


class Context:
    """Reads the current mapping, by attribute or by key."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return _current.get()[name]
        except KeyError:
            pass
        if name == "logger":
            return get_logger()
        from prefectish.prefect_names import instead_of

        way_out = instead_of("context", name) or f": it is set in a run, or by `with context({name}=...)`"
        raise AttributeError(f"context has no {name!r} here{way_out}")

    def __getitem__(self, name: str) -> Any:
        try:
            return _current.get()[name]
        except KeyError:
            if name == "logger":
                return get_logger()
            raise

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of `name`, or `default` where it is absent."""
        try:
            return self[name]
        except KeyError:
            return default

    def __contains__(self, name: object) -> bool:
        return name in _current.get()

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report how far the task function is that calls this; the live view of the run shows it.

        It may be called as often as one likes: a few times a second something is sent, from whatever process. Outside
        of a task it does nothing.

        Parameters
        ----------
        done
            How much is done, in any unit.
        total
            How much there is to do; None if that is not known.
        message
            What to show beside it.
        """
        attempt = getattr(_current.get(), "attempt", None)
        if attempt is not None:
            attempt.progress(done, total, None if message is None else str(message))

    def to_dict(self) -> dict[str, Any]:
        """Return a copy of the current mapping."""
        return dict(_current.get())

    def __call__(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> Overlay:
        """Return a context manager that lays values over the current ones; `config` merges deeply."""
        return Overlay({**(values or {}), **more})

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"context is read-only; write `with context({name}=...):`")

    def __reduce__(self) -> NoReturn:
        raise TypeError("context cannot be pickled: it belongs to one run in one thread; pass the values you need")

    def __repr__(self) -> str:
        return f"<context: {', '.join(_current.get()) or 'empty'}>"


class Overlay:
    """Lays values over the current context for the length of a `with` block."""

    __slots__ = ("_tokens", "_values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._tokens: list[Token[Mapping[str, Any]]] = []

    def __enter__(self) -> Context:
        self._tokens.append(bind(_overlaid(_current.get(), self._values)))
        return context

    def __exit__(self, *_: object) -> None:
        unbind(self._tokens.pop())


class Layer(dict[str, Any]):
    """A mapping laid over another one; it belongs to the same attempt."""

    __slots__ = ("attempt",)

    attempt: Any


def _overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> Layer:
    merged = Layer({**below, **above})
    merged.attempt = getattr(below, "attempt", None)
    if "config" in below and "config" in above:
        merged["config"] = _deeply(below["config"], above["config"])
    return merged


def _deeply(below: Any, above: Any) -> Any:
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{key: _deeply(below.get(key), value) for key, value in above.items()}}


context = Context()


def raise_on_exception() -> Overlay:
    """Return a context manager under which ordinary errors come out of `flow.run` instead of failing a task."""
    return context(raise_on_exception=True)
