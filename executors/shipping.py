"""Local code travels: modules of the user's own go to the workers with the tasks that reach them, by value.

What functions hold of such a module is pickled with them, so that two runs with two versions of it do not mix on one
cluster, and a worker that joins late gets it too. What a body imports when it runs has to be a module with a name
there: its source goes along, and an importer of ours gives it out where there is no other.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from threading import Lock
from types import ModuleType
from typing import Any, NamedTuple

import cloudpickle

from prefectish.engine.capture import Error, capture
from prefectish.errors import EnvironmentMismatch
from prefectish.executors.own_modules import imported_by, is_own
from prefectish.source_lines import dumps_by_value

#: Value of the option for all modules of the user's own that the tasks of a run reach.
PROJECT = "project"
_users: Counter[str] = Counter()
_lock = Lock()


class Source(NamedTuple):
    """A module as it travels."""

    name: str
    text: str
    file: str
    is_package: bool
    by_name: bool  # bodies import it when they run

    @property
    def digest(self) -> str:
        """Return what distinguishes this content from another."""
        return blake2b(self.text.encode(), digest_size=16).hexdigest()


def checked(ship: Any) -> str | tuple[Any, ...] | None:
    """Return the option in one form.

    Raises
    ------
    TypeError, ValueError
        It is none of those that are documented.
    """
    if ship is None or ship == PROJECT:
        return ship  # type: ignore[no-any-return]
    given = (ship,) if isinstance(ship, str | os.PathLike | ModuleType) else ship
    if not isinstance(given, Sequence) or not all(isinstance(part, str | os.PathLike | ModuleType) for part in given):
        raise TypeError(f'ship must be "project", or a list of modules, packages and folders, got {ship!r}')
    for part in given:
        if not isinstance(part, ModuleType) and not os.path.isdir(part) and str(part) not in sys.modules:
            raise ValueError(f"ship: there is neither a folder nor an imported module {str(part)!r}")
    return tuple(given)


class Shipment:
    """The modules that one run sends."""

    def __init__(self, ship: str | tuple[Any, ...]) -> None:
        self._ship = ship
        self._registered: set[str] = set()
        self._sources: dict[str, Source] = {}

    @property
    def names(self) -> frozenset[str]:
        """Return the names of the modules that travel."""
        return frozenset(self._sources)

    @property
    def parcel(self) -> Parcel | None:
        """What goes with a chain, to be unpickled before it."""
        return Parcel(tuple(self._sources.values())) if self._sources else None

    def take(self, reached: Iterable[str], bodies: Iterable[Any]) -> bool:
        """Let modules that tasks reach travel from now on; return whether there are new ones."""
        lazily = set().union(*(imported_by(body) for body in bodies))
        new = [name for name in (*reached, *self._listed()) if name not in self._sources and self._is_wanted(name)]
        for name in dict.fromkeys(new):
            source = _source_of(name, name in lazily)
            if source is None:
                continue
            for part in (source, *_namespaces_of(name)):
                self._sources[part.name] = part
                if part.name in sys.modules:  # else only bodies import it
                    self._sources[part.name] = self._by_value(sys.modules[part.name], part)
        return bool(new)

    def _by_value(self, module: ModuleType, source: Source) -> Source:
        """Have what functions hold of a module pickled with them; return how it travels besides."""
        with _lock:
            _users[source.name] += 1
            cloudpickle.register_pickle_by_value(module)
        self._registered.add(source.name)
        # One with a lock or an open file cannot be: what holds the module itself finds it by its name.
        return source._replace(by_name=source.by_name or isinstance(capture(dumps_by_value, module, False), Error))

    def close(self) -> None:
        """Let the modules be what they were."""
        with _lock:
            for name in self._registered:
                _users[name] -= 1
                if not _users[name] and name in cloudpickle.list_registry_pickle_by_value():
                    cloudpickle.unregister_pickle_by_value(sys.modules[name])
        self._registered.clear()

    def _is_wanted(self, name: str) -> bool:
        if self._ship == PROJECT:
            return is_own(name)
        file = getattr(sys.modules.get(name), "__file__", None)
        for part in self._ship:
            own = part.__name__ if isinstance(part, ModuleType) else str(part)
            if name == own or name.startswith(f"{own}."):
                return True
            if file and not isinstance(part, ModuleType) and os.path.isdir(part):
                inside = os.path.join(os.path.realpath(part), "")
                if os.path.realpath(file).startswith(inside):
                    return True
        return False

    def _listed(self) -> list[str]:
        """Return the names of modules that were listed, not only reached."""
        return [] if self._ship == PROJECT else [name for name in list(sys.modules) if self._is_wanted(name)]


def _source_of(name: str, by_name: bool) -> Source | None:
    found = capture(importlib.util.find_spec, name)
    spec = None if isinstance(found, Error) else found.value
    file = None if spec is None else spec.origin
    if spec is None or not file or not file.endswith(".py") or not os.path.isfile(file):
        return None
    with open(file, encoding="utf-8") as opened:
        return Source(name, opened.read(), file, spec.submodule_search_locations is not None, by_name)


def _namespaces_of(name: str) -> list[Source]:
    """Return the packages around a module that have no file of their own: without them it has no place."""
    parts = name.split(".")[:-1]
    around = [".".join(parts[: n + 1]) for n in range(len(parts))]
    modules = [(each, sys.modules.get(each)) for each in around]
    return [
        Source(each, "", "", is_package=True, by_name=False)
        for each, module in modules
        if module is not None and getattr(module, "__file__", None) is None and hasattr(module, "__path__")
    ]


# ---------------------------------------------------------------------- on the worker


class Parcel:
    """Sources that are given to the importer of the process in which they are unpickled."""

    def __init__(self, sources: tuple[Source, ...]) -> None:
        self.sources = sources

    def __reduce__(self) -> tuple[Any, ...]:
        return unpack, (tuple(map(tuple, self.sources)),)


def unpack(sources: Iterable[tuple[Any, ...]]) -> None:
    """Let modules be imported from what travelled.

    Raises
    ------
    EnvironmentMismatch
        A module that bodies import by its name was imported here with another content.
    """
    for source in (Source(*fields) for fields in sources):
        before = getattr(sys.modules.get(source.name), "__prefectish_digest__", None)
        if before is not None and before != source.digest and source.by_name:
            raise EnvironmentMismatch(
                f"module {source.name} has another content than a run before this one sent to this worker, where it is "
                f"imported by name; restart the workers, or import it at the top of the module that uses it"
            )
        _importer.known[source.name] = source
    if _importer not in sys.meta_path:
        sys.meta_path.append(_importer)  # after all others: what the worker has itself comes first


class _Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports what travelled."""

    def __init__(self) -> None:
        self.known: dict[str, Source] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        source = self.known.get(name)
        if source is None:
            return None
        return importlib.util.spec_from_loader(name, self, origin=source.file, is_package=source.is_package)

    def exec_module(self, module: ModuleType) -> None:
        source = self.known[module.__name__]
        module.__dict__["__prefectish_digest__"] = source.digest
        exec(compile(source.text, source.file, "exec"), vars(module))


_importer = _Importer()


def without(found: Mapping[str, Any], shipment: Shipment | None) -> dict[str, Any]:
    """Return the modules that have to be the same on workers: those that do not travel."""
    names = frozenset() if shipment is None else shipment.names
    return {name: content for name, content in found.items() if name not in names}
