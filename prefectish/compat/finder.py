"""How `prefect` and its modules are imported: made of the table of names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from prefectish.compat.names import MODULES, Source
from prefectish.prefect_names import gone, way_out

#: Modules that import Dask or SQLAlchemy.
LATE = frozenset({"prefectish.compat.client", "prefectish.executors.prefect1", "prefectish.executors.prefect1_cluster"})


def _attribute(module: ModuleType, name: str) -> Any:
    """Return a name of a module, or a module below it, and keep it there."""
    place = module.__name__
    found = MODULES[place].get(name)
    if found is not None:
        value = _value(found)
        setattr(module, name, value)
        return value
    if f"{place}.{name}" in MODULES:
        return import_module(f"{place}.{name}")
    if f"{place}.{name}" in gone():
        raise ImportError(_way_out(f"{place}.{name}"), name=place)
    raise AttributeError(f"module {place!r} has no attribute {name!r}")


def _way_out(name: str) -> str | None:
    """Return what to do about a module of Prefect that is not here; None if it is not known."""
    row = way_out(name)
    return None if row is None else f"No module named {name!r} under prefectish.compat: {row.instead}"


def is_ours(module: ModuleType) -> bool:
    """Whether a module was made here."""
    return isinstance(getattr(module, "__loader__", None), PrefectFinder)


def _value(source: Source) -> Any:
    module = import_module(source.module)
    return module if source.name is None else getattr(module, source.name)


def _children(name: str) -> list[str]:
    return [m.rpartition(".")[2] for m in MODULES if m.rpartition(".")[0] == name]


class PrefectFinder(MetaPathFinder, Loader):
    """Finds the modules of the table."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how a module of the table is made; None for others."""
        if fullname not in MODULES:
            if fullname.startswith("prefect.") and (reason := _way_out(fullname)) is not None:
                raise ModuleNotFoundError(reason, name=fullname)
            return None
        return ModuleSpec(fullname, self, origin="prefectish.compat", is_package=bool(_children(fullname)))

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python: cloudpickle knows plain modules only."""

    def exec_module(self, module: ModuleType) -> None:
        """Give a module its names; those that take long to import are looked up when they are asked for."""
        names = MODULES[module.__name__]
        for name in names.keys() & set(_children(module.__name__)):
            # Its import binds the name to the module; that must not come after the name has its value here.
            import_module(f"{module.__name__}.{name}")
        module.__doc__ = f"What `{module.__name__}` of Prefect 1 is here."
        module.__dict__["__all__"] = [name for name in names if not name.startswith("_")]
        module.__dict__["__getattr__"] = partial(_attribute, module)
        module.__dict__["__dir__"] = lambda: sorted({*vars(module), *names, *_children(module.__name__)})
        module.__dict__.update({name: _value(source) for name, source in names.items() if source.module not in LATE})
