"""What viewers follow is looked up once, whoever many they are, and each gets what changed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("sqlalchemy")
pytest.importorskip("multipart")

from recorded_flows import example

from prefectish import history
from prefectish.history import shared_limits
from prefectish.history.store import open_store
from prefectish.ui import events
from prefectish.ui.access import Access
from prefectish.ui.events import Hub, look, message
from prefectish.ui.source import NotFound, Source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIMIT = 60.0


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setattr(events, "INTERVAL", 0.05)
    monkeypatch.setattr(events, "IDLE_INTERVAL", 0.05)
    path = tmp_path / "history.db"
    example().run(history=path, progress=False)
    return Source(open_store(path))


async def until_event(stream: AsyncIterator[str], name: str) -> str:
    async with asyncio.timeout(LIMIT):
        async for text in stream:
            if f"event: {name}\n" in text:
                return text
    raise AssertionError(name)


def test_many_viewers_cost_one_look(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    begun = ended = 0

    def counted(given: Source, access: Access, address: str) -> Any:
        nonlocal begun, ended
        assert begun == ended  # one after the other
        begun += 1
        found = look(given, access, address)
        looks.append(found.events["changed"])
        ended += 1
        return found

    monkeypatch.setattr(events, "look", counted)

    async def watch() -> None:
        access = Access("t" * 30)
        hub = Hub(source, access)
        first = look(source, access, "limits")
        streams = [hub.follow("limits", first, None) for _ in range(100)]
        for stream in streams:
            assert (await anext(stream)).startswith("retry: ")
        assert hub.topics == {"limits": 100}
        for stream in streams:
            assert first.events["changed"] in await until_event(stream, "changed")  # what each of them came to
        await asyncio.to_thread(shared_limits.set_limit, "db", 3, source.store.address)
        found = await asyncio.gather(*(until_event(stream, "changed") for stream in streams))
        assert len(set(found)) == 1  # of one look, not of one for each viewer
        assert begun - ended <= 1
        assert looks[-1] in found[0]
        for stream in streams:
            await stream.aclose()  # type: ignore[attr-defined]
        assert hub.topics == {}

    asyncio.run(watch())


def test_a_viewer_of_a_run_gets_its_fragments_and_then_what_changed(source: Source) -> None:
    run = history.runs(1, store=source.store.address)[0]

    async def watch() -> None:
        access = Access("t" * 30)
        hub = Hub(source, access)
        stream = hub.follow(f"run/{run.id}", look(source, access, f"run/{run.id}"), None)
        assert run.flow_name in await until_event(stream, "head")
        await asyncio.to_thread(example().resume, run.id, history=source.store.address, retry_failed=True)
        text = await until_event(stream, "head")
        assert "event: graph" not in text or "event: tasks" in text
        hub.close()
        async with asyncio.timeout(LIMIT):
            async for _ in stream:  # it ends with the server
                pass

    asyncio.run(watch())


def test_a_history_that_is_away_ends_no_stream(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefectish.errors import HistoryWriteError

    is_away = True

    def broken(given: Source, access: Access, address: str) -> Any:
        if is_away:
            raise HistoryWriteError("the server does not answer")
        return look(given, access, address)

    async def watch() -> None:
        nonlocal is_away
        access = Access("t" * 30)
        hub = Hub(source, access)
        first = look(source, access, "limits")
        monkeypatch.setattr(events, "look", broken)
        stream = hub.follow("limits", first, None)
        assert "the server does not answer" in await until_event(stream, "trouble")
        is_away = False
        await until_event(stream, "well")
        await asyncio.to_thread(shared_limits.set_limit, "db", 3, source.store.address)
        await until_event(stream, "changed")
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(watch())


def test_who_was_away_is_told_that_something_changed(source: Source) -> None:
    async def watch() -> None:
        access = Access("t" * 30)
        hub = Hub(source, access)
        first = look(source, access, "agents")
        seen = first.events["changed"]
        for last, is_told in ((None, True), (seen, False), ("before", True)):
            stream = hub.follow("agents", first, last)
            await anext(stream)
            if is_told:
                assert seen in await until_event(stream, "changed")
            else:
                assert not next(iter(hub._followed["agents"].viewers)).pending
            await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(watch())


@pytest.mark.parametrize("address", ["", "nothing", "run", "run/nothing", "runs/1", "task/x/y", "item/x/1/-1"])
def test_a_topic_must_be_there(source: Source, address: str) -> None:
    with pytest.raises(NotFound):
        look(source, Access("t" * 30), address)


def test_a_text_forges_no_event() -> None:
    text = message("head", "a\r\n\r\nevent: forged\rdata: x")
    assert [line for line in text.split("\n") if line.startswith("event:")] == ["event: head"]
    assert "\r" not in text
