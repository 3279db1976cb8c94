"""The options of a task: their names, their defaults, and what each accepts.

An option is checked where it is passed (`@task`, `Task(...)`, `copy`, `task_args=`); the engine reads the result.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from prefectish.tasks import retries, spellings
from prefectish.tasks.arity import check_takes
from prefectish.tasks.hooks import hook_handlers
from prefectish.triggers import all_successful

if TYPE_CHECKING:
    from prefectish.cache_policies import CachePolicy


class TaskOptions(TypedDict, total=False):
    """Keywords of `Task(...)`, besides the name."""

    slug: str | None
    tags: Iterable[str] | None
    max_retries: int | None
    retries: int | None
    retry_delay: Any
    retry_delay_seconds: Any
    retry_on: Any
    retry_backoff: Any
    retry_jitter: float | None
    timeout: float | timedelta | None
    total_timeout: float | timedelta | None
    map_timeout: float | timedelta | None
    expected_duration: float | timedelta | None
    isolation: Literal["thread", "process"]
    trigger: Callable[..., Any] | None
    skip_on_upstream_skip: bool
    state_handlers: Sequence[Callable[..., Any]] | None
    on_failure: Callable[..., Any] | Sequence[Callable[..., Any]] | None
    on_completion: Callable[..., Any] | Sequence[Callable[..., Any]] | None
    retry_condition_fn: Callable[..., bool] | None
    retry_jitter_factor: float | None
    timeout_seconds: float | None
    description: str | None
    log_prints: bool | None
    persist_result: bool | None
    cache_policy: CachePolicy | None
    log_stdout: bool
    task_run_name: str | Callable[..., Any] | None
    nout: int | None
    strict_map: bool
    batch_size: int | Literal["auto"] | None
    async_concurrency: int | None
    max_concurrency: int | None
    max_branches: int | None
    rate: str | float | None
    shared_limits: Mapping[str, int] | None
    on_child_failure: Literal["continue", "stop", "cancel"]
    max_failures: float | None
    min_sample: int
    resources: Mapping[str, float] | Callable[..., Any] | None
    workers: str | Sequence[str] | Callable[..., Any] | None
    priority: float | Callable[..., Any] | None
    crash_retries: int
    heartbeat_timeout: float | timedelta | None
    rerun_on_loss: bool
    return_state: bool
    result: Any
    target: str | Callable[..., str] | None
    checkpoint: bool | None
    item_key: str | Callable[..., Any] | None
    cache_for: float | timedelta | None
    cache_validator: Callable[..., Any] | None
    cache_key: str | None
    cache_key_fn: Callable[..., str | None] | None
    cache_expiration: float | timedelta | None
    cache_isolation: bool
    refresh_cache: bool | None


class NamedTaskOptions(TaskOptions, total=False):
    """Keywords of `@task(...)` and `task.copy(...)`, and entries of ``task_args=``."""

    name: str | None


#: Names of all options, including alternative spellings.
OPTION_NAMES = frozenset(NamedTaskOptions.__annotations__)

RETRY_NAMES = ("max_retries", "retry_delay", "retry_on", "retry_backoff", "retry_jitter")

_PER_SECOND = {"s": 1.0, "m": 60.0, "h": 3600.0}


def checked_name(name: Any) -> str | None:
    """Check the name of a task."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r}")
    return name


def refuse_unknown(options: Mapping[str, Any]) -> None:
    """Raise a TypeError if a task has no option of a name."""
    if unknown := options.keys() - OPTION_NAMES:
        name = min(unknown)
        raise TypeError(f"a task has no option {name!r}{guess(name)}")


def warn_of_reset(task: Any) -> None:
    """Warn about options that a subclass sets before `Task.__init__`, which resets them."""
    for option in sorted(OPTION_NAMES & vars(task).keys()):
        text = f"{type(task).__name__} sets self.{option} before super().__init__(), which resets it"
        warnings.warn(f"{text}; pass {option}= there", stacklevel=3)


def warn_of_attributes(cls: type) -> None:
    """Warn about attributes of a subclass that have the name of an option."""
    for name in sorted(OPTION_NAMES & vars(cls).keys()):
        text = (
            f"{cls.__name__}.{name} has the name of an option; pass it to super().__init__({name}=...), which checks it"
        )
        warnings.warn(text, stacklevel=3)


def guess(name: str) -> str:
    """Return a hint at the option that was probably meant."""
    return spellings.hint(name) or near_option(name, OPTION_NAMES)


def near_option(name: str, known: Iterable[str]) -> str:
    """Return the question whether another option was meant, empty if none is like it."""
    from difflib import get_close_matches

    near = get_close_matches(name, sorted(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def resolve(given: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """Check options and return the attributes in the form in which a task keeps them.

    `given` are options by name, including `on_failure` and both spellings of the retry options; `current` those of the
    task (for a copy: of the original), by attribute. A TypeError or ValueError names the option, its value and what it
    accepts.
    """
    given = spellings.translated(given)
    settled = {name: CHECKS[name](name, value) for name, value in given.items() if name in CHECKS}
    settled.update(_retry_options(given, current))
    _check_caches({**current, **settled}, settled)
    _check_loss({**current, **settled})
    _check_names({**current, **settled}, settled)
    hooks = hook_handlers(given.get("on_completion"), given.get("on_failure"))
    if hooks:
        settled["state_handlers"] = [*settled.get("state_handlers", current.get("state_handlers", ())), *hooks]
    return settled


def _check_loss(options: Mapping[str, Any]) -> None:
    for name in ("resources", "workers"):
        if callable(options.get(name)) and options.get("batch_size") is not None:
            raise ValueError(
                f"batch_size={options['batch_size']!r} contradicts {name} as a function: children of a batch run in "
                f"one place"
            )
    if options.get("isolation") == "process" and (number := options.get("async_concurrency")):
        raise ValueError(
            f"async_concurrency={number!r} contradicts isolation='process': a process of its own shares no slot"
        )
    if not options.get("rerun_on_loss", True) and (number := options.get("crash_retries")):
        raise ValueError(
            f"crash_retries={number!r} contradicts rerun_on_loss=False: the first runs a lost attempt again, the "
            f"second never does"
        )


def _retry_options(given: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """Merge both spellings with the current options; ``retries=`` does not need a delay."""
    if not any(name in given for name in (*RETRY_NAMES, "retries", "retry_delay_seconds")):
        return {}
    changes = {name: given[name] for name in RETRY_NAMES if given.get(name) is not None}
    for name, spelling in (("max_retries", "retries"), ("retry_delay", "retry_delay_seconds")):
        value = given.get(spelling)
        if value is not None:
            if name in changes:
                raise ValueError(f"{spelling}={value!r} and {name}={changes[name]!r} set the same option; pass one")
            changes[name] = value
    merged = {name: current[name] for name in RETRY_NAMES if name in current} | changes
    if not merged.get("max_retries"):
        if given.get("retry_delay_seconds") is not None:  # no error in later Prefects
            merged.pop("retry_delay", None)
        for name in ("retry_delay", "retry_on"):
            if name not in changes or given.get("retries") == 0:
                merged.pop(name, None)
    if given.get("retries") and merged.get("retry_delay") is None:
        merged["retry_delay"] = 0
    return retries.validate(**merged)


def _check_caches(options: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
    """Reject two kinds of caches at once, and warn about options that have no effect without another one."""
    if options.get("cache_for") is not None and options.get("cache_key_fn") is not None:
        raise ValueError(
            "cache_for and cache_key_fn are two kinds of caches; pass one of them (results of cache_key_fn live "
            "for cache_expiration)"
        )
    for name, needed in (("cache_validator", "cache_for"), ("cache_expiration", "cache_key_fn")):
        if changed.get(name) is not None and options.get(needed) is None:
            warnings.warn(f"{name} has no effect without {needed}: nothing is cached", stacklevel=_outside())


def _check_names(options: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
    """Warn about two names for one result."""
    target, location = options.get("target"), getattr(options.get("result"), "location", None)
    location = getattr(location, "text", location)
    if {"target", "result"} & changed.keys() and None not in (target, location) and target != location:
        warnings.warn(
            f"target={target!r} overrides the location of result=, {location!r}; pass only one", stacklevel=_outside()
        )


def _outside() -> int:
    """Return the `stacklevel` with which a warning of the caller points to the user's line."""
    level, frame = 1, sys._getframe(1)
    while frame.f_globals.get("__name__", "").startswith("prefectish.") and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level


def _mistyped(name: str, value: object, wanted: str) -> TypeError:
    return TypeError(f"{name} must be {wanted}, got {value!r}")


def _text(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise _mistyped(name, value, "a string")
    return value or None


def tag_set(name: str, value: Any) -> frozenset[str]:
    """Check tags: any iterable of strings, but not a single string, whose letters would become tags."""
    if value is None:
        return frozenset()
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise _mistyped(name, value, "a list of strings")
    tags = list(value)
    for tag in tags:
        if not isinstance(tag, str):
            raise _mistyped(name, tag, "a list of strings")
    return frozenset(tags)


def function(name: str, value: Any) -> Callable[..., Any]:
    """Check that an option is callable."""
    if not callable(value):
        raise _mistyped(name, value, "a function")
    checked: Callable[..., Any] = value
    return checked


def function_of(arguments: str) -> Callable[[str, Any], Callable[..., Any]]:
    """Return a check that an option can be called with these."""

    def check(name: str, value: Any) -> Callable[..., Any]:
        check_takes(name, function(name, value), arguments)
        checked: Callable[..., Any] = value
        return checked

    return check


#: The triggers that are passed as they are.
TRIGGERS = (
    "all_successful", "all_finished", "always_run", "all_failed", "any_successful", "any_failed", "not_all_skipped",
    "manual_only",
)  # fmt: skip


def _trigger(name: str, value: Any) -> Callable[..., Any]:
    if value is None:
        return all_successful
    if isinstance(value, str):
        from difflib import get_close_matches

        near = get_close_matches(value, TRIGGERS, 1, 0.4)
        meant = f"; did you mean triggers.{near[0]}?" if near else ""
        raise TypeError(
            f"trigger must be a function, got {value!r}; prefectish.triggers has {', '.join(TRIGGERS)}{meant}"
        )
    return function(name, value)


def handler_list(name: str, value: Any) -> list[Callable[..., Any]]:
    """Check state handlers: callables, in any iterable."""
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise _mistyped(name, value, "a list of functions")
    return [_handler(f"{name}[{i}]", handler) for i, handler in enumerate(value)]


_handler = function_of("object, old state, new state")


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _mistyped(name, value, "True or False")
    return value


def number(name: str, value: Any) -> float:
    """Check a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mistyped(name, value, "a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return value


def _whole(minimum: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _mistyped(name, value, "a whole number")
        if value < minimum:
            raise ValueError(f"{name} must be >= {minimum}, got {value!r}")
        return value

    return check


def _positive(name: str, value: Any) -> float:
    amount = number(name, value)
    if amount <= 0:
        raise ValueError(f"{name} must be > 0, got {value!r}")
    return amount


def seconds(name: str, value: Any) -> float:
    """Check a time limit: seconds or a timedelta, more than 0."""
    limit = float(_positive(name, value.total_seconds() if isinstance(value, timedelta) else value))
    if limit > retries.LONGEST_DELAY_SECONDS:  # locks and timers of the system have an upper limit
        raise ValueError(f"{name} must be at most {retries.LONGEST_DELAY_SECONDS:.0f} seconds, got {value!r}")
    return limit


def _one_of(*words: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value not in words:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, words))}, got {value!r}")
        return str(value)

    return check


def _batch_size(name: str, value: Any) -> int | str:
    if isinstance(value, str):
        return _one_of("auto")(name, value)
    return _whole(1)(name, value)


def _rate(name: str, value: Any) -> float:
    """Return starts per second, from a number or from text such as ``"10/s"``, ``"600/m"``, ``"90/h"``."""
    if not isinstance(value, str):
        return float(_positive(name, value))
    count, _, unit = value.partition("/")
    try:
        number = float(count)
        return _positive(name, number) / _PER_SECOND[unit.strip()]
    except (KeyError, ValueError):
        raise ValueError(
            f"{name} must be starts per second, or a string like '10/s' or '600/m', got {value!r}"
        ) from None


def _max_failures(name: str, value: Any) -> float:
    number = _positive(name, value)
    if number >= 1 and number != int(number):
        raise ValueError(f"{name} must be a count, or a ratio below 1, got {value!r}")
    return number


def _of_item(name: str, value: Any) -> Callable[..., Any]:
    """Check a function of the item, or of the item and the run count."""
    import inspect

    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # written in C, and without a signature
        return function(name, value)
    for given in ((None, 1), (None,)):
        try:
            signature.bind(*given)
        except TypeError:
            continue
        return function(name, value)
    raise TypeError(f"{name} must be a function of (item, run_count), or of the item, got one of {signature}")


def _resources(name: str, value: Any) -> dict[str, float] | Callable[..., Any]:
    if callable(value):
        return _of_item(name, value)
    return amounts(name, value)


def amounts(name: str, value: Any) -> dict[str, float]:
    """Check amounts of resources by name."""
    if not isinstance(value, Mapping):
        raise _mistyped(name, value, "a dict of name to amount")
    for key in value:
        if not isinstance(key, str):
            raise _mistyped(name, value, "a dict of name to amount")
    return {key: _positive(f"{name}[{key!r}]", amount) for key, amount in value.items()}


def _shared_limits(name: str, value: Any) -> dict[str, int]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and key for key in value):
        raise _mistyped(name, value, "a dict of name to number of children")
    return {key: _whole(1)(f"{name}[{key!r}]", size) for key, size in value.items()}


def _workers(name: str, value: Any) -> tuple[str, ...] | Callable[..., Any]:
    if callable(value):
        return _of_item(name, value)
    return addresses_of(name, value)


def addresses_of(name: str, value: Any) -> tuple[str, ...]:
    """Check addresses, hosts or names of workers."""
    if not isinstance(value, Iterable):
        raise _mistyped(name, value, "an address or a list of addresses")
    addresses = (value,) if isinstance(value, str) else tuple(value)
    for address in addresses:
        if not isinstance(address, str):
            raise _mistyped(name, address, "an address or a list of addresses")
    if not addresses:
        raise ValueError(f"{name} must have at least one address, got {value!r}")
    return addresses


def _priority(name: str, value: Any) -> float | Callable[..., Any]:
    return _of_item(name, value) if callable(value) else number(name, value)


def _lifetime(name: str, value: Any) -> timedelta:
    span = value if isinstance(value, timedelta) else timedelta(seconds=number(name, value))
    if span <= timedelta():
        raise ValueError(f"{name} must be > 0 seconds, got {value!r}")
    return span


def store(name: str, value: Any) -> Any:
    """Check a place for results."""
    from prefectish.results.base import Result

    if not isinstance(value, Result) and not hasattr(value, "as_store"):
        raise _mistyped(name, value, "a store such as LocalResult(...) or FSResult(...)")
    return value


def _template(example: str) -> Callable[[str, Any], str | Callable[..., str]]:
    def check(name: str, value: Any) -> str | Callable[..., str]:
        if not isinstance(value, str):
            return function(name, value)
        from prefectish.results.templates import Template

        if not value:
            raise ValueError(f"{name} must be a name such as {example!r}, got {value!r}")
        return Template(value).text

    return check


def _item_key(name: str, value: Any) -> str | Callable[..., Any]:
    if isinstance(value, str) and not value.isidentifier():
        raise ValueError(f"{name} must be the name of an argument or a function of the item, got {value!r}")
    return value if isinstance(value, str) else function(name, value)


def _or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    def checked(name: str, value: Any) -> Any:
        return None if value is None else check(name, value)

    return checked


#: From the name of an option to the function that checks it; those of retries and `on_failure` are settled together.
CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "slug": _text,
    "tags": tag_set,
    "timeout": _or_none(seconds),
    "total_timeout": _or_none(seconds),
    "map_timeout": _or_none(seconds),
    "expected_duration": _or_none(seconds),
    "isolation": _one_of("thread", "process"),
    "trigger": _trigger,
    "skip_on_upstream_skip": _flag,
    "state_handlers": handler_list,
    "log_stdout": _flag,
    "task_run_name": _or_none(_template("load ${url}")),
    "nout": _or_none(_whole(0)),
    "strict_map": _flag,
    "batch_size": _or_none(_batch_size),
    "async_concurrency": _or_none(_whole(1)),
    "max_concurrency": _or_none(_whole(1)),
    "max_branches": _or_none(_whole(1)),
    "rate": _or_none(_rate),
    "shared_limits": _or_none(_shared_limits),
    "on_child_failure": _one_of("continue", "stop", "cancel"),
    "max_failures": _or_none(_max_failures),
    "min_sample": _whole(1),
    "resources": _or_none(_resources),
    "workers": _or_none(_workers),
    "priority": _or_none(_priority),
    "crash_retries": _whole(0),
    "heartbeat_timeout": _or_none(seconds),
    "rerun_on_loss": _flag,
    "return_state": _flag,
    "result": _or_none(store),
    "target": _or_none(_template("${task_slug}/${item_key}.pickle")),
    "checkpoint": _or_none(_flag),
    "item_key": _or_none(_item_key),
    "description": _text,
    "retry_condition_fn": _or_none(function_of("task, run, state")),
    "cache_for": _or_none(_lifetime),
    "cache_validator": _or_none(function),
    "cache_key": _text,
    "cache_key_fn": _or_none(function_of("context, parameters")),
    "cache_expiration": _or_none(_lifetime),
    "cache_isolation": _flag,
    "refresh_cache": _or_none(_flag),
}
