"""What starts: chains as their inputs become known, rows of chains as there is a place, and from which states."""

from __future__ import annotations

from functools import partial
from typing import Any

from prefectish.caching.lookups import has_cache
from prefectish.engine.capture import Value, capture
from prefectish.engine.clock import Now
from prefectish.engine.jobs.job import Job
from prefectish.engine.plan.item_key import COMPUTED
from prefectish.engine.plan.map_domain import element_width, measure
from prefectish.engine.scheduling import run_state as tables
from prefectish.engine.scheduling.cancellation import Cancellation
from prefectish.engine.scheduling.duplicate_keys import DuplicateKeys
from prefectish.engine.scheduling.events import AttemptEvent
from prefectish.engine.scheduling.failure_policy import NEVER_STARTED
from prefectish.engine.scheduling.resume_rules import ResumeRules
from prefectish.engine.scheduling.run_state import MapRow, StepChain, StepState
from prefectish.engine.scheduling.verdict import finished
from prefectish.engine.state import Cached, Cancelled, Mapped, Pending, Running, Scheduled, State
from prefectish.engine.worker.cache import AHEAD, can_look, remember


class Dispatcher:
    """Opens chains and starts their rows."""

    def __init__(self, endings: Cancellation) -> None:
        self.table = endings.table
        self.branches = endings.branches
        self.endings = endings
        self.numbering = DuplicateKeys()
        self._batch_count = 0

    def consider(self, now: Now) -> None:
        """Open what has become known, until nothing more does."""
        touched = self.table.finisher.touched
        while touched:
            group = touched.pop()
            chain, ended = self.table.opener.consider(self.table.groups[group])
            for run in ended:
                self.table.finisher.ended(run)
            if chain is None:
                continue
            touched.add(group)
            self.table.chains[chain.spec.ident] = chain
            chain.limited = any(self.table.admission.limits.limited(run.step.number) for run in chain.runs)
            chain.late = chain.limited and self._may_need_no_place(chain)
            for run in chain.runs:
                self.table.finisher.touch_consumers(run)
                if run.watcher is not None:
                    run.watcher.opened()
            if chain.gates:
                width = chain.space.width if chain.space is not None else 1
                for row in range(width or 0):
                    chain.open_gate(row)
            self.table.admission.queue(chain)
            for run in chain.runs:
                if not run.left:
                    self.table.finisher.step(run)

    def _may_need_no_place(self, chain: StepChain) -> bool:
        """Whether rows of a chain may end without a body: found in a cache, or finished before."""
        known = self.table.recaller is not None or any(run.starts is not None for run in chain.runs)
        return len(chain.runs) == 1 and (known or can_look(chain.spec.steps[0]))

    def _begin_next_ahead(self, chain: StepChain, now: Now) -> None:
        """Begin the next row of a chain before it has a place under the chain's limits."""
        if chain.ahead >= AHEAD:
            self.table.admission.stand_aside(chain)
            return
        row = 0 if chain.space is None else self._next_row(chain)
        if row is not None:
            self._begin(chain, row, now)
            if chain.space is not None:
                self.table.admission.queue(chain)

    def begin_next(self, chain: StepChain, now: Now) -> None:
        """Start the next row of a chain, or a batch of rows; the chain stays queued until it has none."""
        if chain.late:
            self._begin_next_ahead(chain, now)
        else:
            self._begin_next_in_place(chain, now)

    def _begin_next_in_place(self, chain: StepChain, now: Now) -> None:
        """Begin the next row or batch of a chain, if there is a place under the chain's limits."""
        size = self.table.admission.batch_size(chain)
        if not size:
            return  # it is queued again when a batch of it has ended
        if not self._is_permitted(chain, now):
            return
        jobs: list[Job] = []
        for _ in range(size):
            row = 0 if chain.space is None else self._next_row(chain)
            if row is None:
                break
            job = self._begin(chain, row, now)
            if job is not None:
                jobs.append(job)
        if not jobs:
            self.table.admission.give_back(chain)
        if chain.space is not None and (jobs or row is not None):
            self.table.admission.queue(chain)
        if chain.spec.batch_size is not None and jobs:
            self._batch(chain, jobs)

    def _is_permitted(self, chain: StepChain, now: Now) -> bool:
        """Take a place for a row; a place that nobody takes would put off others, or the end of the run."""
        if not chain.limited:
            return True
        if not _may_have_row(chain):
            return False
        if self.table.admission.permit(chain, now.seconds):
            return True
        self.table.admission.stand_aside(chain)
        return False

    def _next_row(self, chain: StepChain) -> int | None:
        """Return the next row to start; rows of a stopped map end here instead."""
        while True:
            row = self.table.admission.next_row(chain, self.table.finisher)
            if row is None or not self._is_stopped(chain, row):
                return row
            self._never_start(chain, row)

    def _is_stopped(self, chain: StepChain, row: int) -> bool:
        if chain.stopped:
            return True
        return any(gate.children is not None and gate.children[row] is NEVER_STARTED for gate in chain.gates)

    def _never_start(self, chain: StepChain, row: int) -> None:
        """End a row of a stopped map without starting it."""
        for run in chain.runs:
            self.table.end_row(run, row, run.start_of(row) or tables.NOT_RUN, NEVER_STARTED)
        chain.done += 1

    def _batch(self, chain: StepChain, jobs: list[Job]) -> None:
        self._batch_count += 1
        self.branches.batches[self._batch_count] = len(jobs)
        chain.batches += 1
        for job in jobs:
            job.batch = self._batch_count

    def _begin(self, chain: StepChain, row: int, now: Now) -> Job | None:
        """Open a branch and submit it whole; steps with a start state of their own may be final, or wait."""
        branch = MapRow(row, chain.items_of(row))
        chain.branches[row] = branch
        if chain.again:
            branch.submissions = chain.again.pop(row, 0)
        if chain.spec.steps[0].keyed > COMPUTED:
            branch.items = self.numbering.items(chain, branch.items)
        if not chain.started:
            self._first_start(chain, now)
        if chain.withdrawn and self._withdraw(chain, branch):
            return self._begin_rest(chain, branch, now)
        if self.table.recaller is not None:
            return self._begin_recalled(self.table.recaller, chain, branch, now)
        if any(run.starts is not None for run in chain.runs):
            return self._begin_from(chain, branch, now)
        if chain.late:
            return self.branches.begin_ahead(chain, branch, now)
        return self.branches.send(chain, branch, chain.all_positions)

    def _withdraw(self, chain: StepChain, branch: MapRow) -> bool:
        """End the steps of a row that were cancelled before it began; False if there are none."""
        found = False
        for position, run in enumerate(chain.runs):
            if branch.row in run.withdrawn:
                run.withdrawn.discard(branch.row)
                branch.final |= 1 << position
                self.table.end_row(run, branch.row, tables.NOT_RUN, Cancelled("cancelled"))
                found = True
        return found

    def _begin_from(self, chain: StepChain, branch: MapRow, now: Now) -> Job | None:
        for position, run in enumerate(chain.runs):
            start = run.start_of(branch.row)
            if start is None or type(start) is Pending:
                continue
            if finished(start):
                branch.final |= 1 << position
                self.table.finisher.row(run, branch.row, start, _width_of_given(run, start))
            else:
                self._go_on_from(chain, branch, position, start, now)
        return self._begin_rest(chain, branch, now)

    def _go_on_from(self, chain: StepChain, branch: MapRow, position: int, start: State, now: Now) -> None:
        """Let a step start from a state that is not final: now, when it is due, or when somebody says so."""
        if isinstance(start, Running) or (isinstance(start, Scheduled) and start.start_time is None):
            self.branches.wait(chain, branch, position, start, None, now)
        elif isinstance(start, Scheduled) and (left := _seconds_until(start, now)) > 0:
            self.branches.wait(chain, branch, position, start, left, now)
        else:
            branch.starts = {**branch.starts, position: start}

    def _begin_recalled(self, recaller: ResumeRules, chain: StepChain, branch: MapRow, now: Now) -> Job | None:
        """Open a branch of a run that is resumed: what is kept is final, the rest runs."""
        kept = recaller.kept(chain, branch, self.table.plan, self.table.runs)
        for position, record in kept.records.items():
            run = chain.runs[position]
            branch.final |= 1 << position
            if self.table.events is not None:
                number, row, key = run.step.number, branch.row, recaller.item_key(chain, branch.row)
                what = (record.attempts, record.state, record.seconds, now.wall, record.worker, key, record.made)
                self.table.events.append(AttemptEvent(number, row, *what))
            self.table.finisher.row(run, branch.row, record.state, _width_of_given(run, record.state))
        for position, start in kept.starts.items():
            self._go_on_from(chain, branch, position, start, now)
        return self._begin_rest(chain, branch, now)

    def _begin_rest(self, chain: StepChain, branch: MapRow, now: Now) -> Job | None:
        """Submit what of a branch can run that was begun with states of its own."""
        positions = self.branches.startable(chain, branch)
        if positions and chain.late:
            return self.branches.begin_ahead(chain, branch, now)
        job = self.branches.send(chain, branch, positions) if positions else None
        self.branches.after(chain, branch, now)
        return job

    def _first_start(self, chain: StepChain, now: Now) -> None:
        """Start the clocks of maps with a time limit."""
        chain.started = True
        for position, run in enumerate(chain.runs):
            limit = run.step.task.map_timeout
            if limit is not None and run.step.mapped:
                text = f"{run.step.slug} took longer than its map_timeout of {limit:g} s"
                due = now.seconds + limit
                self.endings.ends[run.step.slug] = due, text
                self.table.deadlines.at(due, partial(self.endings.map_timed_out, chain, position, text))

    def give(self, run: StepState, state: State) -> None:
        """Start a step from `state`: a finished one is kept, any other is where the step goes on."""
        run.state = state
        if type(state) is Cached and has_cache(run.step.task):
            remember(run.step.task, state)  # whether it still stands for the run is the cache's to say
            run.state = tables.NOT_RUN
            return
        if isinstance(state, Mapped) and run.step.mapped:
            run.starts = state
            if state.map_states and finished(state) and not self._may_grow(run):
                run.final, run.children = True, list(state.map_states)
        elif state.is_finished():
            run.final = True
        elif state.is_running():
            run.blocked = True
        else:
            run.starts = state
        if run.final and run.widths is not None and run.children is not None:
            run.widths.update((row, _width_of_given(run, s)) for row, s in enumerate(run.children) if s is not None)
        if not run.final and not run.blocked and isinstance(state, Mapped):
            run.state = tables.NOT_RUN

    def _may_grow(self, run: StepState) -> bool:
        """Whether a flattened map has elements to come, because the caller gave its source unfinished."""
        space = self.table.plan.domains[run.step.domain] if run.step.domain is not None else None
        if space is None or not space.grows:
            return False
        source = self.table.runs[space.sources[0].source]
        return not source.final and (source.starts is not None or source.blocked)


def _may_have_row(chain: StepChain) -> bool:
    """Whether a chain has a row to start, or an iterator that may have one; it is queued again when it gets one."""
    space = chain.space
    if space is None or space.source is not None:
        return True
    return bool(chain.ready) if chain.gates else chain.opened < (space.width or 0)


def _seconds_until(state: Scheduled, now: Now) -> float:
    return 0.0 if state.start_time is None else (state.start_time - now.wall).total_seconds()


def _width_of_given(run: StepState, state: State) -> Any:
    """Return what a map over a state that was not made in this run has to know; None if nobody asks, or it is gone."""
    depth = run.step.measure
    if not state.is_successful() or not depth or (run.step.mapped and depth < 2):
        return None
    outcome = capture(lambda: element_width(state.result) if run.step.mapped else measure(state.result, depth))
    return outcome.value if isinstance(outcome, Value) else None
