"""Look up the value of a secret, in the process that reads it: in the context, a file, or the environment.

1. ``secrets`` in the context: ``with prefectish.context(secrets={"TOKEN": "..."})`` or ``flow.run(context=...)``. These
   are replacements for tests; they are sent with a run to its workers.
2. ``secrets.toml`` in the home folder, ``TOKEN = "..."``, which only its owner may read (mode 0600).
3. The environment variable ``PREFECTISH__SECRETS__TOKEN``.

The first that has the name is used. Values that are JSON are decoded, whatever their source.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from prefectish.config import home
from prefectish.engine.context import current
from prefectish.errors import SecretsUnsafe
from prefectish.secrets.output_masking import mask_output

#: Prefix of the names of environment variables.
PREFIX = "PREFECTISH__SECRETS__"
FILE = "secrets.toml"
_MISSING: Any = object()
#: What is asked after the context, before the file: functions that return the value of a name, or `default`.
more_sources: list[Callable[[str, Any], Any]] = []


class StandIns(dict[str, Any]):
    """The secrets of a context, with a repr that hides their values."""

    def __repr__(self) -> str:
        return f"<secrets: {', '.join(map(str, self)) or 'none'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return stand_ins, (dict(self),)


def stand_ins(given: Mapping[str, Any]) -> StandIns:
    """Return the secrets passed to a context, a mapping from names, and mask them in this process from now on."""
    if not isinstance(given, Mapping):
        raise TypeError(f"secrets in the context must be a dict from names to values, got {type(given).__name__}")
    for value in given.values():
        mask_output(value)
        mask_output(decoded(value))
    return StandIns(given)


def find(name: str) -> Any:
    """Return the value of a secret, and mask it in this process from now on.

    Raises
    ------
    ValueError
        If the name is unknown, or the file is not TOML.
    SecretsUnsafe
        If other users can read the file.
    """
    given = current().get("secrets")
    found = given.get(name, _MISSING) if isinstance(given, Mapping) else _MISSING
    for source in more_sources:
        found = source(name, _MISSING) if found is _MISSING else found
    if found is _MISSING:
        found = _in_file(name)
    if found is _MISSING:
        found = os.environ.get(PREFIX + name, os.environ.get(variable(name), _MISSING))
    if found is _MISSING:
        raise ValueError(
            f"secret {name!r} is not known in this process: set {variable(name)} in its environment, or put "
            f'{name} = "..." into {os.path.join(home(), FILE)} (mode 0600); in tests use '
            f"`with prefectish.context(secrets={{{name!r}: ...}})`"
        )
    mask_output(found)
    return mask_output(decoded(found))


def variable(name: str) -> str:
    """Return the name of the environment variable of a secret.

    Examples
    --------
    >>> variable("slack-token")
    'PREFECTISH__SECRETS__SLACK_TOKEN'
    """
    return PREFIX + re.sub(r"\W", "_", name).upper()


def decoded(value: Any) -> Any:
    """Decode a string that is JSON; return any other value unchanged.

    Examples
    --------
    >>> decoded('{"user": "ada"}'), decoded("xoxb-12")
    ({'user': 'ada'}, 'xoxb-12')
    """
    if not isinstance(value, str):
        return value
    from json import loads

    try:
        return loads(value)
    except ValueError:
        return value


def _in_file(name: str) -> Any:
    path = os.path.join(home(), FILE)
    try:
        file = open(path, "rb")  # noqa: SIM115  closed below, after its mode was looked at
    except FileNotFoundError:
        return _MISSING
    with file:
        _refuse_shared(path, os.fstat(file.fileno()).st_mode)
        return _read(path, file.read()).get(name, _MISSING)


def _refuse_shared(path: str, mode: int) -> None:
    if os.name == "posix" and mode & 0o077:
        raise SecretsUnsafe(
            f"{path} can be read by others (mode {mode & 0o777:04o}): run chmod 600 on it and renew its secrets"
        )


def _read(path: str, content: bytes) -> Mapping[str, Any]:
    import tomllib

    try:
        return tomllib.loads(content.decode())
    except ValueError as error:  # it names the line, not its content
        raise ValueError(f"{path} is not valid TOML: {type(error).__name__}: {str(error).splitlines()[0]}") from None
