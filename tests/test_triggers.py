import pickle
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labels import label

from prefectish import triggers
from prefectish.engine import signals
from prefectish.engine.context import context
from prefectish.engine.state import (
    Cached,
    Cancelled,
    Crashed,
    Failed,
    Mapped,
    Paused,
    Pending,
    Resume,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    Success,
    TimedOut,
    TriggerFailed,
)

PLAIN = [
    triggers.all_finished,
    triggers.all_successful,
    triggers.all_failed,
    triggers.any_successful,
    triggers.any_failed,
    triggers.not_all_skipped,
    triggers.some_failed(at_least=1),
    triggers.some_successful(at_least=1),
    triggers.some_failed(at_least=0.5, at_most=0.9),
]

TABLE = {
    # states: the triggers among the five that pass
    (Success,): {"all_finished", "all_successful", "any_successful"},
    (Cached,): {"all_finished", "all_successful", "any_successful"},
    (Skipped,): {"all_finished", "all_successful", "any_successful"},
    (Failed,): {"all_finished", "all_failed", "any_failed"},
    (TimedOut,): {"all_finished", "all_failed", "any_failed"},
    (Crashed,): {"all_finished", "all_failed", "any_failed"},
    (TriggerFailed,): {"all_finished", "all_failed", "any_failed"},
    (Cancelled,): {"all_finished"},
    (Pending,): set(),
    (Running,): set(),
    (Retrying,): set(),
    (Success, Failed): {"all_finished", "any_successful", "any_failed"},
    (Success, Skipped): {"all_finished", "all_successful", "any_successful"},
    (Failed, Skipped): {"all_finished", "any_successful", "any_failed"},
    (Success, Cancelled): {"all_finished", "any_successful"},
    (Failed, Cancelled): {"all_finished", "any_failed"},
    (Success, Scheduled): {"any_successful"},
    (Failed, Pending): {"any_failed"},
    (Failed, TimedOut): {"all_finished", "all_failed", "any_failed"},
}


class Edge:
    """Is like an edge of a flow."""

    def __init__(self, mapped=False):
        self.upstream_task = SimpleNamespace(name="up")
        self.downstream_task = SimpleNamespace(name="down")
        self.key = "x"
        self.mapped = mapped
        self.flattened = False


def upstream(*states, mapped=False):
    return {Edge(mapped): state for state in states}


def passes(trigger, states):
    try:
        return trigger(states)
    except signals.TRIGGERFAIL:
        return False


@pytest.mark.parametrize("states", TABLE, ids=lambda states: "-".join(cls.__name__ for cls in states))
@pytest.mark.parametrize("name", ["all_finished", "all_successful", "all_failed", "any_successful", "any_failed"])
def test_trigger_follows_the_table(name, states):
    trigger = getattr(triggers, name)
    assert passes(trigger, upstream(*(cls() for cls in states))) is (name in TABLE[states])


@pytest.mark.parametrize("trigger", PLAIN, ids=label)
def test_trigger_passes_without_upstream(trigger):
    assert trigger({}) is True


def test_always_run_is_all_finished():
    assert triggers.always_run is triggers.all_finished


@pytest.mark.parametrize(
    ("trigger", "states", "message"),
    [
        (
            triggers.all_successful,
            [Failed()],
            'Trigger was "all_successful" but some of the upstream tasks failed.',
        ),
        (triggers.all_failed, [Success()], 'Trigger was "all_failed" but some of the upstream tasks succeeded.'),
        (
            triggers.any_successful,
            [Failed()],
            'Trigger was "any_successful" but none of the upstream tasks succeeded.',
        ),
        (triggers.any_failed, [Success()], 'Trigger was "any_failed" but none of the upstream tasks failed.'),
        (
            triggers.all_finished,
            [Running()],
            'Trigger was "all_finished" but some of the upstream tasks were not finished.',
        ),
        (
            triggers.not_all_skipped,
            [Failed(), Skipped()],
            'Trigger was "not_all_skipped" but some of the upstream tasks failed.',
        ),
        (
            triggers.some_failed(at_least=2),
            [Failed(), Success()],
            'Trigger was "some_failed(at_least=2, at_most=None)" but 1 of 2 upstream tasks were failed.',
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_failing_trigger_says_why(trigger, states, message):
    """U1 for the first."""
    with pytest.raises(signals.TRIGGERFAIL) as caught:
        trigger(upstream(*states))
    state = caught.value.state
    assert type(state) is TriggerFailed
    assert state.message == message
    assert state.result is caught.value


# ---------------------------------------------------------------------- fan-in


def test_mapped_upstream_counts_as_its_children():
    parent = Mapped(map_states=[Success(), Failed()])
    assert not passes(triggers.all_successful, upstream(parent))
    assert passes(triggers.any_successful, upstream(parent))
    assert passes(triggers.any_failed, upstream(parent))
    assert not passes(triggers.all_failed, upstream(parent))
    assert passes(triggers.all_failed, upstream(Failed(), Mapped(map_states=[Failed(), Crashed()])))


def test_mapped_upstream_on_a_mapped_edge_is_itself():
    parent = Mapped(map_states=[Failed()])
    assert passes(triggers.all_successful, upstream(parent, mapped=True))
    assert not passes(triggers.any_failed, upstream(parent, mapped=True))


@pytest.mark.parametrize("trigger", [triggers.all_finished, triggers.all_successful, triggers.all_failed])
def test_empty_map_passes_where_all_are_asked_for(trigger):
    assert passes(trigger, upstream(Mapped(map_states=[])))


@pytest.mark.parametrize(
    "trigger",
    [triggers.any_successful, triggers.any_failed, triggers.some_failed(1), triggers.some_successful(at_least=1)],
    ids=label,
)
def test_empty_map_fails_where_any_is_asked_for(trigger):
    assert not passes(trigger, upstream(Mapped(map_states=[])))


def test_empty_map_is_not_all_skipped():
    assert triggers.not_all_skipped(upstream(Mapped())) is True


@pytest.mark.parametrize("parent", [Mapped(map_states=[Success(), None]), Mapped(n_map_states=2)])
def test_child_of_which_nothing_is_known_has_not_finished(parent):
    assert not passes(triggers.all_finished, upstream(parent))
    assert passes(triggers.some_failed(at_most=0), upstream(parent))
    assert not passes(triggers.some_successful(at_least=2), upstream(parent))


# ---------------------------------------------------------------------- not_all_skipped, manual_only


def test_not_all_skipped_passes_if_one_ran():
    assert triggers.not_all_skipped(upstream(Skipped(), Success())) is True


@pytest.mark.parametrize(
    "states", [[Skipped()], [Skipped(), Skipped()], [Mapped(map_states=[Skipped()] * 3)]], ids=label
)
def test_not_all_skipped_skips_if_all_are(states):
    with pytest.raises(signals.SKIP):
        triggers.not_all_skipped(upstream(*states))


@pytest.mark.parametrize("other", [Failed(), Cancelled(), Running()], ids=label)
def test_not_all_skipped_fails_if_one_did_not_succeed(other):
    with pytest.raises(signals.TRIGGERFAIL):
        triggers.not_all_skipped(upstream(Skipped(), other, Success()))


@pytest.mark.parametrize("states", [[], [Success()], [Failed()], [Resume()]], ids=label)
@pytest.mark.parametrize("resume", [None, False])
def test_manual_only_pauses(states, resume):
    with context(resume=resume), pytest.raises(signals.PAUSE) as caught:
        triggers.manual_only(upstream(*states))
    assert type(caught.value.state) is Paused
    assert caught.value.state.message == 'Trigger function is "manual_only"'


def test_manual_only_pauses_outside_a_run():
    with pytest.raises(signals.PAUSE):
        triggers.manual_only({})


@pytest.mark.parametrize("states", [[], [Success()], [Failed()]], ids=label)
def test_manual_only_passes_once_resumed(states):
    with context(resume=True):
        assert triggers.manual_only(upstream(*states)) is True


# ---------------------------------------------------------------------- some_*

FOUR = [Failed(), Failed(), Success(), Pending()]


@pytest.mark.parametrize(
    ("at_least", "at_most", "expected"),
    [
        (None, None, True),
        (2, None, True),
        (3, None, False),
        (None, 2, True),
        (None, 1, False),
        (2, 2, True),
        (0.5, None, True),
        (0.51, None, False),
        (None, 0.5, True),
        (None, 0.49, False),
        (0, 4, True),
        (None, 0, False),
        (1.0, 3.5, True),
        (3, 1, False),
    ],
)
def test_some_failed_bounds_are_inclusive(at_least, at_most, expected):
    trigger = triggers.some_failed(at_least=at_least, at_most=at_most)
    assert passes(trigger, upstream(*FOUR)) is expected
    assert passes(trigger, upstream(Mapped(map_states=FOUR))) is expected


def test_some_successful_counts_skipped():
    trigger = triggers.some_successful(at_least=2)
    assert passes(trigger, upstream(Success(), Skipped(), Failed()))
    assert not passes(trigger, upstream(Success(), Failed(), Failed()))


@given(st.integers(1, 200), st.data())
def test_fractions_are_inclusive_whatever_floats_do(total, data):
    failed = data.draw(st.integers(0, total))
    states = upstream(Mapped(map_states=[Failed()] * failed + [Success()] * (total - failed)))
    share = failed / total
    if share < 1:
        assert passes(triggers.some_failed(at_least=share, at_most=share), states)
    assert passes(triggers.some_failed(at_least=failed, at_most=max(failed, 1)), states)


@given(st.integers(0, 60).map(lambda n: n * 10))
def test_a_tenth_is_a_tenth(total):
    failed = total // 10
    states = upstream(Success(), *[Failed()] * failed, *[Success()] * (total - failed - 1)) if total else {}
    assert passes(triggers.some_failed(at_least=0.1, at_most=0.1), states)


@pytest.mark.parametrize("bound", [-1, -0.1, float("nan")])
@pytest.mark.parametrize("name", ["at_least", "at_most"])
@pytest.mark.parametrize("trigger", [triggers.some_failed, triggers.some_successful])
def test_some_refuses_bounds_that_are_none(trigger, name, bound):
    with pytest.raises(ValueError, match=f"{name} must be a number >= 0, got {bound}"):
        trigger(**{name: bound})


@pytest.mark.parametrize("trigger", [*PLAIN, triggers.manual_only], ids=label)
def test_triggers_survive_a_pickle(trigger):
    copied = pickle.loads(pickle.dumps(trigger))
    assert copied.__name__ == trigger.__name__
    if trigger is not triggers.manual_only:
        assert passes(copied, upstream(*FOUR)) == passes(trigger, upstream(*FOUR))


def test_some_is_named_after_what_it_counts():
    assert triggers.some_failed(1).__name__ == "some_failed"
    assert repr(triggers.some_successful(0.5, 3)) == "some_successful(at_least=0.5, at_most=3)"
