"""What a session reads of keys that are done: their sizes, and the small values among them.

A plugin of the scheduler answers both at once. Where it is not, the session asks for the sizes before the values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from distributed import Client, SchedulerPlugin

from prefectish.executors.dask_api import Key, mark_pending

#: What the plugin answers, with the number of its messages.
QUESTION = "prefectish_read_1"


class Values(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Answers how large values are, and with those that are small."""

    name = QUESTION
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """Have the scheduler take the question."""
        self.scheduler = scheduler
        scheduler.handlers[QUESTION] = self.read

    async def read(self, limits: Mapping[Key, float]) -> list[dict[Any, Any] | None]:
        """Return the sizes of values, and the scheduler's answer to a question for those up to their limits."""
        tasks = self.scheduler.tasks
        sizes = {key: tasks[key].nbytes if key in tasks else -1 for key in limits}
        small = _small(sizes, limits)
        # A list: in one process Dask does not look into a tuple for values that it has to unwrap.
        return [sizes, await self.scheduler.gather(keys=small) if small else None]


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


async def read(client: Client, limits: Mapping[Key, float], at_once: bool) -> Reading:
    """Ask for the sizes of values and read the small ones; what cannot be read stays open: return who has it.

    Parameters
    ----------
    limits
        Sizes up to which values are small, in bytes, by key.
    at_once
        Whether the scheduler has the plugin.
    """
    if at_once:
        sizes, answer = await getattr(client.scheduler, QUESTION)(limits=limits)
    else:
        sizes, answer = await _sizes(client, limits), None
    mark_pending(client, (key for key, size in sizes.items() if size < 0))
    small = _small(sizes, limits)
    values: dict[Key, Any] = {}
    unread: dict[Key, Sequence[str]] = {}
    while small:
        answer = answer or await client.scheduler.gather(keys=small)
        if answer["status"] == "OK":
            values = answer["data"]
            break
        gone, answer = set(answer["keys"]), None
        unread |= await client.scheduler.who_has(keys=list(gone))
        mark_pending(client, gone)
        small = [key for key in small if key not in gone]
    return Reading(values, {key: size for key, size in sizes.items() if size > limits[key]}, unread)


def _small(sizes: Mapping[Key, int], limits: Mapping[Key, float]) -> list[Key]:
    return [key for key, size in sizes.items() if 0 <= size <= limits[key]]


async def _sizes(client: Client, keys: Mapping[Key, float]) -> dict[Key, int]:
    """Return the sizes of values; less than 0 for one that the scheduler has forgotten."""
    scheduler = client.scheduler
    try:
        return dict(await scheduler.nbytes(keys=[*keys], summary=False))
    except KeyError:  # the scheduler forgot one key of the group: find out which
        sizes: dict[Key, int] = {}
        for key in keys:
            try:
                sizes.update(await scheduler.nbytes(keys=[key], summary=False))
            except KeyError:
                sizes[key] = -1
        return sizes
