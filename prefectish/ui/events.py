"""Server-sent events: what changed, looked up once a second for any number of viewers.

A *topic* is what a page follows, ``run/ID``. While it has viewers one task looks at the database, renders what is
shown, and hands on the parts that differ from the last time. A viewer that is slow gets the newest of each part.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from prefectish.errors import PrefectishError
from prefectish.ui.access import Access
from prefectish.ui.paths import url
from prefectish.ui.queries.items import item_detail
from prefectish.ui.queries.maps import map_detail
from prefectish.ui.queries.registry import (
    agents_page,
    approvals_page,
    deployments_page,
    limits_page,
    open_questions,
)
from prefectish.ui.queries.run import run_detail
from prefectish.ui.queries.runs import runs_page
from prefectish.ui.records import Record, RunFilter
from prefectish.ui.rendering import rendered, values_for
from prefectish.ui.source import NotFound, Source

#: Seconds between two looks, at what is live and at what is not; between two signs of life to a viewer.
INTERVAL, IDLE_INTERVAL, PING = 1.0, 3.0, 15.0
#: Milliseconds after which a browser connects again.
RETRY = 1000
#: The event of topics whose pages fetch what they show; of a look that failed, and of the first one that did not.
CHANGED, TROUBLE, WELL = "changed", "trouble", "well"
#: The event, of every topic, whose text is the number that the navigation shows beside the approvals.
QUESTIONS = "questions"
#: A sign of life that scripts see: a page that gets none for longer takes the connection for lost.
ALIVE = "event: alive\ndata: 1\n\n"
logger = logging.getLogger("prefectish.ui")


class Topic(NamedTuple):
    """What a page follows: what is looked up, the fragments that show it, and the address of the page.

    Without fragments, viewers only learn that it changed.
    """

    look_up: Callable[..., Record]
    fragments: tuple[str, ...]
    page: str
    parts: tuple[str, ...] = ()


#: By the first part of the address; the others are given to the query.
TOPICS: Mapping[str, Topic] = {
    "runs": Topic(lambda source: runs_page(source, RunFilter()), (), "runs"),
    "run": Topic(run_detail, ("head", "waiting", "tasks", "causes", "graph", "asks"), "run", ("run",)),
    "task": Topic(map_detail, ("task", "causes"), "task", ("run", "step")),
    "item": Topic(item_detail, (), "item", ("run", "step", "row")),
    "deployments": Topic(deployments_page, (), "deployments"),
    "agents": Topic(agents_page, (), "agents"),
    "limits": Topic(limits_page, (), "limits"),
    "approvals": Topic(approvals_page, (), "approvals"),
}


class Look(NamedTuple):
    """What a look at the database found: texts by event, and whether more is to come soon."""

    events: Mapping[str, str]
    is_live: bool


def look(source: Source, access: Access, address: str) -> Look:
    """Look up what a topic shows; NotFound if there is no such topic, or nothing of this name."""
    name, *given = address.split("/")
    topic = TOPICS.get(name)
    if topic is None or len(given) != len(topic.parts):
        raise NotFound(f"there is no topic {address!r}; topics are {', '.join(TOPICS)}")
    parts = dict(zip(topic.parts, given, strict=True))
    numbers = [part for key, part in parts.items() if key != "run"]
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in numbers):
        raise NotFound(f"a task and an item are given by their numbers, got {address!r}")
    found = topic.look_up(source, *(part if key == "run" else int(part) for key, part in parts.items()))
    run = getattr(found, "run", None)
    is_live = run is None or run.is_live
    events = {QUESTIONS: str(open_questions(source))}
    if not topic.fragments:
        changed = hashlib.sha256(found.model_dump_json().encode()).hexdigest()[:16]
        return Look({**events, CHANGED: changed}, is_live)
    values = values_for(source, access, found, url(topic.page, None, **parts))
    return Look(events | {each: rendered(f"fragments/{each}.html", values) for each in topic.fragments}, is_live)


class _Viewer:
    """A browser that follows a topic: what is to be sent to it."""

    def __init__(self) -> None:
        self.pending: dict[str, str] = {}
        self.wake = asyncio.Event()

    def push(self, events: Mapping[str, str]) -> None:
        self.pending.update(events)
        self.wake.set()


class _Followed:
    """A topic with viewers."""

    def __init__(self) -> None:
        self.viewers: set[_Viewer] = set()
        self.known: dict[str, str] = {}
        self.task: asyncio.Task[None] | None = None


class Hub:
    """Looks for what viewers follow."""

    def __init__(self, source: Source, access: Access) -> None:
        self._source = source
        self._access = access
        self._followed: dict[str, _Followed] = {}
        self._is_closed = False

    def close(self) -> None:
        """End all streams: the server goes down."""
        self._is_closed = True
        for followed in self._followed.values():
            if followed.task is not None:
                followed.task.cancel()
            for viewer in followed.viewers:
                viewer.wake.set()

    @property
    def topics(self) -> Mapping[str, int]:
        """Return the number of viewers of each topic."""
        return {address: len(followed.viewers) for address, followed in self._followed.items()}

    async def follow(self, address: str, first: Look, seen: str | None) -> AsyncIterator[str]:
        """Yield what is sent to a viewer of a topic.

        Parameters
        ----------
        first
            What it showed when the viewer came.
        seen
            The last event that the viewer saw before it lost the connection.
        """
        followed = self._followed.setdefault(address, _Followed())
        viewer = _Viewer()
        followed.viewers.add(viewer)
        if followed.task is None:
            followed.known = dict(first.events)
            followed.task = asyncio.create_task(self._look_again(address, followed, first.is_live))
        if seen is None or seen != first.events.get(CHANGED):  # it may have changed since the page was made
            viewer.push(first.events)
        try:
            yield f"retry: {RETRY}\n\n: connected\n\n"
            while not self._is_closed:
                with suppress(TimeoutError):
                    await asyncio.wait_for(viewer.wake.wait(), PING)
                viewer.wake.clear()
                events, viewer.pending = viewer.pending, {}
                yield "".join(message(name, text) for name, text in events.items()) or ALIVE
        finally:
            followed.viewers.discard(viewer)
            if not followed.viewers:
                if followed.task is not None:
                    followed.task.cancel()
                self._followed.pop(address, None)

    async def _look_again(self, address: str, followed: _Followed, is_live: bool) -> None:
        cost = 0.0
        while True:
            await asyncio.sleep(max((INTERVAL if is_live else IDLE_INTERVAL) - cost, cost, 0.1))
            began = time.monotonic()
            try:
                found = await run_in_threadpool(look, self._source, self._access, address)
            except (PrefectishError, NotFound) as error:
                found = Look({TROUBLE: str(error)}, True)
            except Exception:
                logger.exception("%s could not be looked up", address)
                found = Look({TROUBLE: "it could not be looked up; the log of the server says why"}, True)
            cost = time.monotonic() - began
            is_live = found.is_live
            changed = {name: text for name, text in found.events.items() if followed.known.get(name) != text}
            followed.known |= changed
            if TROUBLE not in found.events and followed.known.pop(TROUBLE, None) is not None:
                changed[WELL] = "1"
            if changed:
                for viewer in followed.viewers:
                    viewer.push(changed)


def message(name: str, text: str) -> str:
    r"""Return an event as it is sent.

    Examples
    --------
    >>> message("head", "<p>\n</p>")
    'event: head\ndata: <p>\ndata: </p>\n\n'
    >>> message("changed", "8c1f")
    'id: 8c1f\nevent: changed\ndata: 8c1f\n\n'
    """
    number = f"id: {text}\n" if name == CHANGED else ""
    lines = "".join(f"data: {line}\n" for line in text.replace("\r", "\n").split("\n"))
    return f"{number}event: {name}\n{lines}\n"


async def stream(request: Request) -> Response:
    """Answer a viewer that follows a topic."""
    address = request.path_params["topic"]
    hub: Hub = request.app.state.hub
    first = await run_in_threadpool(look, request.app.state.source, request.app.state.access, address)
    seen = request.headers.get("last-event-id")
    headers: dict[str, Any] = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(hub.follow(address, first, seen), media_type="text/event-stream", headers=headers)
