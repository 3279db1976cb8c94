"""Whether there is another attempt, and after how many seconds.

Pure: time and randomness come from the caller, and nothing sleeps here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Literal

from prefectish.tasks.arity import check_takes, taken_by_position

Seconds = float | timedelta
Delay = Seconds | Sequence[Seconds] | Callable[..., Seconds]
Backoff = float | Literal["exponential"] | Callable[..., float]

LONGEST_DELAY_SECONDS = 10 * 366 * 86_400.0
"""Where growing delays stop; beyond it dates run over."""


class ExponentialBackoff:
    """Delays that double: a class, so that it can be pickled and compared."""

    __slots__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = _number(factor, "backoff_factor", at_least=0)

    def __call__(self, attempt: int) -> float:
        """Return the seconds after an attempt, by its number from 1."""
        return min(float(self.factor) * 2.0 ** min(attempt - 1, 64), LONGEST_DELAY_SECONDS)

    def __repr__(self) -> str:
        return f"exponential_backoff({self.factor!r})"


def should_retry(
    attempt: int, max_retries: int, retry_on: tuple[type[BaseException], ...] | None, error: BaseException | None
) -> bool:
    """Whether another attempt follows the one of this number, from 1, on an error of `retry_on` (None: on any)."""
    return attempt <= max_retries and (retry_on is None or isinstance(error, retry_on))


def delay_seconds(
    attempt: int,
    *,
    delay: Delay | None,
    backoff: Backoff | None = None,
    jitter: float | None = None,
    error: BaseException | None = None,
    random: Callable[[], float],
) -> float:
    """Return how long to wait after an attempt (from 1) failed, in seconds.

    `delay` is a duration (numbers are seconds), a list with one for each attempt, of which the last repeats, or a
    function; none, if None. `backoff` is by what it is multiplied from one attempt to the next ("exponential": 2), or a
    function that returns by what to multiply it in all. `jitter` is the fraction by which, at most, it is drawn out at
    random; `random` returns a number in [0, 1). Functions are called with the attempt or, if they have two parameters
    without a default, with the attempt and the error. Raises ValueError if one returns something other than a duration.
    """
    seconds = _base(attempt, delay, error) * _factor(attempt, backoff, error)
    drawn_out = seconds * (1 + jitter * random()) if jitter else seconds
    return min(drawn_out, LONGEST_DELAY_SECONDS)


def _base(attempt: int, delay: Delay | None, error: BaseException | None) -> float:
    if delay is None:
        return 0.0
    if callable(delay):
        found = _asked(delay, attempt, error)
        if isinstance(found, list | tuple) and found:  # a function of the number of retries, as in later Prefects
            found = found[min(attempt, len(found)) - 1]
        return _seconds(found, f"retry_delay({attempt})")
    if isinstance(delay, Sequence):
        return _seconds(delay[min(attempt, len(delay)) - 1], "retry_delay")
    return _seconds(delay, "retry_delay")


def _factor(attempt: int, backoff: Backoff | None, error: BaseException | None) -> float:
    if backoff is None:
        return 1.0
    if callable(backoff):
        return _number(_asked(backoff, attempt, error), f"retry_backoff({attempt})", at_least=0)
    try:
        return (2.0 if backoff == "exponential" else float(backoff)) ** (attempt - 1)
    except OverflowError:
        return LONGEST_DELAY_SECONDS


def _asked(policy: Callable[..., Any], attempt: int, error: BaseException | None) -> Any:
    taken = taken_by_position(policy)
    return policy(attempt, error) if taken is not None and taken[0] == 2 else policy(attempt)


def validate(
    *,
    max_retries: int | None = None,
    retry_delay: Delay | None = None,
    retry_on: Any = None,
    retry_backoff: Backoff | None = None,
    retry_jitter: float | None = None,
) -> dict[str, Any]:
    """Check the retry options of a task and return them by name, in the form in which a task keeps them.

    `max_retries` is a number, `retry_on` a tuple of classes or None. Raises ValueError if a value is out of bounds, or
    one of two options that need each other is missing, TypeError if one is of the wrong kind.
    """
    count = _count(0 if max_retries is None else max_retries)
    if count and retry_delay is None:
        raise ValueError(f"max_retries={count} needs retry_delay; write retries={count} for no delay")
    for name, value in (("retry_delay", retry_delay), ("retry_on", retry_on)):
        if value is not None and not count:
            raise ValueError(f"{name}={value!r} needs max_retries > 0")
    check_delay("retry_delay", retry_delay)
    if callable(retry_backoff):
        check_takes("retry_backoff", retry_backoff, "attempt", "attempt, error")
    elif not (retry_backoff is None or retry_backoff == "exponential"):
        _number(retry_backoff, "retry_backoff", at_least=1)
    return {
        "max_retries": count,
        "retry_delay": retry_delay,
        "retry_on": _error_types(retry_on),
        "retry_backoff": retry_backoff,
        "retry_jitter": None if retry_jitter is None else _number(retry_jitter, "retry_jitter", at_least=0),
    }


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"max_retries must be a whole number, got {value!r}")
    if isinstance(value, float) or value < 0:
        raise ValueError(f"max_retries must be a whole number >= 0, got {value!r}")
    return value


def check_delay(name: str, delay: Any) -> None:
    """Refuse what is no delay: a duration, a list of them, or a function."""
    if callable(delay):
        check_takes(name, delay, "attempt", "attempt, error")
    if delay is None or callable(delay):
        return
    if not isinstance(delay, Sequence) or isinstance(delay, str):
        _seconds(delay, name)
        return
    if not delay:
        raise ValueError(f"{name} is an empty list; give at least one delay")
    for position, each in enumerate(delay):
        _seconds(each, f"{name}[{position}]")


def _error_types(retry_on: Any) -> tuple[type[BaseException], ...] | None:
    if retry_on is None:
        return None
    types = tuple(retry_on) if isinstance(retry_on, Iterable) and not isinstance(retry_on, type | str) else (retry_on,)
    if not types:
        raise ValueError("retry_on is empty; name at least one exception class, or leave it out to retry on all")
    for each in types:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"retry_on must be exception classes, got {each!r}")
    return types


def _number(value: Any, name: str, at_least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not at_least <= value < math.inf:  # so written, it refuses NaN too
        raise ValueError(f"{name} must be a finite number >= {at_least}, got {value!r}")
    return value


def _seconds(value: Any, name: str) -> float:
    """Read a duration that is not negative, nor beyond `LONGEST_DELAY_SECONDS`."""
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        raise TypeError(f"{name} must be seconds or a timedelta, got {value!r}")
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not 0 <= seconds <= LONGEST_DELAY_SECONDS:  # so written, it refuses NaN too
        raise ValueError(f"{name} must be between 0 and {LONGEST_DELAY_SECONDS:.0f} seconds, got {value!r}")
    return seconds
