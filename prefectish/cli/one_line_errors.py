"""Errors of the command: one line each, with the place in the user's code, and an exit code."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from prefectish.engine.worker.tracebacks import keeps_all, one_line
from prefectish.safe_repr import printable

#: What a wrong command raises: click's, or in newer releases typer's own copy of it.
_Refusal: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


class OneLineErrors(TyperGroup):
    """A group of commands whose errors are one line; `full_tracebacks` shows where an unexpected one came from."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run a command, and exit with its code."""
        try:
            code = super().main(*args, standalone_mode=False, **extra)  # type: ignore[misc]  # args are those of the base
        except _Refusal as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                error.show()
                code = error.exit_code
            else:
                code = _say(error.format_message(), error.exit_code)
        except typer.Abort:
            code = 130
        except Exception as error:
            if keeps_all():
                raise
            code = _say(f"{one_line(error)}; PREFECTISH_FULL_TRACEBACKS=1 shows where", 1)
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


def _say(text: str, code: int) -> int:
    print(f"prefectish: {printable(text)}", file=sys.stderr)
    return code
