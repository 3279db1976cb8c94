"""A cache is asked before a place under a limit is taken: what it has takes none."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from real import spend, until

from prefectish import Flow, Parameter, task, unmapped
from prefectish.engine.state import Cached, Queued, State, Success
from prefectish.engine.worker.cache import CACHES
from prefectish.executors import LocalDaskExecutor
from prefectish.results import LocalResult
from prefectish.tasks import task_input_hash

Run = Callable[..., State]
#: Of a limit so tight that a run in which each child takes a place takes as many seconds.
ONE_A_SECOND = 1.0


@pytest.fixture(autouse=True)
def empty_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CACHES, "_shelves", {})
    monkeypatch.setattr(CACHES, "_loose", {})


def note(path: str, text: str) -> None:
    with open(path, "a") as file:
        file.write(f"{text}\n")


def flow_of(tmp_path: Path, items: list[int], stored: bool = True, **options: Any) -> tuple[Flow, Any]:
    bodies = str(tmp_path / "bodies")

    def square(x: int) -> int:
        with open(bodies, "a") as file:
            file.write(f"{x}\n")
        return x * x

    with Flow("looks", result=LocalResult(dir=tmp_path / "results") if stored else None) as flow:
        squares = task(square, **options).map(items)
    return flow, squares


def ran(tmp_path: Path) -> Counter[str]:
    path = tmp_path / "bodies"
    found = Counter(path.read_text().split()) if path.exists() else Counter()
    path.unlink(missing_ok=True)
    return found


def test_hits_take_no_place_under_a_rate(run: Run, tmp_path: Path) -> None:
    flow, squares = flow_of(tmp_path, list(range(30)), cache_key_fn=task_input_hash)
    assert run(flow).is_successful()
    ran(tmp_path)
    flow, squares = flow_of(tmp_path, [*range(30), 100], cache_key_fn=task_input_hash, rate=ONE_A_SECOND)
    began = time.monotonic()
    state = run(flow)
    assert time.monotonic() - began < 25  # thirty places would take thirty seconds
    assert state.result[squares].result == [x * x for x in [*range(30), 100]]
    assert ran(tmp_path) == Counter({"100": 1})


def test_misses_keep_to_their_limit(run: Run, tmp_path: Path) -> None:
    marks = tmp_path / "marks"

    def slow(x: int) -> int:
        with open(marks, "a") as file:
            file.write("+\n")
        spend(0.02)
        with open(marks, "a") as file:
            file.write("-\n")
        return x

    with Flow("limited", result=LocalResult(dir=tmp_path / "results")) as flow:
        done = task(slow, cache_key_fn=task_input_hash, max_concurrency=1).map(list(range(10)))
    assert run(flow).result[done].result == list(range(10))
    assert marks.read_text().split() == ["+", "-"] * 10


def test_hits_continue_while_all_places_are_taken(tmp_path: Path) -> None:
    """One child holds the only place until all that are cached have ended."""
    flow, _ = flow_of(tmp_path, list(range(1, 100)), cache_key_fn=task_input_hash, name="shared")
    assert flow.run(history=False).is_successful()
    ended: list[int] = []

    def hold(x: int) -> int:
        until(lambda: len(ended) >= 99, 60)
        return x

    def see(task: Any, old: State, new: State) -> None:
        if isinstance(new, Cached) and not old.is_running():
            ended.append(1)

    def key(context: Any, arguments: Any) -> str:
        return f"key of {arguments['x']}"

    with Flow("filled", result=LocalResult(dir=tmp_path / "store")) as filled:
        task(lambda x: x, name="held", cache_key_fn=key).map(list(range(1, 100)))
    assert filled.run(history=False).is_successful()
    with Flow("held", result=LocalResult(dir=tmp_path / "store")) as flow:
        held = task(hold, name="held", cache_key_fn=key, max_concurrency=1, state_handlers=[see]).map(list(range(100)))
    state = flow.run(executor=LocalDaskExecutor(num_workers=2), history=False)
    assert state.result[held].result == list(range(100))


def test_caches_in_memory_and_targets_are_asked_too(run: Run, tmp_path: Path) -> None:
    options: list[dict[str, Any]] = [
        {"cache_for": timedelta(hours=1), "name": "memory"},
        {"target": "squares/${x}", "name": "target"},
    ]
    for option in options:
        flow, squares = flow_of(tmp_path, list(range(12)), **option)
        run(flow)
        ran(tmp_path)
        flow, squares = flow_of(tmp_path, list(range(12)), rate=ONE_A_SECOND, **option)
        began = time.monotonic()
        children = run(flow).result[squares].map_states
        assert [type(child) for child in children] == [Cached] * 12
        assert time.monotonic() - began < 10
        assert not ran(tmp_path)


def test_limit_of_a_tag_is_not_taken_by_a_hit(tmp_path: Path) -> None:
    flow, _ = flow_of(tmp_path, [1, 2], cache_key_fn=task_input_hash)
    flow.run(history=False)
    ran(tmp_path)
    flow, squares = flow_of(tmp_path, [1, 2, 3], cache_key_fn=task_input_hash, tags={"db"})
    state = flow.run(executor=LocalDaskExecutor(num_workers=2, tag_limits={"db": 1}), history=False)
    assert state.result[squares].result == [1, 4, 9]
    assert ran(tmp_path) == Counter({"3": 1})


def test_places_are_given_back_however_a_look_ends(tmp_path: Path) -> None:
    """More children than places, of which some hit, some miss, some fail before their body, and some are retried."""
    flow, _ = flow_of(tmp_path, list(range(0, 50, 2)), cache_key_fn=task_input_hash)
    flow.run(history=False)

    tried: Counter[int] = Counter()

    def odd(x: int) -> int:
        tried[x] += 1
        if x % 5 == 0 and tried[x] == 1:
            raise ValueError("once")
        return x

    def key(context: Any, arguments: Any) -> str | None:
        if arguments["x"] == 7:
            raise KeyError("no key")
        return str(arguments["x"]) if arguments["x"] % 3 else None

    with Flow("mixed", result=LocalResult(dir=tmp_path / "store")) as flow:
        children = task(odd, cache_key_fn=key, max_concurrency=2, max_retries=1, retry_delay=0.01).map(list(range(200)))
        second = task(lambda x, y: y, name="second", max_concurrency=2).map(children, unmapped(1))
    for _ in range(2):
        state = flow.run(executor=LocalDaskExecutor(num_workers=4), history=False)
        states = state.result[children].map_states
        assert {type(child).__name__ for n, child in enumerate(states) if n != 7} <= {"Success", "Cached"}
        assert states[7].is_failed()
        assert len(state.result[second].map_states) == 200


def test_stopped_map_and_cancelled_run_leave_no_waiting_future(tmp_path: Path) -> None:
    def fail(x: int) -> int:
        raise ValueError(x)

    with Flow("stopped", result=LocalResult(dir=tmp_path)) as flow:
        children = task(
            fail, cache_key_fn=task_input_hash, max_concurrency=1, on_child_failure="stop", max_failures=2
        ).map(list(range(500)))
    state = flow.run(executor=LocalDaskExecutor(num_workers=2), history=False)
    kinds = Counter(type(child).__name__ for child in state.result[children].map_states)
    assert kinds.keys() == {"Failed", "Cancelled"}
    assert sum(kinds.values()) == 500


def test_resumed_run_takes_no_place_for_what_is_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "history.db")
    flow, _ = flow_of(tmp_path, list(range(20)))
    run_id = flow.run(history=path).context["flow_run_id"]
    ran(tmp_path)
    flow, squares = flow_of(tmp_path, [*range(20), 50], rate=ONE_A_SECOND)
    began = time.monotonic()
    assert flow.resume(run_id, history=path).result[squares].result[-1] == 2500
    assert time.monotonic() - began < 15
    assert ran(tmp_path) == Counter({"50": 1})


def test_single_task_under_a_limit_looks_first(run: Run, tmp_path: Path) -> None:
    with Flow("single", result=LocalResult(dir=tmp_path)) as flow:
        one = task(lambda n: n + 1, name="one", cache_key_fn=task_input_hash, max_concurrency=1)(Parameter("n"))
    assert type(run(flow, n=1).result[one]) is Success
    assert type(run(flow, n=1).result[one]) is Cached
    assert run(flow, n=1).result[one].result == 2
    assert run(flow, n=2).result[one].result == 3


def test_queued_state_that_a_caller_gives_is_not_a_look() -> None:
    with Flow("given") as flow:
        children = task(lambda x: x, name="same", cache_key_fn=task_input_hash, max_concurrency=1).map([1, 2])
    state = flow.run(task_states={children: Queued("waits")}, history=False)
    assert state.result[children].result == [1, 2]
