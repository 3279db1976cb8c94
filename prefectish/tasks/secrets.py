"""Secrets: values that a flow refers to by name, looked up where they are used."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Unpack

from prefectish.engine.context import current
from prefectish.missing_names import lead_out
from prefectish.secrets.output_masking import mask_output
from prefectish.secrets.store import find
from prefectish.tasks.options import TaskOptions
from prefectish.tasks.task import Task

#: Options that would store a result.
_KEEPING = (
    "result", "target", "checkpoint", "cache_for", "cache_validator", "cache_key", "cache_key_fn", "cache_expiration",
)  # fmt: skip


class SecretBase(Task):
    """Base class of tasks whose result is a secret; subclasses return its value from `run`.

    The value is not transferred between processes: each process that reads it calls `run` again.
    It is neither stored nor recorded, and it is masked in the output of every process that has read it.

    Parameters
    ----------
    name, **options
        As for :class:`~prefectish.tasks.task.Task`.

    Raises
    ------
    ValueError
        If an option would store the result: `result`, `target`, a cache.
    """

    runs_again = True

    def __init__(self, name: str | None = None, **options: Unpack[TaskOptions]) -> None:
        _refuse_storing(name or type(self).__name__, options)
        super().__init__(name, **options)

    def _change(self, options: Mapping[str, Any]) -> None:
        _refuse_storing(self.name, options)
        super()._change(options)

    def get(self) -> Any:
        """Return the value now, in a task function, a state handler or a program.

        Raises
        ------
        ValueError
            If it is not known in this process, or a flow is being built: pass the secret itself to a task as an
            argument, so that it is read where the task runs.
        """
        self._refuse_while_building()
        return mask_output(self.run())

    def _refuse_while_building(self) -> None:
        if current().get("flow") is not None:
            raise ValueError(
                f"{self!r} cannot be read while a flow is built: pass it to a task as an argument, or read it in a task"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}>"


def _refuse_storing(name: str, options: Mapping[str, Any]) -> None:
    refused = [option for option in _KEEPING if options.get(option) not in (None, False)]
    if refused:
        raise ValueError(f"{refused[0]}= is not allowed for the secret {name!r}: its value is never stored")


class Secret(SecretBase):
    """A secret by its name, from the context, ``secrets.toml`` in the home folder, or the environment.

    See :mod:`prefectish.secrets.store` for where values are looked up.

    Parameters
    ----------
    name
        Name of the secret, and of the task.
    **options
        As for :class:`~prefectish.tasks.task.Task`, except those that store results.

    Raises
    ------
    ValueError
        If it has no name, or an option would store its result.

    Examples
    --------
    In a flow it is passed as an argument; parts of a JSON secret are selected by index::

        with Flow("report") as flow:
            send(rows, token=Secret("TOKEN"), password=Secret("DATABASE")["password"])

    In a task function or a state handler:

    >>> from prefectish import context
    >>> with context(secrets={"TOKEN": "a stand-in for tests"}):
    ...     len(Secret("TOKEN").get())
    20
    """

    def __init__(self, name: str, **options: Unpack[TaskOptions]) -> None:
        if not name or not isinstance(name, str):
            raise ValueError(f"name of a secret must be a non-empty string, got {name!r}")
        self.secret_name = name
        super().__init__(name, **options)

    def run(self) -> Any:
        """Return the value.

        Raises
        ------
        ValueError
            If it is not known in this process, or a flow is being built.
        """
        self._refuse_while_building()
        return find(self.secret_name)


class EnvVarSecret(SecretBase):
    """A secret from an environment variable of the process that reads it.

    Parameters
    ----------
    name
        Name of the variable, and of the task.
    raise_if_missing
        Whether to raise if the variable is not set; otherwise the value is None.
    cast
        Function that converts the text to the value; not called if the variable is not set.
    **options
        As for :class:`~prefectish.tasks.task.Task`, except those that store results.

    Raises
    ------
    ValueError
        If it has no name, or an option would store its result.

    Examples
    --------
    >>> import os
    >>> os.environ["ATTEMPTS"] = "3"
    >>> EnvVarSecret("ATTEMPTS", cast=int).get()
    3
    """

    def __init__(
        self,
        name: str,
        raise_if_missing: bool = False,
        cast: Callable[[str], Any] | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        if not name or not isinstance(name, str):
            raise ValueError(f"name of an EnvVarSecret must be a non-empty string, got {name!r}")
        if cast is not None and not callable(cast):
            raise TypeError(f"cast must be a function, got {cast!r}")
        self.secret_name = name
        self.raise_if_missing = raise_if_missing
        self.cast = cast
        super().__init__(name, **options)

    def run(self) -> Any:
        """Return the value.

        Raises
        ------
        ValueError
            If the variable is not set and `raise_if_missing`, or a flow is being built.
        """
        self._refuse_while_building()
        text = os.environ.get(self.secret_name)
        if text is None:
            if self.raise_if_missing:
                raise ValueError(f"secret {self.secret_name!r}: the environment variable is not set in this process")
            return None
        mask_output(text)
        return text if self.cast is None else mask_output(self.cast(text))


if not TYPE_CHECKING:
    __path__ = []  # in Prefect it is a package: imports of what was in it are answered, too
    __getattr__ = lead_out(__name__)
