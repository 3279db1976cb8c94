"""Results, targets and caches through whole runs, on every executor."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from prefectish import Flow, flow, task, triggers
from prefectish.caching import all_inputs
from prefectish.engine.state import Cached, Failed, State, Success, TriggerFailed
from prefectish.errors import ResultStoreNotShared
from prefectish.executors import DaskExecutor
from prefectish.results import FSResult, LocalResult
from prefectish.tasks import task_input_hash

Run = Callable[..., State]
HOUR = timedelta(hours=1)


class Bodies:
    """Counts bodies, wherever they run, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def note(self) -> None:
        file = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(file, b".")
        os.close(file)

    @property
    def count(self) -> int:
        return os.path.getsize(self.path) if os.path.exists(self.path) else 0


@pytest.fixture
def bodies(tmp_path: Path) -> Bodies:
    return Bodies(tmp_path / "bodies")


@pytest.fixture
def store(tmp_path: Path) -> LocalResult:
    return LocalResult(dir=tmp_path / "results")


def counted(bodies: Bodies, name: str, **options: Any) -> Any:
    def body(x: Any) -> Any:
        bodies.note()
        return x * 2

    return task(body, name=name, **options)


def test_results_are_kept_in_the_store_and_read_from_it(run: Run, store: LocalResult) -> None:
    large = task(lambda x: bytes(100_000) + bytes([x]), name="large")
    with Flow("kept", result=store) as flow:
        single, mapped = large(1), large.map([2, 3])
        lengths = task(lambda values: [len(v) for v in values], name="lengths")(mapped)
    state = run(flow)
    assert state.result[single].result[-1] == 1
    assert [value[-1] for value in state.result[mapped].result] == [2, 3]
    assert state.result[lengths].result == [100_001, 100_001]
    run_id = state.context["flow_run_id"]
    assert len(list(store.list(run_id))) == 4


def test_checkpoint_false_keeps_nothing(run: Run, store: LocalResult, bodies: Bodies) -> None:
    with Flow("not kept", result=store) as flow:
        out = counted(bodies, "plain", checkpoint=False)(2)
    assert run(flow).result[out].result == 4
    assert list(store.list()) == []


def test_child_that_would_overwrite_the_result_of_another_fails(run: Run, tmp_path: Path) -> None:
    store = LocalResult(dir=tmp_path / "results", location="${kind}.pickle")
    pair = task(lambda kind, n: (kind, n), name="pair")
    with Flow("places", result=store) as flow:
        pairs = pair.map(["a", "b", "a"], [1, 2, 3])
        count = task(len, name="count", trigger=triggers.all_finished, result=LocalResult(dir=tmp_path / "counts"))(
            pairs
        )
    for _ in range(2):  # what another run left there may go
        state = run(flow)
        good = [child for child in state.result[pairs].map_states if child.is_successful()]
        [bad] = [child for child in state.result[pairs].map_states if child.is_failed()]
        assert {child.result for child in good} == {("a", 1), ("b", 2)}
        assert bad.message == (
            "result could not be stored: ValueError: 'a.pickle' is where pair[0] keeps its result, not pair[2]; "
            "put ${item_key} or ${map_index} into the location"
        )
        assert store.load("a.pickle") == ("a", 1)
        assert state.result[count].result == 3


def test_w12_result_that_cannot_be_stored_fails_its_task(run: Run, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    with Flow("full", result=LocalResult(dir=blocked)) as flow:
        out = task(lambda: 1, name="one")()
    state = run(flow)
    assert type(state.result[out]) is Failed
    assert state.result[out].message.startswith("result could not be stored: ")


def test_target_stands_for_a_run(run: Run, store: LocalResult, bodies: Bodies) -> None:
    with Flow("target", result=store) as flow:
        out = counted(bodies, "make", target="made/${x}.pkl").map([1, 2])
    assert [type(child) for child in run(flow).result[out].map_states] == [Success, Success]
    state = run(flow)
    assert [type(child) for child in state.result[out].map_states] == [Cached, Cached]
    assert state.result[out].result == [2, 4]
    assert bodies.count == 2


def test_h7_damaged_target_counts_as_absent(run: Run, store: LocalResult, bodies: Bodies) -> None:
    with Flow("damaged", result=store) as flow:
        out = counted(bodies, "make", target="made/one.pkl")(1)
    run(flow)
    file = Path(store.dir) / "made" / "one.pkl"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert type(run(flow).result[out]) is Success
    assert bodies.count == 2


def test_cache_for_hits_whatever_the_inputs(run: Run, bodies: Bodies, request: pytest.FixtureRequest) -> None:
    name = request.node.name
    for x in (1, 2):
        with Flow("duration") as flow:
            out = counted(bodies, name, cache_for=HOUR)(x)
        state = run(flow)
        assert type(state.result[out]) is Cached
        assert state.result[out].result == 2
        assert state.result[out].why_not_cached() == ("nothing is cached yet" if x == 1 else None)
    assert bodies.count == 1


def test_cache_for_with_inputs_hits_child_by_child(run: Run, bodies: Bodies, request: pytest.FixtureRequest) -> None:
    name = request.node.name
    for items in ([1, 2, 3], [3, 4, 1]):
        with Flow("inputs") as flow:
            out = counted(bodies, name, cache_for=HOUR, cache_validator=all_inputs).map(items)
        state = run(flow)
        assert state.result[out].result == [2 * x for x in items]
    assert bodies.count == 4


def test_key_is_found_in_the_store_and_the_reason_of_a_miss_is_reported(
    run: Run, bodies: Bodies, store: LocalResult, request: pytest.FixtureRequest
) -> None:
    options = {"cache_key_fn": task_input_hash, "cache_expiration": HOUR}
    reasons = []
    for x, kind in ((1, Success), (1, Cached), (5, Success)):
        with Flow("keyed", result=store) as flow:
            out = counted(bodies, request.node.name, **options)(x)
        state = run(flow).result[out]
        assert (type(state), state.result) == (kind, 2 * x)
        reasons.append(state.why_not_cached())
    assert bodies.count == 2
    assert "x" in str(reasons[2])


def test_failed_upstream_beats_a_valid_cache(run: Run, bodies: Bodies, request: pytest.FixtureRequest) -> None:
    def fail() -> None:
        raise ValueError("no")

    cached = counted(bodies, request.node.name, cache_for=HOUR)
    with Flow("first") as first:
        cached(1)
    run(first)
    with Flow("second") as flow:
        out = cached(1, upstream_tasks=[task(fail, name="fail")()])
    assert type(run(flow).result[out]) is TriggerFailed


def test_failures_are_not_cached(run: Run, bodies: Bodies, request: pytest.FixtureRequest) -> None:
    def fail(x: int) -> int:
        bodies.note()
        raise ValueError(x)

    with Flow("fails") as flow:
        out = task(fail, name=request.node.name, cache_for=HOUR, trigger=triggers.all_successful)(1)
    for _ in range(2):
        assert type(run(flow).result[out]) is Failed
    assert bodies.count == 2


def test_h9_store_that_workers_do_not_share_is_found_before_anything_runs(dask_client: Any, bodies: Bodies) -> None:
    with Flow("memory", result=FSResult("memory://of-each-process")) as flow:
        counted(bodies, "plain")(1)
    with pytest.raises(ResultStoreNotShared, match="of-each-process") as caught:
        flow.run(executor=DaskExecutor(client=dask_client), history=False)
    assert caught.value.exit_code == 3
    assert bodies.count == 0


def test_h9_store_of_a_flow_function_is_checked_at_the_first_call(dask_client: Any, bodies: Bodies) -> None:
    @flow(result=FSResult("memory://of-each-process"), executor=DaskExecutor(client=dask_client), history=False)
    def stores() -> Any:
        return counted(bodies, "plain").submit(1).wait()

    with pytest.raises(ResultStoreNotShared, match="of-each-process"):
        stores()
    assert bodies.count == 0


@pytest.mark.parametrize("options", [{"cache_key_fn": task_input_hash}, {"cache_for": HOUR}], ids=["key", "for"])
@pytest.mark.parametrize("size", [1, 100_000], ids=["small", "large"])
def test_result_that_was_deleted_is_computed_anew(
    run: Run, bodies: Bodies, tmp_path: Path, request: pytest.FixtureRequest, options: dict[str, Any], size: int
) -> None:
    def fill(x: int) -> bytes:
        bodies.note()
        return bytes([x]) * size

    store = LocalResult(tmp_path / "store")
    with Flow("deleted", result=store) as flow:
        filled = task(fill, name=request.node.name, **options).map([1, 2, 1])
        firsts = task(lambda values: [value[0] for value in values], name="firsts")(filled)
    for deleted in (False, False, True):
        if deleted:
            for name in list(store.list()):
                store.delete(name)
        assert run(flow).result[firsts].result == [1, 2, 1]
        assert bodies.count in ((2, 4) if deleted else (2,))
