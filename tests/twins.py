"""Twin programs: random programs in both spellings, on all executors, against what Python gives.

Each program is written down as ``with Flow(...)`` and as a flow function (`twins_source`), runs on four executors in
each spelling, and must give the same states, messages, values, stored files and calls of bodies eight times, and what
`twins_oracle` foretells. `KNOWN_FAULTS` names what is left out until it is mended.

    python tests/twins.py --programs 5000 --seed 1
    python tests/twins.py --only limit_batch --programs 20
"""

from __future__ import annotations

import argparse
import faulthandler
import linecache
import os
import random
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import twins_source
from twins_oracle import ANY, APART, GOOD, NEVER, Foretold, Refused, foretell, tried
from twins_programs import FEATURES, Program, comparable, draw, owner, readers, settled, smaller

from prefectish.engine.state import Mapped, State
from prefectish.engine.worker.cache import CACHES
from prefectish.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor
from prefectish.results import LocalResult

#: Features that are left out: what is known to be broken there.
KNOWN_FAULTS: dict[str, str] = {}
#: What only the inputs of a program show.
SHOWN = ("cache_for_siblings", "cache_in_flight", "equal_targets", "row_of_failed")
#: Known faults that show in all programs of a feature, where they are looked for.
IN_FEATURE: dict[str, str] = {}
TAG_LIMIT = 2
#: Bodies that may begin after the failure that stops a map has ended.
LATE = {"local": 0, "threads": 4, "processes": 2, "dask": 8}
ALL = ("local", "threads", "processes", "dask")


class Difference(AssertionError):
    """Two twins differ, or one is not what Python gives; `kind` says in what."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


# ---------------------------------------------------------------------- executors


@contextmanager
def executors(names: tuple[str, ...] = ALL, client: Any = None) -> Iterator[dict[str, Any]]:
    """Start executors, once for all programs."""
    limits = {"db": TAG_LIMIT}
    made: dict[str, Any] = {
        "local": LocalExecutor(),
        "threads": LocalDaskExecutor("threads", num_workers=4, tag_limits=limits),
        "processes": LocalDaskExecutor("processes", num_workers=2, tag_limits=limits),
    }
    with ExitStack() as stack:
        if "dask" in names:
            if client is None:
                from distributed import Client, LocalCluster

                cluster = LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address="127.0.0.1:0")
                client = stack.enter_context(Client(stack.enter_context(cluster)))
            made["dask"] = DaskExecutor(client=client, tag_limits=limits)
        yield {name: made[name] for name in names}


# ---------------------------------------------------------------------- one run


class Outcome(NamedTuple):
    """What one twin gave: its flow's state, its tasks', the stored values by name, and what its bodies noted."""

    flow: Any
    tasks: dict[str, Any]
    files: dict[str, Any]
    notes: list[tuple[str, str, int, int, int]]


def told(state: State | None, show: Any, folder: str) -> Any:
    """Tell a state so that it can be compared."""
    if state is None:
        return None
    message = str(state.message).replace(folder, "...")
    if isinstance(state, Mapped):
        return ("Mapped", message, [told(child, show, folder) for child in state.map_states])
    return (type(state).__name__, message, show(state.result))


def run_twin(text: str, executor: Any, again: bool) -> list[Outcome]:
    """Run a source, twice if `again`, with caches and a folder of its own."""
    CACHES._shelves.clear()
    CACHES._loose.clear()
    folder = tempfile.mkdtemp(prefix="twins-")
    try:
        code = compiled(text, folder)
        return [one_run(code, executor, folder) for _ in range(1 + again)]
    finally:
        shutil.rmtree(folder)


def compiled(text: str, folder: str) -> dict[str, Any]:
    """Run a source as a module of its own."""
    name = f"<{Path(folder).name}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    code: dict[str, Any] = {"FOLDER": folder, "__name__": "twin_program"}
    exec(compile(text, name, "exec"), code)
    del linecache.cache[name]
    return code


def one_run(code: Mapping[str, Any], executor: Any, folder: str) -> Outcome:
    log = Path(folder, "log")
    log.write_text("")
    state, found = code["run"](executor)
    show = code["show"]
    tasks = {name: told(each, show, folder) for name, each in found.items()}
    notes = [line.split() for line in log.read_text().splitlines()]
    return Outcome(
        (type(state).__name__, state.message),
        tasks,
        stored(Path(folder, "results"), show),
        [(word, name, int(seed), int(attempt), int(at)) for word, name, seed, attempt, at in notes],
    )


def stored(folder: Path, show: Any) -> dict[str, Any]:
    """Return what a store holds: by name, and what has the name of its run, by task."""
    if not folder.exists():
        return {}
    store = LocalResult(folder)
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".pkl":
            found[name] = show(store.load(name))
        elif own := re.fullmatch(r"[^/]+/\d+/(n\d+)-\d+/[^/]+", name):
            if store.facts(name).get("serializer") is None:
                continue  # how an attempt ended without a result: noted by workers that may be lost
            found[own[1]] = sorted([*found.get(own[1], ()), show(store.load(name))])
    return found


# ---------------------------------------------------------------------- all twins of a program


def check(
    program: Program, made: Mapping[str, Any], seconds: Counter[str] | None = None, only: str | None = None
) -> None:
    """Run all twins of a program; `only` is a known fault that counts.

    Raises
    ------
    Difference
        With both sources, and what differs.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check(program, made, Counter() if seconds is None else seconds, only)
    except Difference as error:
        sources = [twins_source.source(program, functional) for functional in (False, True)]
        raise Difference(error.kind, f"{error}\n\n# with Flow\n{sources[0]}\n\n# flow function\n{sources[1]}") from None


def _check(program: Program, made: Mapping[str, Any], seconds: Counter[str], only: str | None) -> None:
    foretold = foretell(program)
    ran = run_twins(program, made)
    first: tuple[str, list[Outcome] | BaseException] | None = None
    for functional in (False, True):
        flow_states: list[Any] = []
        for name in made:
            label = f"{'@flow' if functional else 'with Flow'} on {name}"
            found, spent = ran[functional, name]
            seconds[name] += spent
            judge(program, foretold, label, name, found, only)
            first = first or (label, found)
            same(program, foretold, first, (label, found), only)
            if isinstance(found, list):
                flow_states.append([each.flow for each in found])
        if any(state != flow_states[0] for state in flow_states) and not any(node.stop for node in program):
            raise Difference("flow", f"the flow's state differs: {dict(zip(made, flow_states, strict=False))}")


#: What a twin gave, or raised, and how long it took, in seconds.
Ran = tuple[list[Outcome] | BaseException, float]


def run_twins(program: Program, made: Mapping[str, Any]) -> dict[tuple[bool, str], Ran]:
    """Run all twins of a program, by spelling and executor: those of an executor one after another.

    Executors wait for one another's processes most of the time, so they run side by side; not if twins would share a
    cache, or if it is counted what begins in the moments after a failure.
    """
    again = any(node.place == "target" or node.cache for node in program)
    texts = {functional: twins_source.source(program, functional) for functional in (False, True)}

    def run_on(name: str) -> dict[tuple[bool, str], Ran]:
        return {(functional, name): ran(texts[functional], made[name], again) for functional in (False, True)}

    if any(node.cache or node.stop for node in program):
        each = list(map(run_on, made))
    else:
        with ThreadPoolExecutor(len(made)) as pool:
            each = list(pool.map(run_on, made))
    return {key: value for found in each for key, value in found.items()}


def ran(text: str, executor: Any, again: bool) -> Ran:
    """Run one twin, and say how long it took."""
    start = time.perf_counter()
    found: list[Outcome] | BaseException
    try:
        found = run_twin(text, executor, again)
    except Exception as error:
        found = error
    return found, time.perf_counter() - start


def same(
    program: Program,
    foretold: Foretold | Refused,
    one: tuple[str, Any],
    other: tuple[str, Any],
    only: str | None = None,
) -> None:
    """Compare two twins."""
    (a, x), (b, y) = one, other
    if isinstance(x, BaseException) or isinstance(y, BaseException):
        if repr(x) != repr(y):
            raise Difference("error", f"{a}: {x!r}\n{b}: {y!r}")
        return
    assert isinstance(foretold, Foretold)
    loose = [n for n in range(len(program)) if settled(program, n).cache and "cache_in_flight" in foretold.names]
    for run, (left, right) in enumerate(zip(x, y, strict=True), start=1):
        for number, name in enumerate(left.tasks):
            if settled(program, number).stop and not (a.endswith("local") and b.endswith("local")):
                continue
            if number in loose and found_alike(left.tasks[name], right.tasks.get(name)):
                continue
            if source_named_alike(left.tasks[name]) != source_named_alike(right.tasks.get(name)):
                raise Difference("states", f"{name}, run {run}\n{a}: {left.tasks[name]}\n{b}: {right.tasks.get(name)}")
        chance = {f"n{n}" for n in range(len(program)) if n in loose or settled(program, n).stop}
        files, others = ({k: v for k, v in each.files.items() if k not in chance} for each in (left, right))
        if files != others:
            raise Difference("files", f"stored, run {run}\n{a}: {files}\n{b}: {others}")


def source_named_alike(told: Any) -> str:
    """Return what is told of a task, with a child of a map named alike: a graph takes it by an index, `n2[0]-1`."""
    return re.sub(r"\bn(\d+)(\[\d+\])?-\d+", r"n\1", repr(told))


def found_alike(one: Any, other: Any) -> bool:
    """Whether two states differ at most in whether a value was computed, or found because another call computed it."""
    if one[0] == other[0] == "Mapped":
        return len(one[2]) == len(other[2]) and all(map(found_alike, one[2], other[2]))
    return one == other or ({one[0], other[0]} <= {"Success", "Cached"} and one[2] == other[2])


def judge(
    program: Program, foretold: Foretold | Refused, label: str, executor: str, found: Any, only: str | None
) -> None:
    """Compare a twin with what Python gives."""
    if isinstance(foretold, Refused):
        if not isinstance(found, TypeError | ValueError):
            raise Difference("not refused", f"{label}: not refused while it is built, but {found!r}")
        return
    if isinstance(found, BaseException):
        raise Difference("error", f"{label}: {type(found).__name__}: {found}")
    for run, outcome in enumerate(found, start=1):
        for number, end in enumerate(foretold.ends):
            stops = bool(settled(program, number).stop) and executor != "local"
            if not fits(outcome.tasks[f"r{number}"], end, stops):
                wanted = f"{label}: r{number}, run {run}, is\n{outcome.tasks[f'r{number}']}\nand not {wish(end)}"
                raise Difference("wrong", wanted)
        judge_caches(program, foretold, f"{label}, run {run}", outcome, run)
        if label.startswith("with Flow") and not good_flow(program, foretold, outcome):
            raise Difference("flow", f"{label}, run {run}: the flow is {outcome.flow}")
        judge_calls(program, foretold, f"{label}, run {run}", executor, outcome, run)


def good_flow(program: Program, foretold: Foretold, outcome: Outcome) -> bool:
    """Whether the state of a graph's flow is that of the tasks which nobody reads."""
    if any(name.startswith("unknown") for name in foretold.names):
        return True
    last = [end for n, end in enumerate(foretold.ends) if n not in readers(program) and not program[n].nout]
    ends = [each for end in last for each in (end if isinstance(end, list) else [end])]
    return outcome.flow[0] == ("Success" if all(end.kind in GOOD for end in ends) else "Failed")


def wish(end: Any) -> Any:
    """Tell what was foretold."""
    return [wish(each) for each in end] if isinstance(end, list) else (end.kind, shown(end.value))


def shown(value: Any) -> str:
    return "anything" if value is ANY else SHOW["show"](value)


SHOW: dict[str, Any] = {"FOLDER": "/dev/null"}
exec(twins_source.PRELUDE.format(pandas=""), SHOW)


def fits(state: Any, end: Any, stops: bool) -> bool:
    """Whether a state is what was foretold; `stops`: children may have gone on, or never started, by chance."""
    if isinstance(end, list):
        if state[0] != "Mapped" or len(state[2]) != len(end):
            return False
        return all(fits(child, each, stops) for child, each in zip(state[2], end, strict=True))
    if end.kind == "?":
        return True
    if state[:2] == ("Cancelled", "never started"):
        return stops or end.kind == NEVER
    if end.kind == NEVER:
        return stops and fits(state, end.value, stops)
    if state[0] != end.kind and (state[0], end.kind) != ("Cached", "Success"):
        return False
    return end.value is ANY or shown(end.value) == state[2]


def judge_calls(program: Program, foretold: Foretold, label: str, executor: str, outcome: Outcome, run: int) -> None:
    """Look at how often, and when, bodies ran."""
    begun = Counter((name, seed, attempt) for word, name, seed, attempt, _ in outcome.notes if word == "begin")
    for number, node in enumerate(program):
        name = f"n{number}"
        if node.of is not None or f"unknown {name}" in foretold.names:
            continue
        mine = Counter({key: count for key, count in begun.items() if key[0] == name})
        want = Counter({key: count for key, count in foretold.calls.items() if key[0] == name})
        spared = bool(node.cache or node.place == "target")
        if spared:  # what failed is not found by the next one
            want = Counter({key: 1 if key[:2] in foretold.made else count for key, count in want.items()})
        if run == 2 and spared:
            want = Counter({key: count for key, count in want.items() if key[:2] not in foretold.made})
        if node.stop:
            judge_stop(name, node, label, executor, outcome)
        elif mine != want and not (spared and _differ_in_arguments(program, number) and set(mine) == set(want)):
            told_calls = f"(task, seed, attempt)\n{dict(mine)} and not\n{dict(want)}"
            raise Difference("calls", f"{label}: bodies of {name} begin {told_calls}")
        if node.limit:
            judge_overlap(label, outcome, {name}, node.limit)
    if executor != "local":
        judge_overlap(label, outcome, {f"n{n}" for n, node in enumerate(program) if node.tagged}, TAG_LIMIT)


def _differ_in_arguments(program: Program, number: int) -> bool:
    """Whether calls of a task name some of its arguments and leave others to their defaults: their keys differ."""
    calls = [node for n, node in enumerate(program) if number in (n, node.of)]
    return len({len(node.arguments) for node in calls}) > 1


def judge_caches(program: Program, foretold: Foretold, label: str, outcome: Outcome, run: int) -> None:
    """See that what was computed is Success, and that what was found is Cached."""
    if "cache_in_flight" in foretold.names:
        return
    for number in range(len(program)):
        if settled(program, number).cache != "key" or f"unknown n{owner(program, number)}" in foretold.names:
            continue
        state = outcome.tasks[f"r{number}"]
        kinds = {child[0] for child in (state[2] if state[0] == "Mapped" else [state])}
        if ("Cached" if run == 1 else "Success") in kinds:
            raise Difference("cache", f"{label}: states of r{number} are {sorted(kinds)}")


def judge_overlap(label: str, outcome: Outcome, names: set[str], limit: int) -> None:
    """See that no more bodies ran at the same time than a limit allows."""
    changes = sorted((at, word == "begin") for word, name, _, _, at in outcome.notes if name in names)
    running = most = 0
    for _, begins in changes:
        running += 1 if begins else -1
        most = max(most, running)
    if most > limit:
        raise Difference(
            "limit", f"{label}: {most} bodies of {sorted(names)} at the same time, and the limit is {limit}"
        )


def judge_stop(name: str, node: Any, label: str, executor: str, outcome: Outcome) -> None:
    """See that hardly any body began once the failure was there that stops the map."""
    mine = [note for note in outcome.notes if note[1] == name]
    failed = sorted(at for word, _, seed, _, at in mine if word == "end" and seed % node.rarity == 0)
    needed = 1 if node.stop == "stop" else 3
    if node.trouble != "fail" or len(failed) < needed:
        return
    late = sum(word == "begin" and at > failed[needed - 1] for word, _, _, _, at in mine)
    if late > LATE[executor]:
        raise Difference("stop", f"{label}: {late} bodies began after the failure that stops the map ({node.stop})")


# ---------------------------------------------------------------------- many programs


def program_of(seed: int, only: str | None = None, largest: int = 5) -> Program:
    """Return the program of a seed, which tries nothing that is known to be broken, and `only` if that is given."""
    off = frozenset(KNOWN_FAULTS) - {only}
    for turn in range(9999):
        program = draw(seed * 10_000 + turn, off, only, largest)
        if not comparable(program):
            continue
        found = tried(program)
        if not found & {APART, *off} and (only is None or IN_FEATURE.get(only, only) in found):
            return program
    raise ValueError(f"no program of seed {seed} tries {only!r}")


def shrink(
    program: Program, made: Mapping[str, Any], error: Difference, only: str | None
) -> tuple[Program, Difference]:
    """Return the smallest program found that differs, too."""
    off = frozenset(KNOWN_FAULTS) - {only}
    until = time.monotonic() + 120
    found = True
    while found and time.monotonic() < until:
        found = False
        for candidate in smaller(program):
            try:
                names = tried(candidate)
                if not comparable(candidate) or names & {APART, *off} or (only in FEATURES and only not in names):
                    continue
                check(candidate, made, only=only)
            except Difference as smaller_error:
                if smaller_error.kind == error.kind:
                    program, error, found = candidate, smaller_error, True
                    break
            except Exception:  # a candidate that is no program
                continue
    return program, error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the first program")
    parser.add_argument("--only", choices=sorted({*FEATURES, *SHOWN}), help="try this feature in each program")
    parser.add_argument("--executors", default=",".join(ALL))
    parser.add_argument("--largest", type=int, default=5, help="number of tasks")
    parser.add_argument("--show", action="store_true", help="print the sources, and run nothing")
    parser.add_argument("--faults", type=int, default=1, help="end after so many programs that differ")
    given = parser.parse_args()
    seeds = range(given.seed, given.seed + given.programs)
    if given.show:
        for seed in seeds:
            program = program_of(seed, given.only, given.largest)
            print(*(twins_source.source(program, functional) for functional in (False, True)), sep="\n\n")
        return 0
    return search(seeds, given)


def search(seeds: range, given: argparse.Namespace) -> int:
    """Run programs until enough of them differ."""
    import logging

    logging.getLogger("prefectish").setLevel(logging.CRITICAL + 1)
    seconds: Counter[str] = Counter()
    names: Counter[str] = Counter()
    differ = count = 0
    with executors(tuple(given.executors.split(","))) as made:
        for seed in seeds:
            count += 1
            program = program_of(seed, given.only, given.largest)
            names.update(tried(program))
            faulthandler.dump_traceback_later(600, exit=True)
            if sys.stderr.isatty():
                print(f"\rseed {seed} ", end="", file=sys.stderr, flush=True)
            try:
                check(program, made, seconds, given.only)
            except Difference as error:
                differ += 1
                print(f"--- seed {seed} differs; the smallest program:", flush=True)
                program, error = shrink(program, made, error, given.only)
                print(f"{error}\n\n{program}", flush=True)
            if differ == given.faults:
                break
    faulthandler.cancel_dump_traceback_later()
    print(f"{count} programs from seed {seeds.start}, {differ} differ")
    print("tried:", ", ".join(f"{name} {n}" for name, n in sorted(names.items()) if not name.startswith("unknown")))
    for name, spent in seconds.items():
        print(f"{name}: {count / spent:.1f} programs/s (two spellings)")
    return 1 if differ else 0


if __name__ == "__main__":
    os.environ.setdefault("PREFECTISH_HOME", tempfile.mkdtemp())
    sys.exit(main())
