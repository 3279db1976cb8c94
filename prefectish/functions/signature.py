"""What a flow function takes: its arguments by name, checked against its annotations."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from prefectish.engine.capture import Value, capture
from prefectish.errors import ParameterError
from prefectish.functions import star_types
from prefectish.tasks.signatures import as_given, is_plain
from prefectish.validation import can_validate, checked, closest

_STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class BoundSignature:
    """The arguments of a flow function."""

    def __init__(self, function: Callable[..., Any], name: str, validates: bool) -> None:
        self.signature = inspect.signature(function)
        self.name = name
        self.validates = validates  # whether values are checked against annotations
        self._function = function
        takes = self.signature.parameters.values()
        self._is_plain = is_plain(function)
        self._only_by_position = tuple(p.name for p in takes if p.kind is p.POSITIONAL_ONLY)
        self._rest = next((p.name for p in takes if p.kind is p.VAR_POSITIONAL), None)
        self._further = next((p.name for p in takes if p.kind is p.VAR_KEYWORD), "")
        self._types: Mapping[str, Any] | None = None

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of each argument by name; ParameterError for missing, unknown and mistyped ones."""
        takes = self.signature.parameters
        spreads = any(p.kind is p.VAR_KEYWORD for p in takes.values())
        named = [n for n, p in takes.items() if p.kind not in _STARRED]
        by_position = [n for n in named if takes[n].kind is not inspect.Parameter.KEYWORD_ONLY]
        bound = dict(zip(by_position, args, strict=False))
        rest = self._rest
        twice = {*bound, *([] if rest is None else [rest])} & kwargs.keys()
        if (len(args) > len(by_position) and rest is None) or twice:
            raise ParameterError(
                f"{self.name} takes {self.signature}, and was given {len(args)} values by position"
                + (f" and {', '.join(sorted(twice))} by name too" if twice else "")
            )
        bound.update(kwargs)
        missing = [n for n in named if n not in bound and takes[n].default is inspect.Parameter.empty]
        unknown = [] if spreads else sorted(bound.keys() - set(named))
        if missing or unknown:
            faults = (("missing", missing), ("unknown", unknown))
            faults_named = [f"{word}: {', '.join(names)}" for word, names in faults if names]
            meant = [f"did you mean {near!r}, not {n!r}?" for n in unknown if (near := closest(n, named))]
            told = "; ".join([*faults_named, f"it takes {self.signature}", *meant])
            raise ParameterError(f"{self.name}: {told}")
        for name in named:
            bound.setdefault(name, takes[name].default)
        found = {name: self.accept(name, value) for name, value in bound.items()}
        if rest is not None:
            found[rest] = self._accept_rest(rest, args[len(by_position) :])
        return found

    def as_given(self, arguments: Mapping[str, Any], count: int) -> tuple[list[Any], dict[str, Any]]:
        """Return arguments as the function is given them: by position what was given so, where it makes a difference.

        Parameters
        ----------
        arguments
            As :meth:`bind` returned them.
        count
            How many were given by position.
        """
        takes = list(self.signature.parameters)
        if self._rest is not None:  # what comes before it is given by position too
            before = takes[: takes.index(self._rest)]
            positional, named = as_given({n: v for n, v in arguments.items() if n != self._rest}, before)
            return [*positional, *arguments[self._rest]], named
        count = max(0 if self._is_plain else count, len(self._only_by_position))
        return as_given(arguments, takes[:count])

    def accept(self, name: str, value: Any) -> Any:
        """Return the value of an argument, as one of its type; ParameterError if it is none."""
        expected = self._type_of(name) if self.validates and can_validate() else None
        return value if expected is None or expected is Any else checked(name, expected, value)

    def _accept_rest(self, name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the values of ``*args``, of which each has the type, or all together that of ``*tuple[...]``."""
        types = star_types.unpacked(self.hints().get(name)) if self.validates and can_validate() else None
        return tuple(self.accept(name, value) for value in values) if types is None else checked(name, types, values)

    def _type_of(self, name: str) -> Any:
        hints = self.hints()
        if name in self.signature.parameters and name != self._further:
            return hints.get(name)
        return star_types.of_key(hints.get(self._further), name)

    def hints(self) -> Mapping[str, Any]:
        """Return the types of the arguments, with what they are annotated with; one that cannot be found has none."""
        if self._types is None:
            found = capture(typing.get_type_hints, self._function, include_extras=True)
            types = found.value if isinstance(found, Value) else self._types_one_by_one()
            self._types = {name: hint for name, hint in types.items() if not star_types.is_variable(hint)}
        return self._types

    def _types_one_by_one(self) -> dict[str, Any]:
        """Return the types that can be found, where one of them cannot: it may be there for type checkers only."""
        function = inspect.unwrap(self._function)
        names = getattr(function, "__globals__", {})
        found: dict[str, Any] = {}
        for name, annotation in getattr(function, "__annotations__", {}).items():
            alone = SimpleNamespace(__annotations__={name: annotation})
            hint = capture(typing.get_type_hints, alone, names, include_extras=True)
            if isinstance(hint, Value):
                found.update(hint.value)
        return found
