"""Small helpers for flow authors."""

from typing import TYPE_CHECKING

from prefectish.missing_names import lead_out

if not TYPE_CHECKING:
    __getattr__ = lead_out(__name__)
