"""What a session reads of keys that are done: their sizes, and the small values among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from distributed import Client

from prefectish.executors.dask_api import Key, mark_pending


class Reading(NamedTuple):
    """What was read of some keys; of those that are in none of the three, the scheduler knows no value.

    Attributes
    ----------
    values
        The small ones.
    large
        Sizes of the large ones, in bytes.
    unread
        Workers that have values which could not be read.
    """

    values: dict[Key, Any]
    large: dict[Key, int]
    unread: dict[Key, Sequence[str]]


async def read(client: Client, keys: list[Key], is_large: Callable[[Key, int], bool]) -> Reading:
    """Ask for the sizes of values and read the small ones; what cannot be read stays open: return who has it."""
    sizes = await _sizes(client, keys)
    large = {key: size for key, size in sizes.items() if is_large(key, size)}
    small = [key for key in sizes if key not in large]
    values: dict[Key, Any] = {}
    unread: dict[Key, Sequence[str]] = {}
    while small:
        answer = await client.scheduler.gather(keys=small)
        if answer["status"] == "OK":
            values = answer["data"]
            break
        gone = set(answer["keys"])
        unread |= await client.scheduler.who_has(keys=list(gone))
        mark_pending(client, gone)
        small = [key for key in small if key not in gone]
    return Reading(values, large, unread)


async def _sizes(client: Client, keys: list[Key]) -> dict[Key, int]:
    scheduler = client.scheduler
    try:
        sizes: dict[Key, int] = await scheduler.nbytes(keys=keys, summary=False)
    except KeyError:  # the scheduler forgot one key of the group: find out which
        sizes = {}
        for key in keys:
            try:
                sizes.update(await scheduler.nbytes(keys=[key], summary=False))
            except KeyError:
                sizes[key] = -1
    mark_pending(client, (key for key, size in sizes.items() if size < 0))
    return {key: size for key, size in sizes.items() if size >= 0}
