"""Where children run and in what order: resources, workers, priorities, on two workers of one thread."""

from __future__ import annotations

from itertools import pairwise

import pytest
from distributed import Client, LocalCluster
from real import note, notes, spend

from prefectish import Flow, flatten, flow, task
from prefectish.errors import FlowDefinitionError
from prefectish.executors import DaskExecutor

pytestmark = pytest.mark.time_limit(60)


@pytest.fixture(scope="module")
def client():
    """A worker with a GPU, named so, and one without."""
    with (
        LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as made,
    ):
        specification = cluster.new_worker_spec()
        (plain,) = specification.values()
        options = plain["options"]
        cluster.worker_spec["plain"] = {**plain, "options": {**options, "name": "plain"}}
        cluster.worker_spec["gpu"] = {**plain, "options": {**options, "name": "gpu", "resources": {"GPU": 1}}}
        made.sync(cluster._correct_state)
        made.wait_for_workers(2, 30)
        yield made


@pytest.fixture
def dask(client):
    return DaskExecutor(client=client)


def where():
    from distributed import get_worker

    return get_worker().name


@task
def place(x):
    return where()


@pytest.mark.parametrize(
    "options",
    [{"resources": {"GPU": 1}}, {"tags": ["dask-resource:GPU=1"]}, {"tags": ["dask-resource:GPU"]}, {"workers": "gpu"}],
    ids=str,
)
def test_children_run_only_where_they_may(dask, options):
    with Flow("placed") as flow:
        special = place.copy(name="special", **options).map(range(12))
        single = place.copy(name="single", **options)(1)
        anywhere = place.map(range(40))
    state = flow.run(executor=dask)
    assert state.result[special].result == ["gpu"] * 12
    assert state.result[single].result == "gpu"
    assert set(state.result[anywhere].result) == {"gpu", "plain"}


def test_worker_is_named_by_its_address_too(dask, client):
    workers = client.scheduler_info()["workers"]
    (address,) = (address for address, worker in workers.items() if worker["name"] == "plain")
    with Flow("address") as flow:
        placed = place.copy(workers=[address]).map(range(6))
    assert flow.run(executor=dask).result[placed].result == ["plain"] * 6


def test_resource_is_held_by_each_child(dask, tmp_path):
    """Both workers have a thread, but one of them has a half GPU at a time to give: two children fit, not three."""
    path = tmp_path / "notes"

    @task(resources={"GPU": 0.5})
    def work(x):
        note(path, f"{x} {where()}")

    with Flow("half") as flow:
        work.map(range(6))
    assert flow.run(executor=dask).is_successful()
    assert {line.split()[1] for line in notes(path)} == {"gpu"}


@pytest.mark.parametrize(
    "options", [{"resources": {"TPU": 1}}, {"resources": {"GPU": 2}}, {"workers": "nobody"}], ids=str
)
def test_what_no_worker_has_is_refused_at_once_by_name(dask, tmp_path, options):
    path = tmp_path / "notes"

    @task
    def before():
        note(path, "ran")

    with Flow("impossible") as flow:
        place.copy(name="wanting", **options).map(range(3), upstream_tasks=[before()])
    with pytest.raises(FlowDefinitionError, match="wanting") as caught:
        flow.run(executor=dask)
    for wanted in (next(iter(options.get("resources", {"nobody": 1}))),):
        assert wanted in str(caught.value)
    assert caught.value.exit_code == 2
    assert notes(path) == []


@pytest.mark.parametrize("options", [{"resources": {"TPU": 1}}, {"workers": "nobody"}], ids=str)
@pytest.mark.parametrize("call", ["submit", "map"])
def test_what_no_worker_has_is_refused_at_its_first_call_in_a_flow_function(dask, options, call):
    wanting = place.copy(name="wanting", **options)

    @flow(executor=dask, history=False)
    def impossible():
        ran = place.submit(1).wait()
        future = wanting.submit(1) if call == "submit" else wanting.map(range(3))
        return ran, future.wait()

    with pytest.raises(FlowDefinitionError, match=r"task wanting (needs the resource TPU=1|may run only on the wo)"):
        impossible()


def test_resource_tag_without_a_number_is_refused_by_name(dask):
    with Flow("tag") as flow:
        place.copy(tags=["dask-resource:GPU=many"])(1)
    with pytest.raises(ValueError, match="dask-resource:GPU=many"):
        flow.run(executor=dask)


def test_branch_is_split_where_its_steps_run_in_different_places(dask):
    @task(workers="gpu")
    def first(x):
        return where()

    @task(workers="plain")
    def second(x):
        return x, where()

    with Flow("split") as flow:
        out = second.map(first.map(range(5)))
    assert flow.run(executor=dask).result[out].result == [("gpu", "plain")] * 5


# ---------------------------------------------------------------------- order


def serial(function):
    """Return a task whose children take turns: the only worker they may use has one thread."""
    return task(function, workers="plain")


def assert_rising(numbers):
    """The worker takes what it is sent in order, but an idle one starts with what it hears of first."""
    assert sum(before > after for before, after in pairwise(numbers)) <= 2, numbers


def test_rows_start_in_map_order(dask, tmp_path):
    path = tmp_path / "notes"

    def work(x):
        note(path, x)

    with Flow("order") as flow:
        serial(work).map(range(50))
    flow.run(executor=dask)
    assert sorted(notes(path), key=int) == [str(x) for x in range(50)]
    assert_rising([int(x) for x in notes(path)])


def test_priority_of_an_item_is_the_order_of_its_child(dask, tmp_path):
    path = tmp_path / "notes"

    def work(x):
        note(path, x)

    with Flow("priority") as flow:
        serial(work).copy(priority=lambda x: x % 10).map(range(30))
    flow.run(executor=dask)
    assert len(notes(path)) == 30
    assert_rising([-(int(x) % 10) for x in notes(path)])


def test_priority_of_a_task_is_asked_first(dask, tmp_path):
    path = tmp_path / "notes"

    @task(workers="plain")
    def hold(seconds):
        spend(seconds)

    @task(workers="plain", priority=-1)
    def late(x):
        note(path, "late")

    @task(workers="plain", priority=5)
    def early(x):
        note(path, "early")

    with Flow("priorities") as flow:
        hold(0.5)
        late.map(range(5))
        early.map(range(5))
    flow.run(executor=dask)
    assert notes(path) == ["early"] * 5 + ["late"] * 5


def test_branch_is_finished_before_many_others_are_begun(dask, tmp_path):
    """A worker goes on at once with what it knows; that a step is ready it hears from the scheduler a moment later."""
    path = tmp_path / "notes"

    def step(name):
        def body(x):
            note(path, f"{name} {x}")
            spend(0.01)
            return x

        return serial(body)

    with Flow("depth") as flow:
        step("c").map(step("b").map(step("a").map(range(60))))
    flow.run(executor=dask)
    said = notes(path)
    assert_rising([int(line[2:]) for line in said if line[0] == "a"])
    ahead = [sum(1 if line[0] == "a" else -1 for line in said[:n] if line[0] in "ac") for n in range(len(said))]
    assert max(ahead) < 20


def test_deeper_chain_goes_first_although_it_is_submitted_later(dask, tmp_path):
    """The flattened rows come up as the first ones end, and overtake those that wait on the worker already."""
    path = tmp_path / "notes"

    def split(x):
        spend(0.02)
        note(path, "split")
        return [10 * x, 10 * x + 1]

    def use(y):
        note(path, "use")

    with Flow("chains") as flow:
        serial(use).map(flatten(serial(split).map(range(100))))
    state = flow.run(executor=dask)
    assert state.is_successful()
    said = notes(path)
    assert (said.count("split"), said.count("use")) == (100, 200)
    assert said.index("use") < 50
    assert said[:150].count("use") > 80
