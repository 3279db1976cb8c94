"""What failures have in common, by values."""

from __future__ import annotations

from prefectish.engine.scheduling.causes import cause_of, described, normalised
from prefectish.engine.state import Failed, TimedOut
from prefectish.errors import RemoteError


def raised(text, kind=ValueError):
    try:
        raise kind(text)
    except kind as error:
        return Failed("failed", error)


def test_failures_that_differ_in_particulars_are_one_cause():
    first, second = (cause_of(raised(f"no file '/data/{n}.png', 3 tries")) for n in (1, 22))
    assert first.fingerprint == second.fingerprint
    assert (first.type, first.message) == ("ValueError", "no file '/data/1.png', 3 tries")


def test_other_type_text_or_state_is_another_cause():
    causes = [cause_of(raised("a")), cause_of(raised("b")), cause_of(raised("a", KeyError)), cause_of(TimedOut("a"))]
    assert len({cause.fingerprint for cause in causes}) == 4


def test_exception_that_could_not_travel_is_described_by_its_stand_in():
    assert described(Failed("failed", RemoteError("OSError", "disk full"))) == ("OSError", "disk full")


def test_failure_without_an_exception_is_described_by_its_state():
    assert described(TimedOut("too long")) == ("TimedOut", "too long")


def test_numbers_quotes_addresses_and_paths_are_particulars():
    assert normalised("item 7 of 'x' at 0x7f in /a/b: 1.5 s") == "item ? of ? at ? in ?: ? s"


def test_classes_of_one_name_from_two_modules_are_two_causes():
    kinds = [type("Late", (ValueError,), {"__module__": module}) for module in ("netlib", "disklib", "netlib")]
    states = [raised("no answer", kind) for kind in kinds]
    live = [cause_of(state).fingerprint for state in states]
    assert live[0] == live[2] != live[1]
    # as they are in records, and where their class is not known
    recorded = [Failed("failed", RemoteError("Late", "no answer", state.traceback)) for state in states]
    assert [cause_of(state).fingerprint for state in recorded] == live
