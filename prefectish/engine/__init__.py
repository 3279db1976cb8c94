"""The rules of a run: states, signals, and the functions that lead from one state to the next."""

from typing import TYPE_CHECKING

from prefectish.missing_names import lead_out

if not TYPE_CHECKING:
    __getattr__ = lead_out(__name__)
