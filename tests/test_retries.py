import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labels import label

from prefectish.tasks.retries import LONGEST_DELAY_SECONDS, delay_seconds, should_retry, validate


def unused():
    pytest.fail("asked for a random number without jitter")


def waits(count=4, random=unused, **policy):
    return [delay_seconds(attempt, random=random, **policy) for attempt in range(1, count + 1)]


# ---------------------------------------------------------------------- should_retry


@given(st.integers(0, 20))
def test_attempts_are_one_more_than_retries(max_retries):
    attempt = 1
    while should_retry(attempt, max_retries, None, ValueError()):
        attempt += 1
    assert attempt == max_retries + 1


@pytest.mark.parametrize(
    ("retry_on", "error", "expected"),
    [
        (None, ValueError(), True),
        (None, None, True),
        ((OSError,), ConnectionError(), True),
        ((OSError,), ValueError(), False),
        ((OSError, ValueError), ValueError(), True),
        ((OSError,), None, False),
        ((BaseException,), SystemExit(), True),
    ],
)
def test_retry_on_matches_subclasses(retry_on, error, expected):
    assert should_retry(1, 1, retry_on, error) is expected


# ---------------------------------------------------------------------- delays


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (None, [0, 0, 0, 0]),
        (0, [0, 0, 0, 0]),
        (1.5, [1.5, 1.5, 1.5, 1.5]),
        (timedelta(minutes=1), [60, 60, 60, 60]),
        ([1, 10], [1, 10, 10, 10]),
        ((1, timedelta(seconds=2), 3, 4, 5), [1, 2, 3, 4]),
        (lambda attempt: attempt * 10, [10, 20, 30, 40]),
        (lambda attempt: timedelta(seconds=attempt), [1, 2, 3, 4]),
        (lambda attempt, base=3: base**attempt, [3, 9, 27, 81]),
        (abs, [1, 2, 3, 4]),
    ],
)
def test_delay_has_many_forms(delay, expected):
    assert waits(delay=delay) == expected


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (None, [3, 3, 3, 3]),
        (1, [3, 3, 3, 3]),
        (2, [3, 6, 12, 24]),
        ("exponential", [3, 6, 12, 24]),
        (1.5, [3, 4.5, 6.75, 10.125]),
        (lambda attempt: attempt, [3, 6, 9, 12]),
    ],
)
def test_backoff_multiplies(backoff, expected):
    assert waits(delay=3, backoff=backoff) == expected


@pytest.mark.parametrize("option", ["delay", "backoff"])
def test_function_of_two_also_gets_the_error(option):
    policy = {"delay": 1, option: lambda attempt, error: attempt * error.args[0]}
    assert waits(error=ValueError(5), **policy) == [5, 10, 15, 20]


def test_jitter_draws_out():
    assert waits(delay=10, jitter=0.5, random=lambda: 0.0) == [10, 10, 10, 10]
    assert waits(delay=10, jitter=0.5, random=lambda: 0.5) == [12.5, 12.5, 12.5, 12.5]


@given(
    attempt=st.integers(1, 10_000),
    delay=st.floats(0, LONGEST_DELAY_SECONDS),
    backoff=st.none() | st.just("exponential") | st.floats(1, 1e6),
    jitter=st.none() | st.floats(0, 1e6),
    u=st.floats(0, 1, exclude_max=True),
)
def test_delay_is_always_a_time_one_can_wait_for(attempt, delay, backoff, jitter, u):
    seconds = delay_seconds(attempt, delay=delay, backoff=backoff, jitter=jitter, random=lambda: u)
    assert delay <= seconds <= LONGEST_DELAY_SECONDS
    timedelta(seconds=seconds)


@given(st.floats(0.1, 1e4), st.floats(1, 10), st.integers(1, 50))
def test_backoff_never_shrinks_a_delay(delay, backoff, attempt):
    earlier, later = (delay_seconds(n, delay=delay, backoff=backoff, random=unused) for n in (attempt, attempt + 1))
    assert earlier <= later


@pytest.mark.parametrize("answer", [-1, math.nan, math.inf, timedelta.max, timedelta(seconds=-1)], ids=label)
def test_delay_function_that_returns_no_duration_is_an_error(answer):
    with pytest.raises(ValueError, match=r"retry_delay\(2\) must be between 0 and"):
        delay_seconds(2, delay=lambda attempt: answer, random=unused)


@pytest.mark.parametrize("answer", [None, "soon", True], ids=label)
def test_delay_function_that_returns_no_number_is_an_error(answer):
    with pytest.raises(TypeError, match=r"retry_delay\(1\) must be seconds or a timedelta, got"):
        delay_seconds(1, delay=lambda attempt: answer, random=unused)


def test_backoff_function_that_returns_no_factor_is_an_error():
    with pytest.raises(ValueError, match=r"retry_backoff\(1\) must be a finite number >= 0, got -1"):
        delay_seconds(1, delay=1, backoff=lambda attempt: -1, random=unused)


def test_error_of_a_delay_function_comes_out():
    with pytest.raises(ZeroDivisionError):
        delay_seconds(1, delay=lambda attempt: 1 / 0, random=unused)


# ---------------------------------------------------------------------- options

NOTHING = {"max_retries": 0, "retry_delay": None, "retry_on": None, "retry_backoff": None, "retry_jitter": None}


def test_validate_without_retries():
    assert validate() == validate(max_retries=0) == NOTHING


def test_validate_returns_what_a_task_keeps():
    delay = timedelta(seconds=1)
    assert validate(max_retries=3, retry_delay=delay, retry_on=OSError, retry_backoff=2, retry_jitter=0.1) == {
        "max_retries": 3,
        "retry_delay": delay,
        "retry_on": (OSError,),
        "retry_backoff": 2,
        "retry_jitter": 0.1,
    }


@pytest.mark.parametrize("delay", [0, 0.0, 1, timedelta(0), [1, 2], (timedelta(days=1),), lambda attempt: 1], ids=label)
def test_validate_accepts_delays(delay):
    assert validate(max_retries=1, retry_delay=delay)["retry_delay"] is delay


@pytest.mark.parametrize("retry_on", [[OSError, ValueError], (OSError, ValueError), iter([OSError, ValueError])])
def test_validate_accepts_several_errors(retry_on):
    assert validate(max_retries=1, retry_delay=0, retry_on=retry_on)["retry_on"] == (OSError, ValueError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_retries": 3}, r"max_retries=3 needs retry_delay; write retries=3 for no delay"),
        ({"retry_delay": timedelta(1)}, r"retry_delay=datetime.timedelta\(days=1\) needs max_retries > 0"),
        ({"retry_delay": 1, "max_retries": 0}, "retry_delay=1 needs max_retries > 0"),
        ({"retry_on": OSError}, "retry_on=<class 'OSError'> needs max_retries > 0"),
        ({"max_retries": -1, "retry_delay": 1}, "max_retries must be a whole number >= 0, got -1"),
        ({"max_retries": 1.5, "retry_delay": 1}, "max_retries must be a whole number >= 0, got 1.5"),
        ({"max_retries": math.nan, "retry_delay": 1}, "max_retries must be a whole number >= 0, got nan"),
        ({"max_retries": 1, "retry_delay": -1}, "retry_delay must be between 0 and .* seconds, got -1"),
        ({"max_retries": 1, "retry_delay": math.nan}, "retry_delay must be between .* got nan"),
        ({"max_retries": 1, "retry_delay": math.inf}, "retry_delay must be between .* got inf"),
        ({"max_retries": 1, "retry_delay": timedelta.max}, "retry_delay must be between"),
        ({"max_retries": 1, "retry_delay": timedelta(-1)}, "retry_delay must be between"),
        ({"max_retries": 1, "retry_delay": [1, -1]}, r"retry_delay\[1\] must be between .* got -1"),
        ({"max_retries": 1, "retry_delay": []}, "retry_delay is an empty list"),
        ({"max_retries": 1, "retry_delay": 0, "retry_on": []}, "retry_on is empty"),
        ({"retry_backoff": 0.5}, "retry_backoff must be a finite number >= 1, got 0.5"),
        ({"retry_backoff": math.nan}, "retry_backoff must be a finite number >= 1, got nan"),
        ({"retry_jitter": -0.1}, "retry_jitter must be a finite number >= 0, got -0.1"),
        ({"retry_jitter": math.inf}, "retry_jitter must be a finite number >= 0, got inf"),
    ],
    ids=label,
)
def test_validate_refuses_values_out_of_bounds(options, message):
    """D5."""
    with pytest.raises(ValueError, match=message):
        validate(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_retries": True, "retry_delay": 1}, "max_retries must be a whole number, got True"),
        ({"max_retries": "3", "retry_delay": 1}, "max_retries must be a whole number, got '3'"),
        ({"max_retries": 1, "retry_delay": "1"}, "retry_delay must be seconds or a timedelta, got '1'"),
        ({"max_retries": 1, "retry_delay": ["1"]}, r"retry_delay\[0\] must be seconds or a timedelta, got '1'"),
        (
            {"max_retries": 1, "retry_delay": 0, "retry_on": "OSError"},
            "retry_on must be exception classes, got 'OSError'",
        ),
        ({"max_retries": 1, "retry_delay": 0, "retry_on": 5}, "retry_on must be exception classes, got 5"),
        ({"max_retries": 1, "retry_delay": 0, "retry_on": int}, "retry_on must be exception classes, got <class 'int'"),
        ({"max_retries": 1, "retry_delay": 0, "retry_on": [OSError()]}, "retry_on must be exception classes, got OSE"),
        ({"retry_backoff": "linear"}, "retry_backoff must be a number, got 'linear'"),
        ({"retry_jitter": "0.1"}, "retry_jitter must be a number, got '0.1'"),
    ],
    ids=label,
)
def test_validate_refuses_values_of_the_wrong_kind(options, message):
    with pytest.raises(TypeError, match=message):
        validate(**options)
