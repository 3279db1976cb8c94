"""What starts: chains as their inputs become known, rows of chains as there is a place, and from which states."""

from __future__ import annotations

from functools import partial

from prefectish.caching.lookups import has_cache
from prefectish.engine.clock import Now
from prefectish.engine.jobs.job import Job
from prefectish.engine.plan.item_key import ITEM_KEY
from prefectish.engine.scheduling.cancellation import Cancellation
from prefectish.engine.scheduling.events import AttemptEvent
from prefectish.engine.scheduling.items import length_of
from prefectish.engine.scheduling.name_claims import NameClaims
from prefectish.engine.scheduling.ready import ReadySteps
from prefectish.engine.scheduling.resume_rules import DuplicateKeys, ResumeRules
from prefectish.engine.scheduling.run_state import (
    NEVER_STARTED,
    NOT_RUN,
    MapRow,
    MapState,
    StepChain,
    StepState,
    chains_of,
)
from prefectish.engine.scheduling.same_key import meets_same_keys
from prefectish.engine.state import Cached, Cancelled, Mapped, Pending, Running, Scheduled, State
from prefectish.engine.worker.cache import can_probe, remember
from prefectish.engine.worker.decide import finished
from prefectish.engine.worker.result_names import UNRECORDED


class Dispatcher:
    """Opens chains and starts their rows."""

    def __init__(self, cancellation: Cancellation, ready: ReadySteps, resume_rules: ResumeRules | None) -> None:
        self.run_state = cancellation.run_state
        self.changes = cancellation.changes
        self.admission = cancellation.admission
        self.rows = cancellation.rows
        self.cancellation = cancellation
        self.ready = ready
        self.resume_rules = resume_rules
        self.duplicate_keys = DuplicateKeys()
        self.name_claims = NameClaims(self.changes)

    def consider(self, now: Now) -> None:
        """Open what has become known, until nothing more does."""
        touched = self.run_state.touched
        while touched:
            group = touched.pop()
            chain, ended = self.ready.consider(self.run_state.groups[group])
            for step_state in ended:
                self.changes.step_ended(step_state)
            if chain is None:
                continue
            touched.add(group)
            self.changes.open_chain(chain)
            if self.resume_rules is not None:
                chain.order = self.resume_rules.order(chain, self.run_state.plan)
            chain.has_starts = any(step_state.starts is not None for step_state in chain.step_states)
            chain.row_by_row = self._goes_row_by_row(chain)
            chain.limited = any(self.admission.limits.limited(s.step.number) for s in chain.step_states)
            chain.in_bundles = self._begins_in_bundles(chain)
            chain.probe_first = meets_same_keys(chain) or (chain.limited and self._may_need_no_slot(chain))
            for step_state in chain.step_states:
                self.changes.touch_consumers(step_state)
                if step_state.watcher is not None:
                    step_state.watcher.opened()
            chain.find_ready()
            self.admission.queue(chain)
            for step_state in chain.step_states:
                if not step_state.left:
                    self.changes.finish_step(step_state)

    def _goes_row_by_row(self, chain: StepChain) -> bool:
        """Whether the end of a row decides what runs next: rows of other chains may follow it, or none if it failed."""
        steps = self.run_state.plan.steps
        readers = {number for step_state in chain.step_states for number in step_state.step.consumers}
        tasks = [step_state.step.task for step_state in chain.step_states]
        return any(number not in chain.position and steps[number].mapped for number in readers) or any(
            task.on_child_failure != "continue" or task.max_failures is not None for task in tasks
        )

    def _begins_in_bundles(self, chain: StepChain) -> bool:
        """Whether rows of a chain begin in batches, and nothing but their items and numbers tells them apart."""
        first = chain.spec.steps[0]
        return (
            self.admission.bundles
            and self.resume_rules is None
            and chain.spec.batch_size is not None
            and type(chain) is StepChain
            and chain.map_state is not None
            and not (chain.dependencies or chain.has_starts or chain.spec.names_results)
            and not (first.differs or first.named_by_key or first.storage is not None)
            and chain.order is None
        )

    def _may_need_no_slot(self, chain: StepChain) -> bool:
        """Whether rows of a chain may end without a body: found in a cache, or finished before."""
        known = self.resume_rules is not None or chain.has_starts
        return len(chain.step_states) == 1 and (known or can_probe(chain.spec.steps[0]))

    def start_next(self, chain: StepChain, now: Now) -> None:
        """Start the next row of a chain, or a batch of rows; the chain stays queued until it has none."""
        if not chain.probe_first:
            self._start_next(chain, now)
        elif not (chain.to_batch and self._run_probed(chain, now)):
            self._probe_next(chain, now)

    def _probe_next(self, chain: StepChain, now: Now) -> None:
        """Begin the next page of rows of a chain before they have a slot under the chain's limits."""
        size = self.admission.room(chain, self.admission.page_size(chain))
        if size <= 0:
            self.admission.defer(chain)
            return
        jobs, row = self._begin_rows(chain, size, now)
        if chain.map_state is not None and row is not None:
            self.admission.queue(chain)
        if jobs and (len(jobs) > 1 or self.admission.is_batched(chain)):
            self.rows.make_batch(chain, jobs)

    def _run_probed(self, chain: StepChain, now: Now) -> bool:
        """Start a batch of rows that were probed, if it has a slot and is none too many; return whether it did."""
        size = self.admission.batch_size(chain)
        if not size:
            return False
        if not self.admission.permit(chain, now.seconds):
            self.admission.defer(chain)
            return False
        jobs: list[Job] = []
        while chain.to_batch and len(jobs) < size:
            map_row = chain.to_batch.popleft()
            is_open = chain.open_rows.get(map_row.row) is map_row  # else it was taken back meanwhile
            if is_open and (positions := self.rows.startable(chain, map_row)):
                self.changes.end_probe(chain, map_row)
                jobs.append(self.rows.submit(chain, map_row, positions))
        if jobs:
            self.rows.make_batch(chain, jobs)
        elif chain.limited:
            self.admission.give_back(chain)
        self.admission.queue(chain)
        return True

    def _start_next(self, chain: StepChain, now: Now) -> None:
        """Begin the next row or batch of a chain, if there is a slot under the chain's limits."""
        admission = self.admission
        batched = chain.spec.batch_size is not None and admission.is_batched(chain)
        size = admission.batch_size(chain) if batched else admission.rows_at_once(chain)
        if not size:
            return  # it is queued again when a batch of it has ended
        if (admission.branch_limits or admission.reductions) and (size := admission.room(chain, size)) <= 0:
            admission.defer(chain)
            return
        if chain.limited and not self._is_permitted(chain, now):
            return
        if chain.in_bundles and size > 1 and self._begin_bundle(chain, size, now):
            admission.queue(chain)
            return
        jobs, row = self._begin_rows(chain, size, now)
        if chain.limited and not jobs:
            admission.give_back(chain)
        if chain.map_state is not None and (jobs or row is not None):
            admission.queue(chain)
        if batched and jobs:
            self.rows.make_batch(chain, jobs)

    def _begin_bundle(self, chain: StepChain, size: int, now: Now) -> bool:
        """Begin rows of a chain as a bundle; False, with none begun, if they have to begin one by one."""
        map_state = chain.map_state
        assert map_state is not None and map_state.width is not None
        if chain.admission_mode or chain.has_cancelled_early or chain.resubmit_from or map_state.streams:
            return False
        while map_state.source is not None and map_state.width - chain.opened < size:
            self._pull(chain, map_state)
        if map_state.width - chain.opened < 2:
            return False
        if not chain.started:
            self._first_start(chain, now)
        rows = chain.next_rows(size)
        self.rows.submit_bundle(chain, rows, chain.columns_of(rows))
        return True

    def _begin_rows(self, chain: StepChain, size: int, now: Now) -> tuple[list[Job], int | None]:
        """Begin rows of a chain; return their jobs, and the last row, None if there are no more."""
        jobs: list[Job] = []
        row = None
        for _ in range(size):
            row = 0 if chain.map_state is None else self._next_row(chain)
            if row is None:
                break
            job = self._begin(chain, row, now)
            if job is not None:
                jobs.append(job)
            elif self.run_state.touched or self.run_state.stopping:
                break  # what the row changed is considered first
            if chain.map_state is None:
                break
        return jobs, row

    def _is_permitted(self, chain: StepChain, now: Now) -> bool:
        """Take a slot for a row; a slot without a row would put off others, or the end of the run."""
        if not _may_have_row(chain):
            return False
        if self.admission.permit(chain, now.seconds):
            return True
        self.admission.defer(chain)
        return False

    def _next_row(self, chain: StepChain) -> int | None:
        """Return the next row to start; rows of a stopped map end here instead."""
        while True:
            row = chain.next_row()
            if row is None:
                row = self._pulled_row(chain)
            if row is None or not self._is_stopped(chain, row):
                return row
            self.changes.never_start(chain, row, NEVER_STARTED)

    def _pulled_row(self, chain: StepChain) -> int | None:
        """Return a row for one more item of the chain's iterator; None if it has none, or no iterator."""
        map_state = chain.map_state
        if chain.dependencies or map_state is None or map_state.source is None or chain.admission_mode:
            return None
        self._pull(chain, map_state)
        return chain.next_row()

    def _pull(self, chain: StepChain, map_state: MapState) -> None:
        """Pull one more item of an iterator; other chains over it may have a row now."""
        self.changes.pull_row(map_state)
        for other in chains_of(map_state):
            if other is not chain and not other.dependencies:
                self.admission.queue(other)

    def _is_stopped(self, chain: StepChain, row: int) -> bool:
        return bool(chain.admission_mode) or (bool(chain.dependencies) and chain.reads_unstarted(row))

    def _begin(self, chain: StepChain, row: int, now: Now) -> Job | None:
        """Open a row and submit it whole; steps with a start state of their own may be final, or wait."""
        submissions = chain.resubmit_from.pop(row, 0) if chain.resubmit_from else 0
        map_row = self.changes.open_row(chain, row, chain.items_of(row), submissions)
        first = chain.spec.steps[0]
        if first.named_by_key:
            self.changes.set_items(map_row, self.duplicate_keys.items(chain, map_row.items))
        if (first.storage is not None or first.named_by_key) and (key := chain.key_of(row)) is not None:
            self.changes.start_row_from(map_row, 0, Pending(context={ITEM_KEY: key}))
        if chain.spec.names_results:
            self.name_claims.claim(chain, map_row, self.resume_rules)
        if not chain.started:
            self._first_start(chain, now)
        if chain.has_cancelled_early and self._cancel_early(chain, map_row):
            return self._begin_rest(chain, map_row, now)
        if self.resume_rules is not None:
            return self._begin_kept(self.resume_rules, chain, map_row, now)
        if chain.has_starts:
            return self._begin_from(chain, map_row, now)
        if chain.probe_first:
            return self.rows.probe(chain, map_row, now)
        return self.rows.submit(chain, map_row, chain.all_positions)

    def _cancel_early(self, chain: StepChain, map_row: MapRow) -> bool:
        """End the steps of a row that were cancelled before it began; False if there are none."""
        found = False
        for position, step_state in enumerate(chain.step_states):
            if map_row.row in step_state.cancelled_early:
                self.changes.end_position(chain, map_row, position, Cancelled("cancelled"), NOT_RUN)
                found = True
        return found

    def _begin_from(self, chain: StepChain, map_row: MapRow, now: Now) -> Job | None:
        for position, step_state in enumerate(chain.step_states):
            start = step_state.start_of(map_row.row)
            if start is None or type(start) is Pending:
                continue
            if finished(start):
                width = length_of(step_state.step, start)
                self.changes.finish_position(chain, map_row, position, start, width)
            else:
                self._continue_from(chain, map_row, position, start, now)
        return self._begin_rest(chain, map_row, now)

    def _continue_from(self, chain: StepChain, map_row: MapRow, position: int, start: State, now: Now) -> None:
        """Let a step start from a state that is not final: now, when it is due, or when it is resumed."""
        if isinstance(start, Running) or (isinstance(start, Scheduled) and start.start_time is None):
            self.rows.wait(chain, map_row, position, start, None, now)
        elif isinstance(start, Scheduled) and (left := _seconds_until(start, now)) > 0:
            self.rows.wait(chain, map_row, position, start, left, now)
        else:
            self.changes.start_row_from(map_row, position, start)

    def _begin_kept(self, resume_rules: ResumeRules, chain: StepChain, map_row: MapRow, now: Now) -> Job | None:
        """Open a row of a resumed run: what is kept is final, the rest runs."""
        kept = resume_rules.kept(chain, map_row, self.run_state.plan, self.run_state.step_states)
        for position in kept.rerun:
            self.changes.mark_rerun(chain.step_states[position])
        for position, record in kept.records.items():
            step_state = chain.step_states[position]
            if self.run_state.events is not None:
                number, row, key = step_state.step.number, map_row.row, resume_rules.item_key(chain, map_row.row)
                what = (record.attempts, record.state, record.seconds, now.wall, record.worker, key, record.generation)
                self.run_state.events.append(AttemptEvent(number, row, *what))
            width = length_of(step_state.step, record.state)
            self.changes.finish_position(chain, map_row, position, record.state, width)
        for position, since in kept.unrecorded.items():
            self.changes.add_to_start(map_row, position, {UNRECORDED: since})
        for position, start in kept.starts.items():
            self._continue_from(chain, map_row, position, start, now)
        return self._begin_rest(chain, map_row, now)

    def _begin_rest(self, chain: StepChain, map_row: MapRow, now: Now) -> Job | None:
        """Submit what can run of a row that was begun with states of its own."""
        positions = self.rows.startable(chain, map_row)
        if positions and chain.probe_first:
            return self.rows.probe(chain, map_row, now)
        job = self.rows.submit(chain, map_row, positions) if positions else None
        self.rows.settle_row(chain, map_row, now)
        return job

    def _first_start(self, chain: StepChain, now: Now) -> None:
        """Start the clocks of maps with a time limit."""
        chain.started = True
        for position, step_state in enumerate(chain.step_states):
            limit = step_state.step.task.map_timeout
            if limit is not None and step_state.step.mapped:
                text = f"{step_state.step.label} took longer than its map_timeout of {limit:g} s"
                due = now.seconds + limit
                self.cancellation.ends[step_state.step.slug] = due, text
                self.run_state.deadlines.at(due, partial(self.cancellation.map_timed_out, chain, position, text))

    def seed(self, step_state: StepState, state: State) -> None:
        """Start a step from `state`: a finished one is kept, any other is where the step continues."""
        if type(state) is Cached and has_cache(step_state.step.task):
            remember(step_state.step.task, state)  # the cache decides whether it still stands for the run
        elif isinstance(state, Mapped) and step_state.step.mapped:
            self._seed_map(step_state, state)
        elif state.is_finished():
            self.changes.keep_step(step_state, state)
        elif state.is_running():
            self.changes.start_step_from(step_state, None, shown=state, is_elsewhere=True)
        else:
            self.changes.start_step_from(step_state, state, shown=state)

    def _seed_map(self, step_state: StepState, state: Mapped) -> None:
        if not (state.map_states and finished(state) and not self._may_grow(step_state)):
            self.changes.start_step_from(step_state, state, shown=NOT_RUN)
            return
        self.changes.start_step_from(step_state, state, shown=state)
        given = ((row, s) for row, s in enumerate(state.map_states) if s is not None)
        widths = {row: length_of(step_state.step, s) for row, s in given}
        self.changes.keep_step(step_state, state, state.map_states, widths)

    def _may_grow(self, step_state: StepState) -> bool:
        """Whether a flattened map has elements to come, because the caller gave its source unfinished."""
        number = step_state.step.domain
        domain = None if number is None else self.run_state.plan.domains[number]
        if domain is None or not domain.grows:
            return False
        source = self.run_state.step_states[domain.sources[0].source]
        return not source.final and (source.starts is not None or source.blocked)


def _may_have_row(chain: StepChain) -> bool:
    """Whether a chain has a row to start, or an iterator that may have one; it is queued again when it gets one."""
    map_state = chain.map_state
    if map_state is None or map_state.source is not None:
        return True
    return chain.has_ready_row if chain.dependencies else chain.opened < (map_state.width or 0)


def _seconds_until(state: Scheduled, now: Now) -> float:
    return 0.0 if state.start_time is None else (state.start_time - now.wall).total_seconds()
