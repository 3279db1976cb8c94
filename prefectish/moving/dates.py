"""Arguments that are dates: Prefect took naive ones as UTC, and here they are refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import libcst as cst
from libcst import matchers as m
from libcst.metadata import QualifiedNameSource, Scope

from prefectish.moving.uses import dotted

#: Why a date is left.
UNKNOWN = "dates must have a time zone: where this one has none, write .replace(tzinfo=UTC)"
#: Why what a call unpacks is left.
UNPACKED = f"what is unpacked here cannot be judged; {UNKNOWN}"
#: Keywords of arguments that are dates, or lists of them.
_KEYWORDS = ("start_date", "end_date", "start_time", "dates", "dt", "start", "end", "cached_result_expiration", "after")
#: Calls with such arguments, each with the positions of theirs.
POSITIONS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("IntervalClock", "CronClock", "RRuleClock", "IntervalSchedule", "CronSchedule"), (1, 2)),
    **dict.fromkeys(("DatesClock", "ClockEvent", "on_datetime"), (0,)),
    "between_datetimes": (0, 1),
    **dict.fromkeys(("Scheduled", "Retrying", "Paused", "Resume"), (2,)),
    "Cached": (4,),
    **dict.fromkeys(("RETRY", "PAUSE"), ()),
    "next": (1,),
    "events": (),
}
#: Methods of schedules and of clocks.
_METHODS = ("next", "events")
#: Methods of a date that return one with the same zone.
_SAME_ZONE = ("replace", "add", "subtract", "start_of", "end_of", "next", "previous")
#: Names that stand for one another, at most: `a = b; b = a` has no end.
_MAX_NAMES = 10
_EQUAL = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
_COMMA = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
_UTC = cst.Arg(cst.Name("UTC"))
_Replaced = dict[cst.CSTNode, cst.CSTNode]


class Dates:
    """The date arguments of a file, judged when all of it has been read."""

    def __init__(self) -> None:
        #: Naive dates, and what they become.
        self.replaced: dict[cst.CSTNode, cst.CSTNode] = {}
        #: Arguments of which nothing can be said.
        self.unknown: list[cst.BaseExpression] = []
        #: What calls unpack, which may hold dates.
        self.unpacked: list[cst.BaseExpression] = []
        #: Values by the names that they are given.
        self.values: dict[cst.CSTNode, cst.BaseExpression] = {}
        self._given: list[tuple[cst.BaseExpression, bool, Scope | None]] = []
        #: Names that stand for a date, or for a part of one.
        self._uses: set[cst.CSTNode] = set()

    def given(self, called: str, args: Iterable[cst.Arg], scope: Scope | None) -> None:
        """Note the arguments of a call that may be dates."""
        positions = POSITIONS[called]
        for position, arg in enumerate(args):
            if arg.star == "**":
                self._note_unpacked(arg.value, scope)
            elif arg.star:
                if positions and position <= positions[-1]:
                    self.unpacked.append(arg.value)
                positions = ()  # where the next ones are is not known
            elif arg.keyword is None or arg.keyword.value in _KEYWORDS:
                is_date = arg.keyword is not None or position in positions
                self._given += [(each, is_date, scope) for each in _members(arg.value)]

    def _note_unpacked(self, mapping: cst.BaseExpression, scope: Scope | None) -> None:
        """Note the dates in a dict as it is written, and any other mapping as one that cannot be judged."""
        if not isinstance(mapping, cst.Dict):
            self.unpacked.append(mapping)
            return
        for element in mapping.elements:
            key = element.key if isinstance(element, cst.DictElement) else None
            name = key.evaluated_value if isinstance(key, cst.SimpleString) else None
            if name is None:
                self.unpacked.append(element.value)
            elif name in _KEYWORDS:
                self._given += [(each, True, scope) for each in _members(element.value)]

    def judge(self) -> None:
        """Put each naive date into UTC, and note those that cannot be judged."""
        for value, _, scope in self._given:
            self._note_uses(value, scope)
        for value, is_date, scope in self._given:
            if not self._is_aware(value, self.replaced, scope) and is_date:
                self.unknown.append(value)

    def _note_uses(self, value: cst.BaseExpression, scope: Scope | None) -> None:
        for leaf in _leaves(value):
            if isinstance(leaf, cst.Name) and leaf not in self._uses:
                self._uses.add(leaf)
                if (source := self._source(leaf, scope)[0]) is not None:
                    self._note_uses(source, scope)

    def _source(self, name: cst.Name, scope: Scope | None) -> tuple[cst.BaseExpression | None, set[cst.CSTNode]]:
        """Return what a name is given, if this is once, and where the name is used."""
        bound = [] if scope is None else list(scope[name.value])
        if len(bound) != 1:
            return None, set()
        return self.values.get(getattr(bound[0], "node", name)), {access.node for access in bound[0].references}

    def _is_aware(self, date: cst.BaseExpression, found: _Replaced, scope: Scope | None, depth: int = 0) -> bool:
        """Whether a date has a zone, or has one with the replacements that are added to `found`."""
        if isinstance(date, cst.BinaryOperation):
            return any([self._is_aware(side, found, scope, depth) for side in (date.left, date.right)])
        if isinstance(date, cst.IfExp):
            return all([self._is_aware(side, found, scope, depth) for side in (date.body, date.orelse)])
        if isinstance(date, cst.Call) and not any(arg.star for arg in date.args):
            known = _call_is_aware(date, found, scope)
            return self._is_aware(_receiver(date), found, scope, depth) if known is None else known
        if dotted(date).rpartition(".")[2] in ("None", "scheduled_start_time") or _is_of_clock(date):
            return True
        return isinstance(date, cst.Name) and depth < _MAX_NAMES and self._name_is_aware(date, found, scope, depth + 1)

    def _name_is_aware(self, name: cst.Name, found: _Replaced, scope: Scope | None, depth: int) -> bool:
        source, uses = self._source(name, scope)
        if source is None:
            return False
        inside: _Replaced = {}
        known = all([self._is_aware(each, inside, scope, depth) for each in _members(source)])
        if inside and not uses <= self._uses:  # what is used for more than dates stays as it is
            return False
        found |= inside
        return known


def _is_of_clock(date: cst.BaseExpression) -> bool:
    """Whether a date is that of a clock or an event, which have zones; not an attribute of the user's own class."""
    names = m.OneOf(*map(m.Name, ("start_date", "end_date", "start_time")))
    return m.matches(date, m.Attribute(value=m.DoesNotMatch(m.Name("self")), attr=names))


def asks_for_events(method: str, call: cst.Call) -> bool:
    """Whether a method is called as that of a schedule, or of a clock, which gives the events after a date."""
    by_position = sum(arg.keyword is None and not arg.star for arg in call.args)
    return method in _METHODS and (_argument(call, "after") is not None or (method == "next" and by_position == 2))


def _members(value: cst.BaseExpression) -> list[cst.BaseExpression]:
    """Return the members of a list as it is written; of another value itself."""
    if isinstance(value, cst.ListComp | cst.GeneratorExp):
        return [value.elt]
    return [each.value for each in value.elements] if isinstance(value, cst.List | cst.Tuple) else [value]


def _leaves(value: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    """Yield what decides whether a date has a zone."""
    for each in _members(value):
        if isinstance(each, cst.BinaryOperation):
            yield from (*_leaves(each.left), *_leaves(each.right))
        elif isinstance(each, cst.IfExp):
            yield from (*_leaves(each.body), *_leaves(each.orelse))
        elif (receiver := _receiver(each)) is not each:
            yield from _leaves(receiver)
        else:
            yield each


def _receiver(date: cst.BaseExpression) -> cst.BaseExpression:
    """Return the date whose zone the result of a method has; of anything else itself."""
    if m.matches(date, m.Call(func=m.Attribute(attr=m.OneOf(*map(m.Name, _SAME_ZONE))))):
        return cst.ensure_type(cst.ensure_type(date, cst.Call).func, cst.Attribute).value
    return date


def _call_is_aware(date: cst.Call, found: _Replaced, scope: Scope | None) -> bool | None:
    """Whether the result of a call has a zone; None if it has that of the date whose method is called."""
    kind, _, last = _full_name(date.func, scope).rpartition(".")
    if (aware := _in_utc(date, kind, last)) is not None:
        found[date] = aware
        return True
    if kind.endswith("datetime") or (last == "datetime" and kind in ("", "dt")):
        return _has_zone(date, last)
    if kind.split(".")[0] == "pendulum":
        return last not in ("naive", "duration", "period")
    if (zone := _argument(date, "tzinfo")) is not None:
        return m.matches(date.func, m.Attribute(attr=m.Name("replace"))) and not m.matches(zone.value, m.Name("None"))
    return None if _receiver(date) is not date else m.matches(date.func, m.Attribute(attr=m.Name("astimezone")))


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
