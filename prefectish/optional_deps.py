"""Optional dependencies (extras), imported where they are used."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def load(module: str, extra: str, user: str) -> ModuleType:
    """Import a module of an optional dependency.

    Parameters
    ----------
    module
        Dotted name of the module.
    extra
        The extra of prefectish that installs it.
    user
        What needs it, for the error.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed; the message has the command that installs it.

    Examples
    --------
    >>> load("no_such_library", "http", "HTTPTask")
    Traceback (most recent call last):
    ModuleNotFoundError: HTTPTask needs no_such_library, which is not installed here; pip install "prefectish[http]"
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != library:
            raise  # installed, but one of its own dependencies is missing
        text = f'{user} needs {library}, which is not installed here; pip install "prefectish[{extra}]"'
        raise ModuleNotFoundError(text, name=library) from error
