"""`prefect.context`: the context, which here can be written to, item by item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from prefectish.compat.collections import DotDict, as_nested_dict, merge_dicts
from prefectish.engine import context as contexts


def _settings() -> Any:
    """Return the settings; those of their section `context` are values of every context."""
    from prefectish.compat.configuration import config

    return config


class Overlay(contexts.Overlay):
    """Lays values over the context in a `with` block, which gets this module's context."""

    __slots__ = ()

    def __enter__(self) -> Context:
        super().__enter__()
        here: Context = context
        return here


class Context(contexts.Context):
    """Reads the context of the run as :data:`prefectish.context` does; what is set is set in this thread alone."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return the context; a :class:`OwnContext`, if it is made of values."""
        return OwnContext(*args, **kwargs) if args or kwargs else super().__new__(cls)

    def __getattr__(self, name: str) -> Any:
        if name not in contexts.current() and (name == "config" or name in _settings().context):
            return _settings() if name == "config" else _settings().context[name]
        value = super().__getattr__(name)
        if name == "config" and type(value) is dict:  # of overlays, which are merged into plain dicts
            return merge_dicts(_settings(), as_nested_dict(value, type(_settings())))
        return DotDict(value) if type(value) is dict and name == "parameters" else value

    def __getitem__(self, name: str) -> Any:
        try:
            return self.__getattr__(name)
        except AttributeError:
            raise KeyError(name) from None

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in _settings().context

    def __setattr__(self, name: str, value: Any) -> None:  # type: ignore[override]  # this one can be written to
        self.update({name: value})

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __delitem__(self, name: str) -> None:
        if name not in contexts.current():
            raise KeyError(name)
        contexts.bind({key: value for key, value in contexts.current().items() if key != name})

    def __iter__(self) -> Iterator[str]:
        return iter(contexts.current())

    def __len__(self) -> int:
        return len(contexts.current())

    def __call__(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> contexts.Overlay:
        """Return a context manager that lays values over the current ones; `config` merges deeply."""
        return Overlay({**(values or {}), **more})

    def update(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Set values."""
        self({**(values or {}), **more}).__enter__()

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return a value, which is set if there is none."""
        if name not in self:
            self.update({name: default})
        return self[name]

    def pop(self, name: str, *default: Any) -> Any:
        """Remove a value and return it."""
        if name not in self and default:
            return default[0]
        value = self[name]
        del self[name]
        return value

    def clear(self) -> None:
        """Remove all values."""
        contexts.bind({})

    def keys(self) -> Any:
        """Return the names."""
        return contexts.current().keys()

    def values(self) -> Any:
        """Return the values."""
        return contexts.current().values()

    def items(self) -> Any:
        """Return names and values."""
        return contexts.current().items()

    def copy(self) -> Any:
        """Return a copy, which is a context that nothing else changes."""
        return OwnContext(self.to_dict())

    def __reduce__(self) -> NoReturn:
        raise TypeError("Pickling context objects is explicitly not supported: pass the values that you need")

    def __repr__(self) -> str:
        return "<Context>"


DotDict.register(Context)


class OwnContext(DotDict, Context):  # type: ignore[misc]  # a context that is a dict
    """A context that a program made for itself, with nothing of a run in it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return a new one."""
        return object.__new__(cls)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"Context object has no attribute {name!r}")

    def __call__(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> Any:
        """Return a context manager that lays values over these."""
        return self._laid_over({**(values or {}), **more})

    @contextmanager
    def _laid_over(self, values: Mapping[str, Any]) -> Iterator[OwnContext]:
        before = dict(self.__dict__)
        try:
            self.update(values)
            yield self
        finally:
            self.__dict__.clear()
            self.__dict__.update(before)

    __reduce__ = Context.__reduce__
    __repr__ = Context.__repr__


context = Context()


def of_run(given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the context of a run: with the settings, which say whether results are stored; by default they are not."""
    from prefectish.compat.configuration import config

    around = contexts.current().get("checkpointing")
    stores = config.flows.checkpointing if around is None else around
    return {"config": config, "checkpointing": bool(stores), **(given or {})}
