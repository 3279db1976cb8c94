"""Check tasks before they are sent: those of a graph when its run starts, those of a flow function as they come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prefectish.engine.capture import Value, capture
from prefectish.engine.plan.placement import placement_of
from prefectish.errors import FlowDefinitionError
from prefectish.executors.connect import Connection
from prefectish.executors.worker_guard import WorkerGuard, leave_probe_here
from prefectish.results.probes import check_probes, leave_probe
from prefectish.tasks.task import Task


class TaskChecks:
    """Checks each task once in a run; on a cluster whose size adapts, not where it may run."""

    def __init__(self, connection: Connection, run_id: str, placements: bool) -> None:
        self._connection = connection
        self._run_id = run_id
        self._placements = placements
        #: The stores, and what was written into each, for workers that join late to look for.
        self._stores: list[tuple[Any, str | None]] = []

    def check(self, tasks: Iterable[tuple[str, Task, Any]]) -> None:
        """Check tasks, given by label, with the stores of their results.

        Raises as :func:`check_placements` and :func:`check_store`.
        """
        tasks = list(tasks)
        if self._placements:
            check_placements({label: task for label, task, _ in tasks}, self._connection)
        for _, _, store in tasks:
            if store is not None and not any(store == known for known, _ in self._stores):
                left = capture(leave_probe, store, f"{self._run_id}-client")
                mark = left.value if isinstance(left, Value) else None  # None where only workers can write
                self._stores.append((store, mark))
                check_store(store, self._connection, self._run_id, mark)

    @property
    def guard(self) -> WorkerGuard:
        """What is sent with each chain, to be looked at by workers that join late."""
        return WorkerGuard([(store, mark) for store, mark in self._stores if mark is not None])

    def close(self) -> None:
        """Delete what was written into stores."""
        for store, mark in self._stores:
            if mark is not None:
                capture(store.delete, mark)


def check_store(store: Any, connection: Connection, run_id: str, mark: str | None) -> None:
    """Check that workers and this process share a store of results.

    `mark` is what this process wrote there, None if it could not.

    Raises
    ------
    ResultStoreNotShared
        A worker wrote to a place that this process cannot read.
    """
    # A worker that cannot write at all fails the tasks that it runs, and says why: no error here.
    left = connection.client.run(leave_probe_here, store, run_id, mark, on_error="return")
    check_probes(store, {worker: place for worker, place in left.items() if isinstance(place, str)})


def check_placements(tasks: Mapping[str, Task], connection: Connection) -> None:
    """Refuse tasks, given by label, that no worker of the cluster can run.

    Raises
    ------
    FlowDefinitionError
        A task needs a resource, or a worker, that the cluster has not; the message names it.
    """
    placements = {label: placement_of(task) for label, task in tasks.items()}
    if not any(placement.resources or placement.workers for placement in placements.values()):
        return
    workers = connection.workers()
    if not workers:
        return  # a cluster that is still empty may get what is missing
    for label, placement in placements.items():
        for name, amount in placement.resources:
            largest = max(float(worker.get("resources", {}).get(name, 0)) for worker in workers.values())
            if largest < amount:
                have = sorted({r for worker in workers.values() for r in worker.get("resources", {})})
                raise FlowDefinitionError(
                    f"task {label} needs the resource {name}={amount:g}, and no worker has it: the largest has "
                    f"{largest:g}; resources there are: {', '.join(have) or 'none'}; start workers with "
                    f"`--resources {name}={amount:g}`"
                )
        names = {
            str(part)
            for address, worker in workers.items()
            for part in (address, worker.get("name"), worker.get("host"))
        }
        if placement.workers and not names.intersection(map(str, placement.workers)):
            raise FlowDefinitionError(
                f"task {label} may run only on the workers {', '.join(map(str, placement.workers))}, and the cluster "
                f"has none of them: {', '.join(sorted(workers))}"
            )
