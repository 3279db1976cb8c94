"""Who starts next: the window, the limits, the size of batches, and strict depth first.

Single steps start at once. Rows of maps take the places of the window, those of the deepest chain first, so that a row
is finished before another one is begun. Calls and maps that come during a run (a flow function) are served as they
came: calls go before rows of maps, maps take turns, and what reads an open map goes first. A chain under a limit is
deferred while it has no slot; nothing waits for it.
A limit is asked at the client, where jobs are admitted: what waits for it takes no slot of the cluster.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush

from prefectish.engine.jobs.job import CALL
from prefectish.engine.plan.steps import Plan, Step
from prefectish.engine.scheduling.reduction_chain import ReductionChain
from prefectish.engine.scheduling.run_state import AdmissionMode, MapRow, RunState, StepChain
from prefectish.errors import InvalidRunState
from prefectish.tasks.task import Task

#: A batch should take about so long, in seconds: long against what a task costs, short against a user's patience.
TARGET = 0.2
#: What a batch has to take at least to be worth its messages, in seconds: the last ones are not cut below that.
LEAST = 5e-3
#: What a child costs beside its body, in seconds, roughly; keeps bodies that take no time from making batches endless.
CHILD_OVERHEAD = 20e-6
#: Size of the first batches of a map, before anything is known about its time.
FIRST = 16
#: A batch is at most so many times as large as the one before: one quick item does not speak for all.
GROWTH = 4
LARGEST = 5000
#: Rows that are probed in one job, at most.
PAGE = 64
#: Rows that a chain starts in one go, at most: to ask who is next costs as much as to start a row.
ROWS_AT_ONCE = 32
#: Where one job runs at a time, rows are started in one go only if they take no longer in the mean, in seconds.
QUICK_ROW = 100e-6
#: Rows of a chain that are probed and have no place yet, at most, for each slot of the executor; and at least.
PROBED_PER_SLOT, PROBED = 32, 256
#: Batches that are submitted at once for each slot of the cluster.
BATCHES_PER_SLOT = 3
#: Rows of a map under way at once for each slot, beside the group that is combined next, if large results are combined.
HELD_PER_SLOT = 2
#: What reads a map that is still open is served before anything else that is mapped.
_READS_OPEN_MAP = -1
_ON_CHILD_FAILURE = {"continue": AdmissionMode.OPEN, "stop": AdmissionMode.STOP, "cancel": AdmissionMode.CANCEL}


class Admission:
    """Queues of chains that may have a row to start.

    Attributes
    ----------
    batches
        Whether rows are started in batches; an executor that runs the rows of a batch at once needs none.
    bundles
        Whether the executor takes batches as bundles.
    takes_turns
        Whether chains come during the run, and are served as they came.
    in_order
        Whether what came first is then served whole before what came later: where one job runs at a time.
    open
        Rows of maps that take a place in the window.
    waiting
        Rows that are ready again but had no slot under a limit.
    deferred
        Chains that had no slot under a limit for their next row.
    """

    def __init__(
        self,
        window: int,
        slots: int,
        limits: Limits,
        batches: bool = True,
        takes_turns: bool = False,
        in_order: bool = False,
        bundles: bool = False,
    ) -> None:
        self.window = window
        self._shared = 0  # rows that may be open because they share slots
        self.batches = batches
        self.bundles = bundles
        self.takes_turns = takes_turns
        self.in_order = in_order
        self.slots = slots
        self.limits = limits
        self.open = 0
        self.branch_limits: dict[int, int] = {}  # branches of a map that may be open at once, by its domain
        self.reductions: dict[int, list[ReductionChain]] = {}  # what combines children of a map, by its domain
        self.waiting: deque[tuple[StepChain, MapRow]] = deque()
        self._chains: dict[int, StepChain] = {}
        self._singles: list[tuple[float, int, int, int, int]] = []
        self._mapped: list[tuple[float, int, int, int, int]] = []
        self._turns = itertools.count()
        self._job_turns = itertools.count()
        self.deferred: list[StepChain] = []

    def queue(self, chain: StepChain) -> None:
        """Put a chain among those that may have a row to start."""
        if not chain.queued:
            chain.queued = True
            self._chains[chain.spec.ident] = chain
            self._push(chain)

    def queue_earlier(self, chain: StepChain) -> None:
        """Put a chain in its place that may be queued further behind; there it is passed over."""
        if chain.queued:
            self._push(chain)
        else:
            self.queue(chain)

    def _push(self, chain: StepChain) -> None:
        entry = (-chain.priority, *self._turn(chain), -chain.stage, chain.spec.ident)
        heappush(self._singles if chain.map_state is None else self._mapped, entry)

    def _turn(self, chain: StepChain) -> tuple[int, int]:
        """Return when it is the turn of a chain, among those of the same priority: smaller comes first."""
        if not self.takes_turns:
            return 0, 0
        if chain.precedence == CALL:
            return 0, chain.arrival
        if self.in_order:
            return 0, chain.arrival
        return 1, _READS_OPEN_MAP if chain.reads_open_map else next(self._turns)

    def next_chain(self) -> StepChain | None:
        """Return the chain that starts next, if any has a place in the window; it is queued no longer."""
        if self._singles:
            return self._take(self._singles)
        if self._has_mapped() and (self.open < self.window or self._may_exceed()):
            return self._take(self._mapped)
        return None

    def _has_mapped(self) -> bool:
        """Whether a chain of rows is queued; places are dropped at which one was queued before."""
        while self._mapped and not self._chains[self._mapped[0][-1]].queued:
            heappop(self._mapped)
        return bool(self._mapped)

    def _may_exceed(self) -> bool:
        """Whether a call is next that does not wait until rows of a map leave the window: few calls are open."""
        if not self.takes_turns or self._chains[self._mapped[0][-1]].precedence != CALL:
            return False
        calls = (chain for chain in self._chains.values() if chain.precedence == CALL)
        return sum(len(chain.open_rows) for chain in calls) < min(self.slots, self.window)

    def turn_of_job(self, chain: StepChain, count: int = 1) -> int:
        """Return the turn of the next job of a chain, or of the first of several.

        A map that comes later takes turns with those that are open.
        """
        if not self.takes_turns or chain.precedence == CALL:
            return next(self._job_turns)
        if chain.turn is None:
            others = [c for c in self._chains.values() if c.precedence == chain.precedence and c.open_rows]
            chain.turn = min((c.turn - len(c.open_rows) for c in others if c.turn is not None), default=0)
        chain.turn += count
        return chain.turn - count + 1

    def _take(self, heap: list[tuple[float, int, int, int, int]]) -> StepChain:
        chain = self._chains[heappop(heap)[-1]]
        chain.queued = False
        return chain

    def follow(self, window: int) -> None:
        """Take over how many rows of maps a session keeps open now, beside those that share slots."""
        self.window = max(window, self._shared)

    def limit_branches(self, chain: StepChain) -> None:
        """Note how many branches of a chain's map may be open, if one of its tasks says so; the least counts."""
        if chain.map_state is None:
            return
        if isinstance(chain, ReductionChain):
            read = chain.source.step.domain
            if read is not None:
                self.reductions.setdefault(read, []).append(chain)
        for step_state in chain.step_states:
            shared = step_state.step.task.async_concurrency
            if shared is not None:  # a place of the window is not one of a body that computes
                self._shared = max(self._shared, shared * self.slots)
                self.follow(self.window)
        domain = chain.map_state.domain.number
        for step_state in chain.step_states:
            most = step_state.step.task.max_branches
            if most is not None:
                self.branch_limits[domain] = min(most, self.branch_limits.get(domain, most))

    def room(self, chain: StepChain, size: int) -> int:
        """Return how many of `size` rows of a chain may begin: so many that not too many branches of its map are open.

        A branch is open from the beginning of its row to its end in all steps over the map that can run.
        """
        if chain.map_state is None or chain.dependencies:
            return size
        for reduction in self.reductions.get(chain.map_state.domain.number, ()):
            # Results that stay on workers are held until their group is combined, so that few groups are begun at once;
            # until the first result is known, they may be such. Rows in another order than the map's begin any group.
            if reduction.holds is not False and chain.order is None:
                under_way = chain.opened - reduction.combined
                size = min(size, reduction.tree.fan_in + HELD_PER_SLOT * self.slots - under_way)
        most = self.branch_limits.get(chain.map_state.domain.number)
        if most is None:
            return size
        ended = [len(m.children) - m.left for m in chain.map_state.members if m.chain and m.children and not m.final]
        return min(size, most - (chain.opened - min(ended, default=chain.opened)))

    def defer(self, chain: StepChain) -> None:
        """Let a chain wait for a slot under its limits without keeping others from starting."""
        self.deferred.append(chain)

    def wait(self, chain: StepChain, map_row: MapRow) -> None:
        """Let an open row wait for a slot under the limits of its chain."""
        self.waiting.append((chain, map_row))

    def requeue_deferred(self) -> None:
        """Queue the chains that waited for a slot."""
        deferred, self.deferred = self.deferred, []
        for chain in deferred:
            self.queue(chain)

    @property
    def stuck(self) -> bool:
        """Whether a chain or a row waits for a place or a time."""
        return bool(self.deferred or self.waiting or self._singles or self._has_mapped())

    # -- limits ----------------------------------------------------------------------------------------------------

    def permit(self, chain: StepChain, now: float) -> bool:
        """Take a slot under the limits of a chain, if it has any."""
        return not chain.limited or self.limits.take_all(self._limiting(chain), now)

    def give_back(self, chain: StepChain) -> None:
        """Give back a slot under the limits of a chain."""
        if chain.limited:
            for number in self._limiting(chain):
                self.limits.give(number)

    def _limiting(self, chain: StepChain) -> list[int]:
        """Return the steps of a chain that have limits: one, unless a limit was set when they were fused already."""
        return [
            step_state.step.number for step_state in chain.step_states if self.limits.limited(step_state.step.number)
        ]

    # -- rows ------------------------------------------------------------------------------------------------------

    def is_batched(self, chain: StepChain) -> bool:
        """Whether rows of a chain start in batches."""
        return chain.spec.batch_size is not None and self.batches

    def rows_at_once(self, chain: StepChain) -> int:
        """Return how many rows of a chain start before it is asked again who is next."""
        if self.takes_turns or chain.map_state is None or chain.limited:
            return 1
        if not self.in_order:
            return max(1, min(ROWS_AT_ONCE, self.window - self.open))
        if chain.row_by_row or chain.map_state.source is not None or chain.mean is None or chain.mean > QUICK_ROW:
            return 1  # one row is finished before the next is begun
        return ROWS_AT_ONCE

    def page_size(self, chain: StepChain) -> int:
        """Return how many rows of a chain the next job probes; 0 if enough are under way."""
        room = max(PROBED, PROBED_PER_SLOT * self.slots) - chain.probing
        if not self.batches:
            return min(1, room)
        if self.is_batched(chain):
            return min(room, self.batch_size(chain)) if chain.limited else self.batch_size(chain)
        remaining = self._remaining(chain)
        return min(room, PAGE if remaining is None else min(PAGE, max(1, -(-remaining // (2 * self.slots)))))

    def batch_size(self, chain: StepChain) -> int:
        """Return how many rows of a chain the next batch takes; 0 if enough batches are under way."""
        batch = chain.spec.batch_size
        if batch is None or self.limits.rated(chain.step_states[0].step.number):
            return 1  # a rate spaces the starts of children, which those of a batch have one after another
        if chain.batches >= BATCHES_PER_SLOT * self.slots:
            return 0
        if isinstance(batch, int):
            return batch
        chain.last_batch_size = auto_size(chain.last_batch_size, chain.mean, self._remaining(chain), self.slots)
        return chain.last_batch_size

    def _remaining(self, chain: StepChain) -> int | None:
        """Return how many rows of a chain are still to start, None if that is not known."""
        map_state = chain.map_state
        if map_state is None or not map_state.closed or chain.dependencies:
            return None
        return (map_state.width or 0) - chain.opened + len(chain.to_batch)

    def validate(self, run_state: RunState) -> None:
        """Check the counters against the rows that are open.

        Raises
        ------
        InvalidRunState
            Naming the counter.
        """
        open_rows = [chain.open_rows for chain in run_state.chains.values()]
        counted = sum(map_row.counted for rows in open_rows for map_row in rows.single.values())
        counted += sum(len(bundle) for rows in open_rows for bundle in rows.bundles.values())
        if not run_state.over and counted != self.open:
            raise InvalidRunState(f"the window: {self.open} rows are counted as open, {counted} are")
        self.limits.validate()


class Limit:
    """A number of slots."""

    __slots__ = ("size", "used")

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0


class SharedLimit(Limit):
    """The slots that this run holds of a limit across runs, none at first; what holds them asks how many are needed."""

    __slots__ = ("declared", "refused")

    def __init__(self, declared: int) -> None:
        super().__init__(0)
        self.declared = declared  # the size of the limit, as tasks say
        self.refused = False  # whether a child waits for a slot

    def wish(self) -> tuple[int, int]:
        """Return how many slots the run uses, and would use; called by another thread."""
        used = self.used
        return used, max(used, self.declared) if self.refused else used


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
        Slots for all tasks that carry a tag, by tag.
    """

    def __init__(self, plan: Plan, tag_limits: Mapping[str, int] | None = None) -> None:
        self._tags = {tag: Limit(size) for tag, size in (tag_limits or {}).items()}
        self._slots: dict[int, tuple[Limit, ...]] = {}
        self._own: dict[int, Limit] = {}
        self.shared: dict[str, SharedLimit] = {}  # limits across runs, by name
        self._rates: dict[int, Rate] = {}
        #: Steps that were too early under their rate.
        self.waiting: set[int] = set()
        of_calls: dict[object, Limit] = {}  # calls of one task share its limits
        rates: dict[object, Rate] = {}
        for step in plan.steps:
            task = step.task
            calls = getattr(task, "_shares_limits", None) or step.number
            own, rate = task.max_concurrency, task.rate
            self.add_step(
                step,
                of_calls.setdefault((calls, own), Limit(own)) if own else None,
                rates.setdefault((calls, rate), Rate(rate)) if rate else None,
            )

    def add_step(self, step: Step, own: Limit | None, rate: Rate | None) -> None:
        """Note the limits of a step.

        Parameters
        ----------
        own, rate
            Of its task; steps of one task may share them.
        """
        shared = (self._tags[tag] for tag in sorted(step.task.tags) if tag in self._tags)
        across = (
            self.shared.setdefault(name, SharedLimit(size))
            for name, size in sorted((step.task.shared_limits or {}).items())
        )
        if own is not None:
            self._own[step.number] = own
        slots = (*(() if own is None else (own,)), *shared, *across)
        if slots:
            self._slots[step.number] = slots
        if rate is not None:
            self._rates[step.number] = rate

    def change(self, size: int, used: Mapping[int, int], new: Limit | None = None) -> None:
        """Give the own limit of a task another size.

        Parameters
        ----------
        used
            Slots that the jobs of each of its steps take, if it has had no limit so far.
        new
            The limit that it gets then; it may have steps of which nothing is known here.
        """
        limit = next((self._own[number] for number in used if number in self._own), None)
        if limit is None:
            limit = new or Limit(size)
            self._own.update(dict.fromkeys(used, limit))
            self._add(limit, used)
        limit.size = size

    def change_tag(self, tag: str, size: int, used: Mapping[int, int]) -> None:
        """Give the limit of a tag another size.

        Parameters
        ----------
        used
            Slots that the jobs of each step with the tag take, if it has had no limit so far.
        """
        limit = self._tags.get(tag)
        if limit is None:
            limit = self._tags[tag] = Limit(size)
            self._add(limit, used)
        limit.size = size

    def hold_shared(self, name: str, size: int) -> None:
        """Note how many slots this run holds of a limit across runs."""
        limit = self.shared[name]
        limit.size = size
        limit.refused = False

    def _add(self, limit: Limit, used: Mapping[int, int]) -> None:
        for number, count in used.items():
            limit.used += count
            self._slots[number] = (*self._slots.get(number, ()), limit)

    def limited(self, number: int) -> bool:
        """Whether a step has any limit."""
        return number in self._slots or number in self._rates

    def rated(self, number: int) -> bool:
        """Whether the starts of a step are spaced."""
        return number in self._rates

    def take(self, number: int, now: float) -> bool:
        """Take a slot of each limit of a step; False, with nothing taken, if one is full or it is too early."""
        slots = self._slots.get(number, ())
        full = [slot for slot in slots if slot.used >= slot.size]
        if full:
            for slot in full:
                if type(slot) is SharedLimit:
                    slot.refused = True
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
        for slot in slots:
            slot.used += 1
        return True

    def take_all(self, numbers: Sequence[int], now: float) -> bool:
        """Take a slot for steps that run as one job; False, with nothing taken, if one of them has none."""
        for count, number in enumerate(numbers):
            if not self.take(number, now):
                for taken in numbers[:count]:
                    self.give(taken)
                return False
        return True

    def give(self, number: int) -> None:
        """Give back the slots of a step."""
        for slot in self._slots.get(number, ()):
            slot.used -= 1
            if type(slot) is SharedLimit:
                slot.refused = False  # who still waits asks again in this turn

    def next_start(self) -> float | None:
        """When a step that was too early may start; None if none waits."""
        return min((self._rates[number].next_start for number in self.waiting), default=None)

    def validate(self) -> None:
        """Check that no more slots were given back than taken."""
        taken = {id(limit): limit for limits in self._slots.values() for limit in limits}
        if any(limit.used < 0 for limit in taken.values()):
            raise InvalidRunState("the limits: more slots were given back than taken")


def action_after(task: Task, failures: int, width: int | None, ended: int) -> AdmissionMode:
    """Return what becomes of a map after so many of its children failed.

    Parameters
    ----------
    failures
        Children that failed so far, at least 1.
    width
        Children of the map, None while it is not known: then a ratio is one of those that have ended, once they are
        `min_sample`.
    ended
        Children that have ended.

    Returns
    -------
    AdmissionMode
        OPEN to continue, STOP to start no new row, CANCEL to abandon the submitted ones too.

    Notes
    -----
    ``on_child_failure`` "stop" and "cancel" act on the first failure, or on the first beyond ``max_failures``. With
    "continue", the default, ``max_failures`` alone stops the map.
    """
    mode = _ON_CHILD_FAILURE[task.on_child_failure]
    limit = task.max_failures
    if limit is None:
        return mode
    if limit < 1:
        if width is None and ended < task.min_sample:
            return AdmissionMode.OPEN
        limit = limit * (ended if width is None else width)
    return AdmissionMode.OPEN if failures <= limit else max(mode, AdmissionMode.STOP)


def auto_size(last: int, mean: float | None, remaining: int | None, slots: int) -> int:
    """Return the number of rows for the next batch.

    Parameters
    ----------
    last
        Size of the batch before, 0 for the first.
    mean
        Observed mean time of a row in seconds, None if none has ended.
    remaining
        Rows that are left, None if that is not known.
    slots
        Threads of the cluster; the last batches are cut so that all of them have work, if it is worth a message.

    Examples
    --------
    >>> auto_size(0, None, 10_000, 2), auto_size(16, 0.0, 10_000, 2)
    (16, 64)
    >>> auto_size(4096, 0.0, 10_000, 2), auto_size(16, 0.1, 99, 2), auto_size(500, 0.0, 400, 2)
    (2500, 1, 250)
    """
    size, least = last or FIRST, 1
    if mean is not None:
        size = min(int(TARGET / (mean + CHILD_OVERHEAD)), max(last, FIRST) * GROWTH, LARGEST)
        least = round(LEAST / (mean + CHILD_OVERHEAD))
    if remaining is not None:
        size = min(size, max(-(-remaining // (2 * slots)), min(least, remaining)))
    return max(1, size)
