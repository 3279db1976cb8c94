"""Where each child of a task runs whose ``resources``, ``workers`` or ``priority`` are functions."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prefectish.engine.jobs.job import Job, Record
from prefectish.engine.plan.placement import Placement
from prefectish.engine.wire.pack import Packer
from prefectish.engine.wire.places import PAGE, Places, first_item, is_elsewhere, place, places_near_items, run_count_of
from prefectish.executors.dask_api import Key, Task

#: Where questions go: near the data, before anything that waits there.
QUESTION = Placement((), (), 1e6)


class Question(NamedTuple):
    """What is asked near the items of some children of a chain."""

    graph: Mapping[Key, Task]
    key: Key
    jobs: Sequence[Job]


class Placer:
    """Finds out where children run.

    Parameters
    ----------
    new_key
        Makes a key of a kind.
    reference
        Returns what a graph holds in the place of a value that is on a worker.
    """

    def __init__(self, new_key: Callable[[str], Key], reference: Callable[[Any], Any]) -> None:
        self._new_key = new_key
        self._reference = reference
        self._waiting: dict[int, list[tuple[Job, Any]]] = {}
        self._known: dict[Job, Placement] = {}

    def find(self, job: Job) -> Placement | Record | None:
        """Return where a job runs, or the record of one that cannot be asked; None if it is asked near its item."""
        known = self._known.pop(job, None)
        if known is not None:
            return known
        item = first_item(job)
        if is_elsewhere(item):
            self._waiting.setdefault(job.chain.ident, []).append((job, item))
            return None
        return place(job.chain.steps[job.positions[0]], job.index, item, run_count_of(job), job.chain.run)

    def questions(self, payload_of: Callable[[int], Any]) -> Iterator[Question]:
        """Return the graphs that ask for the jobs of which `find` said None; none of them is asked twice.

        Parameters
        ----------
        payload_of
            Returns the bytes of a chain, or what stands for them in a graph, by its number.
        """
        waiting, self._waiting = self._waiting, {}
        for ident, rows in waiting.items():
            for page in (rows[n : n + PAGE] for n in range(0, len(rows), PAGE)):
                packer = Packer()
                label_of = page[0][0].chain.steps[0].label_of
                asked = [(job.index, packer.item(item, label_of(job.index)), run_count_of(job)) for job, item in page]
                values = [self._reference(held) for held in packer.held]
                key = self._new_key("prefectish-places")
                task = Task(key, places_near_items, payload_of(ident), pickle.dumps(asked, protocol=5), *values)
                yield Question({key: task}, key, [job for job, _ in page])

    def answer(self, jobs: Sequence[Job], places: Places) -> tuple[list[Job], list[tuple[Job, Record]]]:
        """Take an answer; return the jobs that were not cancelled and have a place, and records of the others."""
        found = [(job, answer) for job, answer in zip(jobs, places.answers, strict=True) if job.awaiting]
        self._known.update((job, answer) for job, answer in found if isinstance(answer, Placement))
        refused = [(job, answer) for job, answer in found if isinstance(answer, Record)]
        return [job for job, answer in found if isinstance(answer, Placement)], refused
