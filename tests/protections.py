"""Each fault test is seen to fail with its protection switched off: which test, which protection, and how.

``python tests/protections.py`` runs every row of :data:`OFF`, ``python tests/protections.py W3 S`` those of some ids or
letters: each test in a process of its own, where what protects is replaced by what one would have without it
(:mod:`switching`). A test that passes all the same is a test that cannot fail, or the protection is none: the program
then ends with exit code 1. ``--on`` runs the same tests with everything in place.

:data:`TWINS` are the tests of the suite that run without a protection by themselves, :data:`NONE` says of the other
faults why there is nothing of ours to switch off. ``test_protections.py`` checks that no fault is missing.
"""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
#: Seconds that a run gets beyond the limit of its test, to end its processes.
GRACE = 15.0
#: Seconds after which a test hangs that has its protection.
WHOLE = 300.0


class Off(NamedTuple):
    """A protection, and the test that must fail without it.

    Attributes
    ----------
    ids : of the faults.
    test : its node, below this folder.
    protection : what keeps the promise, in a few words.
    off : for ``module:attribute``, what makes the replacement out of what is there.
    limit : seconds after which a test that hangs without its protection has failed.
    """

    ids: str
    test: str
    protection: str
    off: dict
    limit: float = 45.0


# -- what is put in the place of a protection --------------------------------------------------------------------------


def instead(value):
    """Replace by a value, whatever is there."""
    return lambda old: value


def nothing(old):
    """Replace a function by one that does nothing."""
    return lambda *args, **kwargs: None


def bare(capture):
    """Call, and let whatever is raised go on its way."""

    def call(fn, /, *args, **kwargs):
        from prefectish.engine.capture import Value

        return Value(fn(*args, **kwargs))

    return call


def past_an_empty_queue(place):
    """Find places for short children as if nobody waited in the queue."""

    def place_all(self, scheduler, tasks, ahead):
        queued, scheduler.queued = scheduler.queued, ()
        try:
            place(self, scheduler, tasks, ahead)
        finally:
            scheduler.queued = queued

    return place_all


def exceptions_only(capture):
    """Capture what derives from Exception, as one would write it at first."""

    def call(fn, /, *args, **kwargs):
        from prefectish.engine.capture import Error, Value

        try:
            return Value(fn(*args, **kwargs))
        except Exception as error:
            return Error(error)

    return call


def same(function):
    """Hand on the first argument as it is."""
    return lambda value, *args, **kwargs: value


def untried(encode_error):
    """Pickle an exception, and hope that it can be."""

    def encode(error, label):
        from prefectish.engine.jobs.envelope import EncodedError, dumps, remote_error

        return EncodedError(label, dumps(error), remote_error(error))

    return encode


def raised(describe_loss):
    """Raise what Dask raises for a key without a value, out of the run."""
    return lambda future, *about, **more: future.result()


def blamed_at_once(after_death):
    """Blame whoever was there when a worker died, as if it had been alone."""

    def blame(policy, suspect, lost):
        from prefectish.engine.scheduling.deaths import Next

        after = after_death(policy, suspect, lost)
        return Next.CRASHED if after is Next.ALONE else after

    return blame


def given_up(lost):
    """Give up all branches of a pool that broke."""

    def give_up(processes, branches, error):
        from prefectish.executors.pool_session import cluster_error

        return [cluster_error(branch, error) for branch in branches], []

    return give_up


_futures = []


def futures_held(take):
    """Hold the futures of all that has been read, as `gather` at the end of a run would."""

    def hold(session, key, value):
        _futures.append(session.open_keys[key].future)
        take(session, key, value)

    return hold


def taken_again(take):
    """Take records whether or not their job still awaits them."""

    def take_all(progress, receipt, now):
        for position, _ in receipt.records:
            receipt.job.awaiting |= 1 << position
        take(progress, receipt, now)

    return take_all


def known_by_no_position(take):
    """Take all that generators yield for new."""

    def take_all(streams, yielded):
        stream = streams.run_state.streams.get((yielded.number, yielded.row))
        take(streams, yielded._replace(first=0 if stream is None else stream.count))

    return take_all


def packed_each_time(chain):
    """Send what the branches of a chain share with each of them."""

    def pack(session, spec):
        session.chains.pop(spec.ident, None)
        return chain(session, spec)

    return pack


def pickled_late(pickle_tasks):
    """Pickle bodies when they are needed first, not before the run."""
    return lambda plan: {}


def due_by_the_workers_clock(record):
    """Read the time at which a retry is due as the worker wrote it."""

    def take(branches, chain, branch, position, record_, now):
        if record_.due_in_seconds is not None:
            record_.due_in_seconds = (record_.state.start_time - now.wall).total_seconds()
        record(branches, chain, branch, position, record_, now)

    return take


def by_the_wall(due_in_seconds):
    """Count the delay of a retry by the clock on the wall."""

    def due(facts, start_time):
        from prefectish.engine import clock

        return max(0.0, (start_time - clock.now()).total_seconds())

    return due


def slept_out(run_step):
    """Wait for a retry where the body runs."""

    def run(*args, **more):
        record = run_step(*args, **more)
        if record.due_in_seconds:
            time.sleep(record.due_in_seconds)  # noqa: TID251  # real.py cannot be imported yet
            record.due_in_seconds = 0.0
        return record

    return run


def retried_at_once(run_step):
    """Begin the next attempt where the last has ended."""

    def run(chain, position, index, upstream, start, *rest, **more):
        from prefectish.engine.state import Retrying

        record = run_step(chain, position, index, upstream, start, *rest, **more)
        if isinstance(record.state, Retrying):
            return run(chain, position, index, upstream, record.state, *rest, **more)
        return record

    return run


def retried_once_more(should_retry):
    """Count one retry too many."""
    return lambda run_count, max_retries, *about: bool(max_retries) and run_count <= max_retries + 1


def unlimited(init):
    """Open all branches at once."""

    def begin(admission, window, *about, **more):
        init(admission, 1 << 60, *about, **more)

    return begin


def waiting_counts(done):
    """Wait for what is paused."""
    return property(lambda progress: done.fget(progress) and not progress.paused())


def text_unguarded(old):
    """Ask an exception for its text as one would at first."""
    from prefectish.errors import shorten

    def text(form, error):
        try:
            return shorten(form(error))
        except Exception as broken:
            return f"<{type(error).__name__} whose {form.__name__} raises {type(broken).__name__}>"

    return text


def unheard(watch):
    """Give a recorder nothing to say that the run was lost with."""
    return lambda recorder, open_rows, widths, ask, lost, *more: watch(
        recorder, open_rows, widths, ask, lambda: None, *more
    )


def loaded_unseen(store, name):
    """Load a note whatever it is."""
    import pickle

    return pickle.loads(store.read(name))


def only_the_first(several):
    """Return the first of several only."""
    return lambda *args: list(several(*args))[:1]


def opened_unseen(unseal):
    """Read a file of results without looking whether it is what was written."""

    def read(name, file, key):
        import json

        line, _, content = bytes(file).partition(b"\n")[2].partition(b"\n")
        with suppress(ValueError):
            return json.loads(line), memoryview(content)
        return {"serializer": "pickle", "compression": None}, memoryview(file)

    return read


def written_loosely(write):
    def put(path, pieces):
        with open(path, "wb") as file:
            file.writelines(pieces)

    return put


def joined(path):
    """Join a name to the folder, wherever that leads."""
    return lambda folder, name, own=True: os.path.join(folder.root, *name.split("/"))


def formatted(render):
    """Fill a template by str.format, with the objects themselves."""
    return lambda template, fields: template.text.replace("${", "{").format(**fields)


def taken_as_it_is(init):
    """Take any text for a template."""
    return lambda template, text: setattr(template, "text", text)


def written_or_raised(attempt):
    """Let an error of the history end the run."""

    def write_on(recorder, write):
        with recorder.store.writing() as connection:
            write(connection)

    return write_on


def as_read(on_the_wall):
    """Read what clocks show as if they never jumped."""
    return lambda walls, zone: (shown.replace(tzinfo=shown.tzinfo or zone) for shown in walls)


def both_times(on_the_wall):
    """Take a time that clocks show twice for two."""

    def moments(walls, zone):
        for shown in walls:
            times = [shown.replace(tzinfo=shown.tzinfo or zone, fold=fold) for fold in (0, 1)]
            yield times[0]
            if times[0].utcoffset() != times[1].utcoffset():
                yield times[1]

    return moments


def recursive(order):
    """Sort by calling oneself for each task that is waited for."""

    def sort(nodes, upstream, label=str):
        done = {}

        def visit(node):
            if node not in done:
                for other in upstream(node):
                    visit(other)
                done[node] = None

        for node in nodes:
            visit(node)
        return list(done)

    return sort


def backwards(mapped):
    """Hand children to a fan-in in another order than that of the map."""

    def make(message, result=None, *, map_states, **more):
        return mapped(message, result, map_states=map_states[::-1], **more)

    return make


def no_extra_level(listen):
    """Take lines in a worker at whatever level its loggers have."""

    def take(terms):
        levels, terms_of = {}, terms
        if terms_of is not None:
            listen(terms_of._replace(levels=levels))

    return take


def in_the_same_thread(in_thread):
    """Run a coroutine where a loop is running already."""

    def run(coroutine):
        from prefectish.engine.worker import body

        return body.capture(body._run, coroutine)

    return run


def as_they_came(arguments):
    """Start a cluster with nothing but what was asked for."""
    return lambda given, security, debug: dict(given)


def given_or_default(settle):
    """Take the parameters as they come."""
    return lambda parameters, given, context: {p.name: p.default for p in parameters} | dict(given)


def unmasked_page(environment):
    """Put text into pages as it is."""

    def make(*folder):
        made = environment(*folder)
        made.autoescape = False
        return made

    return make


def no_flow_needed(flow):
    def find(task, given):
        from prefectish import Flow

        return given or Flow("made up")

    return find


_LINK = "prefectish.executors.lost_keys:LossWatch._link_is_down"
_REASONS = "prefectish.executors.lost_keys:_SCHEDULER_REASONS"
#: Without these a scheduler that is gone is like one that has nothing to say.
SCHEDULER_UNWATCHED = {_LINK: instead(lambda watch, now: False), _REASONS: instead(())}
ONE_STEP_WIDE = {
    "prefectish.engine.scheduling.admission:Admission.__init__": unlimited,
    "prefectish.engine.scheduling.admission:Admission.follow": nothing,  # the session's window, which changes
}
HELD = {"prefectish.executors.session:ClusterSession._take": futures_held}
RAISED = {"prefectish.executors.session:describe_loss": raised}
CALLERS = ("attempt", "body")
BARE = {f"prefectish.engine.worker.{module}:capture": bare for module in CALLERS}
EXCEPTIONS_ONLY = {f"prefectish.engine.worker.{module}:capture": exceptions_only for module in CALLERS}
RAW_RESULTS = {"prefectish.engine.wire.execute:encode_state": same}
RAW_ARGUMENTS = {"prefectish.engine.wire.pack:encode": same}
UNINTERRUPTIBLE = {"prefectish.engine.driver.run:interruptible": instead(nullcontext)}

STOPS = "test_contract_stops.py::"
FAULTS = "test_contract_faults.py::"
MAPS = "test_contract_maps.py::"
PICKLES = "test_contract_pickles.py::"
EFFECTS = "test_contract_side_effects.py::"
VALUES = "test_cluster_values.py::"
CLUSTER = "test_cluster_faults.py::"
WORKERS = "test_faults_workers.py::"
STREAMS = "test_faults_streams.py::"
WATCHED = "test_faults_cluster.py::"
TERMINAL = "test_terminal.py::"
TIMES = "test_faults_time.py::"
HOLDERS = "test_holders.py::"
RESULTS = "test_results.py::"

OFF = (
    # -- user code
    Off("U1", f"{FAULTS}test_u1_child_that_raises_fails_alone[local]", "bodies are called under capture", BARE),
    Off("U2", f"{FAULTS}test_u2_worker_processes_outlive_an_exit[dask]", "capture takes SystemExit", EXCEPTIONS_ONLY),
    Off("U3", "test_interrupts.py::test_u3_keyboard_interrupt_of_a_body_is_its_own",
        "capture takes a KeyboardInterrupt that is not the user's", EXCEPTIONS_ONLY),
    Off("U4", f"{FAULTS}test_u4_whatever_an_async_child_raises_fails_it_alone[local-GeneratorExit]",
        "capture takes every BaseException", EXCEPTIONS_ONLY),
    Off("U5", f"{FAULTS}test_u5_memory_error_leaves_its_worker_at_work[local]", "bodies are called under capture",
        BARE),
    Off("U6", f"{FAULTS}test_u6_recursion_error_fails_the_child[local]", "bodies are called under capture", BARE),
    Off("U7", f"{FAULTS}test_u7_enormous_message_is_cut[local]", "texts of errors are cut",
        {"prefectish.errors:MAX_TEXT_LENGTH": instead(1 << 60)}),
    Off("U8", f"{FAULTS}test_u8_skip_signal_skips_the_child_and_its_chain[local]", "a skipped input skips its reader",
        {"prefectish.engine.worker.decide:skips_reader": instead(lambda mapped, state: False)}),
    Off("U9", f"{FAULTS}test_u9_retry_signal_ends_when_the_retries_are_used_up[local]", "RETRY is counted, too",
        {"prefectish.engine.worker.decide:within_retries": instead(lambda spec, state, count: state),
         "prefectish.engine.worker.attempt:within_retries": instead(lambda spec, state, count: state)},
        limit=8),
    Off("U10", f"{FAULTS}test_u10_handler_that_raises_fails_the_run_at_once[local-Success-1]",
        "handlers are called under capture", {"prefectish.engine.handlers:capture": bare}),
    Off("U11", f"{FAULTS}test_u11_handler_that_returns_no_state_fails_the_run[local]",
        "what a handler returns is looked at",
        {"prefectish.engine.handlers:_after_nonsense": instead(lambda handler, value, earlier: value)}),
    Off("U12", f"{FAULTS}test_u12_trigger_that_raises_fails_the_task_without_its_body[local]",
        "triggers are called under capture", {"prefectish.engine.worker.decide:capture": bare}),
    Off("U13", "test_isolation.py::test_u13_killed_within_a_second", "the process of a body is killed at its limit",
        {"prefectish.engine.worker.isolation.parent:kill_tree": nothing}, limit=15),
    Off("U14", "test_time_limit.py::test_u14_body_is_timed_out_at_its_limit_and_its_late_result_is_dropped[threads]",
        "a helper thread is left at the limit",
        {"prefectish.engine.worker.time_limit:_in_side_thread": instead(lambda call, limit, facts: call())}),
    Off("U15", f"{WATCHED}test_u15_body_that_waits_for_its_own_worker_is_reported", "the watch warns of a stall",
        {"prefectish.executors.lost_keys:LossWatch._note_stall": nothing}, limit=30),
    Off("U17", f"{EFFECTS}test_u17_body_that_changes_its_process_succeeds_and_the_next_child_logs[processes]",
        "loggers of ours have levels of their own in a worker",
        {"prefectish.engine.wire.execute:listen": no_extra_level}),
    Off("U19", f"{STOPS}test_u19_no_body_begins_once_the_failure_is_known[graph-threads-options0-1-None]",
        "what was submitted is taken back", {"prefectish.executors.pool_session:PoolSession.recall":
        instead(lambda self, jobs: ())}, limit=60),
    Off("U19", f"{STOPS}test_u19_no_body_begins_once_the_failure_is_known[graph-dask-options0-1-None]",
        "what was submitted is taken back", {"prefectish.executors.session:ClusterSession.recall":
        instead(lambda self, jobs: ())}, limit=60),
    Off("U18", "test_contract_rules.py::test_u18_paused_child_ends_the_run_unfinished[local]",
        "a run does not wait for somebody outside",
        {"prefectish.engine.scheduling.progress:Progress.done": waiting_counts},
        limit=10),
    Off("U20", "test_failures.py::test_u20_failures_with_messages_of_a_megabyte_leave_the_client_small[local-graph]",
        "large exceptions are replaced by their text",
        {"prefectish.engine.worker.attempt:of_bounded_size": instead(lambda state: state)}, limit=120),
    Off("U21", "test_contract_values.py::"
        "test_u21_result_that_is_a_proxy_of_something_gone_harms_no_sibling[graph-local-True-dead proxy]",
        "values are asked for their type only",
        {"prefectish.kinds:is_a": instead(isinstance)}),
    Off("U22", "test_contract_values.py::"
        "test_u22_exception_whose_text_ends_the_program_is_its_childs_failure[graph-threads-exit]",
        "texts of exceptions are asked for under guard", {"prefectish.errors:_safe_text": text_unguarded}),
    Off("U23", "test_contract_values.py::"
        "test_u23_exception_that_raises_when_it_is_looked_at_is_its_childs_failure[graph-threads-Argumentative]",
        "exceptions are looked at once, where they are caught",
        {"prefectish.engine.capture:readable": lambda readable: lambda error: error}),
    # -- values that cannot travel
    Off("U24", f"{EFFECTS}test_u24_process_that_a_body_forks_ends_with_the_body[graph-local-bare-returns-0]",
        "forks are counted around what is called", {"prefectish.engine.capture:end_fork": nothing}, limit=40),
    Off("P1", f"{PICKLES}test_p1_result_that_cannot_be_pickled_fails_its_child[processes-lock]",
        "results travel in envelopes", RAW_RESULTS),
    Off("P1", f"{VALUES}test_p1_result_that_cannot_be_pickled_fails_its_child[None-lock]",
        "results travel in envelopes", RAW_RESULTS),
    Off("P2", f"{VALUES}test_p2_result_that_cannot_be_loaded_fails_who_reads_it[False]",
        "results travel in envelopes", RAW_RESULTS),
    Off("P2", f"{VALUES}test_p2_result_that_cannot_be_loaded_fails_who_reads_it[True]",
        "a result is loaded once more where it was made",
        {"prefectish.engine.wire.execute:encode_state":
            lambda encode: lambda state, label, verify: encode(state, label)}),
    Off("P3", f"{PICKLES}test_p3_argument_that_cannot_be_pickled_fails_its_child_before_it_starts[processes]",
        "arguments are pickled one by one, under capture", {"prefectish.executors.lower:capture": bare}),
    Off("P4", f"{PICKLES}test_p4_p5_argument_that_cannot_be_unpickled_fails_its_child[dask-p4]",
        "arguments travel in envelopes", RAW_ARGUMENTS),
    Off("P5", f"{PICKLES}test_p4_p5_argument_that_cannot_be_unpickled_fails_its_child[dask-p5]",
        "arguments travel in envelopes", RAW_ARGUMENTS),
    Off("P6", f"{VALUES}test_p6_argument_whose_loading_kills_the_process_crashes_its_child",
        "what Dask gives up is a loss of its child, not an error of the run", RAISED),
    Off("P7", f"{PICKLES}test_p7_exception_that_cannot_be_carried_keeps_its_name_text_and_traceback[processes-lock]",
        "an exception is tried before it travels", {"prefectish.engine.jobs.envelope:encode_error": untried}),
    Off("P8", f"{PICKLES}test_p8_body_that_cannot_be_pickled_is_refused_before_anything_is_submitted[processes]",
        "bodies are pickled before anything runs", {"prefectish.executors.processes:pickle_tasks": pickled_late}),
    Off("P9", "test_faults_start.py::test_p9_result_of_200_mb_stays_where_it_is", "large results stay on their worker",
        {"prefectish.executors.session:ClusterSession._limit": instead(lambda session, key: math.inf)}, limit=90),
    Off("P10", "test_cluster_scale.py::test_p10_large_argument_goes_once_and_a_warning_names_the_task[constant-list]",
        "what branches share is packed once", {"prefectish.executors.session:ClusterSession._chain": packed_each_time},
        limit=90),
    Off("P11", f"{CLUSTER}test_p11_shared_input_that_is_lost_with_its_worker_is_sent_again[bytes]",
        "an input that was lost is sent again", {"prefectish.engine.scheduling.crashes:RESENDS": instead(0)}, limit=90),
    Off("P12", "test_faults_start.py::test_p12_other_minor_version_of_python_on_a_worker_is_refused",
        "versions are compared", {"prefectish.executors.preflight:compare": nothing}),
    Off("P13", f"{MAPS}test_p13_parent_fails_if_a_result_cannot_be_mapped[local-int]", "what has no items is found",
        {"prefectish.engine.plan.map_domain:_unmappable": nothing}),
    Off("P14", f"{MAPS}test_p14_unequal_lengths_fail_the_parent_and_name_each[local]", "lengths are compared",
        {"prefectish.engine.scheduling.map_parents:parent_verdict":
            lambda verdict: lambda sources, skip, strict: verdict(sources, skip=skip, strict=False)}),
    Off("P15", f"{MAPS}test_p15_empty_map_succeeds_without_children[local-task result]",
        "a map that ended without children is ended",
        {"prefectish.engine.scheduling.changes:Changes.finish_step":
            lambda step: lambda changes, run: step(changes, run) if run.children else None}, limit=10),
    Off("P16", f"{MAPS}test_p16_parent_fails_if_no_mapped_upstream_succeeded[local-all_finished]",
        "a parent needs something to map over",
        {"prefectish.engine.plan.map_domain:Failed": instead(lambda *about, **more: None)}),
    # -- workers
    Off("P17", "test_addresses.py::test_p17_result_that_holds_live_futures_is_refused_at_its_producer[nested-graph]",
        "a result is looked through for futures",
        {"prefectish.engine.jobs.envelope:_LIVE": instead(re.compile(b"(?!)"))}, limit=60),
    Off("W1", f"{CLUSTER}test_w1_worker_killed_in_mid_run_costs_no_child_and_no_state",
        "values are read as they come, and let go of", HELD, limit=90),
    Off("W2", f"{CLUSTER}test_w2_worker_killed_after_the_last_record_reruns_nothing",
        "values are read as they come, and let go of", HELD, limit=90),
    Off("W3", f"{CLUSTER}test_w3_w4_child_that_kills_its_process_crashes_alone[default-exit]",
        "what Dask gives up is a loss of its child, not an error of the run", RAISED, limit=90),
    Off("W3", f"{CLUSTER}test_neighbour_of_a_poison_is_not_charged", "a suspect runs again alone",
        {"prefectish.engine.scheduling.crashes:CrashPolicy._after_death": blamed_at_once}, limit=60),
    Off("W3", f"{WORKERS}test_w3_child_that_must_not_run_twice_begins_once[None]", "a start marker is looked for",
        {"prefectish.engine.worker.start_marker:left_behind": nothing}, limit=60),
    Off("W3", "test_pool.py::test_w3_child_that_kills_its_process_crashes_alone",
        "only who ran in a process that died is lost with it",
        {"prefectish.executors.processes:Processes.lost": given_up}),
    Off("W4", f"{CLUSTER}test_w3_w4_child_that_kills_its_process_crashes_alone[segfault]",
        "what Dask gives up is a loss of its child, not an error of the run", RAISED, limit=60),
    Off("W4", "test_pool.py::test_w4_signal_that_killed_a_process_is_named", "exit codes are read",
        {"prefectish.executors.process_pool:exit_evidence": instead(lambda code: {})}),
    Off("W5", f"{WORKERS}test_w5_child_whose_worker_runs_out_of_memory_crashes_alone[client]",
        "scheduler and nanny are asked how a worker ended",
        {"prefectish.executors.lost_keys:worker_evidence": instead(lambda *about, **more: {})}, limit=90),
    Off("W5", f"{WORKERS}test_w5_process_that_the_kernel_kills_is_reported_with_its_memory",
        "the memory of a suspect is watched", {"prefectish.executors.process_pool:ProcessGroup._watch": nothing}),
    Off("W7", f"{CLUSTER}test_w7_cluster_that_is_scaled_down_costs_no_child",
        "values are read as they come, and let go of", HELD, limit=60),
    Off("W8", "test_testing_faulty.py::test_r10_late_record_of_an_older_submission_is_dropped[local]",
        "a record is taken once", {"prefectish.engine.scheduling.progress:Progress._take": taken_again}, limit=10),
    Off("W9", f"{CLUSTER}test_w9_cluster_that_never_gets_a_worker_ends_the_run", "workers are counted",
        {"prefectish.executors.lost_keys:LossWatch._judge": instead(lambda watch, threads, now, opens: {})}, limit=20),
    Off("W10", f"{CLUSTER}test_w10_children_whose_resource_left_crash_and_others_run",
        "the scheduler is asked what no worker may run",
        {"prefectish.executors.lost_keys:LossWatch._unrunnable": instead(lambda watch, now, opens: {})}, limit=40),
    Off("W11", f"{WORKERS}test_w11_worker_that_loses_its_link_is_as_dead",
        "values are read as they come, and let go of", HELD, limit=60),
    Off("W12", "test_caching_contract.py::test_w12_result_that_cannot_be_stored_fails_its_task[local]",
        "results are stored under capture", {"prefectish.engine.worker.storage:capture": bare}),
    Off("W12", f"{WORKERS}test_w12_result_that_cannot_be_stored_fails_its_child_and_no_worker[full]",
        "results are stored under capture", {"prefectish.engine.worker.storage:capture": bare}),
    Off("W13", f"{WORKERS}test_w13_clock_of_a_worker_that_is_wrong_moves_no_time_of_the_run[1]",
        "a delay counts from the owner's now",
        {"prefectish.engine.scheduling.rows:Rows.record": due_by_the_workers_clock}, limit=30),
    Off("W13", f"{WORKERS}test_w13_clock_of_a_worker_that_is_wrong_moves_no_time_of_the_run[-1]",
        "a delay counts from the owner's now",
        {"prefectish.engine.scheduling.rows:Rows.record": due_by_the_workers_clock}, limit=60),
    Off("W22", "test_lifetimes.py::test_w22_no_body_is_cut_by_the_end_of_its_worker[graph]",
        "a worker refuses what does not fit into its life",
        {"prefectish.engine.worker.lifetime:check": nothing}, limit=150),
    Off("W23", "test_late_workers.py::test_w23_late_worker_with_a_disk_of_its_own_is_sent_away",
        "each process looks for what the client wrote",
        {"prefectish.executors.worker_guard:_complaint": instead(lambda python, marks: None)}, limit=60),
    Off("W25", "test_hosts.py::test_w25_result_of_a_worker_that_cannot_be_connected_to_is_lost_by_name",
        "what cannot be read for long is given up",
        {"prefectish.executors.lost_keys:LossWatch.unread": instead(lambda watch, holders, now: {})}, limit=45),
    Off("W17", "test_faults_waiting.py::test_w17_paused_workers_end_what_waits_for_them",
        "workers that take nothing are as good as none",
        {"prefectish.executors.lost_keys:LossWatch._all_idle": instead(lambda watch, keys: {})}, limit=60),
    Off("W18", "test_faults_waiting.py::test_w18_body_that_outlives_its_workers_again_and_again_is_given_up",
        "leaves on purpose are counted",
        {"prefectish.executors.lost_keys:LossWatch._retired": instead(lambda watch, often, keys: {})}, limit=75),
    Off("W19", "test_faults_waiting.py::test_w19_input_that_no_worker_can_fetch_is_brought_there",
        "what a worker cannot fetch is brought there",
        {"prefectish.executors.lost_keys:LossWatch._unreachable": instead(lambda watch, now, keys: {})}, limit=60),
    Off("W20", "test_faults_waiting.py::test_w20_worker_that_does_not_answer_is_not_taken_for_one_out_of_memory",
        "the scheduler's reason for a death is written down",
        {"prefectish.executors.worker_death:_last_heard": instead(lambda left, key: {})}, limit=60),
    Off("W15", "test_memory_retries.py::test_w15_child_that_needs_more_memory_gets_it_at_its_next_try[flow]",
        "a death proven to be of memory needs no suspicion",
        {"prefectish.engine.scheduling.deaths:is_of_memory": instead(lambda evidence: False)}, limit=60),
    Off("W14", "test_chaos.py::test_w14_workers_killed_at_random_cost_no_child[seed-1]",
        "values are read as they come, and let go of", HELD, limit=150),
    Off("W14", "test_faults_workers.py::test_w14_result_that_is_made_again_may_lose_its_workers_too[once]",
        "a key that had its value begins with no deaths",
        {"prefectish.executors.first_death:FirstDeath.transition": nothing}, limit=90),
    Off("W14", "test_chaos.py::test_w14_attempts_that_must_not_run_twice_do_not[seed-1]",
        "a start marker is looked for", {"prefectish.engine.worker.start_marker:left_behind": nothing}, limit=90),
    Off("W16", "test_same_modules.py::test_w16_another_module_on_a_worker_is_refused_before_anything_runs[graph]",
        "modules are compared", {"prefectish.executors.same_modules:reached": instead(lambda *args: {})}, limit=60),
    Off("W16", "test_same_modules.py::test_w16_processes_that_were_kept_run_a_module_as_it_is_now[graph]",
        "modules are compared", {"prefectish.executors.processes:reached": instead(lambda *args: {})}, limit=60),
    Off("W21", f"{WORKERS}test_w21_neighbours_in_the_batch_of_a_poison_child_run_at_most_twice_more[dask-graph]",
        "the scheduler gives up a batch at the first death", {"prefectish.executors.session:registered": nothing},
        limit=90),
    Off("W26", "test_faults_ahead.py::test_w26_short_neighbours_of_a_poison_child_run_at_most_once_more[graph]",
        "a worker notes what it runs", {"prefectish.executors.departures:keys_in": instead(lambda note, runs: set())},
        limit=90),
    Off("W27", "test_faults_ahead.py::test_w27_map_of_another_client_has_its_share_of_the_workers",
        "short children go through the queue while others wait there",
        {"prefectish.executors.past_queue:is_alone": instead(lambda queued, own: True),
         "prefectish.executors.past_queue:PastQueue._place": past_an_empty_queue,
         # On a busy machine its bodies take too long to count as short, and nothing needs the protection.
         "prefectish.engine.scheduling.ahead:children_ahead": instead(lambda mean: 25)}, limit=90),
    Off("W28", "test_faults_ahead.py::test_w28_no_short_child_waits_behind_a_long_one[graph-ahead]",
        "what waits behind a long body is moved", {"prefectish.executors.past_queue:PastQueue._look": nothing},
        limit=90),
    Off("W29", f"{STREAMS}test_w29_combine_that_always_kills_its_process_crashes_and_others_end[graph-dask]",
        "what Dask gives up is a loss of its child, not an error of the run", RAISED, limit=60),
    Off("W29", f"{STREAMS}test_w29_combine_whose_process_dies_runs_again_and_what_it_reads_does_not[graph-processes]",
        "only who ran in a process that died is lost with it",
        {"prefectish.executors.processes:Processes.lost": given_up}),
    Off("W30", f"{STREAMS}test_w30_generator_whose_process_dies_begins_again_after_what_it_delivered[graph-processes]",
        "items are known by their positions",
        {"prefectish.engine.scheduling.streams:Streams.take": known_by_no_position}),
    Off("W30", f"{STREAMS}test_w30_generator_that_runs_again_alone_still_feeds_its_map[graph-processes]",
        "a generator that gets further is cleared",
        {"prefectish.engine.scheduling.streams:Streams._clear": nothing}, limit=40),
    Off("W31", "test_spilling.py::test_w31_full_disk_of_a_worker_is_named_and_no_child_is_blamed",
        "workers tell when they cannot spill", {"prefectish.executors.spilling:trouble_of": nothing}, limit=200),
    # -- schedulers
    Off("W24", "test_shipping.py::test_w24_two_versions_of_a_module_do_not_mix_on_one_cluster",
        "modules travel by value",
        {"prefectish.executors.shipping:Shipment._by_value": instead(lambda shipment, module, source: source)},
        limit=60),
    Off("S1", f"{CLUSTER}test_s1_s2_lost_scheduler_ends_the_run_with_a_state_for_every_child[s1-gone]",
        "the link to the scheduler is watched", SCHEDULER_UNWATCHED, limit=40),
    Off("S2", f"{CLUSTER}test_s1_s2_lost_scheduler_ends_the_run_with_a_state_for_every_child[s2-restarted]",
        "the link to the scheduler is watched", SCHEDULER_UNWATCHED, limit=40),
    Off("S3", f"{WATCHED}test_s3_scheduler_that_does_not_exist_is_an_error_of_its_own_when_the_time_is_up",
        "errors of connecting are told in our words",
        {"prefectish.executors.connect:await_scheduler": nothing,
         "prefectish.executors.connect:SchedulerLost": instead(OSError)}),
    Off("S4", f"{WATCHED}test_s4_slow_scheduler_is_reported_once_and_changes_nothing", "a silent scheduler is told of",
        {"prefectish.executors.lost_keys:LossWatch._note_silence": nothing}, limit=60),
    Off("S4", f"{WATCHED}test_s4_slow_scheduler_is_reported_once_and_changes_nothing", "it is told of once",
        {"prefectish.executors.lost_keys:LossWatch._warn_once":
            instead(lambda watch, what, text, *args: _warn("prefectish.engine", text, *args))}, limit=60),
    Off("S5", f"{CLUSTER}test_s5_restart_by_another_client_crashes_what_was_open",
        "a key that was cancelled is a loss of its child, not an error of the run", RAISED, limit=60),
    Off("S6", f"{WATCHED}test_s6_key_that_another_client_cancels_is_lost_alone[0]",
        "a key that was cancelled is a loss of its child, not an error of the run", RAISED, limit=60),
    Off("S6", f"{WATCHED}test_s6_keys_of_two_runs_of_one_flow_never_meet", "keys hold the run",
        {"prefectish.executors.cluster:key_name": instead(lambda run: "run")}, limit=25),
    Off("S7", f"{WATCHED}test_s7_web_server_is_distinguished_from_a_scheduler_at_once", "the peer is identified",
        {"prefectish.executors.connect:await_scheduler": nothing}, limit=25),
    Off("S8", "test_hosts.py::test_s8_network_that_is_cut_for_a_while_changes_no_state",
        "a silent scheduler is told of", {"prefectish.executors.lost_keys:LossWatch._note_silence": nothing}, limit=60),
    Off("S8", "test_hosts.py::test_s8_client_that_is_cut_off_ends_its_run_which_can_be_resumed[both ways]",
        "the link to the scheduler is watched", SCHEDULER_UNWATCHED, limit=45),
    # -- clients
    Off("C1", f"{TERMINAL}test_c1_ctrl_c_in_a_terminal_ends_a_run_and_all_of_its_processes[local]",
        "Ctrl-C is told from a body's own KeyboardInterrupt", UNINTERRUPTIBLE, limit=40),
    Off("C1", f"{TERMINAL}test_c1_ctrl_c_in_a_terminal_ends_a_run_and_all_of_its_processes[dask]",
        "a temporary cluster is closed, and ends itself when its driver is gone",
        {"prefectish.executors.own_cluster:OwnCluster.close":
            nothing, "prefectish.executors.cluster_process:_watch": nothing},
        limit=60),
    Off("C1", "test_swallowed_interrupts.py::"
        "test_c1_c5_signal_whose_exception_was_dropped_ends_the_run_nevertheless",
        "an interrupt whose exception was dropped is raised again",
        {"prefectish.engine.driver.loop:reraise_lost_interrupt": nothing}, limit=30),
    Off("C2", f"{TERMINAL}test_c2_ctrl_c_twice_ends_the_program_at_once[processes]",
        "processes are killed with what they do", {"prefectish.executors.processes:Processes.stop": nothing}, limit=80),
    Off("C3", "test_kernel.py::test_c3_interrupted_kernel_lives_on_and_nothing_of_the_run_does[local]",
        "Ctrl-C is told from a body's own KeyboardInterrupt", UNINTERRUPTIBLE, limit=70),
    Off("C3", "test_kernel.py::test_c3_interrupted_kernel_lives_on_and_nothing_of_the_run_does[dask]",
        "open keys are cancelled, since the client lives on",
        {"prefectish.executors.session:ClusterSession.close": nothing,
         "prefectish.executors.session:ClusterSession.cancel": nothing}, limit=70),
    Off("C4", f"{TERMINAL}test_c4_nothing_is_left_of_a_program_that_was_killed[processes]",
        "a process of a pool ends with the program", {"prefectish.executors.process_pool:exit_with_parent": nothing},
        limit=70),
    Off("C4", f"{TERMINAL}test_c4_nothing_is_left_of_a_program_that_was_killed[dask]",
        "a temporary cluster ends itself when its driver is gone",
        {"prefectish.executors.cluster_process:_watch": nothing},
        limit=70),
    Off("C4", f"{TERMINAL}test_c1_c4_c5_no_process_of_an_isolated_body_is_left[9-local]",
        "the process of an isolated body ends with the one that started it",
        {"prefectish.engine.worker.isolation.child:exit_with_parent": nothing}, limit=60),
    Off("C4", "test_resume.py::test_c4_children_under_way_are_recorded_as_lost_with_their_client",
        "what a dead client left under way is marked", {"prefectish.history.resume:_mark_lost": nothing}),
    Off("C5", "test_interrupts.py::test_c5_sigterm_ends_the_run_with_code_143", "SIGTERM is handled", UNINTERRUPTIBLE),
    Off("C6", f"{WATCHED}test_c6_suspended_client_continues_or_has_lost_its_scheduler[c6-slept-and-was-cut-off]",
        "the link to the scheduler is watched", SCHEDULER_UNWATCHED, limit=60),
    Off("C7", "test_resume.py::test_c7_active_run_is_locked", "the holder of a run is looked for",
        {"prefectish.history.resume:life_of": instead(lambda *about: _life("DEAD"))}, limit=15),
    Off("C8", "test_async.py::test_c8_flow_runs_inside_a_running_loop[local]",
        "a coroutine runs in a thread of its own where a loop is running",
        {"prefectish.engine.worker.body:_in_thread": in_the_same_thread}),
    Off("C10", f"{HOLDERS}test_c10_live_client_in_another_namespace_of_processes_keeps_its_run",
        "a process is looked up only where its number means the same",
        {"prefectish.history.holders:_place": instead(lambda: "here")}, limit=60),
    Off("C10", f"{HOLDERS}test_c10_run_whose_heartbeat_moves_is_not_taken_over_whatever_the_clocks_say",
        "a heartbeat is seen to move by the own clock",
        {"prefectish.history.holders:stands_still": instead(lambda *about, **more: True)}),
    Off("C10", f"{HOLDERS}test_c10_client_that_lost_its_run_stops_at_once_with_code_7[threads-graph]",
        "who lost a run ends it",
        {"prefectish.history.recorder:HistoryRecorder.watch": unheard}, limit=60),
    Off("C11", "test_contract_killed.py::test_c11_f16_nothing_that_was_stored_runs_again[threads-graph]",
        "results without a record are looked for in the store",
        {"prefectish.history.stored:StoredResults.missing": instead(lambda *about, **more: {})}, limit=120),
    Off("C9", "test_logs.py::test_c9_handler_that_raises_is_reported_and_stops_nothing", "we log under capture",
        {f"prefectish.engine.worker.logs.{module}:safely": instead(lambda log, *args: log(*args))
         for module in ("capture", "relay")}),
    # -- history and result store
    Off("H2", "test_history.py::test_h2_two_processes_write_at_once", "a writer waits for another one",
        {"prefectish.history.store:BUSY_TIMEOUT": instead(0.0)}),
    Off("H3", "test_history_faults.py::test_h3_full_disk_leaves_the_run_going_and_earlier_rows_intact",
        "an error of the history breaks the recording, and not the run",
        {"prefectish.history.recorder:HistoryRecorder._try": written_or_raised,
         # What is raised beside a write in the thread that writes is heard there once more.
         "prefectish.history.recorder:HistoryRecorder._write_until_the_end":
            instead(lambda recorder: recorder._write_all())}, limit=20),
    Off("H4", "test_history.py::test_h4_garbage_is_not_overwritten", "a file is looked at before it is written to",
        {"prefectish.history.store:FileStore._checked": instead(lambda store: 0)}),
    Off("H5", "test_history_faults.py::test_h5_newer_history_is_left_as_it_is", "versions of tables are compared",
        {"prefectish.history.store:HistoryStore._check_version": nothing}),
    Off("H6", "test_history_faults.py::test_h6_read_only_history_stops_before_anything_runs",
        "a file is looked at before anything runs",
        {"prefectish.history.store:FileStore._checked": instead(lambda store: 1)}),
    Off("H7", f"{RESULTS}test_h7_no_byte_can_be_flipped_unseen[None]", "length and SHA-256 are checked",
        {"prefectish.results.envelope:unseal": opened_unseen}),
    Off("H7", "test_resume.py::test_h7_damaged_result_counts_as_absent", "a result is read before it is relied on",
        {"prefectish.history.resume:_is_sound": instead(lambda *about: True)}),
    Off("H8", f"{RESULTS}test_h8_leftover_of_a_dead_worker_is_not_a_result[folder]", "a temporary suffix",
        {"prefectish.results.names:UNFINISHED_SUFFIX": instead(".never")}),
    Off("H9", "test_caching_contract.py::test_h9_store_that_workers_do_not_share_is_found_before_anything_runs",
        "each worker leaves a probe", {"prefectish.executors.first_calls:check_store": nothing}),
    Off("H10", "test_history_faults.py::test_h10_write_ahead_log_on_a_network_disk_is_refused",
        "the kind of file system is asked for",
        {"prefectish.history.filesystems:is_network": instead(lambda kind: False)}),
    Off("H11", "test_history_faults.py::test_h11_history_that_is_locked_for_a_while_is_written_once_it_is_free",
        "it is tried again", {"prefectish.history.store:_is_locked": instead(lambda error: False)}, limit=15),
    Off("H12", "test_history_faults.py::test_h12_history_that_goes_under_a_run_is_missed[deleted-graph]",
        "a file is looked for before it is written to",
        {"prefectish.history.store:FileStore.is_there": instead(lambda store: True)}),
    # -- definitions
    Off("D1", f"{FAULTS}test_d1_cycle_is_refused[local]", "cycles are found",
        {"prefectish.graphs:order": instead(lambda nodes, upstream, label=str: list(nodes))}, limit=10),
    Off("D2", f"{FAULTS}test_d2_same_function_twice_has_two_slugs[local]", "slugs are counted",
        {"prefectish.slugs:SlugBook.make": instead(lambda book, name, tags: name)}),
    Off("D3", f"{FAULTS}test_d3_wrong_parameters_are_refused[local-unknown]", "parameters are compared with the flow's",
        {"prefectish.parameters:settle": given_or_default}),
    Off("D4", f"{FAULTS}test_d4_foreign_reference_task_is_refused", "reference tasks are looked for in the flow",
        {"prefectish.flows:Flow.own": instead(lambda flow, task: task)}),
    Off("D5", f"{FAULTS}test_d5_impossible_retries_are_refused_where_they_are_written"
        "[{'max_retries': 1, 'retry_delay': -1}]",
        "options of retries are checked", {"prefectish.tasks.retries:check_delay": nothing}),
    Off("D6", f"{FAULTS}test_d6_task_outside_a_flow_is_refused", "a call asks for the flow it is in",
        {"prefectish.tasks.task:Task._flow": no_flow_needed}),
    Off("D7", f"{FAULTS}test_d7_chain_of_ten_thousand_tasks_runs[local]", "graphs are sorted without recursion",
        {"prefectish.graphs:order": recursive}, limit=60),
    Off("D8", f"{FAULTS}test_d8_result_of_another_flow_is_refused", "a task knows the flow it was called in",
        {"prefectish.flows:Flow._has_room_for": instead(lambda flow, home: True)}),
    Off("D9", "test_resume.py::test_d9_changed_task_is_refused_unless_forced", "versions of tasks are compared",
        {"prefectish.history.resume:Resumption.check_unchanged": nothing}),
    Off("D10", f"{FAULTS}test_d10_mapped_task_as_its_own_input_is_refused[local]", "cycles are found",
        {"prefectish.graphs:order": instead(lambda nodes, upstream, label=str: list(nodes))}, limit=10),
    # -- hostile input and secrets
    Off("X1", "test_connect.py::test_x1_open_scheduler_that_others_reach_is_warned_of_once",
        "it is asked who can reach an address",
        {"prefectish.executors.connect:is_loopback": instead(lambda address: True)}),
    Off("X1", "test_connect.py::test_x1_require_tls_refuses_an_open_scheduler_before_it_connects",
        "require_tls is checked before connecting", {"prefectish.executors.connect:_check_encrypted": nothing}),
    Off("X2", "test_connect.py::test_x2_tls_without_certificates_is_an_error_at_once",
        "the peer is identified", {"prefectish.executors.connect:await_scheduler": nothing},
        limit=15),
    Off("X3", "test_faults_start.py::test_x3_temporary_cluster_listens_on_loopback_and_has_no_dashboard",
        "a cluster of ours has arguments of ours", {"prefectish.executors.own_cluster:_arguments": as_they_came}),
    Off("X4", f"{RESULTS}test_x4_pickle_of_a_stranger_is_never_opened[bare]", "only files with our header are opened",
        {"prefectish.results.base:unseal": opened_unseen}),
    Off("X4", f"{RESULTS}test_x4_pickle_of_a_stranger_is_never_opened[unsigned]", "signatures are checked",
        {"prefectish.results.envelope:_check_signature": nothing}),
    Off("X5", f"{RESULTS}test_x5_unsafe_name_is_refused_and_nothing_is_touched[write-'../x']", "names are checked",
        {"prefectish.results.base:checked": same, "prefectish.results.folder:Folder._path": joined}),
    Off("X5", f"{RESULTS}test_x5_links_out_of_the_store_are_refused", "paths are followed to their end",
        {"prefectish.results.folder:Folder._path": joined}),
    Off("X6", "test_templates.py::test_x6_template_reaches_into_nothing[{r.__init__.__globals__[SECRET]}]",
        "templates know few forms of fields",
        {"prefectish.results.templates:Template.__init__": taken_as_it_is,
         "prefectish.results.templates:Template.render": formatted}),
    Off("X6", "test_templates.py::test_x6_template_reaches_into_nothing[{r.secret}]",
        "fields have attributes of plain values only",
        {"prefectish.results.templates:Template._read":
            instead(lambda template, value, kind, key, shown: getattr(value, key))}),
    Off("X7", "test_templates.py::test_x7_format_bomb_is_text_or_refused[${x:>1000000000}]",
        "templates know no formats",
        {"prefectish.results.templates:Template.__init__": taken_as_it_is,
         "prefectish.results.templates:Template.render": formatted}),
    Off("X7", "test_templates.py::test_x7_long_part_is_cut_and_stays_apart_from_others_that_begin_alike",
        "long names are cut", {"prefectish.results.templates:shortened": same}),
    Off("X8", "test_lines.py::test_x8_no_text_makes_two_lines_or_breaks_a_terminal", "control characters are escaped",
        {"prefectish.engine.jobs.log_lines:_UNSAFE": instead(re.compile("(?!)"))}),
    Off("X8", "test_display_progress.py::test_x8_no_name_can_act_on_the_terminal", "control characters are escaped",
        {"prefectish.safe_repr:printable": instead(lambda text, longest=None: str(text))}),
    Off("X8", "test_logs.py::test_x8_no_text_of_an_exception_forges_a_line[local-thread]",
        "tracebacks are escaped where a text in them could forge a line",
        {"prefectish.engine.worker.logs.capture:fence": nothing}),
    Off("X9", "test_reprs.py::test_x9_names_and_messages_are_shown_not_obeyed", "pages escape what they are given",
        {"prefectish.display.page:environment": unmasked_page}),
    Off("X11", "test_canary.py::test_canaries_x11_are_nowhere_on_one_machine[local]", "values of secrets are masked",
        {"prefectish.secrets.masking:register": nothing}, limit=60),
    Off("X12", "test_security.py::test_x12_executor_shows_no_credentials", "credentials are masked",
        {"prefectish.executors.probe:masked": same}),
    Off("X13", "test_history.py::test_x13_history_is_private", "a history is created for its user alone",
        {"prefectish.history.store:FileStore._create_private": nothing}),
    Off("X13", f"{RESULTS}test_x13_files_and_folders_are_their_users_alone", "results are created for their user alone",
        {"prefectish.results.folder:_write": written_loosely}),
    Off("X15", "test_notes.py::test_x15_pickle_at_the_place_of_a_note_is_not_loaded",
        "a note has the format of its store",
        {"prefectish.engine.worker.notes:read": instead(loaded_unseen)}),
    Off("X16", "test_decoding.py::test_x16_value_is_masked_however_it_is_written[quote]",
        "values are looked for in decoded copies", {"prefectish.secrets.decoding:copies": only_the_first}),
    Off("X17", "test_cleaning.py::test_x17_files_of_others_are_left_alone", "files are looked into",
        {"prefectish.cli.cleaning:_is_ours": instead(lambda beginning, whole=True: True)}),
    Off("X18", "test_cells.py::test_x18_bad_run_hides_no_other", "values are checked where they are read",
        {"prefectish.history.cells:Cell.result_processor": instead(lambda cell, dialect, kind: lambda value: value)}),
    Off("X18", "test_history_columns.py::test_x18_value_that_nobody_wrote_is_refused_by_a_run_that_is_resumed[made]",
        "columns that are read whole are checked whole",
        {"prefectish.history.cells:Cell.check": instead(lambda cell, values: None)}),
    Off("X19", "test_serializers.py::test_x19_no_more_than_the_limit_is_decompressed[gzip]",
        "what is decompressed is limited", {"prefectish.results.compression:_limit": instead(lambda: 1 << 62)}),
    Off("X20", "test_ui_security.py::test_x20_nothing_is_shown_without_the_token", "requests must have the token",
        {"prefectish.ui.access:Access.knows": instead(lambda access, token: True)}),
    Off("X21", "test_ui_security.py::test_x21_a_request_for_another_host_is_refused[evil.example]",
        "hosts must be allowed", {"prefectish.ui.access:Access.allows_host": instead(lambda access, header: True)}),
    Off("X21", "test_ui_actions.py::test_x21_what_changes_something_needs_the_form_of_the_page[/limits/set]",
        "forms have a token", {"prefectish.ui.access:Access.is_form_of_page": instead(lambda access, csrf: True)}),
    Off("X22", "test_ui_pages.py::test_x22_fragments_are_as_harmless", "templates escape what they are given",
        {"prefectish.ui.rendering:environment": unmasked_page}),
    # -- large and many
    Off("L1", "test_cluster_scale.py::test_l1_scheduler_holds_no_more_than_the_window[3000]",
        "branches are admitted in a window", ONE_STEP_WIDE),
    Off("L2", "test_timers.py::test_l2_ten_thousand_waiting_retries_hold_no_thread_and_no_slot",
        "retries wait at the client", {"prefectish.engine.worker.run_steps:run_step": slept_out}, limit=60),
    Off("L3", f"{EFFECTS}test_l3_storm_of_retries_has_its_bound_for_every_child[local]", "attempts are counted",
        {"prefectish.tasks.retries:should_retry": retried_once_more,
         # What asks for another attempt is counted once more, as a handler may have asked for it.
         "prefectish.engine.worker.attempt:within_retries": instead(lambda spec, state, run_count: state)}),
    Off("L5", f"{EFFECTS}test_l5_child_that_runs_out_of_files_fails_alone_and_nothing_hangs[local]",
        "bodies are called under capture", BARE),
    Off("L6", "test_logs.py::test_l6_flood_of_a_child_is_cut_and_says_so", "lines of an attempt are counted",
        {"prefectish.engine.jobs.log_lines:KEPT": instead(1 << 60)}, limit=60),
    Off("L7", "test_cluster_scale.py::test_l7_reduction_over_a_hundred_thousand_children",
        "children are handed on in the order of the map",
        {"prefectish.engine.scheduling.changes:Mapped": backwards}, limit=120),
    Off("L8", f"{EFFECTS}test_l8_map_of_maps_stays_in_its_window[dask-30]", "branches are admitted in a window",
        ONE_STEP_WIDE),
    # -- time
    Off("T1", f"{TIMES}test_t1_t2_retry_comes_after_its_delay_whatever_the_wall_clock_of_its_process_does"
        "[local-in the handler-back]",
        "delays are counted by the monotonic clock",
        {"prefectish.engine.worker.attempt:_due_in": by_the_wall}, limit=10),
    Off("T1", f"{TIMES}test_t1_wall_clock_of_a_run_continues_from_where_it_was", "times of a run never run backwards",
        {"prefectish.engine.clock:RunClock._wall": instead(lambda clock: clock.source.wall())}),
    Off("T2", f"{TIMES}test_t1_t2_retry_comes_after_its_delay_whatever_the_wall_clock_of_its_process_does"
        "[local-in the handler-forward]",
        "delays are counted by the monotonic clock",
        {"prefectish.engine.worker.attempt:_due_in": by_the_wall}, limit=10),
    Off("T3", "test_schedules.py::test_t3_asked_for_in_the_gap_itself_the_shifted_event_is_still_ahead",
        "times that clocks jump over are put off", {"prefectish.schedules.zones:from_wall_times": as_read}),
    Off("T4", "test_schedules.py::test_t4_time_in_the_autumn_fold_runs_once_for_days"
        "[America/New_York-after0-expected0]",
        "of two times that look alike the first counts", {"prefectish.schedules.zones:from_wall_times": both_times}),
    Off("T5", f"{TIMES}test_t5_naive_start_time_of_a_signal_fails_its_task_alone[local-RETRY]",
        "a start time says in which zone it is",
        {"prefectish.engine.state:Scheduled._checked": instead(classmethod(lambda cls, time: time))}, limit=10),
    Off("T6", f"{TIMES}test_t6_longest_delays_do_not_overflow[local]", "times end where datetimes do",
        {"prefectish.engine.clock:later": instead(lambda time, seconds: time + _seconds(seconds))}, limit=10),
    Off("T7", "test_schedules.py::test_t7_unknown_zone_without_the_systems_database[absent]",
        "unknown zones are told in our words", {"prefectish.schedules.zones:_has_zones": instead(lambda: True)}),
    Off("T9", f"{TIMES}test_t9_thousand_retries_without_delay_go_through_the_queue_and_not_the_stack[local]",
        "a retry is a job of its own", {"prefectish.engine.worker.run_steps:run_step": retried_at_once}, limit=30),
    Off("T10", "test_repeat.py::test_t10_missed_events_are_not_made_up_for", "of missed events the last is run",
        {"prefectish.schedules.repeat:_due":
            instead(lambda event, events, now, catch_up, name: ([event], next(events, None)))}),
    Off("T11", "test_contract_time_limits.py::"
        "test_t11_whatever_hangs_around_a_body_is_timed_out_with_its_child_alone[graph-local-handler]",
        "hooks of an attempt have its time limit",
        {"prefectish.engine.worker.time_limit:bounded": instead(lambda ctx, what, call, /, *args: call(*args))}),
)  # fmt: skip

#: Tests of the suite that run without the protection, by the id of the fault.
TWINS = {
    "U15": "test_u15_stall_warning_can_be_disabled",
    "P11": "test_p11_without_sending_it_again_who_reads_it_is_lost",
    "W8": "test_w8_without_a_limit_on_silence_the_run_waits_for_the_frozen_worker",
    "W9": "test_w9_without_a_limit_on_waiting_the_run_stands_still",
    "W12": "test_w12_result_that_cannot_be_stored_fails_its_child_and_no_worker",
    "X11": "test_canaries_x11_are_found_where_nothing_is_masked",
}

#: Faults without a protection of ours that could be switched off, and why.
NONE = {
    "U16": "a thread that a body leaves behind is left alone; nothing is done about it",
    "W6": "Dask moves what a worker holds before it lets the worker go",
    "H1": "SQLite commits whole or not at all; without its journal twenty kills damaged nothing either",
    "X10": "SQLAlchemy binds every value; there is no other way to the database",
    "X14": "settings are TOML, which knows plain values only",
    "L4": "Dask spills; what is ours keeps large results away from the client, as in P9",
    "T8": "cronsim and dateutil count the days; the table pins what they say",
}


def _life(name):
    from prefectish.history.holders import Life

    return Life[name]


def _warn(name, text, *args):
    import logging

    logging.getLogger(name).warning(text, *args)


def _seconds(seconds):
    from datetime import timedelta

    return timedelta(seconds=seconds)


# -- the runner --------------------------------------------------------------------------------------------------------

#: What a process of Python does at its beginning, in a folder on PYTHONPATH.
SITECUSTOMIZE = """
import sys
sys.path.append({tests!r})
import switching
switching.begin()
"""


class Outcome(NamedTuple):
    """What became of a test.

    Attributes
    ----------
    name : "failed", "hung", "passed", or "error" if it did not run at all.
    reason : why, in a line.
    """

    name: str
    seconds: float
    reason: str


def run(row, on=False, limit=None):
    """Run the test of a row without its protection, or with it; what takes longer than the limit hangs."""
    import switching

    with tempfile.TemporaryDirectory(prefix="protections-") as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment["COLUMNS"] = "300"
        if not on:
            Path(folder, "sitecustomize.py").write_text(SITECUSTOMIZE.format(tests=str(TESTS)))
            environment |= {switching.ROW: str(OFF.index(row)), "PYTHONPATH": folder}
        command = [sys.executable, "-P", "-m", "pytest", "-n", "0", "-q", "-m", "", "-p", "no:cacheprovider"]
        command += ["--tb", "short", "-rfE", f"{TESTS / row.test}"]
        began = time.monotonic()
        with open(Path(folder, "output"), "w+") as output:
            options = {"stdout": output, "stderr": subprocess.STDOUT, "start_new_session": True, "cwd": TESTS.parent}
            with subprocess.Popen(command, env=environment, **options) as process:
                hung = not _ended(process, limit or (WHOLE if on else row.limit + GRACE))
            output.seek(0)
            said = output.read()
    return _outcome(said, process.returncode, time.monotonic() - began, hung)


def _ended(process, limit):
    """Wait for a process; end it with all that it started if it takes too long."""
    import psutil

    try:
        process.wait(limit)
        return True
    except subprocess.TimeoutExpired:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)  # says where it was
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        return False


def _outcome(said, code, seconds, hung):
    told = re.findall(r"^(?:FAILED|ERROR) .*? - (.*)$", said, re.MULTILINE)
    if hung or (code and "still not at its end after" in said):
        return Outcome("hung", seconds, "it did not end in time")
    if code == 0:
        return Outcome("passed", seconds, said.strip().splitlines()[-1])
    if code == 2 and ": KeyboardInterrupt" in said:
        return Outcome("failed", seconds, "KeyboardInterrupt, out of the test")
    if code == 1 and told:
        return Outcome("failed", seconds, told[0])
    return Outcome("error", seconds, " | ".join(said.strip().splitlines()[-3:]))


def chosen(words):
    """Return the rows of some ids, or of the letters that ids begin with; without any, all."""
    return [row for row in OFF if not words or any(word in (row.ids, row.ids[0], row.test) for word in words)]


def main(words):
    on = "--on" in words
    wanted = ("passed",) if on else ("failed", "hung")
    wrong = 0
    for row in chosen([word for word in words if word != "--on"]):
        outcome = run(row, on)
        wrong += outcome.name not in wanted
        mark = " " if outcome.name in wanted else "!"
        print(f"{mark} {row.ids:4} {outcome.name:7} {outcome.seconds:4.0f} s  {row.test}", flush=True)
        print(f"{'':21}without: {row.protection}\n{'':21}{outcome.reason[:200]}", flush=True)
    print(f"{wrong} of the tests above {'fail' if on else 'pass although their protection is off, or did not run'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
