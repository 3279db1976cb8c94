"""Runs of a deployed flow on the machine of the agent, each in a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prefectish.environments.base import DRIVER, Environment, Launch


class LocalEnvironment(Environment):
    """Run in a Python process on the machine of the agent.

    Parameters
    ----------
    python
        Path of the interpreter, such as that of a virtual environment; default: the one that deploys.
    working_dir
        Folder in which the process runs, where modules are also found; default: that of the flow's file.
    env_vars, secrets
        As for :class:`Environment`.
    """

    kind = "local"

    def __init__(
        self,
        python: str | os.PathLike[str] | None = None,
        working_dir: str | os.PathLike[str] | None = None,
        env_vars: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        super().__init__(env_vars, secrets)
        # not the real path: a virtual environment is known by the path of its link
        self.python = os.path.abspath(os.fspath(python)) if python is not None else sys.executable
        self.working_dir = None if working_dir is None else os.path.abspath(os.fspath(working_dir))

    def launch(self, word: str, file: str, folders: Sequence[str] = ()) -> Launch:
        """Return the command that starts a driver."""
        return Launch((self.python, "-m", DRIVER, word, file), self.working_dir, self.env_vars)

    def facts(self) -> dict[str, Any]:
        """Return the arguments of the environment, as what JSON can hold."""
        return {"python": self.python, "working_dir": self.working_dir, **super().facts()}
