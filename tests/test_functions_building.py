"""`product` and `apply_map` in flow functions, as in graphs, on every executor."""

from __future__ import annotations

import pytest
from bodies import add, double, fail, inc, total

from prefectish import Flow, apply_map, case, flatten, flow, mapped, merge, product, switch, task, unmapped
from prefectish.engine.state import Failed, Skipped, TriggerFailed
from prefectish.errors import FlowDefinitionError, TaskRunFailed


def run_with(executor, function, *args):
    return flow(function, executor=executor, history=False)(*args)


@task
def upto(n):
    return list(range(n))


@task
def triple(x, y, z):
    return x, y, z


def test_product_combines_lists_and_futures(executor):
    def combined():
        x, y = product([10, 20], range(3))
        sums = add.map(x, y)
        a, b, c = product(upto.submit(2), ["u", "v"], upto.map([1, 2]))
        triples = triple.map(a, b, c)
        d, e = product(flatten(upto.map([1, 2])), [inc.submit(1), 5])
        (alone,) = product([1, 2])
        return sums.result(), triples.result(), add.map(d, e).result(), inc.map(alone).result()

    sums, triples, flat, alone = run_with(executor, combined)
    assert sums == [10, 11, 12, 20, 21, 22]
    assert triples == [(a, b, c) for a in (0, 1) for b in "uv" for c in ([0], [0, 1])]
    assert (flat, alone) == ([x + y for x in (0, 0, 1) for y in (2, 5)], [2, 3])


@pytest.mark.parametrize("style", ["graph", "function"])
def test_product_of_a_list_that_holds_a_failure_has_all_its_children(style):
    """The length of a list is known, whatever becomes of the futures in it."""

    def program():
        x, y = product([1, 2], [upto.submit(None) if style == "function" else upto(None), 7])
        return add.map(x, y)

    if style == "graph":
        with Flow("product") as graph:
            sums = program()
        state = graph.run(history=False).result[sums]
    else:
        found = []

        def function():
            sums = program()
            sums.wait()
            found.append(sums.state)

        flow(function, history=False)()
        (state,) = found
    assert [type(child) for child in state.map_states] == [TriggerFailed] * 4


def test_product_refuses_what_cannot_be_combined():
    @flow(history=False)
    def refused(*inputs):
        return product(*inputs)

    for inputs, text in [
        ((), "no inputs to combine"),
        (([1], 3), "input 1 cannot be mapped over: got int"),
        (([1], unmapped([1])), r"input 1 is unmapped\(\.\.\.\)"),
        ((iter([1]),), "which can be read only once"),
    ]:
        with pytest.raises(TypeError, match=text):
            refused(*inputs)

    @flow(history=False)
    def late():
        x, _ = product(inc.submit(1), [1, 2])
        return inc.map(x).result()

    with pytest.raises(TaskRunFailed, match="No upstream states can be mapped over"):
        late()


def collatz(x):
    with case(x % 2, 0):
        even = double(x)
    with case(x % 2, 1):
        odd = 3 * x + 1
    return merge(even, odd)


def test_apply_map_runs_a_pipeline_for_each_item(executor):
    def piped():
        shift = inc.submit(9)

        def step(x, by):
            shifted = add(x, shift)
            return {"out": add(shifted, by), "branch": collatz(x)}

        of_list = apply_map(step, [1, 2, 3], unmapped(100))
        of_map = apply_map(step, inc.map([1, 2]), by=upto.submit(2))
        of_flat = apply_map(inc, flatten(upto.map([1, 2])))
        return (
            of_list["out"].result(),
            of_list["branch"].result(),
            of_map["out"].result(),
            of_map["branch"].result(),
            of_flat.result(),
            total(of_flat),
        )

    assert run_with(executor, piped) == ([111, 112, 113], [4, 4, 10], [12, 14], [4, 10], [1, 1, 2], 4)


def test_apply_map_keeps_failures_and_skips_to_their_items(executor):
    @task
    def fails_at_two(x):
        if x == 2:
            raise ValueError(x)
        return x

    def step(x):
        with case(x, 3):
            only_three = inc(x)
        return fails_at_two(x), inc(fails_at_two(x)), only_three

    def piped():
        first, second, third = apply_map(step, [1, 2, 3])
        first.wait(), second.wait(), third.wait()
        return [[type(s) for s in f.state.map_states] for f in (first, second, third)]

    first, second, third = run_with(executor, piped)
    assert (first[1], second[1]) == (Failed, TriggerFailed)
    assert (third[:2], third[2].__name__) == ([Skipped, Skipped], "Success")


def test_apply_map_of_tasks_that_take_no_item_has_as_many_children(executor):
    def step(x):
        return upto(2), inc(x)

    def piped():
        none, some = apply_map(step, [1, 2, 3])
        return len(none), none.result(), some.result()

    assert run_with(executor, piped) == (3, [[0, 1]] * 3, [2, 3, 4])


def test_apply_map_of_a_failed_future_and_of_unequal_lists():
    @flow(history=False)
    def failed():
        return apply_map(inc, fail.submit()).result()

    with pytest.raises(TaskRunFailed, match="inc has no result: it is Failed: No upstream states can be mapped over"):
        failed()

    @flow(history=False)
    def unequal():
        return apply_map(add, [1, 2], inc.map([1, 2, 3])).result()

    with pytest.raises(ValueError, match="mapped inputs differ in length: x=2, y=3"):
        unequal()

    @flow(history=False)
    def inside():
        return apply_map(lambda x: inc.map(x), [[1]])

    with pytest.raises(FlowDefinitionError, match=r"apply_map\(<lambda>\)"):
        inside()


def test_what_needs_a_graph_says_what_to_write():
    @flow(history=False)
    def switches():
        switch(inc(1), {2: inc})

    with pytest.raises(FlowDefinitionError, match=r"switch builds a graph, .* write Python's own if"):
        switches()


def test_wait_for_a_list_item_by_item_gives_a_map_its_width(executor):
    def waits():
        return upto.map(unmapped(1), wait_for=[mapped([7, 8])]).result()

    assert run_with(executor, waits) == [[0], [0]]
