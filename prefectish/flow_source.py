"""Where a flow is found again: in this process by its name, in another by the file or module that has it."""

from __future__ import annotations

import os
import sys
import weakref
from types import ModuleType
from typing import Any

#: Set in the environment of a process that loads a flow to run it.
LOADING = "PREFECTISH_LOADS_FLOW"
#: Flows of this process that ran, the last of each name, for as long as they are referenced.
_ran: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def is_loading() -> bool:
    """Whether a driver loads the file of a flow, to run the flow."""
    return bool(os.environ.get(LOADING))


def note_run(flow: Any) -> None:
    """Note that a flow runs in this process."""
    _ran[flow.name] = flow


def ran_last(name: str) -> Any:
    """Return the flow of a name that ran last in this process; None if it is gone, or none did."""
    return _ran.get(name)


def origin_of(flow: Any) -> str | None:
    """Return ``FILE.py:name`` or ``module:name`` of a flow; None if no module has it as a global.

    Searched are the main program, the module that created the flow, and the modules of its task functions.
    """
    bodies = (getattr(getattr(task, "run", None), "__module__", None) for task in getattr(flow, "tasks", ()))
    for name in dict.fromkeys(("__main__", getattr(flow, "made_in", None), *bodies)):
        module = sys.modules.get(name) if name else None
        if module is None:
            continue
        found = next((own for own, value in list(vars(module).items()) if value is flow), None)
        if found is not None:
            where = _where(module)
            return None if where is None else f"{where}:{found}"
    return None


def _where(module: ModuleType) -> str | None:
    """Return how to import a module: by name if it is in a package, otherwise by path."""
    spec = getattr(module, "__spec__", None)
    if spec is not None and (spec.parent or module.__name__ == "__main__"):
        name: str = spec.name
        return name
    file = getattr(module, "__file__", None)
    return os.path.abspath(file) if file else None
