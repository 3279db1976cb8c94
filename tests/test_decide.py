from datetime import UTC, datetime, timedelta

import pytest

from prefectish import triggers
from prefectish.edges import Edge
from prefectish.engine import signals
from prefectish.engine.capture import Error, Value
from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs.job import StepSpec
from prefectish.engine.plan.steps import Input, TaskName
from prefectish.engine.state import (
    Cancelled,
    Failed,
    Looped,
    Mapped,
    Paused,
    Pending,
    Retrying,
    Running,
    Skipped,
    Success,
    TimedOut,
    TriggerFailed,
)
from prefectish.engine.worker.decide import NOT_READY, CallBody, Finish, after, before, failure_text, flattened, retry
from prefectish.errors import MAX_TEXT_LENGTH
from prefectish.tasks.task import Task

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Fetched(Deferred):
    def __init__(self, value):
        self.value = value

    def get(self):
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


def edge(key="x", **flags):
    return {"key": key, **flags}


def spec(*edges, constants=None, **options):
    """Return what `decide` knows of a task with these edges."""
    task = Task("t", **options)
    down = TaskName("t", "t-1", frozenset(), "t")
    inputs = []
    for number, flags in enumerate(edges):
        up = TaskName(f"u{number}", f"u{number}-1", frozenset(), f"u{number}")
        inputs.append(Input(Edge(up, down, **flags), number, up, down))
    return StepSpec(9, task, "t-1", tuple(inputs), constants or {}, any(i.mapped for i in inputs), 0, ())


def inputs_of(verdict):
    assert isinstance(verdict, CallBody)
    return verdict.inputs


def state_of(verdict):
    assert isinstance(verdict, Finish)
    return verdict.state


def never(upstream):
    pytest.fail("the trigger was asked")


def test_task_without_inputs_is_called():
    assert inputs_of(before(spec(constants={"y": 2}), [])) == {"y": 2}


def test_keyed_edges_are_inputs_and_others_are_not():
    upstream = [Success(None, 1), Success(None, 2)]
    assert inputs_of(before(spec(edge(), edge(None)), upstream)) == {"x": 1}


def test_constants_do_not_leak_from_one_call_to_the_next():
    constants = {"y": 2}
    inputs_of(before(spec(edge(), constants=constants), [Success(None, 1)]))["z"] = 3
    assert constants == {"y": 2}


@pytest.mark.parametrize(
    "state",
    [Pending(), Running(), Paused(), Retrying(), Mapped(map_states=[Success(), Pending()]), Mapped(map_states=[None])],
    ids=repr,
)
def test_unfinished_input_is_waited_for_without_a_decision(state):
    assert before(spec(edge(), edge("y"), trigger=never), [state, Failed()]) is NOT_READY


def test_finished_kinds_are_finished():
    for state in (Success(), Failed(), Cancelled(), Mapped(map_states=[]), Mapped(map_states=[Failed()])):
        assert before(spec(edge(), trigger=triggers.always_run), [state]) is not NOT_READY


def test_skip_comes_before_the_trigger():
    state = state_of(before(spec(edge(), edge("y"), trigger=never), [Skipped(), Failed()]))
    assert type(state) is Skipped
    assert "skip_on_upstream_skip=False" in state.message
    assert state.result is None


@pytest.mark.parametrize("mapped", [False, True], ids=["whole", "item"])
def test_skip_and_trigger_look_through_a_map_that_is_read_as_a_whole_or_is_one_item_of_a_list(mapped):
    skipped = Mapped(map_states=[Success(None, 1), Skipped()])
    assert type(state_of(before(spec(edge(mapped=mapped)), [skipped]))) is Skipped
    failed = Mapped(map_states=[Success(None, 1), Failed(None, 2)])
    assert type(state_of(before(spec(edge(mapped=mapped)), [failed]))) is TriggerFailed
    assert inputs_of(before(spec(edge(mapped=mapped, allow_failure=True)), [failed])) == {"x": [1, 2]}
    assert inputs_of(before(spec(edge(mapped=mapped), trigger=triggers.any_failed), [failed])) == {"x": [1, 2]}


def test_task_that_does_not_skip_is_called():
    assert inputs_of(before(spec(edge(), skip_on_upstream_skip=False), [Skipped(None, 5)])) == {"x": 5}


def test_trigger_is_asked_even_if_all_inputs_succeeded():
    assert type(state_of(before(spec(edge(), trigger=triggers.any_failed), [Success()]))) is TriggerFailed


def test_failed_trigger_gives_its_signal_as_result():
    state = state_of(before(spec(edge()), [Failed()]))
    assert type(state) is TriggerFailed
    assert type(state.result) is signals.TRIGGERFAIL


def test_trigger_that_returns_false_is_named():
    def refuse(upstream):
        return 0

    state = state_of(before(spec(trigger=refuse), []))
    assert state.message == 'Trigger was "refuse" but it did not pass.'
    assert type(state.result) is signals.TRIGGERFAIL


def test_trigger_that_raises_is_reported_as_an_error():
    def break_down(upstream):
        raise KeyError("lost")

    verdict = before(spec(trigger=break_down), [])
    assert state_of(verdict).message == "Unexpected error while checking task trigger: KeyError('lost')"
    assert verdict.error is state_of(verdict).result


def test_allowed_failure_is_kept_from_the_trigger_and_handed_over():
    error = ValueError("no")
    failed = spec(edge(allow_failure=True), edge("y"))
    assert inputs_of(before(failed, [Failed(None, error), Success(None, 1)])) == {"x": error, "y": 1}
    assert type(state_of(before(failed, [Failed(), Failed()]))) is TriggerFailed


def test_allowed_failures_of_a_map_are_kept_from_the_trigger_and_handed_over():
    error = ValueError("no")
    some = Mapped(map_states=[Success(None, 1), Failed(None, error)])
    every = Mapped(map_states=[Failed(None, error)])
    allowing = spec(edge(allow_failure=True))
    assert inputs_of(before(allowing, [some])) == {"x": [1, error]}
    assert inputs_of(before(allowing, [every])) == {"x": [error]}
    assert type(state_of(before(spec(edge()), [some]))) is TriggerFailed
    cancelled = Mapped(map_states=[Success(), Cancelled()])
    assert type(state_of(before(allowing, [cancelled]))) is TriggerFailed


def test_deferred_result_is_fetched():
    assert inputs_of(before(spec(edge()), [Success(None, Fetched([1]))])) == {"x": [1]}


def test_input_that_cannot_be_read_fails_the_task():
    state = state_of(before(spec(edge()), [Success(None, Fetched(OSError("gone")))]))
    assert type(state) is Failed
    assert state.message == "gone"
    assert type(state.result) is OSError


def test_unmapped_map_is_the_list_of_its_results():
    assert inputs_of(before(spec(edge()), [Mapped(map_states=[Success(None, 1), Success()])])) == {"x": [1, None]}


@pytest.mark.parametrize(
    ("value", "flat"),
    [([[1], [2, 3]], [1, 2, 3]), ([1, [2]], [1, 2]), ([1, 2], [1, 2]), ("text", "text"), (5, 5), ([], [])],
    ids=repr,
)
def test_flatten_removes_one_level(value, flat):
    assert flattened(value) == flat
    assert inputs_of(before(spec(edge(flattened=True)), [Success(None, value)])) == {"x": flat}


def test_mapped_flattened_input_is_an_element_already():
    assert inputs_of(before(spec(edge(flattened=True, mapped=True)), [Success(None, [[1]])])) == {"x": [[1]]}


def test_value_becomes_a_success():
    state = after(spec(), Value(5), 1)
    assert (type(state), state.message, state.result) == (Success, "Task run succeeded.", 5)


def test_error_becomes_a_failure():
    error = ValueError("boom")
    state = after(spec(), Error(error), 1)
    assert type(state) is Failed
    assert state.message == "Error during execution of task: ValueError('boom')"
    assert state.result is error


def test_timeout_becomes_timed_out():
    state = after(spec(), Error(signals.TimeoutSignal()), 1)
    assert (type(state), state.message) == (TimedOut, "Task timed out during execution.")


@pytest.mark.parametrize(
    "signal", [signals.SKIP("s"), signals.PAUSE("p"), signals.LOOP("l"), signals.FAIL("f")], ids=repr
)
def test_signal_becomes_its_state(signal):
    assert after(spec(), Error(signal), 1) is signal.state


@pytest.mark.parametrize(("run_count", "kind"), [(1, Retrying), (2, Retrying), (3, Failed)])
def test_retry_signal_stops_at_max_retries(run_count, kind):
    state = after(spec(max_retries=2, retry_delay=0), Error(signals.RETRY("again")), run_count)
    assert type(state) is kind
    if kind is Retrying:
        assert (state.run_count, state.message) == (run_count, "again")
    else:
        assert state.message == "RETRY signal, but max_retries=2 is used up"


def test_retry_signal_without_max_retries_never_stops():
    assert after(spec(), Error(signals.RETRY()), 1000).run_count == 1000


def test_long_message_is_cut_and_says_so():
    text = failure_text(ValueError("z" * 50_000))
    assert len(text) == MAX_TEXT_LENGTH + len("… (cut, 50000 characters)")
    assert text.endswith("z… (cut, 50000 characters)")
    assert failure_text(ValueError("z")) == "Error during execution of task: ValueError('z')"


def retried(state, run_count=1, random=0.5, **options):
    return retry(spec(**options), state, run_count, lambda: NOW, lambda: random)


def test_failure_without_retries_is_final():
    assert retried(Failed(None, ValueError())) is None


@pytest.mark.parametrize(("run_count", "again"), [(1, True), (2, True), (3, False)])
def test_failure_is_retried_max_retries_times(run_count, again):
    state = retried(Failed(None, ValueError()), run_count, max_retries=2, retry_delay=3)
    assert (state is not None) is again
    if state is not None:
        assert type(state) is Retrying
        assert state.start_time == NOW + timedelta(seconds=3)
        assert state.run_count == run_count
        assert state.message == f"Retrying Task (after attempt {run_count} of 3)"


def test_retry_delay_follows_backoff_and_jitter():
    state = retried(
        Failed(), 3, max_retries=9, retry_delay=timedelta(seconds=2), retry_backoff="exponential", retry_jitter=0.5
    )
    assert state.start_time == NOW + timedelta(seconds=2 * 4 * 1.25)


def test_other_errors_than_named_are_not_retried():
    options = {"max_retries": 1, "retry_delay": 0, "retry_on": OSError}
    assert retried(Failed(None, ValueError()), **options) is None
    assert retried(Failed(None, TimeoutError()), **options) is not None
    assert retried(Failed(None, "no exception"), **options) is None


def test_broken_delay_fails_the_task():
    def broken(attempt):
        raise KeyError("delay")

    state = retried(Failed(), max_retries=1, retry_delay=broken)
    assert type(state) is Failed
    assert state.message == "retry delay of t-1 could not be computed: KeyError('delay')"


def test_looped_is_not_an_end():
    assert type(after(spec(), Error(signals.LOOP(result=3)), 1)) is Looped
