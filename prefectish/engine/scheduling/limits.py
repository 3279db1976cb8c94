"""How many children of a task, or of a tag, may run at once, and how many may start in a second.

A limit is asked where jobs are admitted, at the owner: what waits for it holds no slot anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefectish.engine.plan.steps import Plan, Step


class Limit:
    """A number of places."""

    __slots__ = ("size", "used")

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0


class Rate:
    """At most so many starts a second, evenly spaced; a pause does not save them up."""

    __slots__ = ("next_start", "spacing")

    def __init__(self, per_second: float) -> None:
        self.spacing = 1.0 / per_second
        self.next_start = float("-inf")


class Limits:
    """The limits of one run.

    Parameters
    ----------
    tag_limits
        Places for all tasks that carry a tag, by tag.
    """

    def __init__(self, plan: Plan, tag_limits: Mapping[str, int] | None = None) -> None:
        self._tags = {tag: Limit(size) for tag, size in (tag_limits or {}).items()}
        self._places: dict[int, tuple[Limit, ...]] = {}
        self._own: dict[int, Limit] = {}
        self._rates: dict[int, Rate] = {}
        #: Steps that were too early under their rate.
        self.waiting: set[int] = set()
        for step in plan.steps:
            task = step.task
            self.add_step(
                step,
                Limit(task.max_concurrency) if task.max_concurrency else None,
                Rate(task.rate) if task.rate else None,
            )

    def add_step(self, step: Step, own: Limit | None, rate: Rate | None) -> None:
        """Note the limits of a step.

        Parameters
        ----------
        own, rate
            Of its task; steps of one task may share them.
        """
        shared = (self._tags[tag] for tag in sorted(step.task.tags) if tag in self._tags)
        if own is not None:
            self._own[step.number] = own
        places = (*(() if own is None else (own,)), *shared)
        if places:
            self._places[step.number] = places
        if rate is not None:
            self._rates[step.number] = rate

    def change(self, number: int, size: int, used: int) -> None:
        """Give a step's own limit another size.

        Parameters
        ----------
        used
            Places that its jobs take, if it has had no limit so far.
        """
        limit = self._own.get(number)
        if limit is None:
            limit = self._own[number] = Limit(size)
            self._add(limit, {number: used})
        limit.size = size

    def change_tag(self, tag: str, size: int, used: Mapping[int, int]) -> None:
        """Give the limit of a tag another size.

        Parameters
        ----------
        used
            Places that the jobs of each step with the tag take, if it has had no limit so far.
        """
        limit = self._tags.get(tag)
        if limit is None:
            limit = self._tags[tag] = Limit(size)
            self._add(limit, used)
        limit.size = size

    def _add(self, limit: Limit, used: Mapping[int, int]) -> None:
        for number, count in used.items():
            limit.used += count
            self._places[number] = (*self._places.get(number, ()), limit)

    def limited(self, number: int) -> bool:
        """Whether a step has any limit."""
        return number in self._places or number in self._rates

    def rated(self, number: int) -> bool:
        """Whether the starts of a step are spaced."""
        return number in self._rates

    def take(self, number: int, now: float) -> bool:
        """Take a place of each limit of a step; False, and nothing taken, if one has none or it is too early."""
        places = self._places.get(number, ())
        if any(place.used >= place.size for place in places):
            return False
        rate = self._rates.get(number)
        if rate is not None:
            if now < rate.next_start:
                self.waiting.add(number)
                return False
            self.waiting.discard(number)
            # A loop that looks late starts the next one on the grid, but never two at once to catch up.
            probe_first = now - rate.next_start
            rate.next_start = (rate.next_start if probe_first < rate.spacing else now) + rate.spacing
        for place in places:
            place.used += 1
        return True

    def take_all(self, numbers: Sequence[int], now: float) -> bool:
        """Take a place for steps that travel together; False, and nothing taken, if one of them has none."""
        for count, number in enumerate(numbers):
            if not self.take(number, now):
                for taken in numbers[:count]:
                    self.give(taken)
                return False
        return True

    def give(self, number: int) -> None:
        """Give back the places of a step."""
        for place in self._places.get(number, ()):
            place.used -= 1

    def next_start(self) -> float | None:
        """When a step that was too early may start; None if none waits."""
        return min((self._rates[number].next_start for number in self.waiting), default=None)
