"""What failures have in common, see :mod:`prefectish.engine.causes`."""

from __future__ import annotations

from prefectish.engine.causes import Cause, cause_of, normalised

__all__ = ["Cause", "cause_of", "normalised"]
