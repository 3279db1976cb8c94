"""Run shell commands."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Unpack

from prefectish.engine.context import context
from prefectish.engine.side_thread import current_side_thread
from prefectish.engine.signals import FAIL
from prefectish.process_tree import kill_tree
from prefectish.tasks.options import TaskOptions
from prefectish.tasks.task import Task

#: Maximum length of the output of a failed command in the message of its state.
MAX_ERROR_LENGTH = 2000


class ShellTask(Task):
    """Run a command and return the last line of its output; if the command fails, the task fails.

    Parameters
    ----------
    command
        A string for the shell, or a list of a program and its arguments, which is not interpreted by a shell: use it
        for untrusted values.
    env
        Environment variables for the command, added to those of this process.
    cwd
        Working folder of the command.
    helper_script
        Shell code that runs before the command.
    shell
        Name or path of the shell.
    return_all
        Return all lines of the output as a list.
    stream_output
        Log each line as it is printed, at level INFO.
    name, **options
        As for :class:`~prefectish.tasks.task.Task`; at the `timeout` the command is killed.

    Examples
    --------
    >>> ShellTask(return_all=True).run(command=["echo", "$HOME"])
    ['$HOME']
    """

    def __init__(
        self,
        command: str | Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        helper_script: str | None = None,
        shell: str = "bash",
        return_all: bool = False,
        stream_output: bool = False,
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        self.command = command
        self.env = env
        self.cwd = cwd
        self.helper_script = helper_script
        self.shell = shell
        self.return_all = return_all
        self.stream_output = stream_output
        super().__init__(name, **options)

    def run(
        self,
        command: str | Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> str | list[str] | None:
        """Run the command; arguments that are not None override those of the constructor.

        Raises
        ------
        FAIL
            If its exit code is not 0; the message has the code and the end of the output, the result all lines.
        """
        command = self.command if command is None else command
        if not command:
            raise ValueError(f"{self.name}: no command; pass one to the task or to its call")
        variables = {**os.environ, **((self.env if env is None else env) or {})}
        lines, code = self._execute(self._arguments(command), variables, self.cwd if cwd is None else cwd)
        if code:
            raise FAIL(f"command failed with exit code {code}: {_end(lines)}", result=lines)
        return lines if self.return_all else lines[-1] if lines else None

    def _arguments(self, command: str | Sequence[str]) -> list[str]:
        if not isinstance(command, str):
            return [str(word) for word in command]
        return [self.shell, "-c", f"{self.helper_script}\n{command}" if self.helper_script else command]

    def _execute(
        self, arguments: list[str], env: Mapping[str, str], cwd: str | os.PathLike[str] | None
    ) -> tuple[list[str], int]:
        """Run a program and read its stdout and stderr line by line; return the lines and the exit code."""
        from subprocess import PIPE, STDOUT, Popen

        process = Popen(
            arguments, env=env, cwd=cwd, stdout=PIPE, stderr=STDOUT, text=True, errors="replace", start_new_session=True
        )
        assert process.stdout is not None
        helper = current_side_thread()
        if helper is not None:  # a time limit abandons this thread, and nothing else would kill the command
            helper.stop = partial(kill_tree, process.pid)
        try:
            with process.stdout:
                lines = [self._seen(line.rstrip("\r\n")) for line in process.stdout]
            return lines, process.wait()
        except BaseException:
            kill_tree(process.pid)
            process.wait()
            raise
        finally:
            if helper is not None:
                helper.stop = None

    def _seen(self, line: str) -> str:
        if self.stream_output:
            context.logger.info("%s", line)
        return line


def _end(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    return text if len(text) <= MAX_ERROR_LENGTH else f"… {text[-MAX_ERROR_LENGTH:]}"
