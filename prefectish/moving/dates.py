"""Arguments that are dates: Prefect took naive ones as UTC, and here they are refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import libcst as cst
from libcst import matchers as m
from libcst.metadata import QualifiedNameSource, Scope

from prefectish.moving.uses import dotted

#: Why a date is left.
UNKNOWN = "dates must have a time zone: where this one has none, write .replace(tzinfo=UTC)"
#: Keywords of arguments that are dates, or lists of them.
_KEYWORDS = ("start_date", "end_date", "start_time", "dates", "dt", "start", "end", "cached_result_expiration")
#: Calls with such arguments, each with the positions of theirs.
POSITIONS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("IntervalClock", "CronClock", "RRuleClock", "IntervalSchedule", "CronSchedule"), (1, 2)),
    **dict.fromkeys(("DatesClock", "ClockEvent", "on_datetime"), (0,)),
    "between_datetimes": (0, 1),
    **dict.fromkeys(("Scheduled", "Retrying", "Paused", "Resume"), (2,)),
    "Cached": (4,),
    **dict.fromkeys(("RETRY", "PAUSE"), ()),
}
#: Methods of a date that return one with the same zone.
_SAME_ZONE = ("replace", "add", "subtract", "start_of", "end_of", "next", "previous")
_EQUAL = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
_COMMA = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
_UTC = cst.Arg(cst.Name("UTC"))


class Dates:
    """The date arguments of a file, judged when all of it has been read."""

    def __init__(self) -> None:
        #: Naive dates, and what they become.
        self.replaced: dict[cst.CSTNode, cst.CSTNode] = {}
        #: Arguments of which nothing can be said.
        self.unknown: list[cst.BaseExpression] = []
        #: Values by the names that they are given.
        self.values: dict[cst.CSTNode, cst.BaseExpression] = {}
        self._given: list[tuple[cst.BaseExpression, bool, Scope | None]] = []

    def given(self, called: str, args: Iterable[cst.Arg], scope: Scope | None) -> None:
        """Note the arguments of a call that may be dates."""
        for position, arg in enumerate(args):
            if arg.star:
                return
            if arg.keyword is None or arg.keyword.value in _KEYWORDS:
                is_date = arg.keyword is not None or position in POSITIONS[called]
                self._given += [(each, is_date, scope) for each in _members(arg.value)]

    def judge(self) -> None:
        """Put each naive date into UTC, and note those that cannot be judged."""
        dates = {value for value, _, _ in self._given}
        for value, is_date, scope in self._given:
            source, others = self._source(value, scope)
            found: dict[cst.CSTNode, cst.CSTNode] = {}
            known = all([_is_aware(each, found, scope) for each in _members(source)])
            if others <= dates:  # what is used for more than such arguments stays as it is
                self.replaced |= found
            elif found:
                known = False
            if is_date and not known:
                self.unknown.append(value)

    def _source(self, value: cst.BaseExpression, scope: Scope | None) -> tuple[cst.BaseExpression, set[cst.CSTNode]]:
        """Return what a name is given, if this is once, and where the name is used; of another expression itself."""
        if isinstance(value, cst.Name) and scope is not None:
            bound = list(scope[value.value])
            if len(bound) == 1 and (source := self.values.get(getattr(bound[0], "node", value))) is not None:
                return source, {access.node for access in bound[0].references}
        return value, set()


def _members(value: cst.BaseExpression) -> list[cst.BaseExpression]:
    """Return the members of a list as it is written; of another value itself."""
    if isinstance(value, cst.ListComp | cst.GeneratorExp):
        return [value.elt]
    return [each.value for each in value.elements] if isinstance(value, cst.List | cst.Tuple) else [value]


def _is_aware(date: cst.BaseExpression, found: dict[cst.CSTNode, cst.CSTNode], scope: Scope | None) -> bool:
    """Whether a date has a zone, or has one with the replacements that are added to `found`."""
    if isinstance(date, cst.BinaryOperation):
        return any([_is_aware(side, found, scope) for side in (date.left, date.right)])
    if isinstance(date, cst.IfExp):
        return all([_is_aware(side, found, scope) for side in (date.body, date.orelse)])
    if isinstance(date, cst.Call) and not any(arg.star for arg in date.args):
        return _call_is_aware(date, found, scope)
    return dotted(date).rpartition(".")[2] in ("None", "scheduled_start_time")


def _call_is_aware(date: cst.Call, found: dict[cst.CSTNode, cst.CSTNode], scope: Scope | None) -> bool:
    kind, _, last = _full_name(date.func, scope).rpartition(".")
    if (aware := _in_utc(date, kind, last)) is not None:
        found[date] = aware
        return True
    if kind.endswith("datetime") or (last == "datetime" and kind in ("", "dt")):
        return _has_zone(date, last)
    if kind.split(".")[0] == "pendulum":
        return last not in ("naive", "duration", "period")
    if not isinstance(date.func, cst.Attribute):
        return False
    method = date.func.attr.value
    if (zone := _argument(date, "tzinfo")) is not None:
        return method == "replace" and not m.matches(zone.value, m.Name("None"))
    return method == "astimezone" or (method in _SAME_ZONE and _is_aware(date.func.value, found, scope))


def _full_name(called: cst.BaseExpression, scope: Scope | None) -> str:
    """Return the name of what is called as it is where it comes from; as it is written, if it is not imported."""
    names = () if scope is None else scope.get_qualified_names_for(called)
    return next((each.name for each in names if each.source is QualifiedNameSource.IMPORT), dotted(called))


def _in_utc(date: cst.Call, kind: str, last: str) -> cst.BaseExpression | None:
    """Return a naive date as one in UTC, as which Prefect took it; None if it is none that is known."""
    owner = date.func.value if isinstance(date.func, cst.Attribute) and kind.endswith("datetime") else None
    if owner is not None and last in ("utcnow", "now", "today") and not date.args:
        return cst.Call(cst.Attribute(owner, cst.Name("now")), [_UTC])
    if owner is not None and last in ("utcfromtimestamp", "fromtimestamp") and len(date.args) == 1:
        return cst.Call(
            cst.Attribute(owner, cst.Name("fromtimestamp")), [date.args[0].with_changes(comma=_COMMA), _UTC]
        )
    if last == "datetime" and kind in ("", "datetime", "dt") and 3 <= len(date.args) < 8 and not _has_zone(date, last):
        return date.with_changes(args=[*date.args, _UTC.with_changes(keyword=cst.Name("tzinfo"), equal=_EQUAL)])
    return None


def _has_zone(date: cst.Call, last: str) -> bool:
    """Whether a call of `datetime`, or of a method of it, is given a zone."""
    zone = _argument(date, "tzinfo") or _argument(date, "tz")
    positions = {"datetime": 7, "now": 0, "fromtimestamp": 1, "combine": 2}
    if zone is None and len(date.args) > positions.get(last, len(date.args)):
        zone = date.args[positions[last]]
    return zone is not None and not m.matches(zone.value, m.Name("None"))


def _argument(call: cst.Call, name: str) -> cst.Arg | None:
    return next((arg for arg in call.args if arg.keyword is not None and arg.keyword.value == name), None)
