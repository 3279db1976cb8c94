"""The cache of a step: looked up before the body, filled after it, and taken along to another process."""

from __future__ import annotations

import pickle
from datetime import timedelta

import pytest
from jobs import jobs_of

from prefectish import Flow, task
from prefectish.caching import all_parameters
from prefectish.caching.memory import Caches
from prefectish.engine.state import Cached, Failed, Pending, Success
from prefectish.engine.worker import cache
from prefectish.engine.worker.attempt_context import AttemptContext
from prefectish.engine.worker.cache import WHY, CacheSpec, can_probe, remember

RUN = {"flow_run_id": "r1", "flow_name": "flow", "parameters": {}}


def load(x):
    return x


def spec_and_context(**options):
    with Flow("caches") as flow:
        task(load, **options)(1)
    _, (job,) = jobs_of(flow)
    spec = job.chain.steps[0]
    return CacheSpec(spec.task, None, Caches()), AttemptContext(RUN, spec, -1, Pending())


def filled(spec, ctx, value=5):
    """Return the state that a cache makes of a result, as the process remembers it."""
    _, miss = spec.lookup(ctx, {"x": 1})
    state = spec.save(ctx, {"x": 1}, Success(None, value), miss)
    spec.caches.add("load", state)
    return state


def test_result_becomes_a_cached_state_with_the_reason_for_its_run():
    state = filled(*spec_and_context(cache_for=timedelta(hours=1)))
    assert (type(state), state.result) == (Cached, 5)
    assert WHY in state.context


def test_hit_stands_for_the_run_without_the_reason_of_the_former_one():
    spec, ctx = spec_and_context(cache_for=timedelta(hours=1))
    filled(spec, ctx)
    later = AttemptContext({**RUN, "flow_run_id": "r2"}, ctx.spec, -1, Pending())
    state, miss = CacheSpec(spec.task, None, spec.caches).lookup(later, {"x": 1})
    assert (type(state), state.result, miss) == (Cached, 5, None)
    assert WHY not in state.context


def test_key_function_that_raises_fails_the_child():
    spec, ctx = spec_and_context(cache_key_fn=lambda ctx, inputs: 1 / 0)
    state, miss = spec.lookup(ctx, {"x": 1})
    assert (type(state), miss) == (Failed, None)
    assert state.message.startswith("the cache of load could not be asked: ZeroDivisionError")


def test_newest_states_travel_to_another_process(monkeypatch):
    spec, ctx = spec_and_context(cache_for=timedelta(hours=1), cache_validator=all_parameters)
    for value in range(4):
        filled(spec, ctx, value)
    assert [state.result for state in arrived(spec)] == [3, 2, 1, 0]
    monkeypatch.setattr(cache, "MOST_SENT", 2 * cache._STATE_BYTES + 20)
    assert [state.result for state in arrived(spec)] == [3, 2]


def arrived(spec):
    return list(pickle.loads(pickle.dumps(spec)).caches.newest_first("load"))


def test_one_valid_state_travels_where_time_alone_counts():
    spec, ctx = spec_and_context(cache_for=timedelta(hours=1))
    for value in range(4):
        filled(spec, ctx, value)
    assert [state.result for state in arrived(spec)] == [3]


def test_no_state_travels_that_the_client_finds_by_its_key():
    spec, ctx = spec_and_context(cache_for=timedelta(hours=1))
    spec.shared = True
    filled(spec, ctx)
    assert arrived(spec) == []
    spec.task.cache_isolation = False
    assert [state.result for state in arrived(spec)] == [5]


@pytest.mark.parametrize(
    ("options", "state", "count"),
    [
        ({"cache_for": timedelta(hours=1)}, Cached(None, 1), 1),
        ({"cache_for": timedelta(hours=1)}, Success(None, 1), 0),
        ({}, Cached(None, 1), 0),
    ],
)
def test_process_remembers_cached_states_of_tasks_with_a_cache(monkeypatch, options, state, count):
    monkeypatch.setattr(cache, "CACHES", Caches())
    remember(task(load, **options), state)
    assert len(list(cache.CACHES.newest_first("load"))) == count


@pytest.mark.parametrize(("options", "probes"), [({}, False), ({"cache_for": timedelta(hours=1)}, True)])
def test_step_with_a_cache_can_be_probed(options, probes):
    with Flow("probes") as flow:
        task(load, **options)(1)
    _, (job,) = jobs_of(flow)
    assert can_probe(job.chain.steps[0]) is probes
