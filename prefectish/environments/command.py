"""Runs of a deployed flow by a command, such as that of a queue: ``sbatch --wait --wrap={command}``."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prefectish.environments.base import DRIVER, Environment, Launch, output_of

PLACE = "{command}"


class CommandEnvironment(Environment):
    """Run by a command that runs another one, and waits for its end: a queue, a job of Kubernetes, ssh.

    Parameters
    ----------
    command
        A list of arguments; nothing is given to a shell. ``{command}`` in them is replaced by the command of the
        driver, as one argument, quoted for a shell. The command gets parameters by a private file in the home folder
        of the agent, and writes what the driver prints beside it: it has to be on a disk that both share.
    python
        Path of the interpreter where the command runs; default: the one that deploys.
    working_dir
        Folder in which the command is started.
    env_vars, secrets
        As for :class:`Environment`; queues hand environment variables on.

    Examples
    --------
    >>> environment = CommandEnvironment(["sbatch", "--wait", "--wrap={command}"], python="/opt/bin/python")
    >>> print(environment.launch("run", "/home/me/my runs/1.json").argv[-1])
    --wrap=/opt/bin/python -m prefectish.registry.driver run '/home/me/my runs/1.json' >>'/home/me/my runs/1.log' 2>&1
    """

    kind = "command"

    def __init__(
        self,
        command: Sequence[str],
        python: str | os.PathLike[str] | None = None,
        working_dir: str | os.PathLike[str] | None = None,
        env_vars: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        super().__init__(env_vars, secrets)
        if isinstance(command, str) or not command or not all(isinstance(word, str) for word in command):
            raise TypeError(f"command must be a list of arguments, got {command!r}; shlex.split() makes one of a text")
        if not any(PLACE in word for word in command):
            raise ValueError(f"command must have {PLACE} in one of its arguments, got {list(command)!r}")
        self.command = list(command)
        self.python = sys.executable if python is None else os.fspath(python)
        self.working_dir = None if working_dir is None else os.path.abspath(os.fspath(working_dir))

    def launch(self, word: str, file: str, folders: Sequence[str] = ()) -> Launch:
        """Return the command that starts a driver."""
        # A queue does not print what its jobs print.
        driver = f"{shlex.join((self.python, '-m', DRIVER, word, file))} >>{shlex.quote(str(output_of(file)))} 2>&1"
        argv = tuple(argument.replace(PLACE, driver) for argument in self.command)
        return Launch(argv, self.working_dir, self.env_vars)

    def facts(self) -> dict[str, Any]:
        """Return the arguments of the environment, as what JSON can hold."""
        own = {"command": self.command, "python": self.python, "working_dir": self.working_dir}
        return {**own, **super().facts()}
