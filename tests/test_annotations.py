"""``dask.annotate`` around a call, or around a run, in both spellings."""

from __future__ import annotations

import subprocess
import sys

import dask
import pytest
from real import command_line_scheduler, command_line_worker, note, notes, until

from prefectish import Flow, flow, task
from prefectish.errors import FlowDefinitionError
from prefectish.executors import DaskExecutor


@task
def where(x):
    from distributed import get_worker

    return get_worker().name


@task
def fails_twice(path):
    note(path, "attempt")
    if len(notes(path)) < 3:
        raise OSError("not yet")
    return "done"


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """A cluster of a plain worker and of one with a resource."""
    from distributed import Client

    folder = tmp_path_factory.mktemp("scheduler")
    with (
        command_line_scheduler(folder) as (address, _),
        command_line_worker(address, "--name", "plain"),
        command_line_worker(address, "--name", "special", "--resources", "GPU=1"),
        Client(address) as client,
    ):
        client.wait_for_workers(2)
        yield DaskExecutor(client=client)


@pytest.mark.parametrize(
    "around", [{"resources": {"GPU": 1}}, {"workers": ["special"]}, {"workers": "special"}, {"workers": {"special"}}]
)
def test_annotation_around_calls_in_a_function(two_workers, around):

    @flow(executor=two_workers, history=False)
    def annotated():
        with dask.annotate(**around):
            futures = [where.submit(n) for n in range(4)]
            mapped = where.map(range(4))
            called = where(0)
        plain = where.map(range(20))
        return {f.result() for f in futures} | set(mapped.result()) | {called}, set(plain.result())

    special, everywhere = annotated()
    assert special == {"special"}
    assert everywhere == {"plain", "special"}


def test_annotation_around_calls_in_a_graph(two_workers):
    with Flow("annotated") as graph:
        with dask.annotate(resources={"GPU": 1}):
            special = where.map(range(4))
            one = where(0)
        plain = where.map(range(20))
    found = graph.run(executor=two_workers, history=False).result
    assert {*found[special].result, found[one].result} == {"special"}
    assert set(found[plain].result) == {"plain", "special"}


def test_annotation_around_a_run_holds_for_all_children_and_is_logged(two_workers, caplog):
    with Flow("annotated") as graph:
        children = where.map(range(8))
    with caplog.at_level("INFO", "prefectish"), dask.annotate(resources={"GPU": 1}):
        state = graph.run(executor=two_workers, history=False)
    assert set(state.result[children].result) == {"special"}
    assert any("hold for all tasks: resources={'GPU': 1}" in record.getMessage() for record in caplog.records)

    @flow(executor=two_workers, history=False)
    def function():
        return where.map(range(8)).result()

    caplog.clear()
    with caplog.at_level("INFO", "prefectish"), dask.annotate(workers="special"):
        assert set(function()) == {"special"}
    assert [r.getMessage() for r in caplog.records if "hold for all tasks" in r.getMessage()] == [
        "annotations around the run hold for all tasks: workers=['special']"
    ]
    assert set(function()) == {"plain", "special"}


def test_annotation_around_a_run_is_checked_before_it(two_workers):
    with Flow("annotated") as graph:
        where.map(range(8))
    with dask.annotate(resources={"TPU": 1}), pytest.raises(FlowDefinitionError, match="needs the resource TPU=1"):
        graph.run(executor=two_workers, history=False)

    @flow(executor=two_workers, history=False)
    def function():
        return where.submit(1).result()

    with dask.annotate(resources={"TPU": 1}), pytest.raises(FlowDefinitionError, match="needs the resource TPU=1"):
        function()


def test_retries_are_those_of_the_task(executor, tmp_path):
    @flow
    def called():
        with dask.annotate(retries=2):
            return fails_twice(tmp_path / "called"), fails_twice.submit(tmp_path / "submitted").result()

    assert called.with_options(executor=executor, history=False)() == ("done", "done")
    with Flow("recorded") as graph, dask.annotate(retries=2):
        result = fails_twice(tmp_path / "recorded")
    assert graph.run(executor=executor, history=False).result[result].result == "done"
    with Flow("around the run") as graph:
        result = fails_twice(tmp_path / "around")
    with dask.annotate(retries=2):
        state = graph.run(executor=executor, history=False)
    assert state.result[result].result == "done"
    assert len(notes(tmp_path / "around")) == 3
    with dask.annotate(retries=1):
        assert graph.run(executor=executor, history=False).is_successful()


def test_priority_around_a_call(tmp_path):
    path = tmp_path / "begun"

    @task
    def visit(x):
        note(path, x)

    @flow(history=False)
    def ordered():
        low = visit.map(["low"] * 3)
        with dask.annotate(priority=10):
            high = visit.map(["high"] * 2)
        low.wait(), high.wait()

    from prefectish.executors import LocalExecutor

    ordered.with_options(executor=LocalExecutor())()
    assert notes(path).index("high") <= 1


def test_options_given_with_the_call_go_first_and_resources_add_up():
    gpu = task(lambda: 1, name="gpu", resources={"GPU": 1, "MEM": 2})
    with Flow("f"), dask.annotate(resources={"MEM": 4}, priority=3):
        plain, given = gpu(), gpu(task_args={"priority": 1})
    assert (plain.resources, plain.priority) == ({"GPU": 1, "MEM": 4}, 3)
    assert given.priority == 1
    assert gpu.resources == {"GPU": 1, "MEM": 2}


def test_function_as_an_annotation_is_refused():
    with Flow("f"), dask.annotate(priority=lambda key: 1), pytest.raises(TypeError, match=r"annotate\(priority"):
        where(1)


def test_calls_of_one_annotation_share_their_chain(two_workers):
    @flow(executor=two_workers, history=False)
    def looped():
        futures = []
        for n in range(10):
            with dask.annotate(resources={"GPU": 1}):
                futures.append(where.submit(n))
        return len({future.task_name.slug for future in futures}), {future.result() for future in futures}

    assert looped() == (1, {"special"})


def test_spans_around_a_run_reach_the_cluster(two_workers):
    from distributed import span

    with Flow("spanned") as graph:
        where.map(range(2))
    with span("of the test"):
        assert graph.run(executor=two_workers, history=False).is_successful()
    names = two_workers.client.run_on_scheduler(
        lambda dask_scheduler: [s.name for s in dask_scheduler.extensions["spans"].spans.values()]
    )
    assert ("of the test",) in names


def test_flow_without_dask_asks_nobody():
    code = (
        "import sys; from prefectish import flow, task\n"
        "from prefectish.executors import LocalExecutor\n"
        "f = flow(lambda: task(lambda: 1, name='one')(), name='f', executor=LocalExecutor(), history=False)\n"
        "f(); print('dask' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert until(lambda: True)
