"""Caches, asked and filled without a run: validators, keys, entries in stores, and reasons."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from prefectish import Task, caching, task
from prefectish.caching import keys as keys_module
from prefectish.caching.keys import KeyContext, KeyInputs, code_digest, digests_of
from prefectish.caching.lookups import Hit, Miss, cache_name, entry_of, has_cache, keep, lookup, reason
from prefectish.caching.memory import Caches
from prefectish.caching.reasons import Entry, changed, why_not
from prefectish.caching.validators import for_several
from prefectish.engine import cache_validators
from prefectish.engine.state import Cached, Failed, Skipped, Success
from prefectish.results import LocalResult
from prefectish.tasks import task_input_hash

HOUR = timedelta(hours=1)
FACTS = {"parameters": {"day": 1}, "task_slug": "load-1", "flow_name": "f"}


def load(x=1, y=2):
    return x + y


class Lock:
    """Has no value that outlives the process."""

    def __init__(self):
        self.client = threading.Lock()


def now():
    return datetime.now(UTC)


def cached(**facts):
    return Cached("m", 7, **facts)


@pytest.fixture(autouse=True)
def _no_warnings_given_yet(monkeypatch):
    monkeypatch.setattr(keys_module, "_warned", set())


# ------------------------------------------------------------------------------------------------ validators


@pytest.mark.parametrize("validator", [
    caching.duration_only, caching.all_inputs, caching.all_parameters, caching.partial_inputs_only(["x"]),
    caching.partial_parameters_only(["p"]),
])  # fmt: skip
@pytest.mark.parametrize(
    ("expires", "good"),
    [(None, True), (HOUR, True), (-HOUR, False), ("naive", True)],
)
def test_validator_refuses_what_has_expired(validator, expires, good):
    when = datetime.now() + HOUR if expires == "naive" else expires and now() + expires
    state = cached(cached_inputs={"x": 1}, cached_parameters={"p": 1}, cached_result_expiration=when)
    assert validator(state, {"x": 1}, {"p": 1}) is good


def test_never_use_uses_nothing():
    assert not caching.never_use(cached(), {}, {})


def test_duration_only_takes_other_inputs():
    assert caching.duration_only(cached(cached_inputs={"x": 1}), {"x": 2}, {})


@pytest.mark.parametrize(
    ("inputs", "all_", "x_only"),
    [
        ({"x": 1, "y": 2}, True, True),
        ({"x": 1, "y": 3}, False, True),
        ({"x": 2, "y": 2}, False, False),
        ({"x": 1}, False, True),
        ({"x": 1, "y": 2, "z": 3}, False, True),
        ({"y": 2}, False, False),
        ({}, False, False),
    ],
)
@pytest.mark.parametrize("form", ["values", "hashes"])
def test_inputs_are_compared_by_hash_or_value(inputs, all_, x_only, form):
    was = {"x": 1, "y": 2}
    state = cached(cached_inputs=was) if form == "values" else cached(hashed_inputs=digests_of(was))
    assert caching.all_inputs(state, inputs, {}) is all_
    assert caching.partial_inputs_only(["x"])(state, inputs, {}) is x_only
    assert caching.partial_inputs_only("x")(state, inputs, {}) is x_only
    assert caching.partial_inputs_only()(state, inputs, {})


def test_hashes_win_over_values():
    state = cached(cached_inputs={"x": 2}, hashed_inputs=digests_of({"x": 1}))
    assert caching.all_inputs(state, {"x": 1}, {})
    assert not caching.all_inputs(state, {"x": 2}, {})


@pytest.mark.parametrize(
    ("parameters", "all_", "p_only"),
    [
        ({"p": 1, "q": 2}, True, True),
        ({"p": 1, "q": 3}, False, True),
        ({"p": 2, "q": 2}, False, False),
        ({}, False, False),
    ],
)
def test_parameters_are_compared(parameters, all_, p_only):
    state = cached(cached_parameters={"p": 1, "q": 2})
    assert caching.all_parameters(state, {}, parameters) is all_
    assert caching.partial_parameters_only(["p"])(state, {}, parameters) is p_only
    assert caching.partial_parameters_only()(state, {}, parameters)


def test_values_that_will_not_be_compared_are_different():
    was, same = np.arange(3), np.arange(3)
    assert not caching.all_inputs(cached(cached_inputs={"x": was}), {"x": same}, {})
    assert caching.all_inputs(cached(cached_inputs={"x": was}), {"x": was}, {})
    assert caching.all_inputs(cached(hashed_inputs=digests_of({"x": was})), {"x": same}, {})


def test_validators_stand_where_users_of_prefect_look_and_can_be_pickled():
    assert cache_validators.all_inputs is caching.all_inputs
    copy = pickle.loads(pickle.dumps(cache_validators.partial_inputs_only(["x"])))
    assert copy(cached(cached_inputs={"x": 1}), {"x": 1, "y": 5}, {})


# ------------------------------------------------------------------------------------------------ cache_for


def run_twice(made, first, second, parameters=None, store=None):
    """Look up, keep what the body returned, and look up again."""
    caches = Caches()
    miss = lookup(made, first, FACTS, caches, store)
    assert isinstance(miss, Miss)
    state = keep(made, Success("done", 5), first, FACTS, miss, store)
    assert type(state) is (Cached if made.cache_key_fn is None else Success)
    caches.add(cache_name(made), entry_of(state))
    return lookup(made, second, {**FACTS, **(parameters or {})}, caches, store)


def test_task_without_a_cache_is_not_asked():
    assert not has_cache(task(load))
    assert has_cache(task(load, cache_for=HOUR))
    assert has_cache(task(load, cache_key_fn=task_input_hash))


def test_default_validator_lets_other_inputs_hit():
    found = run_twice(task(load, cache_for=HOUR), {"x": 1}, {"x": 2})
    assert found.state.result == 5
    assert found.state.cached_parameters == {"day": 1}


@pytest.mark.parametrize(("second", "hit"), [({"x": 1}, True), ({"x": 2}, False), ({"x": 1.0}, False)])
def test_all_inputs_lets_only_the_same_inputs_hit(second, hit):
    made = task(load, cache_for=HOUR, cache_validator=caching.all_inputs)
    assert isinstance(run_twice(made, {"x": 1}, second), Hit) is hit


def test_input_without_a_hash_is_compared_by_value():
    made = task(load, cache_for=HOUR, cache_validator=caching.all_inputs)
    lock = Lock()
    assert isinstance(run_twice(made, {"x": lock, "y": 1}, {"x": lock, "y": 1}), Hit)
    assert isinstance(run_twice(made, {"x": lock, "y": 1}, {"x": Lock(), "y": 1}), Miss)
    assert isinstance(run_twice(made, {"x": lock, "y": 1}, {"x": lock, "y": 2}), Miss)


def test_parameters_of_the_run_decide_if_the_validator_says_so():
    made = task(load, cache_for=HOUR, cache_validator=caching.all_parameters)
    assert isinstance(run_twice(made, {}, {}), Hit)
    assert isinstance(run_twice(made, {}, {}, {"parameters": {"day": 2}}), Miss)


def test_validator_of_the_user_is_asked_with_states_newest_first():
    asked = []

    def validator(state, inputs, parameters):
        asked.append((state.result, dict(inputs), parameters))
        return False

    made = task(load, cache_for=HOUR, cache_validator=validator)
    caches = Caches({"load": [Cached("m", 1), Cached("m", 2)], "other": [Cached("m", 3)]})
    assert isinstance(lookup(made, {"x": 1}, FACTS, caches), Miss)
    assert asked == [(2, {"x": 1}, {"day": 1}), (1, {"x": 1}, {"day": 1})]


def test_cache_key_names_the_cache():
    one, other = (
        task(load, cache_for=HOUR, cache_key="shared"),
        task(lambda: 1, name="o", cache_for=1, cache_key="shared"),
    )
    caches = Caches({"shared": [Cached("m", 1)]})
    assert lookup(one, {}, FACTS, caches).state is lookup(other, {}, FACTS, caches).state
    assert isinstance(lookup(task(load, cache_for=HOUR), {}, FACTS, caches), Miss)


def test_result_is_cached_from_now_on_and_timedelta_max_is_for_ever():
    made = task(load, cache_for=HOUR)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert keep(made, Success("m", 1), {}, FACTS, Miss(None), now=moment).cached_result_expiration == moment + HOUR
    for_ever = task(load, cache_for=timedelta.max)
    assert keep(for_ever, Success("m", 1), {}, FACTS, Miss(None)).cached_result_expiration is None


@pytest.mark.parametrize("state", [Skipped("m"), Failed("m", ValueError()), Cached("m", 1)])
def test_other_states_are_not_cached(state):
    assert keep(task(load, cache_for=HOUR), state, {}, FACTS, Miss(None)) is state


# ------------------------------------------------------------------------------------------------ memory


def test_state_takes_the_place_of_one_with_the_same_inputs():
    caches = Caches()
    for result, x in ((1, 1), (2, 2), (3, 1)):
        caches.add("c", Cached("m", result, hashed_inputs=digests_of({"x": x})))
    assert [state.result for state in caches["c"]] == [2, 3]
    assert [state.result for state in caches.of_inputs("c", digests_of({"x": 1}))] == [3]
    assert list(caches) == ["c"]
    assert len(caches) == 1
    assert Caches().get("c") is None


def test_expired_states_do_not_pile_up():
    caches = Caches()
    for i in range(100):
        caches.add("c", Cached("m", i, cached_result_expiration=now() - HOUR))
    assert [state.result for state in caches["c"]] == [99]
    assert len(list(caches.of_inputs("c", {}))) == 1


# ------------------------------------------------------------------------------------------------ keys


def test_key_is_of_the_code_and_the_arguments():
    def key(made, **arguments):
        return task_input_hash(KeyContext(made, FACTS), arguments)

    other = task(lambda x=1, y=2: x - y, name="load")
    assert key(task(load), x=1) == key(task(load, name="l", tags=["t"], retries=3), x=1)
    different = [key(task(load), x=1), key(task(load), x=2), key(task(load), y=1), key(other, x=1), key(task(load))]
    assert len(set(different)) == 5


def test_key_is_the_same_in_another_process():
    program = (
        "from prefectish.tasks import task_input_hash\n"
        "def load(x): return x in {'a', 'b', 'c'}\n"
        "from prefectish import task\n"
        "print(task_input_hash({'task': task(load)}, {'x': {'one', 'two', 'three'}}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in "123"
    }
    assert len(found) == 1


class Scaled(Task):
    def __init__(self, factor, **options):
        self.factor = factor
        super().__init__(**options)

    def run(self, x):
        return self.factor * x


def test_code_of_a_class_of_tasks_has_its_attributes_and_not_its_options():
    assert code_digest(Scaled(2)) == code_digest(Scaled(2, name="other", retries=1, tags=["t"]))
    assert code_digest(Scaled(2)) != code_digest(Scaled(3))


def test_argument_without_a_hash_is_named_once_and_makes_no_key(caplog):
    made = task(load, cache_key_fn=task_input_hash)
    rows = {"x": [1, Lock()]}
    with caplog.at_level(logging.WARNING, "prefectish"):
        for _ in range(3):
            assert task_input_hash(KeyContext(made, FACTS), rows) is None
            found = lookup(made, rows, FACTS, Caches())
    assert caplog.messages == [
        "load-1 is not cached: x[1].client cannot be hashed: a _thread.lock is not the same in another process"
    ]
    assert found.reason == "x[1].client cannot be hashed: a _thread.lock is not the same in another process"
    assert keep(made, state := Success("m", 1), rows, FACTS, found) is state


def test_key_function_sees_the_facts_the_task_and_the_arguments():
    seen = []

    def key(context, arguments):
        seen.append((context.flow_name, context["task_slug"], context.task, context.get("none", 5), arguments))
        return None

    made = task(load, cache_key_fn=key)
    found = lookup(made, {"x": 1}, FACTS, Caches())
    assert seen == [("f", "load-1", made, 5, {"x": 1})]
    assert found.reason == "cache_key_fn returned None"
    assert sorted(KeyContext(made, FACTS)) == ["flow_name", "parameters", "task", "task_slug"]
    assert len(KeyContext(made, FACTS)) == 4
    with pytest.raises(AttributeError, match="a cache key has no 'none'"):
        _ = KeyContext(made, FACTS).none


def test_key_that_is_not_text_is_an_error():
    with pytest.raises(TypeError, match="cache_key_fn of load must return a string, or None for no caching, got 3"):
        lookup(task(load, cache_key_fn=lambda context, arguments: 3), {}, FACTS, Caches())


def test_inputs_are_hashed_once():
    class Counted:
        count = 0

        def __getstate__(self):
            Counted.count += 1
            return {}

    inputs = KeyInputs({"x": Counted()})
    made = task(load, cache_key_fn=task_input_hash)
    for _ in range(3):
        lookup(made, inputs, FACTS, Caches())
    assert Counted.count == 1


# ------------------------------------------------------------------------------------------------ entries in a store


@pytest.fixture
def store(tmp_path):
    return LocalResult(tmp_path)


def kept(made, inputs, store, value=5, moment=None):
    miss = lookup(made, inputs, FACTS, Caches(), store)
    return keep(made, Success("m", value), inputs, FACTS, miss, store, moment)


def test_result_is_found_by_its_key_in_memory(store):
    made = task(load, cache_key_fn=task_input_hash)
    assert isinstance(run_twice(made, {"x": 1}, {"x": 1}), Hit)
    assert isinstance(run_twice(made, {"x": 1}, {"x": 2}), Miss)
    assert list(store.list()) == []


def test_result_is_found_by_its_key_in_the_store(store):
    made = task(load, cache_key_fn=task_input_hash)
    state = kept(made, {"x": 1}, store)
    assert state.context["location"].startswith("cache/load/")
    found = lookup(made, {"x": 1}, FACTS, Caches(), store).state
    assert (type(found), found.result, found.message) == (Cached, 5, "Result found in the cache.")
    assert found.context == entry_of(state).context
    assert found.hashed_inputs == entry_of(state).hashed_inputs
    assert isinstance(lookup(made, {"x": 2}, FACTS, Caches(), store), Miss)


def test_store_is_asked_only_when_memory_has_nothing(store):
    made = task(load, cache_key_fn=task_input_hash)
    state = entry_of(kept(made, {"x": 1}, store))
    caches = Caches({"load": [state]})
    store.delete(state.context["location"])
    assert lookup(made, {"x": 1}, FACTS, caches, store).state is state


def test_entry_that_has_expired_is_not_an_entry(store):
    made = task(load, cache_key_fn=task_input_hash, cache_expiration=HOUR)
    kept(made, {"x": 1}, store, moment=now() - 2 * HOUR)
    found = lookup(made, {"x": 1}, FACTS, Caches(), store)
    assert found.reason.startswith("expired at 20")
    kept(made, {"x": 1}, store, value=6)
    assert lookup(made, {"x": 1}, FACTS, Caches(), store).state.result == 6


def test_none_is_a_result_like_any_other(store):
    made = task(load, cache_key_fn=task_input_hash)
    kept(made, {}, store, value=None)
    assert lookup(made, {}, FACTS, Caches(), store).state.result is None


def test_keys_of_the_user_may_have_any_form(store):
    for key in ("../../x", "a\0b", "x" * 5000, "CON", ""):
        made = task(load, cache_key_fn=lambda context, arguments, key=key: key)
        kept(made, {}, store, value=key)
        assert lookup(made, {}, FACTS, Caches(), store).state.result == key
    assert all(place.startswith("cache/load/") for place in store.list())


def test_h7_damaged_entry_is_absent_and_written_anew(store, tmp_path, caplog):
    made = task(load, cache_key_fn=task_input_hash)
    path = tmp_path / kept(made, {"x": 1}, store).context["location"]
    path.write_bytes(path.read_bytes()[:-1])
    found = lookup(made, {"x": 1}, FACTS, Caches(), store)
    assert "cannot be used" in found.reason
    assert "a cached result cannot be read" in caplog.text
    keep(made, Success("m", 6), {"x": 1}, FACTS, found, store)
    assert lookup(made, {"x": 1}, FACTS, Caches(), store).state.result == 6


def test_entry_in_the_place_of_another_is_not_used(store, tmp_path):
    made = task(load, cache_key_fn=task_input_hash)
    one, other = (tmp_path / kept(made, {"x": x}, store).context["location"] for x in (1, 2))
    one.write_bytes(other.read_bytes())
    assert "belongs to another key" in lookup(made, {"x": 1}, FACTS, Caches(), store).reason


def test_miss_travels():
    copy = pickle.loads(pickle.dumps(Miss("why", "key", {"x": "1"})))
    assert (copy.reason, copy.key, copy.parts) == ("why", "key", {"x": "1"})


# ------------------------------------------------------------------------------------------------ why not


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"x": "1"}, {"x": "1"}, []),
        ({"x": "1", "y": "1"}, {"x": "2", "y": "1"}, ["argument 'x' changed"]),
        ({"x": "1"}, {"y": "1"}, ["argument 'y' is new", "argument 'x' is gone"]),
        ({"x": "1", "its code": "1"}, {"x": "2", "its code": "2"}, ["its code changed", "argument 'x' changed"]),
        ({"x": None}, {"x": None}, ["argument 'x' changed"]),
    ],
)
def test_changes_are_reported_in_words(old, new, words):
    assert changed(old, new) == words


def test_nearest_entry_explains():
    entries = [
        Entry({"x": "9", "y": "9"}, "monday"),
        Entry({"x": "1", "y": "9"}, "friday"),
        Entry({"x": "8", "y": "2"}),
    ]
    assert why_not({"x": "1", "y": "2"}, entries) == "argument 'y' changed since friday"
    assert why_not({"x": "1", "y": "9"}, entries) == "the key changed since friday, and no argument did"
    assert why_not({"x": "1"}, []) == "nothing is cached yet"


def test_part_of_the_key_that_changed_is_named(store):
    made = task(load, cache_key_fn=task_input_hash)
    assert reason(made, lookup(made, {"x": 1}, FACTS, Caches(), store), Caches(), store) == "nothing is cached yet"
    kept(made, {"x": 1, "y": 1}, store, moment=datetime(2026, 1, 2, tzinfo=UTC))
    changed_input = lookup(made, {"x": 1, "y": 3}, FACTS, Caches(), store)
    assert reason(made, changed_input, Caches(), store) == "argument 'y' changed since 2026-01-02T00:00:00+00:00"
    fixed = task(lambda x=1, y=2: x * y, name="load", cache_key_fn=task_input_hash)
    changed_code = lookup(fixed, {"x": 1, "y": 1}, FACTS, Caches(), store)
    assert reason(fixed, changed_code, Caches(), store).startswith("its code changed since 2026")


def test_reasons_of_caches_in_memory():
    made = task(load, cache_for=HOUR, cache_validator=caching.all_inputs)
    caches = Caches()
    miss = lookup(made, {"x": 1}, FACTS, caches)
    assert reason(made, miss, caches) == "nothing is cached yet"
    caches.add("load", keep(made, Success("m", 1), {"x": 1}, FACTS, miss))
    assert reason(made, lookup(made, {"x": 2}, FACTS, caches), caches) == "argument 'x' changed"
    by_time = task(load, cache_for=HOUR)
    stale = Caches({"load": [cached(cached_result_expiration=now() - HOUR)]})
    assert "has expired" in reason(by_time, lookup(by_time, {}, FACTS, stale), stale)
    assert reason(by_time, lookup(by_time, {}, FACTS, Caches()), Caches()) == "nothing is cached yet"
    never = task(load, cache_for=HOUR, cache_validator=caching.never_use)
    assert "never_use" in reason(never, lookup(never, {}, FACTS, stale), stale)


def test_reason_of_a_lookup_wins():
    assert reason(task(load, cache_for=HOUR), Miss("because"), Caches()) == "because"


def test_h7_damaged_entry_explains_nothing(store, tmp_path):
    made = task(load, cache_key_fn=task_input_hash)
    path = tmp_path / kept(made, {"x": 1}, store).context["location"]
    path.write_bytes(b"garbage")
    assert reason(made, lookup(made, {"x": 2}, FACTS, Caches(), store), Caches(), store) == "nothing is cached yet"


def test_validator_alone_reads_what_the_context_holds_and_adds_nothing():
    with pytest.warns(UserWarning, match="cache_validator has no effect without cache_for"):
        made = task(load, cache_validator=caching.duration_only)
    assert isinstance(lookup(made, {}, FACTS, Caches({"load": [cached()]})), Hit)
    assert keep(made, state := Success("m", 1), {}, FACTS, Miss(None)) is state


@pytest.mark.parametrize("name", ["partial_inputs_only", "partial_parameters_only"])
def test_all_inputs_of_children_count_for_a_subclass_of_a_validator_too(name):
    own = type("Own", (getattr(cache_validators, name),), {"__call__": lambda self, state, inputs, parameters: answer})
    state = Cached(cached_inputs={"x": 1}, cached_result_expiration=datetime.now(UTC) + HOUR)
    for answer in (True, False):
        assert [for_several(own())(state, {"x": x}, {}) for x in (1, 2)] == [answer, False]
