"""A run on a cluster whose workers must have the user's own modules as the client has them.

They are compared before the run, on all workers, and before the first call of a task that is new. A worker that joins
later compares them itself when it opens a chain: one that has others is sent away, what it was given runs elsewhere,
and the log of the run says so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future as Answer
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from distributed import Client, Reschedule, get_worker

from prefectish.engine.wire.execute import NotHere
from prefectish.errors import EnvironmentMismatch
from prefectish.executors.dask_api import asked_on_workers
from prefectish.executors.lost_keys import NoAnswer
from prefectish.executors.own_modules import Content, differences, missing, reached, references
from prefectish.executors.shipping import Shipment, without

if TYPE_CHECKING:
    from prefectish.executors.lost_keys import LossWatch

logger = logging.getLogger("prefectish.executors")

#: Seconds that workers have for an answer; one that has none is asked when it opens a chain.
PATIENCE = 10.0
#: What workers that are sent away tell.
TOPIC = "prefectish-modules"


class Guard:
    """Pickled with a chain; where it is unpickled, the modules are compared, once in each process."""

    def __init__(self, wanted: Mapping[str, Content]) -> None:
        self.wanted = dict(wanted)

    def __reduce__(self) -> tuple[Any, ...]:
        return _admit, (tuple((name, *content) for name, content in self.wanted.items()),)


class OtherModules(NotHere, Reschedule):  # type: ignore[misc]  # distributed is not typed
    """Raised on a worker that has another version of a module than the client: Dask runs the key elsewhere."""


def _admit(wanted: tuple[tuple[Any, ...], ...]) -> None:
    """Raise `OtherModules` on a worker that has other modules, which it leaves."""
    found = _found(wanted)
    if found:
        worker = get_worker()
        worker.log_event(TOPIC, {"worker": worker.address, "text": found[0]})
        worker.loop.add_callback(worker.close_gracefully, restart=False, reason="prefectish-other-modules")
        raise OtherModules(found[0])


@cache
def _found(wanted: tuple[tuple[Any, ...], ...]) -> list[str]:
    return differences({name: Content(*content) for name, *content in wanted})


def _compare_here(wanted: tuple[tuple[Any, ...], ...]) -> list[str]:
    """Return what is different on this worker."""
    _found.cache_clear()  # a module may have been uploaded since
    return _found(wanted)


class _Question(NamedTuple):
    """What workers were asked, of which modules, and the pickles of tasks that reach them, by label."""

    answer: Answer[dict[str, list[str]]]
    wanted: Mapping[str, Content]
    payloads: Mapping[str, bytes]


class SameModules:
    """Compares the modules that the tasks of a run reach."""

    def __init__(self, client: Client, watch: LossWatch) -> None:
        self._client = client
        self._watch = watch
        self._known: dict[str, Content] = {}
        self._asked: list[_Question] = []
        self.shipment: Shipment | None = None  # the modules that travel need not be there

    @property
    def guard(self) -> Guard | None:
        """What is sent with a chain; None if no module of the user's own is reached."""
        return Guard(self._known) if self._known else None

    def check(self, tasks: Mapping[str, tuple[bytes, Any]]) -> None:
        """Have all workers compare the modules that tasks reach, while this process continues until :meth:`settle`.

        Parameters
        ----------
        tasks
            Pickles and bodies of the tasks, by label.
        """
        found = without(
            reached([payload for payload, _ in tasks.values()], [body for _, body in tasks.values()]), self.shipment
        )
        new = {name: c for name, c in found.items() if name not in self._known}
        if not new:
            return
        question = asked_on_workers(self._client, _compare_here, wanted=Guard(new).__reduce__()[1][0])
        self._asked.append(
            _Question(self._watch.begin(question), new, {label: each for label, (each, _) in tasks.items()})
        )
        self._known |= new

    def settle(self) -> None:
        """Wait for what workers were asked, before anything is sent that they run.

        Raises
        ------
        EnvironmentMismatch
            A worker has another version of a module, or none.
        """
        while self._asked:
            asked = self._asked.pop(0)
            try:
                answers: dict[str, list[str]] = self._watch.wait(asked.answer, PATIENCE)
            except (NoAnswer, OSError):
                continue
            other = {worker: found for worker, found in answers.items() if found}
            if other:
                raise EnvironmentMismatch(_text(other, asked.wanted, asked.payloads))


def _text(other: Mapping[str, list[str]], wanted: Mapping[str, Content], tasks: Mapping[str, bytes]) -> str:
    worker, (first, *_) = next(iter(other.items()))
    more = f" (and on {len(other) - 1} more workers)" if len(other) > 1 else ""
    name = next(name for name in wanted if first == missing(name) or first.startswith(f"module {name} "))
    upload = f"client.upload_file({wanted[name].file!r})"
    if first == missing(name):
        label = next((label for label, payload in tasks.items() if name in references(payload)), next(iter(tasks)))
        return (
            f"task {label} cannot be loaded on {worker}{more}: {first}; install there what it needs, send it with "
            f'{upload} or DaskExecutor(ship="project"), or define it in the script, from where it is sent by value'
        )
    return f"{first}, on worker {worker}{more}; send it to all workers with {upload}, or install the same version there"


def log_sent_away(event: tuple[float, Mapping[str, str]]) -> None:
    """Say in the log of the run that a worker was sent away."""
    logger.error("%s, on worker %s, which joined late: it was sent away", event[1]["text"], event[1]["worker"])
