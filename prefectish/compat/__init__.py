"""Flows of Prefect 1 run as they are: after :func:`install`, or by ``python -m prefectish.compat SCRIPT.py``.

After :func:`install`, ``import prefect`` and the modules of its last release of that line, 1.4.1, give what this
package has: `prefectish.compat.names` is the table, the other modules here are what has another form there. The engine
is the same one, and no rule of it differs.
"""

from __future__ import annotations

import sys
from datetime import UTC

from prefectish.compat.configuration import secret_of_settings
from prefectish.compat.edges import extend_edges
from prefectish.compat.exceptions import NoStateError
from prefectish.compat.finder import PrefectFinder, is_ours
from prefectish.compat.logs import join_loggers
from prefectish.compat.states import extend_states
from prefectish.engine import clock, handlers
from prefectish.engine.jobs import preparation
from prefectish.secrets import store


def install() -> None:
    """Let ``import prefect`` give this package, here and in every process in which a run of this one calls bodies.

    It comes before the first import of `prefect`; calling it again changes nothing.

    Raises
    ------
    RuntimeError
        If another `prefect` has been imported already.
    """
    found = sys.modules.get("prefect")
    if found is not None and not is_ours(found):
        raise RuntimeError(
            f"prefect is imported already, from {getattr(found, '__file__', None) or 'somewhere'}; call "
            f"prefectish.compat.install() before the first `import prefect`"
        )
    if not is_installed():
        sys.meta_path.insert(0, PrefectFinder())
    clock.naive_zone = UTC
    handlers.no_state_error = NoStateError
    extend_states()
    extend_edges()
    join_loggers()
    if secret_of_settings not in store.more_sources:
        store.more_sources.append(secret_of_settings)
    preparation.require("prefectish.compat:install")


def is_installed() -> bool:
    """Whether ``import prefect`` gives this package in this process."""
    return any(isinstance(finder, PrefectFinder) for finder in sys.meta_path)
