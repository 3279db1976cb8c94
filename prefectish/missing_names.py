"""Errors about names of Prefect that are not here say what to write; the table is in `prefectish.prefect_names`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn


def lead_out(module: str) -> Callable[[str], NoReturn]:
    """Return the `__getattr__` of a module in which names of Prefect are looked for."""

    def missing(name: str) -> NoReturn:
        if _is_asked_by_import(module, name):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        from prefectish.prefect_names import error_of

        raise error_of(module, name)

    return missing


def _is_asked_by_import(module: str, name: str) -> bool:
    """Whether an import statement asks for a name, which takes no error of ours: ``__path__``, or a submodule."""
    path = vars(sys.modules[module]).get("__path__")
    is_submodule = path is not None and PathFinder.find_spec(f"{module}.{name}", path) is not None
    return is_submodule or name == "__path__"


class MissingModules:
    """Says what to write, where a module of Prefect is imported from this package: the last that is asked for one."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Raise ModuleNotFoundError if Prefect has such a module; None for others."""
        if fullname.startswith("prefectish."):
            from prefectish.prefect_names import missing_module

            message = missing_module(fullname)
            if message is not None:
                raise ModuleNotFoundError(message, name=fullname)
        return None


def install() -> None:
    """Answer imports of modules that are not here."""
    sys.meta_path.append(MissingModules())


class LeadsOut:
    """Mixin of classes that Prefect 2 and 3 have, too: the error about a missing attribute of theirs leads out."""

    __slots__ = ()
    #: What it is in the table of attributes.
    _kind: ClassVar[str]
    #: Added where that table says nothing.
    _otherwise: ClassVar[str] = ""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):  # a property raised an AttributeError of its own, and does so again
                return object.__getattribute__(self, name)
            raise missing_attribute(self, self._kind, name, lambda: self._otherwise)


class MissingAttribute(AttributeError):
    """An object does not have an attribute; shown as the AttributeError that it is.

    The text, which leads out, is made when it is read: `getattr` with a default and `hasattr` ask for every child of a
    map, and read none.
    """

    def __init__(self, of: object, name: str, text: Callable[[], str]) -> None:
        super().__init__(name=name, obj=of)
        self._make_text = text

    @functools.cached_property
    def _text(self) -> str:
        text = self._make_text()
        if "; did you mean " in text:  # Python would ask it once more in a traceback if it knew the object
            self.name = self.obj = None
        return text

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"AttributeError({self._text!r})"

    if not TYPE_CHECKING:  # which know it as an attribute that can be assigned

        @property
        def args(self) -> tuple[str]:
            """The text, as of any error of Python's."""
            return (self._text,)

    def __reduce__(self) -> tuple[Any, ...]:
        notes = vars(self).get("__notes__")
        return (AttributeError, self.args) if notes is None else (AttributeError, self.args, {"__notes__": notes})


MissingAttribute.__module__, MissingAttribute.__qualname__ = "builtins", "AttributeError"
MissingAttribute.__name__ = "AttributeError"


def missing_attribute(of: object, kind: str, name: str, otherwise: Callable[[], str] = lambda: "") -> MissingAttribute:
    """Return the error about an attribute that an object does not have; it leads out, if Prefect's object has it.

    Parameters
    ----------
    of, kind
        The object, and what it is in the table of attributes.
    otherwise
        What to add where that table says nothing.
    """

    def text() -> str:
        told = f"{type(of).__name__!r} object has no attribute {name!r}"
        if name.startswith("_"):
            return told
        from prefectish.prefect_names import instead_of

        return told + (instead_of(kind, name) or otherwise())

    return MissingAttribute(of, name, text)


class NotOfFlows:
    """An attribute that flows have in Prefect 1, and not here: reading and assigning it is an error."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, flow: object, owner: type | None = None) -> Any:
        """Refuse to be read."""
        raise AttributeError(f"a flow has no {self.name!r}{option_of_flows(self.name)}")

    def __set__(self, flow: object, value: Any) -> None:
        """Refuse to be assigned, as the value would be ignored."""
        raise AttributeError(f"a flow has no {self.name!r}{option_of_flows(self.name)}")


def option_of_flows(name: str) -> str:
    """Return the way out for an option or attribute of flows in Prefect 1, empty for any other name."""
    from prefectish.prefect_names import OF_FLOWS

    return f"; {OF_FLOWS[name]}" if name in OF_FLOWS else ""
