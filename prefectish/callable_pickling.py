"""Pickle what cloudpickle cannot send as it is: some callables, classes whose name another process lacks, and views."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import singledispatch, update_wrapper
from types import FunctionType
from typing import Any

#: What `singledispatch` makes anew.
_OWN = frozenset({"registry", "dispatch", "register", "_clear_cache"})
#: Formats of views that `memoryview.cast` takes.
_FORMATS = frozenset("bBhHiIlLqQnNfdc?")


def check_name(value: Any) -> None:
    """Refuse a callable that pickles as a name which only this program knows, as a function of ``lru_cache`` does."""
    if not callable(value) or isinstance(value, FunctionType | type | staticmethod):
        return  # cloudpickle sends those by value
    module = getattr(value, "__module__", None)
    if not isinstance(module, str) or not _only_here(module):
        return
    name = value.__reduce_ex__(5)
    if isinstance(name, str):
        import pickle

        raise pickle.PicklingError(
            f"{name} is a {type(value).__name__} of {module}, which no other process can import; call it in a function "
            f"that is the task, or move it to a module that workers can import"
        )


def _only_here(module: str) -> bool:
    """Whether functions of a module are sent by value, since workers cannot import it."""
    if module == "__main__":
        return True
    cloudpickle = sys.modules.get("cloudpickle")
    known = () if cloudpickle is None else cloudpickle.list_registry_pickle_by_value()
    return any(module == each or module.startswith(f"{each}.") for each in known)


class _ByValue:
    """A class as bytes; it is unpickled as the class."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        import pickle

        return pickle.loads, (self.content,)


def portable_class(cls: type) -> Any:
    """Return what pickles as a class, also one that another process cannot import.

    It is the class itself if its name stands for it. A class that cannot be pickled by value either raises why.
    """
    module = cls.__module__
    if module.startswith("prefectish.") or (not _only_here(module) and _is_importable(cls)):
        return cls
    import cloudpickle

    return _ByValue(cloudpickle.dumps(cls))


def _is_importable(cls: type) -> bool:
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


def is_dispatch(function: Any) -> bool:
    """Whether it is a function of ``functools.singledispatch``."""
    return (
        type(function) is FunctionType
        and hasattr(function, "registry")
        and function.__code__.co_filename == singledispatch.__code__.co_filename
    )


def reduce_dispatch(function: Any) -> tuple[Any, ...]:
    """Return what a function of ``singledispatch`` is rebuilt from; cloudpickle cannot take its cache along."""
    attributes = {name: value for name, value in vars(function).items() if name not in _OWN}
    content = dict(function.registry), attributes
    return _empty_dispatch, (function.__name__,), content, None, None, _fill_dispatch


def _empty_dispatch(name: str) -> Callable[..., Any]:
    """Return a function without implementations: they may refer to it, so they come after it."""

    def stand_in(*_: Any) -> None: ...

    stand_in.__name__ = name
    return singledispatch(stand_in)


def _fill_dispatch(function: Any, content: tuple[dict[type, Callable[..., Any]], dict[str, Any]]) -> None:
    registry, attributes = content
    for cls, implementation in registry.items():
        function.register(cls, implementation)
    update_wrapper(function, registry[object])
    vars(function).update(attributes)


def reduce_view(view: memoryview) -> tuple[Any, ...]:
    """Return what a view of memory is rebuilt from: cloudpickle makes bytes of it, which cannot be mapped over.

    A view of a format that Python cannot read arrives as bytes.
    """
    from pickle import PickleBuffer

    if view.format not in _FORMATS:
        return bytes, (view.tobytes(),)
    content = view if view.c_contiguous else view.tobytes()
    return _view, (PickleBuffer(content), view.format, view.shape, view.readonly)


def _view(content: Any, form: Any, shape: tuple[int, ...], readonly: bool) -> memoryview:
    plain = memoryview(content).cast("B")
    if plain.readonly and not readonly:  # some ways here end in bytes
        plain = memoryview(bytearray(plain))
    view: memoryview = plain.cast(form, shape) if plain.nbytes else plain.cast(form)  # an empty one has no shape
    return view.toreadonly() if readonly else view
