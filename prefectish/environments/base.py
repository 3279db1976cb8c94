"""What all environments have in common: they are built, and say by which command a driver starts in them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from prefectish.errors import PrefectishError

#: The module that drives a run; its arguments are a word and a file.
DRIVER = "prefectish.registry.driver"
#: Characters of the output of a command that an error shows.
MAX_OUTPUT = 4000


class EnvironmentFailed(PrefectishError):
    """Raised when an environment cannot be built, or a flow cannot be loaded in it."""

    exit_code = 3


class Launch(NamedTuple):
    """A command to start, with its working directory (None for the current one) and its environment variables."""

    argv: tuple[str, ...]
    folder: str | None
    variables: Mapping[str, str]

    def popen(self, **options: Any) -> subprocess.Popen[bytes]:
        """Start the command in a session of its own, which outlives this process."""
        try:
            return subprocess.Popen(
                self.argv,
                cwd=self.folder,
                env={**os.environ, **self.variables},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **options,
            )
        except OSError as error:
            if self.folder is not None and not os.path.isdir(self.folder):
                raise EnvironmentFailed(f"its working folder {self.folder} does not exist (any more)") from error
            raise EnvironmentFailed(f"{self.argv[0]} cannot be started: {error}") from error


class Environment:
    """Base class of environments.

    Parameters
    ----------
    env_vars
        Environment variables of the driver, and of the workers that it starts; kept in the database, so no secrets.
    secrets
        Names of the secrets that the flow reads. Their values stay where they are; a run begins only where all of
        them are found.
    """

    #: The word for the class in the database.
    kind: ClassVar[str]

    def __init__(self, env_vars: Mapping[str, str] | None = None, secrets: Iterable[str] = ()) -> None:
        self.env_vars = {_name("env_vars", k): _text(k, v) for k, v in (env_vars or {}).items()}
        if isinstance(secrets, str):
            raise TypeError(f"secrets must be a list of names, got {secrets!r}")
        self.secrets = tuple(_name("secrets", name) for name in secrets)

    def build(self, source: Mapping[str, Any], push: bool) -> None:
        """Make the environment for a flow; nothing to do, unless a class says otherwise.

        Parameters
        ----------
        source
            Where the flow is: "file" or "module", and "name".
        push
            Whether to send what was made to its registry.

        Raises
        ------
        EnvironmentFailed
            It cannot be made.
        """

    def source(self, source: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return where a flow is *in* the environment."""
        return source

    def launch(self, word: str, file: str, folders: Sequence[str] = ()) -> Launch:
        """Return the command that starts a driver.

        Parameters
        ----------
        word, file
            Arguments of the driver: what to do, and a private file that says with what. What the driver prints is
            the output of the command, or goes to the end of `output_of` that file.
        folders
            Folders that the driver needs, where it does not share the disk.
        """
        raise NotImplementedError(f"{type(self).__name__} has no launch()")

    def facts(self) -> dict[str, Any]:
        """Return the arguments of the environment, as what JSON can hold."""
        return {"env_vars": self.env_vars, "secrets": list(self.secrets)}

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.facts().items() if value)
        return f"{type(self).__name__}({shown})"


def output_of(file: str | os.PathLike[str]) -> Path:
    """Return the file for what a driver prints: beside the one that says what it does.

    Examples
    --------
    >>> print(output_of("/home/me/run.json"))
    /home/me/run.log
    """
    return Path(file).with_suffix(".log")


def run_command(argv: Sequence[str], what: str, **options: Any) -> str:
    """Run a command and return what it printed; raise EnvironmentFailed with its last lines if it fails."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    except OSError as error:
        raise EnvironmentFailed(f"{what}: {argv[0]} cannot be started: {error}") from error
    if done.returncode:
        raise EnvironmentFailed(f"{what}: {argv[0]} ended with code {done.returncode}\n{done.stdout[-MAX_OUTPUT:]}")
    printed: str = done.stdout
    return printed


def _name(argument: str, name: Any) -> str:
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise TypeError(f"{argument} must have names that are non-empty strings without '=', got {name!r}")
    return name


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"env_vars[{name!r}] must be a string, got {value!r}")
    return value
