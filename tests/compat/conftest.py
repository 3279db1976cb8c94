"""Tests of flows that were written for Prefect 1: `prefect` is importable during a test, and gone after it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest

from prefectish import compat
from prefectish.compat.finder import PrefectFinder
from prefectish.compat.states import METHODS
from prefectish.config import program_defaults
from prefectish.edges import Edge
from prefectish.engine import clock, context, handlers
from prefectish.engine.jobs import preparation
from prefectish.engine.state import State
from prefectish.engine.worker.stored_result import Stored
from prefectish.secrets import store


@pytest.fixture(autouse=True)
def prefect() -> Iterator[None]:
    """Install `prefect`, and take it away."""
    own = {name: State.__dict__.get(name) for name in METHODS}
    compat.install()
    yield
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, PrefectFinder)]
    for name in [name for name in sys.modules if name == "prefect" or name.startswith("prefect.")]:
        del sys.modules[name]
    preparation._required.clear()
    clock.naive_zone = None
    handlers.no_state_error = TypeError
    logging.getLogger("prefectish").parent = logging.root
    context.name_root_logger("prefectish")
    logging.getLogger("prefect").setLevel(logging.NOTSET)
    store.more_sources.clear()
    program_defaults.pop("extra_loggers", None)
    del Edge.serialize, Stored.value  # type: ignore[attr-defined]
    for name, method in own.items():
        if method is None:
            delattr(State, name)
        else:
            setattr(State, name, method)
