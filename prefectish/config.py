"""User settings: `config.toml` in the home folder, or environment variables ``PREFECTISH_...``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

#: Executors by their short names: class and arguments.
EXECUTORS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "local": ("LocalExecutor", {}),
    "threads": ("LocalDaskExecutor", {"scheduler": "threads"}),
    "processes": ("LocalDaskExecutor", {"scheduler": "processes"}),
    "dask": ("DaskExecutor", {}),
}
#: Names of the settings of `config.toml`.
KNOWN = frozenset(
    {
        "allowed_hosts",
        "check_inputs",
        "checkpointing",
        "executor",
        "executor_kwargs",
        "extra_loggers",
        "full_tracebacks",
        "history_journal",
        "hmac_key",
        "log_level",
        "max_result_bytes",
        "page_link",
        "progress",
        "refresh_cache",
        "run_on_schedule",
    }
)


def home() -> str:
    """Return the home folder: ``$PREFECTISH_HOME``, else ``~/.prefectish``. It need not exist."""
    path = os.path.expanduser(os.environ.get("PREFECTISH_HOME") or os.path.join("~", ".prefectish"))
    # A user without a home, as in `docker run --user 12345`: no folder of the name "~" where the program stands.
    return os.path.join(os.sep, ".prefectish") if path.startswith(f"~{os.sep}") else path


def settings() -> Mapping[str, Any]:
    """Read `config.toml`; empty if it does not exist, or, with a warning, if it cannot be read."""
    path = os.path.join(home(), "config.toml")
    if not os.path.exists(path):
        return {}
    import tomllib

    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except (OSError, ValueError) as error:
        warnings.warn(f"{path} is ignored: {error}", stacklevel=2)
        return {}
    for name in sorted(found.keys() - KNOWN):
        warnings.warn(f"{path}: there is no setting {name!r}; there are {', '.join(sorted(KNOWN))}", stacklevel=2)
    return found


def whole_number(name: str, default: int) -> int:
    """Return a setting that is a positive whole number.

    Raises
    ------
    ValueError
        ``PREFECTISH_MAX_RESULT_BYTES must be a positive whole number, got 'x'``.
    """
    value = setting(name)
    if value is None:
        return default
    if not str(value).isdecimal() or not int(value):
        raise ValueError(f"PREFECTISH_{name.upper()} must be a positive whole number, got {value!r}")
    return int(value)


def setting(name: str) -> Any:
    """Return a setting: ``$PREFECTISH_<NAME>`` if it is set, else the entry of `config.toml`, else None."""
    return os.environ.get(f"PREFECTISH_{name.upper()}") or settings().get(name)


#: Defaults of settings in this program, in the place of those that are built in: of a test, for example.
program_defaults: dict[str, Any] = {}


def switch(name: str, default: bool) -> bool:
    """Return a boolean setting; `default` is what is built in.

    Raises
    ------
    ValueError
        ``PREFECTISH_RUN_ON_SCHEDULE must be true or false, got 'maybe'``.
    """
    value = setting(name)
    if value is None:
        return bool(program_defaults.get(name, default))
    for answer, words in ((True, ("true", "1", "yes", "on")), (False, ("false", "0", "no", "off"))):
        if str(value).lower() in words:
            return answer
    raise ValueError(
        f"PREFECTISH_{name.upper()} must be true or false, got {value!r} (from the environment or config.toml)"
    )


def default_executor() -> Any:
    """Return the configured default executor, or None.

    A short name such as ``dask``, or a dotted class name, in ``$PREFECTISH_EXECUTOR``, else in the entry `executor` of
    `config.toml`; the table `executor_kwargs` there holds its keyword arguments. An executor that cannot be created
    causes a warning and None is returned, so that the flow runs in this process.
    """
    wanted = os.environ.get("PREFECTISH_EXECUTOR")
    file = settings()
    name = wanted or file.get("executor")
    if not name:
        return None
    kwargs = file.get("executor_kwargs", {}) if name == file.get("executor") else {}
    try:
        return _load(name)(**kwargs)
    except Exception as error:  # user code
        warnings.warn(
            f"the configured executor {name!r} cannot be used ({type(error).__name__}: {error}); "
            f"the flow runs in this process",
            stacklevel=2,
        )
        return None


def executor_named(name: str, **arguments: Any) -> Any:
    """Return an executor by its short name, one of :data:`EXECUTORS`."""
    import importlib

    attribute, own = EXECUTORS[name]
    return getattr(importlib.import_module("prefectish.executors"), attribute)(**{**own, **arguments})


def _load(name: Any) -> Any:
    if isinstance(name, str) and name in EXECUTORS:
        return partial(executor_named, name)
    if not isinstance(name, str) or "." not in name:
        raise ValueError(
            "the name must be a dotted class name such as 'prefectish.executors.DaskExecutor', or one of "
            + ", ".join(EXECUTORS)
        )
    import importlib

    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)
