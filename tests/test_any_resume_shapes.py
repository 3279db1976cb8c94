"""Any shape of maps, in both front ends, that breaks off and is resumed with other lists ends as a clean run would.

No body that succeeded runs again with the same inputs. More seeds:

    python tests/test_any_resume_shapes.py 500
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prefectish import Flow, flatten, flow, history, reduce, task, unmapped
from prefectish.executors import LocalDaskExecutor, LocalExecutor
from prefectish.history.recorded_states import results
from prefectish.results import LocalResult

MAKERS = {"local": LocalExecutor, "threads": lambda: LocalDaskExecutor("threads", num_workers=3)}
LOCK = threading.Lock()
#: What succeeded, by task and inputs; and what fails in this part.
DONE: Counter[tuple[str, str]] = Counter()
FAILS: set[str] = set()


def ran(name: str, *given: Any) -> tuple[Any, ...]:
    """Note a body, unless it fails; return what says what it was given."""
    if f"{name} {given}" in FAILS:
        raise ValueError(given)
    with LOCK:
        DONE[name, repr(given)] += 1
    return (name, *given)


load = task(name="load")(lambda x: ran("load", x))
look = task(name="look")(lambda x: ran("look", x))
pair = task(name="pair")(lambda x, y: ran("pair", x, y))
spread = task(name="spread")(lambda x: [*ran("spread", x)[1:], (x, 0)])
total = task(name="total")(lambda xs: ran("total", *xs))
listing = task(name="listing")(lambda xs: list(ran("listing", *xs)[1:]))


@task(name="several")
def several(xs: list[Any]) -> Any:
    yield from xs
    ran("several", *xs)


#: What a flow is made of: how a single task is called, and the list.
SHAPES: dict[str, Any] = {
    "list": lambda call, items: look.map(load.map(items)),
    "task": lambda call, items: look.map(load.map(call(listing, items))),
    "generator": lambda call, items: look.map(load.map(call(several, items))),
    "calls": lambda call, items: look.map([call(load, x) for x in items]),
    "two maps": lambda call, items: pair.map(load.map(items), look.map(items)),
    "a map and its list": lambda call, items: look.map(pair.map(load.map(items), items)),
    "flattened": lambda call, items: look.map(flatten(spread.map(load.map(items)))),
    "unmapped": lambda call, items: pair.map(items, unmapped(call(total, load.map(items)))),
    "reduced": lambda call, items: pair.map(items, unmapped(reduce(total, look.map(items), fan_in=2))),
}
#: The tasks of a graph are known by their places: another list has other tasks.
FORMS = [(shape, kind) for shape in SHAPES for kind in ("graph", "function") if (shape, kind) != ("calls", "graph")]


def made(shape: str, kind: str, items: list[Any], store: Any) -> Any:
    """Return a flow of a shape."""
    if kind == "graph":
        with Flow("shape", result=store) as graph:
            SHAPES[shape](lambda called, *given: called(*given), items)
        return graph

    @flow(name="shape", result=store)
    def function() -> None:
        SHAPES[shape](lambda called, *given: called.submit(*given), items).wait()

    return function


def changed(choose: random.Random, items: list[Any]) -> list[Any]:
    """Return a list with the same items, or some of them, in another order, and new ones."""
    items = choose.sample(items, choose.randint(1, len(items)))
    return [*items, *choose.sample(range(100, 200), choose.randint(0, 2))] if choose.random() < 0.7 else items


def recorded(run_id: str, database: str) -> dict[str, Any]:
    """Return the results of all mapped tasks of a recorded run by their names."""
    run = history.run(run_id, database)
    slugs = [step["slug"] for step in run.tasks()]
    return {slug: results(run, slug) for slug in slugs if slug.partition("-")[0] in ("load", "look", "pair")}


def check(seed: int, shape: str, kind: str, where: str) -> None:
    """Break a run off some times, resume it, and hold it against a clean run."""
    choose = random.Random(f"{seed} {shape}")
    DONE.clear()
    items: list[Any] = choose.sample(range(20), choose.randint(1, 6))
    with tempfile.TemporaryDirectory() as folder:
        database, store = str(Path(folder, "history.db")), LocalResult(str(Path(folder, "results")))
        run_id = None
        for part in range(choose.randint(2, 4)):
            FAILS.clear()
            for x in items if part < 3 else ():
                name = choose.choice(["load", "look", "several", ""])
                FAILS.update({f"{name} {(x,)}", f"{name} {(('load', x),)}"})
            options = {"executor": MAKERS[where](), "history": database}
            if run_id is None:
                run_id = made(shape, kind, items, store).run(**options).context["flow_run_id"]
            else:
                made(shape, kind, items, store).resume(run_id, retry_failed=True, **options)
            items = changed(choose, items) if choose.random() < 0.6 else items
        FAILS.clear()
        made(shape, kind, items, store).resume(run_id, retry_failed=True, **options)
        again = {key: times for key, times in DONE.items() if times > 1}
        assert not again, f"seed {seed}: ran again although they had succeeded: {again}"
        clean = made(shape, kind, items, LocalResult(str(Path(folder, "clean"))))
        wanted = clean.run(executor=LocalExecutor(), history=f"{folder}/clean.db").context["flow_run_id"]
        assert recorded(run_id, database) == recorded(wanted, f"{folder}/clean.db"), f"seed {seed}"


@pytest.mark.filterwarnings("ignore:.*never retrieved")
@pytest.mark.parametrize(("shape", "kind"), FORMS)
def test_any_shape_that_breaks_off_ends_as_a_clean_run(shape: str, kind: str) -> None:
    for seed, where in ((1, "local"), (3, "threads")):
        check(seed, shape, kind, where)


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        for form in FORMS:
            check(number, *form, ["local", "threads"][number % 2])
