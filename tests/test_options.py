"""Options of tasks: what each accepts, and in which form it is kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from labels import label

from prefectish import Task, task
from prefectish.engine.state import Failed, Success
from prefectish.results import LocalResult
from prefectish.tasks.options import CHECKS, OPTION_NAMES
from prefectish.tasks.spellings import SAME
from prefectish.triggers import all_failed, all_successful


def keep(*_: Any) -> None: ...


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"tags": ["b", "a"]}, {"tags": frozenset("ab")}),
        ({"slug": "s"}, {"slug": "s"}),
        ({"timeout": 0.5}, {"timeout": 0.5}),
        ({"timeout": timedelta(minutes=1)}, {"timeout": 60.0}),
        ({"total_timeout": 3, "map_timeout": 4}, {"total_timeout": 3.0, "map_timeout": 4.0}),
        ({"isolation": "process"}, {"isolation": "process"}),
        ({"trigger": all_failed}, {"trigger": all_failed}),
        ({"trigger": None}, {"trigger": all_successful}),
        ({"skip_on_upstream_skip": False}, {"skip_on_upstream_skip": False}),
        ({"state_handlers": (keep,)}, {"state_handlers": [keep]}),
        ({"state_handlers": {keep}}, {"state_handlers": [keep]}),
        ({"state_handlers": None}, {"state_handlers": []}),
        ({"log_stdout": True, "strict_map": False}, {"log_stdout": True, "strict_map": False}),
        ({"nout": 2}, {"nout": 2}),
        ({"batch_size": "auto"}, {"batch_size": "auto"}),
        ({"batch_size": 5}, {"batch_size": 5}),
        ({"max_concurrency": 2}, {"max_concurrency": 2}),
        ({"max_branches": 2}, {"max_branches": 2}),
        ({"rate": "10/s"}, {"rate": 10.0}),
        ({"rate": "600/m"}, {"rate": 10.0}),
        ({"rate": "90 / h"}, {"rate": 0.025}),
        ({"rate": 3}, {"rate": 3.0}),
        ({"on_child_failure": "stop"}, {"on_child_failure": "stop"}),
        ({"max_failures": 0.1}, {"max_failures": 0.1}),
        ({"max_failures": 5}, {"max_failures": 5}),
        ({"min_sample": 7}, {"min_sample": 7}),
        ({"resources": {"GPU": 1}}, {"resources": {"GPU": 1}}),
        ({"workers": "tcp://a:1"}, {"workers": ("tcp://a:1",)}),
        ({"workers": ["a", "b"]}, {"workers": ("a", "b")}),
        ({"priority": -1.5}, {"priority": -1.5}),
        ({"priority": keep}, {"priority": keep}),
        ({"crash_retries": 2}, {"crash_retries": 2}),
        ({"rerun_on_loss": False}, {"rerun_on_loss": False}),
        ({"target": "${item_key}.json"}, {"target": "${item_key}.json"}),
        ({"target": keep, "checkpoint": False}, {"target": keep, "checkpoint": False}),
        ({"item_key": "url"}, {"item_key": "url"}),
        ({"item_key": keep}, {"item_key": keep}),
        ({"cache_for": 60}, {"cache_for": timedelta(minutes=1)}),
        ({"cache_for": timedelta.max, "cache_validator": keep}, {"cache_for": timedelta.max, "cache_validator": keep}),
        ({"cache_for": 1, "cache_key": "shared"}, {"cache_key": "shared"}),
        ({"cache_key_fn": keep, "cache_expiration": timedelta(days=1)}, {"cache_expiration": timedelta(days=1)}),
        ({"max_retries": 2, "retry_delay": 1}, {"max_retries": 2, "retry_delay": 1}),
        ({"retries": 2}, {"max_retries": 2, "retry_delay": 0}),
        ({"retries": 2, "retry_delay_seconds": [1, 2]}, {"max_retries": 2, "retry_delay": [1, 2]}),
        ({"retries": 0, "retry_delay_seconds": 3}, {"max_retries": 0, "retry_delay": None}),
        ({"retries": 1, "retry_on": OSError}, {"retry_on": (OSError,)}),
        ({"retries": 1, "retry_backoff": 2, "retry_jitter": 0.1}, {"retry_backoff": 2, "retry_jitter": 0.1}),
    ],
    ids=label,
)
def test_option_is_kept_in_the_form_the_engine_reads(options: dict[str, Any], kept: dict[str, Any]) -> None:
    made = Task(**options)
    assert {name: getattr(made, name) for name in kept} == kept
    copied = Task().copy(**options)
    assert {name: getattr(copied, name) for name in kept} == kept


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"name": 5}, TypeError, "name must be a string, got 5"),
        ({"slug": 5}, TypeError, "slug must be a string, got 5"),
        ({"tags": "abc"}, TypeError, "tags must be a list of strings, got 'abc'"),
        ({"tags": [1]}, TypeError, "tags must be a list of strings, got 1"),
        ({"timeout": 0}, ValueError, "timeout must be > 0, got 0"),
        ({"timeout": -1.5}, ValueError, r"timeout must be > 0, got -1\.5"),
        ({"timeout": float("nan")}, ValueError, "timeout must be a finite number, got nan"),
        ({"timeout": timedelta.max}, ValueError, "timeout must be at most 316224000 seconds, got"),
        ({"timeout": "1"}, TypeError, "timeout must be a number, got '1'"),
        ({"timeout": True}, TypeError, "timeout must be a number, got True"),
        ({"isolation": "fork"}, ValueError, "isolation must be one of 'thread', 'process', got 'fork'"),
        ({"trigger": "all"}, TypeError, "trigger must be a function, got 'all'"),
        ({"skip_on_upstream_skip": None}, TypeError, "skip_on_upstream_skip must be True or False, got None"),
        ({"log_stdout": 1}, TypeError, "log_stdout must be True or False, got 1"),
        ({"state_handlers": keep}, TypeError, "state_handlers must be a list of functions, got .*"),
        ({"state_handlers": [keep, 3]}, TypeError, r"state_handlers\[1\] must be a function, got 3"),
        ({"state_handlers": "ab"}, TypeError, "state_handlers must be a list of functions, got 'ab'"),
        ({"on_failure": 3}, TypeError, "on_failure must be a function, got 3"),
        ({"nout": -1}, ValueError, "nout must be >= 0, got -1"),
        ({"nout": 1.0}, TypeError, r"nout must be a whole number, got 1\.0"),
        ({"batch_size": 0}, ValueError, "batch_size must be >= 1, got 0"),
        ({"batch_size": "big"}, ValueError, "batch_size must be one of 'auto', got 'big'"),
        ({"batch_size": True}, TypeError, "batch_size must be a whole number, got True"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency must be >= 1, got 0"),
        ({"rate": "10/d"}, ValueError, "rate must be starts per second, or a string like '10/s' or '600/m', got"),
        ({"rate": "fast"}, ValueError, "rate must be starts per second, or a string like '10/s' or '600/m', got"),
        ({"rate": "0/s"}, ValueError, "rate must be starts per second, or a string like '10/s' or '600/m', got"),
        ({"rate": 0}, ValueError, "rate must be > 0, got 0"),
        (
            {"on_child_failure": "ignore"},
            ValueError,
            "on_child_failure must be one of 'continue', 'stop', 'cancel', got",
        ),
        ({"max_failures": 0}, ValueError, "max_failures must be > 0, got 0"),
        ({"min_sample": 0}, ValueError, "min_sample must be >= 1, got 0"),
        ({"max_failures": 2.5}, ValueError, r"max_failures must be a count, or a ratio below 1, got 2\.5"),
        ({"resources": ["GPU"]}, TypeError, r"resources must be a dict of name to amount, got \['GPU'\]"),
        ({"resources": {1: 1}}, TypeError, r"resources must be a dict of name to amount, got \{1: 1\}"),
        ({"resources": {"GPU": -1}}, ValueError, r"resources\['GPU'\] must be > 0, got -1"),
        ({"workers": []}, ValueError, r"workers must have at least one address, got \[\]"),
        ({"workers": 3}, TypeError, "workers must be an address or a list of addresses, got 3"),
        ({"priority": "high"}, TypeError, "priority must be a number, got 'high'"),
        ({"priority": float("inf")}, ValueError, "priority must be a finite number, got inf"),
        ({"crash_retries": -1}, ValueError, "crash_retries must be >= 0, got -1"),
        (
            {"crash_retries": 1, "rerun_on_loss": False},
            ValueError,
            "crash_retries=1 contradicts rerun_on_loss=False: the first runs a lost",
        ),
        ({"rerun_on_loss": None}, TypeError, "rerun_on_loss must be True or False, got None"),
        ({"result": "s3://bucket"}, TypeError, r"result must be a store such as LocalResult\(\.\.\.\) or"),
        ({"target": 3}, TypeError, "target must be a function, got 3"),
        ({"target": ""}, ValueError, r"target must be a name such as '\$\{task_slug\}/\$\{item_key\}\.pickle',"),
        ({"target": "${a b}"}, ValueError, r"without a field; write \$\{name\}, or \$\$ for a dollar sign"),
        ({"checkpoint": 1}, TypeError, "checkpoint must be True or False, got 1"),
        ({"item_key": "a.b"}, ValueError, "item_key must be the name of an argument or a function of the item, got"),
        ({"item_key": 3}, TypeError, "item_key must be a function, got 3"),
        ({"cache_for": 0}, ValueError, "cache_for must be > 0 seconds, got 0"),
        ({"cache_for": "1h"}, TypeError, "cache_for must be a number, got '1h'"),
        (
            {"cache_for": -timedelta(1)},
            ValueError,
            r"cache_for must be > 0 seconds, got datetime\.timedelta\(days=-1\)",
        ),
        ({"cache_validator": "all_inputs"}, TypeError, "cache_validator must be a function, got 'all_inputs'"),
        ({"cache_key": 3}, TypeError, "cache_key must be a string, got 3"),
        ({"cache_key_fn": "hash"}, TypeError, "cache_key_fn must be a function, got 'hash'"),
        ({"cache_expiration": float("inf")}, ValueError, "cache_expiration must be a finite number, got inf"),
        ({"cache_for": 1, "cache_key_fn": keep}, ValueError, "cache_for and cache_key_fn are two kinds"),
        ({"max_retries": 1}, ValueError, "max_retries=1 needs retry_delay"),
        ({"retry_delay": 1}, ValueError, "retry_delay=1 needs max_retries"),
        ({"max_retries": 0, "retry_delay": 1}, ValueError, "retry_delay=1 needs max_retries"),
        ({"max_retries": -1, "retry_delay": 1}, ValueError, "max_retries"),
        ({"max_retries": 1, "retry_delay": -1}, ValueError, "retry_delay"),
        ({"max_retries": 1, "retry_delay": float("nan")}, ValueError, "retry_delay"),
        ({"max_retries": 1, "retry_delay": timedelta.max}, ValueError, "retry_delay"),
        (
            {"retries": 1, "max_retries": 1, "retry_delay": 1},
            ValueError,
            "retries=1 and max_retries=1 set the same option; pass one",
        ),
        (
            {"retries": 1, "retry_delay": 1, "retry_delay_seconds": 1},
            ValueError,
            "retry_delay_seconds=1 and retry_delay=1 set the same option; pass one",
        ),
        ({"retry_on": OSError}, ValueError, "retry_on"),
        ({"retries": 1, "retry_on": 3}, TypeError, "retry_on"),
    ],
    ids=label,
)
def test_impossible_option_is_refused_with_its_name_and_value(options: Any, error: Any, words: str) -> None:
    for make in (Task, task(keep_one).copy):
        with pytest.raises(error, match=words):
            make(**options)
    with pytest.raises(error, match=words):
        task(**options)(keep_one)


@pytest.mark.parametrize("make", [Task, Task().copy], ids=["Task", "copy"])
@pytest.mark.parametrize(
    ("option", "value", "needed"), [("cache_validator", keep, "cache_for"), ("cache_expiration", 60, "cache_key_fn")]
)
def test_option_of_a_cache_that_does_not_exist_warns(make: Any, option: str, value: Any, needed: str) -> None:
    with pytest.warns(UserWarning, match=f"{option} has no effect without {needed}"):
        made = make(**{option: value})
    assert made.copy(tags=["t"]).tags == {"t"}


@pytest.mark.parametrize("option", ["target", "task_run_name"])
def test_field_in_the_spelling_of_format_is_understood(option: str) -> None:
    def make(text: str) -> Any:
        return Task(**{option: text})

    with pytest.raises(
        ValueError, match=r"template '\{day': '\{' without a field; write \{name\}, or \{\{ for a brace"
    ):
        make("{day")
    assert getattr(make("${day}/{x}"), option) == "${day}/{x}"


def test_target_wins_over_another_location_and_warns(tmp_path: Any) -> None:
    one, other = (LocalResult(tmp_path, location=name) for name in ("${day}", "other"))
    with pytest.warns(UserWarning, match=r"target='\$\{day\}' overrides the location of result=, 'other'; pass"):
        made = Task(target="${day}", result=other)
    assert made.copy(tags=["t"]).copy(result=one).result is one


def test_store_is_an_option_and_survives_copies(tmp_path: Any) -> None:
    store = LocalResult(tmp_path)
    assert Task(result=store).copy(name="other").result is store


def keep_one(x: Any) -> Any:
    return x


@pytest.mark.parametrize("make", [Task, task(keep_one).copy], ids=["Task", "copy"])
def test_unknown_option_is_refused_with_a_guess(make: Any) -> None:
    with pytest.raises((TypeError, AttributeError), match=r"'max_retry'.*; did you mean 'max_retries'"):
        make(max_retry=3)


def test_copy_with_fewer_retries_drops_what_belongs_to_them() -> None:
    made = Task(retries=3, retry_on=OSError).copy(max_retries=0)
    assert (made.max_retries, made.retry_delay, made.retry_on) == (0, None, None)


def test_copy_with_more_retries_keeps_the_delay() -> None:
    assert Task(max_retries=1, retry_delay=7).copy(max_retries=5).retry_delay == 7


def test_on_failure_comes_after_the_state_handlers() -> None:
    seen: list[tuple[Task, Any]] = []
    made = Task(state_handlers=[keep], on_failure=lambda *facts: seen.append(facts))
    first, second = made.state_handlers
    failed = Failed("no")
    assert first is keep
    assert second(made, Success(), Success()) == Success()
    assert second(made, Success(), failed) is failed
    assert seen == [(made, failed)]


def test_every_option_has_a_check_or_is_settled_with_others() -> None:
    together = {"name", "on_failure", "on_completion", "retries", "retry_delay_seconds", "cache_policy", *SAME}
    together |= {"max_retries", "retry_delay", "retry_on", "retry_backoff", "retry_jitter"}
    assert CHECKS.keys() | together == OPTION_NAMES
