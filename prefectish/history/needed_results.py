"""Which stored results are still needed by recorded runs."""

from __future__ import annotations

import os

from sqlalchemy import select

from prefectish.history import schema
from prefectish.history.store import open_store


def needed(store: str | os.PathLike[str] | None) -> frozenset[str]:
    """Return the folders of a result store that unsuccessful runs will read when they are resumed.

    A run has its own folder, named by its id, and may use results in the folders of others: from a cache
    of its process, or because their states were passed to it.

    Parameters
    ----------
    store
        History of the runs, as for ``history.runs``.
    """
    r, c = schema.runs.c, schema.children.c
    query = select(c.location).join(schema.runs, r.number == c.run)
    query = query.where(r.state != schema.CODES["Success"], c.location.is_not(None))
    with open_store(store).reading() as connection:
        return frozenset(location.partition("/")[0] for location in connection.execute(query).scalars())
