"""One name for a task: in every text it is called by its label, and whatever takes a name takes each form of it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from prefectish import Flow, flow, history, task
from prefectish.engine.state import Mapped, State
from prefectish.executors import LocalDaskExecutor, LocalExecutor
from prefectish.slugs import Labels, labels, meant
from prefectish.testing import FaultySession

#: A task of these tests, by whatever it is called.
NAMED = re.compile(r"\b(?:load|inc|lock|total)(?:-\d+)?(?:\[\d+\])?")
#: How errors begin that programs look for: these name slugs.
BY_SLUG = re.compile(r"(?:result of|upstream|while running) [a-z]+-1(?:\[\d+\])?")


@task
def load(x: int) -> int:
    if x == 1:
        raise ValueError("odd")
    return x


@task
def inc(x: int) -> int:
    return x + 1


@task
def total(xs: list[int]) -> int:
    return sum(xs)


class StaysHere:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("stays here")


@task
def lock(x: int) -> Any:
    return StaysHere() if x == 1 else x


def texts_of(state: State) -> list[str]:
    """Return what a state says, and the children of a map."""
    found = [repr(state), str(state.message)]
    children = state.map_states or () if isinstance(state, Mapped) else ()
    return found + [text for child in children if child is not None for text in texts_of(child)]


def called_in(texts: Any) -> set[str]:
    """Return what tasks are called in texts, without indices; a name alone may be a word."""
    found = {name for text in texts for name in NAMED.findall(BY_SLUG.sub("", text))}
    return {name.partition("[")[0] for name in found if "[" in name or "-" in name}


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], tmp_path: Any) -> Any:
    """Return everything that is told of a run, and what its tasks are called in the record."""

    def gather(state: State, texts: list[str]) -> tuple[set[str], set[str]]:
        run = history.run(state.context["flow_run_id"], store=str(tmp_path / "h.db"))
        known = {facts["slug"]: run.label_of(facts["slug"]) for facts in run.tasks()}
        texts = [*texts, *texts_of(state), caplog.text, capsys.readouterr().err]
        texts += [f"{line.child} {line.text}" for line in run.logs()]
        texts += [f"{group.message} {[child.label for child in group.children]}" for group in run.failures()]
        texts += [str(state.story(label)) for label in known.values()]
        texts += [repr(child) for slug in known for child in run.children(slug)]
        return called_in(texts), set(known.values())

    return gather


@pytest.mark.parametrize("pool", [LocalExecutor, LocalDaskExecutor])
def test_crashed_failed_and_unread_results_call_a_task_as_the_log_does(pool: Any, told: Any, tmp_path: Any) -> None:
    with Flow("named") as graph:
        loaded = load.map([0, 1, 2])
        total(inc.map(loaded))
    faulty = FaultySession(pool(), {("inc", 2): "killed-worker"})
    state = graph.run(executor=faulty, history=str(tmp_path / "h.db"), story=True)
    texts = [text for each in state.result.values() for text in texts_of(each)]
    called, known = told(state, texts)
    assert any("worker died" in text and "inc-1[2]" in text for text in texts)
    assert called <= known == {"load", "inc", "total"}


def test_futures_are_called_as_the_log_does(executor: Any, told: Any, tmp_path: Any) -> None:
    texts: list[str] = []

    @flow(name="named", executor=executor, history=str(tmp_path / "h.db"))
    def named() -> str:
        mapped = load.map([0, 1, 2])
        futures: list[Any] = [mapped, inc.map(mapped), lock.map([0, 1]), total.submit([1, 2])]
        for future in futures:
            future.wait()
            texts.extend([repr(future), future.name, repr(future.state)])
            for child in future if future is not futures[-1] else ():
                texts.extend([repr(child), child.name, repr(child.exception()), *texts_of(child.state)])
        return "done"

    handle = named.start(story=True, progress=False)
    called, known = told(handle.wait(), texts)
    assert called <= known == {"load", "inc", "lock", "total"}
    assert {"load", "inc", "lock"} <= called


def test_second_task_of_a_name_changes_nothing_that_was_told(told: Any, tmp_path: Any) -> None:
    texts: list[str] = []

    @flow(name="named", history=str(tmp_path / "h.db"))
    def named() -> str:
        first = load.map([0, 1])
        first.wait()
        texts.append(repr(first[1]))  # nobody knows of the second by now
        second = load.map([1])
        second.wait()
        texts.extend([repr(first[1]), repr(second[0])])
        return "done"

    state = named.start(story=True, progress=False).wait()
    assert texts[0] == texts[1]
    called, known = told(state, texts)
    assert called == known == {"load", "load-2"}


@pytest.mark.parametrize(
    ("called", "slug", "children"), [("load", "load-1", 3), ("load-1", "load-1", 3), ("load-2", "load-2", 1)]
)
def test_every_form_of_a_name_is_taken(called: str, slug: str, children: int, tmp_path: Any) -> None:
    @flow(name="named", history=str(tmp_path / "h.db"))
    def named() -> str:
        load.map([0, 1, 2], return_state=True)
        load.map([1], return_state=True)
        return "done"

    handle = named.start(story=True, progress=False)
    state = handle.wait()
    run = history.run(state.context["flow_run_id"], store=str(tmp_path / "h.db"))
    assert {child.slug for child in run.children(called)} == {slug}
    assert len(run.children(called)) == children
    assert run.child(called, 0).slug == slug
    assert handle.snapshot()[called].n_map_states == children
    label = run.label_of(slug)
    assert str(state.story(f"{called}[0]")).startswith(f"{label}[0] in run")


@pytest.mark.parametrize(("key", "called"), [("load[1]", "load[1]"), ("load[1][0]", "load[1][0]")])
def test_story_of_a_task_that_has_brackets_in_its_name(key: str, called: str) -> None:
    with Flow("named") as graph:
        inc.copy(name="load[1]").map([1, 2])
    state = graph.run(history=False, story=True)
    assert str(state.story(key)).startswith(f"{called} in run")


def test_label_is_the_name_until_another_has_it() -> None:
    assert labels([("load-1", "load"), ("add-1", "add"), ("add-2", "add")]) == {
        "load-1": "load",
        "add-1": "add-1",
        "add-2": "add-2",
    }
    assert labels([("inc", "load"), ("inc-1", "inc")]) == {"inc": "load", "inc-1": "inc-1"}  # one has it as its slug
    growing = Labels()
    assert [growing.of(f"add-{n}", "add") for n in (1, 2, 1)] == ["add", "add-2", "add"]
    assert meant("add", [("add-1", "add", "add"), ("add-2", "add-2", "add")]) == ["add-1"]
