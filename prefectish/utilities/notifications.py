"""Building blocks for state handlers that tell somebody."""

from __future__ import annotations

from prefectish.engine.handlers import callback_factory as callback_factory
