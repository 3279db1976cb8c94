"""All changes of the tables of a run: the only module that writes final states, masks and counters.

What a final state changes: it fills a row, lets rows of other chains start, grows flattened maps, ends steps, and makes
other steps known. The rules that decide are in the other modules of this room; they call the verbs of
:class:`Changes`. So what has to move together (a bit of ``final`` and the state of the row, ``left`` and ``children``,
``counted`` and the width of the window) moves in one place, and ``invariants`` can hold it against itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prefectish.caching.memory import CACHE_KEY
from prefectish.engine.clock import Now
from prefectish.engine.context import context
from prefectish.engine.handlers import notify_map_ended
from prefectish.engine.jobs.bundle import Bundle, BundleRecords
from prefectish.engine.jobs.job import Job, Record
from prefectish.engine.jobs.protocol import Lost
from prefectish.engine.jobs.references import Held
from prefectish.engine.scheduling.admission import Admission, action_after
from prefectish.engine.scheduling.causes import is_consequence
from prefectish.engine.scheduling.events import AttemptEvent, FailureEvent
from prefectish.engine.scheduling.map_changes import MapChanges
from prefectish.engine.scheduling.release import ResultRelease
from prefectish.engine.scheduling.run_state import (
    NOT_RUN,
    AdmissionMode,
    MapRow,
    MapState,
    RunState,
    StepChain,
    StepState,
)
from prefectish.engine.state import Cached, Mapped, State, Success, cell_of, plain_cells
from prefectish.engine.state_column import OPEN, StateColumn
from prefectish.engine.task_counts import TASK_NAME
from prefectish.engine.transitions import validating
from prefectish.engine.worker.cache import by_own_clock, is_hit, remember
from prefectish.kinds import is_a

#: Weight of the newest row in a chain's mean time.
NEWEST = 0.1

#: Called with (step, old state, new state) for a transition made at the client; handlers may replace the new state.
Notify = Callable[[StepState, State, State], State]


class Changes(MapChanges):
    """Writes the tables of a run; handlers see by `notify` what is changed at the client, and not by an attempt."""

    __slots__ = (
        "_is_resumed",
        "_names_rows",
        "_raises",
        "notify",
        "result_release",
    )

    def __init__(
        self,
        run_state: RunState,
        admission: Admission,
        result_release: ResultRelease,
        notify: Notify,
        facts: Mapping[str, Any],
    ) -> None:
        super().__init__(run_state, admission)
        self.result_release = result_release
        self.notify = notify
        self._raises = bool(facts.get("raise_on_exception"))
        self._is_resumed = "flow_run_part" in facts
        self._names_rows = validating()

    # -- final states ----------------------------------------------------------------------------------------------

    def finish_row(self, step_state: StepState, row: int, state: State, width: Any) -> None:
        """Write the final state of a row, and the length of its result for a map over it (``map_domain.measure``)."""
        assert step_state.children is not None
        if type(state) is not Success or state._context is not None:
            state = by_own_clock(step_state.step.task, state, self.run_state.now.wall)
            self._count_kind(step_state, state)
        step_state.children.cells[row] = cell_of(state)
        step_state.left -= 1
        if step_state.step.mapped:
            if step_state.widths is not None:
                if width is not None and state.is_successful():  # else it is one element
                    step_state.widths[row] = width
                self._grow_domains(step_state, row)
        else:
            step_state.measurement = width
        if self.run_state.watched:
            self._end_watch(step_state, row, state, width)
        if issubclass(type(state._raw_result), Held):
            self.result_release.note(step_state, row)
        if step_state.reads or step_state.dependents or step_state.watcher is not None:
            self._tell_of_row(step_state, row, state, width)
        if not step_state.left:
            self.finish_step(step_state)

    def _tell_of_row(self, step_state: StepState, row: int, state: State, width: Any) -> None:
        """Let go of what a row has read, start rows that waited for it, and make it known to who watches."""
        if step_state.reads:
            self.result_release.consumed(step_state, row)
        for chain in step_state.dependents:
            if chain.dependency_finished(row, step_state):
                self.admission.queue(chain)
        if step_state.watcher is not None:
            step_state.watcher.row(row, state, width)

    def watch_row(self, place: tuple[int, int]) -> None:
        """Have the end of a row, given by number of its step and row, noted in ``RunState.watched_ended``."""
        self.run_state.watched.add(place)

    def _end_watch(self, step_state: StepState, row: int, state: State, width: Any) -> None:
        place = step_state.step.number, row
        if place in self.run_state.watched:
            self.run_state.watched.remove(place)
            result = state._raw_result
            held = result.held_again() if is_a(result, Held) else None  # the row's own may be released at once
            self.run_state.watched_ended.append((place, state, width, held))

    def notify_row(self, step_state: StepState, row: int, old: State, state: State) -> State:
        """Let the handlers of a task see a transition of a row; return the state after them."""
        if step_state.step.mapped and (step_state.step.task.state_handlers or self._names_rows):
            with context(map_index=row):
                return self.notify(step_state, old, state)
        return self.notify(step_state, old, state)

    def end_row(self, step_state: StepState, row: int, old: State, state: State, is_known: bool = False) -> None:
        """Give a row a final state that no attempt made; handlers see it. One that `is_known` was logged before."""
        state = self.notify_row(step_state, row, old, state)
        events = self.run_state.events
        if events is not None:
            wall = self.run_state.now.wall
            events.append(AttemptEvent(step_state.step.number, row, 0, state, 0.0, wall, None, None))
        if state.is_failed() and not is_known:
            self.note_failure(step_state, row, 0, state)
        self.finish_row(step_state, row, state, None)

    def finish_step(self, step_state: StepState) -> None:
        """End a step whose rows are all final, if no more rows can come."""
        map_state = step_state.map_state
        if step_state.final or step_state.left or (map_state is not None and not map_state.closed):
            return
        children = step_state.children
        assert children is not None
        step_state.final = True
        if step_state.step.mapped:
            order = None if map_state is None else map_state.order()
            states = children if order is None else children.in_order(order)  # the same: of millions none is copied
            name = {TASK_NAME: step_state.step.task.name}
            step_state.state = Mapped("Mapped tasks ended.", map_states=states, n_map_states=len(states), context=name)
            if step_state.rerun or not self._is_resumed:  # else its handlers were called when it ended
                notify_map_ended(step_state.step.task, step_state.state)
        else:
            state = children[0]
            assert state is not None
            step_state.state = state
        self.step_ended(step_state)
        self.source_ended(step_state)

    def end_step(self, step_state: StepState, state: State) -> None:
        """End a step that has no children, in a state that no attempt made; handlers see it."""
        step_state.state = state = self.notify(step_state, step_state.state, state)
        step_state.final = True
        if state.is_failed():
            self.note_failure(step_state, -1, 0, state)

    def step_ended(self, step_state: StepState) -> None:
        """Release what only this step still needed, and have what reads it considered."""
        if step_state.reads:
            self.result_release.ended(step_state)
        self.touch_consumers(step_state)
        if step_state.watcher is not None:
            step_state.watcher.ended(step_state.outcome)

    def touch_consumers(self, step_state: StepState) -> None:
        """Have the groups that read a step considered again."""
        steps = self.run_state.plan.steps
        groups = (steps[number].group for number in step_state.step.consumers)
        self.run_state.touched.update(group for group in groups if group is not None)

    def _count_kind(self, step_state: StepState, state: State) -> None:
        """Count, or remember, a state that is more than a plain success, which most are."""
        kind = type(state)
        if kind is Success:
            remember(step_state.step.task, state)
            return
        if kind is Cached:
            if not is_hit(state):
                remember(step_state.step.task, state)
                return
            if CACHE_KEY in state.context:  # it may come from the store; others were in memory
                remember(step_state.step.task, state)
        step_state.kinds[kind] = step_state.kinds.get(kind, 0) + 1
        if state.is_failed():
            self._count_failure(step_state, state)

    def _count_failure(self, step_state: StepState, state: State) -> None:
        step_state.failures += 1
        if self._raises and self.run_state.raised is None:
            error = state.result
            self.run_state.raised = error if isinstance(error, Exception) else None
        chain, map_state = step_state.chain, step_state.map_state
        if step_state.step.mapped and chain is not None and chain.admission_mode is not AdmissionMode.CANCEL:
            width = map_state.width if map_state is not None and map_state.closed else None
            ended = len(step_state.children or ()) - step_state.left
            mode = action_after(step_state.step.task, step_state.failures, width, ended)
            if mode is AdmissionMode.OPEN:
                return
            chain.stopped |= 1 << chain.position[step_state.step.number]
            if mode is not chain.admission_mode:
                self.run_state.stopping[chain.spec.ident] = mode

    def note_failure(
        self,
        step_state: StepState,
        row: int,
        attempt: int,
        state: State,
        due_in_seconds: float | None = None,
        worker: str | None = None,
    ) -> None:
        """Have a failure logged, or an attempt that failed and is retried; not what only follows from others."""
        if is_consequence(state):
            return
        wall = self.run_state.now.wall
        failure = FailureEvent(step_state.step, row, attempt, state, due_in_seconds, wall, worker)
        self.run_state.failure_events.append(failure)

    # -- steps that start ------------------------------------------------------------------------------------------

    def open_step(self, step_state: StepState) -> None:
        """Open the one row of a step that is not mapped."""
        step_state.children, step_state.left = StateColumn([OPEN]), 1

    def open_map(self, step_state: StepState, state: State, map_state: MapState) -> None:
        """Open the rows of a map, as many as are known."""
        step_state.state, step_state.map_state = state, map_state
        step_state.children = StateColumn([OPEN] * (map_state.width or 0))
        step_state.left = len(step_state.children)
        map_state.members.append(step_state)

    def open_calls(self, step_state: StepState, map_state: MapState, width: int | None) -> None:
        """Give a step of a flow function rows of its own: so many, or, with None, one with each call."""
        self.make_mapped(step_state)
        if width is None:
            step_state.widths = None  # a map over calls goes over a list of them
        self.open_domain(map_state, width)
        self.open_map(step_state, step_state.state, map_state)

    def make_mapped(self, step_state: StepState) -> None:
        """Make a step of a flow function a mapped one."""
        step_state.step.mapped = True
        step_state.widths = {}

    def open_chain(self, chain: StepChain) -> None:
        """Note a chain of steps that can start."""
        self.run_state.chains[chain.spec.ident] = chain
        self.admission.limit_branches(chain)
        for step_state in chain.step_states:
            step_state.chain = chain

    def keep_step(
        self,
        step_state: StepState,
        state: State,
        children: Iterable[State | None] | None = None,
        widths: Mapping[int, int] | None = None,
    ) -> None:
        """Keep a final state that was known before the run, of a map with those of its children and their lengths."""
        step_state.state, step_state.final = state, True
        if children is not None:
            step_state.children = StateColumn.of(children)
        if step_state.widths is not None and widths is not None:
            step_state.widths.update(widths)

    def keep_literal(self, step_state: StepState, state: State, width: Any = None, is_final: bool = True) -> None:
        """Write the state of a step that never runs; its rows may be still to come."""
        step_state.step.literal = step_state.state = state
        step_state.measurement = width
        step_state.final = is_final

    def start_step_from(
        self, step_state: StepState, start: State | None, shown: State, is_elsewhere: bool = False
    ) -> None:
        """Note the state that a step starts from, and the one it shows until then.

        `is_elsewhere`: the step runs elsewhere, as the caller says, and nothing of it is started here.
        """
        step_state.starts, step_state.state, step_state.blocked = start, shown, is_elsewhere

    def mark_rerun(self, step_state: StepState, is_rerun: bool = True) -> None:
        """Note whether a resumed run has to run any of a step."""
        step_state.rerun = is_rerun

    # -- open rows -------------------------------------------------------------------------------------------------

    def open_row(self, chain: StepChain, row: int, items: tuple[Any, ...], submissions: int = 0) -> MapRow:
        """Open a row of a chain."""
        map_row = chain.open_rows.single[row] = MapRow(row, items)
        map_row.submissions = submissions
        return map_row

    def open_inline_row(self, chain: StepChain, row: int, items: tuple[Any, ...], record: Record) -> MapRow:
        """Open a row that ran where it was called, as if it had been submitted."""
        map_row = self.open_row(chain, row, items, submissions=1)
        map_row.seconds = record.seconds
        return map_row

    def set_items(self, map_row: MapRow, items: tuple[Any, ...]) -> None:
        """Replace the inputs of a row by what has become known."""
        map_row.items = items

    def submit_row(self, chain: StepChain, map_row: MapRow, job: Job, mask: int) -> None:
        """Note a job that carries steps of a row."""
        map_row.submissions += 1
        map_row.jobs = [*(j for j in map_row.jobs if j.awaiting), job] if map_row.jobs else [job]
        job.awaiting = mask
        map_row.submitted |= mask
        self.run_state.submitted_jobs += 1
        if chain.map_state is not None and not map_row.counted:
            map_row.counted = True
            self.admission.open += 1
        self.run_state.jobs.append(job)

    def open_bundle(self, chain: StepChain, bundle: Bundle) -> None:
        """Open rows that are submitted whole, and of which nothing else is known."""
        chain.open_rows.bundles[bundle.number] = bundle
        self.run_state.submitted_jobs += len(bundle)
        self.admission.open += len(bundle)
        self.run_state.jobs.append(bundle)

    def finish_bundle(self, chain: StepChain, bundle: Bundle, records: BundleRecords) -> None:
        """Write the final states of the rows of a bundle that plainly succeeded; the others are single rows then."""
        others = records.others
        del chain.open_rows.bundles[bundle.number]
        for number in others:
            job = bundle.jobs[number]
            chain.open_rows.single[job.index] = MapRow(job.index, job.items, job)
        count = len(bundle) - len(others)
        self.run_state.submitted_jobs -= count
        self.admission.open -= count
        chain.done += count
        self._note_times(chain, records)
        for position, step_state in enumerate(chain.step_states):
            self._finish_rows(step_state, bundle.rows, records, position)

    def _note_times(self, chain: StepChain, records: BundleRecords) -> None:
        """Note how long the rows of a bundle took, as if one had ended after the other."""
        rows = [sum(of_row) for of_row in zip(*records.seconds, strict=True)] if len(records.seconds) > 1 else None
        seconds = records.seconds[0] if rows is None else rows
        if records.others:
            seconds = [one for number, one in enumerate(seconds) if number not in records.others]
        if seconds:
            mean = sum(seconds) / len(seconds)
            weight = 1.0 - (1.0 - NEWEST) ** len(seconds)
            chain.mean = mean if chain.mean is None else chain.mean + weight * (mean - chain.mean)
            chain.longest = max(chain.longest, max(seconds))

    def _finish_rows(self, step_state: StepState, rows: Sequence[int], records: BundleRecords, position: int) -> None:
        """Write the final states of rows of a step: plain successes, but for some of the rows."""
        assert step_state.children is not None
        cells = plain_cells(records.results[position])
        for number in records.others:
            cells[number] = OPEN
        if self._starts_others(step_state):
            for row, cell in zip(rows, cells, strict=True):  # one after the other: a combine may read several of them
                step_state.children.cells[row] = cell
                if (state := step_state.children[row]) is not None:
                    step_state.left -= 1
                    self._grow_domains(step_state, row)
                    self._tell_of_row(step_state, row, state, None)
        else:
            step_state.children.cells[rows[0] : rows[-1] + 1] = cells
            ended = [row for row, cell in zip(rows, cells, strict=True) if cell is not OPEN] if records.others else rows
            step_state.left -= len(ended)
            self.result_release.consumed_all(step_state, ended)
            if step_state.watcher is not None:
                step_state.watcher.succeeded(ended)
        if not step_state.left:
            self.finish_step(step_state)

    def _starts_others(self, step_state: StepState) -> bool:
        """Whether rows of others may start, or go, with each row of a step that ends."""
        is_reduction = step_state.step.fan_in is not None
        return bool(step_state.dependents) or step_state.step.number in self._growing or is_reduction

    def take_record(self, map_row: MapRow, job: Job, bit: int, record: Record) -> None:
        """Note that a job has reported a step."""
        job.awaiting ^= bit
        map_row.submitted ^= bit
        map_row.seconds += record.seconds
        if not job.awaiting:
            self.run_state.submitted_jobs -= 1

    def finish_position(self, chain: StepChain, map_row: MapRow, position: int, state: State, width: Any) -> None:
        """Write the final state of one step of a row."""
        map_row.final |= 1 << position
        self.finish_row(chain.step_states[position], map_row.row, state, width)

    def end_position(
        self, chain: StepChain, map_row: MapRow, position: int, state: State, old: State | None = None
    ) -> None:
        """Give one step of a row a final state that no attempt made; `old` is by default what it would start from."""
        bit = 1 << position
        chain.step_states[position].cancelled_early.discard(map_row.row)
        map_row.final |= bit
        map_row.waiting &= ~bit
        self.end_row(chain.step_states[position], map_row.row, old or map_row.starts.get(position, NOT_RUN), state)

    def wait_row(self, chain: StepChain, map_row: MapRow, position: int, state: State | None = None) -> None:
        """Let a step of a row wait; `state` is what it starts from afterwards."""
        map_row.waiting |= 1 << position
        if state is not None:
            self.start_row_from(map_row, position, state)

    def start_row_from(self, map_row: MapRow, position: int, state: State) -> None:
        """Note the state that a step of a row starts from when it is submitted."""
        map_row.starts = {**map_row.starts, position: state}

    def add_to_start(self, map_row: MapRow, position: int, facts: Mapping[str, Any]) -> None:
        """Add to the context of the state from which a step of a row starts."""
        start = map_row.starts.get(position, NOT_RUN)
        self.start_row_from(map_row, position, start.replace(context={**start.context, **facts}))

    def set_starts(self, map_row: MapRow, starts: Mapping[int, State]) -> None:
        """Replace the states from which steps of a row start."""
        map_row.starts = starts

    def wake_row(self, map_row: MapRow, mask: int) -> None:
        """Let steps of a row wait no longer."""
        map_row.waiting &= ~mask

    def lose_job(self, map_row: MapRow, job: Job, lost: Lost) -> int:
        """Note that a job was lost; return the mask of the steps that it had not reported."""
        awaited = job.awaiting
        job.was_given_up = True
        map_row.submitted &= ~awaited
        map_row.was_in_batch = map_row.was_in_batch or job.batch is not None
        job.awaiting = 0
        self.run_state.submitted_jobs -= bool(awaited)
        return awaited

    def abandon(self, map_row: MapRow, mask: int) -> list[Job]:
        """Await steps of a row no longer; return the jobs that await nothing more, which are cancelled."""
        map_row.submitted &= ~mask
        map_row.waiting &= ~mask
        abandoned: list[Job] = []
        for job in map_row.jobs:
            if job.awaiting & mask:
                job.awaiting &= ~mask
                job.was_given_up = True
                if not job.awaiting:
                    self.run_state.submitted_jobs -= 1
                    self.run_state.cancelled.append(job)
                    abandoned.append(job)
        return abandoned

    def recall(self, jobs: Iterable[Job], then: Callable[[Now], None] | None = None) -> None:
        """Have jobs taken back as far as they have not begun, and do something once that is known."""
        # A run alone has begun, and a probe runs no body.
        recalled = [job for job in jobs if job.awaiting and not (job.solo or job.probe_only)]
        self.run_state.recalled += recalled
        if then is not None and recalled:
            self.run_state.after_recall.append(then)
        elif then is not None:
            then(self.run_state.now)

    def take_after_recall(self) -> list[Callable[[Now], None]]:
        """Return what is to be done now that it is known what has begun."""
        after, self.run_state.after_recall = self.run_state.after_recall, []
        return after

    def close_row(self, chain: StepChain, map_row: MapRow) -> None:
        """Drop a row whose steps are all final, and give back its place in the window."""
        if map_row.counted:
            self.leave_window(map_row)
        if self.run_state.streams:
            for step_state in chain.step_states:
                self.end_stream(step_state, map_row.row)
        if chain.open_rows.single.pop(map_row.row, None) is not None:
            chain.done += 1
            chain.probing -= map_row.probing
            seconds, mean = map_row.seconds, chain.mean
            chain.mean = seconds if mean is None else mean + NEWEST * (seconds - mean)
            if seconds > chain.longest:
                chain.longest = seconds

    def leave_window(self, map_row: MapRow) -> None:
        """Give back the place of a row in the window, if it has one."""
        if map_row.counted:
            map_row.counted = False
            self.admission.open -= 1

    def probe(self, chain: StepChain, map_row: MapRow) -> None:
        """Note that a row was begun before it has a slot under the limits of its chain."""
        map_row.probing = True
        chain.probing += 1

    def await_batch(self, chain: StepChain, map_row: MapRow) -> None:
        """Let a row that was probed run with others."""
        chain.to_batch.append(map_row)
        self.admission.queue(chain)

    def end_probe(self, chain: StepChain, map_row: MapRow) -> None:
        """Note that a row has a slot, or needs none."""
        chain.probing -= map_row.probing
        map_row.probing = False

    # -- chains and the run ----------------------------------------------------------------------------------------

    def never_start(self, chain: StepChain, row: int, state: State) -> None:
        """End a row of a stopped chain without starting it."""
        for step_state in chain.step_states:
            self.end_row(step_state, row, step_state.start_of(row) or NOT_RUN, state)
        chain.done += 1

    def stop_chain(self, chain: StepChain, mode: AdmissionMode, stopped: int = 0) -> None:
        """Start no new row of a chain; `stopped` is the mask of the positions whose maps were stopped."""
        chain.admission_mode = max(chain.admission_mode, mode)
        chain.stopped |= stopped
        self.admission.queue(chain)

    def add_batch(self, chain: StepChain, count: int) -> None:
        """Count a batch of rows that was submitted (1) or has ended (-1)."""
        chain.batches += count

    def cancel_early(self, step_state: StepState, row: int) -> None:
        """Note that a child is cancelled that has not begun."""
        step_state.cancelled_early.add(row)
        if step_state.chain is not None:
            step_state.chain.has_cancelled_early = True

    def pause(self, is_paused: bool) -> None:
        """Start nothing more, or start again what can run."""
        self.run_state.paused = is_paused

    def turn(self, now: Now) -> None:
        """Note the time of a turn of the loop."""
        self.run_state.now = now

    def begin_end(self) -> None:
        """Start nothing more: the time of the run is up."""
        self.run_state.ending = True

    def end_run(self) -> None:
        """Take no receipts any more."""
        self.run_state.over = True

    def take_jobs(self) -> list[Job | Bundle]:
        """Return the jobs to submit since the last turn."""
        jobs, self.run_state.jobs = self.run_state.jobs, []
        return jobs

    def clear(self) -> None:
        """Drop open rows, and what a run that has ended waited for."""
        for chain in self.run_state.chains.values():
            chain.open_rows.bundles.clear()
            chain.open_rows.single.clear()
        self.run_state.timers.clear()
        self.run_state.deadlines.clear()
        self.run_state.jobs.clear()

    # -- taken back ------------------------------------------------------------------------------------------------

    def reopen(self, chain: StepChain, map_row: MapRow, positions: Iterable[int]) -> None:
        """Take back the final states of steps of an open row."""
        for position in positions:
            bit = 1 << position
            map_row.waiting &= ~bit
            if map_row.final & bit:
                map_row.final ^= bit
                self.forget_state(chain.step_states[position], map_row.row)

    def reopen_row(self, chain: StepChain, row: int, items: tuple[Any, ...], submissions: int) -> MapRow:
        """Open a row again that was final."""
        map_row = self.open_row(chain, row, items, submissions)
        map_row.final = chain.full
        chain.done -= 1
        return map_row

    def forget_row(self, chain: StepChain, row: int) -> None:
        """Take back a whole row of a chain, so that it starts anew."""
        map_row = chain.open_rows.get(row)
        if map_row is not None:
            del chain.open_rows.single[row]
            self.end_probe(chain, map_row)
            self.leave_window(map_row)
        elif all(s.has(row) for s in chain.step_states):
            chain.done -= 1
        for step_state in chain.step_states:
            if step_state.has(row):
                self.forget_state(step_state, row)

    def forget_state(self, step_state: StepState, row: int) -> None:
        """Take back the final state of a row."""
        assert step_state.children is not None
        self._own_children(step_state)
        state = step_state.children[row]
        assert state is not None
        step_state.children.cells[row] = OPEN
        step_state.left += 1
        if type(state) in step_state.kinds and (type(state) is not Cached or is_hit(state)):
            step_state.kinds[type(state)] -= 1
        step_state.failures -= state.is_failed()
        if step_state.widths is not None:
            step_state.widths.pop(row, None)

    def drop_result(self, step_state: StepState, row: int) -> None:
        """Drop the result of a call that can be asked for no more; its state stays."""
        if step_state.children is not None and row < len(step_state.children):
            self._own_children(step_state)
            state = step_state.children[row]
            if type(state) is Success:
                step_state.children.cells[row] = None  # a plain success that returned nothing
            elif state is not None and state.is_successful():
                step_state.children.cells[row] = state.replace(result=None)

    def _own_children(self, step_state: StepState) -> None:
        """Have the states of children changed here, and not in the state of their map, which others may have read."""
        state = step_state.state
        if type(state) is Mapped and state.map_states is step_state.children:
            step_state.children = StateColumn.of(state.map_states)
