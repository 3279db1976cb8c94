"""The width of a map, and whether there can be one: pure rules about the parent of a map.

The parent of a mapped task never runs. Once what it maps over is known it becomes Mapped, or it is skipped or failed
as a whole; its trigger is not consulted (each child consults it).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from prefectish.engine.state import Failed, Mapped, Skipped, State
from prefectish.interrupting import is_users
from prefectish.tasks.mapping import A_LIST, LISTS, UNMAPPABLE_RESULT, Unmappable, item_at, rule_of, width_of

if TYPE_CHECKING:
    from prefectish.engine.plan.steps import Input

#: Width of a result that cannot be mapped over, see :func:`measure`.
UNMAPPABLE = -1
#: Width of an element that ``flatten`` takes as it is.
SCALAR = -1
#: Width of an element that `flatten` does not take.
REFUSED = -2

NO_UPSTREAM = "No upstream states can be mapped over."
NOTHING_LEFT = "All upstream tasks were skipped: there is nothing to map over."


class Measure(IntEnum):
    """What a step reports of its result, for maps over it."""

    NOTHING = 0
    #: Its width.
    WIDTH = 1
    #: The width of each of its elements too.
    ELEMENTS = 2
    #: For a step whose consumers are not known yet: its width, and no error if it has none.
    QUIETLY = 3


def measure(value: Any, depth: int) -> Any:
    """Return the facts about `value` that a map over it needs; they are small, however large the value is.

    They are ``(width, kind)`` for depth 1, a map over the items; `kind` is the name of the value's type. For depth 2, a
    map over the elements of the items (flatten), they are ``(width, kind, widths)``, with the width of each item,
    :data:`SCALAR` for one that is not a list. Of a value that cannot be mapped over: ``(UNMAPPABLE, kind, way_out)``.

    Examples
    --------
    >>> measure([[1, 2], 3], 2)
    (2, 'list', (2, -1))
    >>> measure({1, 2}, 1)
    (-1, 'set', 'sorted(...) or list(...) of it: a set has no order')
    """
    try:
        if depth < 2:
            return width_of(value), type(value).__name__
        width = width_of(value)
        if type(value) in LISTS:
            return width, type(value).__name__, tuple(map(element_width, value))
        return width, type(value).__name__, tuple(_width_at(value, i) for i in range(width))
    except Unmappable as error:
        return UNMAPPABLE, error.kind, error.way_out


def _width_at(value: Any, position: int) -> int:
    try:
        return element_width(item_at(value, position))
    except BaseException as broken:  # reading it is code of the user's
        if is_users(broken):
            raise
        return SCALAR  # the child that reads it will tell


def element_width(item: Any) -> int:
    """Return the number of elements `flatten` finds in `item`; text, bytes and dicts are elements.

    A table, or a list that is not as long as it says, is :data:`REFUSED`.
    """
    rule = rule_of(type(item))
    if rule.read is None:
        return REFUSED if rule.is_table else SCALAR
    try:
        return width_of(item)
    except Unmappable as error:
        return SCALAR if error.way_out == A_LIST else REFUSED


def flat_paths(widths: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the path to each element of a flattened list.

    Examples
    --------
    >>> flat_paths([2, -1, 0])
    [(0, 0), (0, 1), (1,)]
    """
    return [path for i, width in enumerate(widths) for path in element_paths(i, width)]


def element_paths(i: int, width: int) -> list[tuple[int, ...]]:
    """Return the paths to the elements of item i: ``(i,)`` for a scalar, ``(i, j)`` for the elements of a list.

    What is refused has one element, ``(i, -1)``: the child that reads it fails, and says why.
    """
    if width >= 0:
        return [(i, j) for j in range(width)]
    return [(i,)] if width == SCALAR else [(i, -1)]


class KnownSource:
    """What the parent rule has to know of one input."""

    __slots__ = ("input", "kind", "state", "way_out", "width")

    def __init__(
        self, edge: Input, state: State, width: int | None = None, kind: str = "", way_out: str = A_LIST
    ) -> None:
        self.input = edge
        self.state = state
        # Number of positions a mapped input offers, None if it is not known (yet, or because it was not successful).
        self.width = width
        self.kind = kind  # name of the type of the value, for errors
        self.way_out = way_out  # of a value that cannot be mapped over: what to map over instead

    @property
    def skipped(self) -> bool:
        """Whether it was skipped as a whole and left nothing to map over."""
        return isinstance(self.state, Skipped) and (self.width is None or self.width == UNMAPPABLE)


def parent_verdict(
    sources: Sequence[KnownSource], *, skip: bool, strict: bool
) -> tuple[State | None, int | None, str | None]:
    """Decide what the parent of a map becomes, all of its inputs being known, by these options of the task.

    Returns ``(state, width, warning)``: a final state that is not Mapped, or None and the width; `warning` when lists
    of unequal length were cut to the shortest.
    """
    if skip and any(skips_reader(s.input.mapped, s.state) for s in sources):
        return Skipped(SKIPPED_UPSTREAM), None, None
    mapped = [s for s in sources if s.input.mapped]
    good = [s for s in mapped if s.state.is_successful() and not s.skipped]
    if not good and mapped and all(s.skipped for s in mapped):
        return Skipped(NOTHING_LEFT), None, None
    bad = [s for s in mapped if s.width == UNMAPPABLE and not s.skipped]
    if bad:
        return _unmappable(bad[0]), None, None
    if not good:
        return Failed(NO_UPSTREAM), None, None
    known = [s for s in good if s.width is not None]
    lengths = {s.width for s in known}
    if len(lengths) > 1:
        widths = ", ".join(f"{s.input.key or s.input.source_label}={s.width}" for s in known)
        if strict:
            text = f"mapped inputs differ in length: {widths}"
            return Failed(text, ValueError(text)), None, None
        return None, min(s.width or 0 for s in known), f"mapped inputs differ in length: {widths}; the shortest wins"
    return None, known[0].width if known else None, None


SKIPPED_UPSTREAM = (
    "Upstream task was skipped; if this was not the intended behavior, "
    "consider changing `skip_on_upstream_skip=False` for this task."
)


def skips_reader(mapped: bool, state: State) -> bool:
    """Return whether a skipped input, read child by child if `mapped`, skips the task or the map that reads it."""
    if isinstance(state, Skipped):
        return True
    return not mapped and isinstance(state, Mapped) and any(isinstance(c, Skipped) for c in state.map_states or ())


def _unmappable(source: KnownSource) -> Failed:
    where = source.input.key or source.input.source_label
    text = f"{where} is a {source.kind} ({source.input.source_label}): map over {source.way_out}"
    return Failed(f"{UNMAPPABLE_RESULT} {text}", TypeError(text))
