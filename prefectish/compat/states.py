"""`prefect.engine.state`: the one state that the engine has not."""

from __future__ import annotations

from typing import Any

from prefectish.engine.state import State, innermost


class ClientFailed(State, public=("state",)):
    """Could not be told to a server, which there is none of here.

    Parameters
    ----------
    state
        The state that could not be told.
    """

    __slots__ = ("state",)
    color = "#eb0000"
    state: State | None

    def __init__(self, message: Any = None, result: Any = None, *, state: State | None = None, **common: Any) -> None:
        super().__init__(message, result, **common)
        object.__setattr__(self, "state", innermost(state))
