"""The contract of every executor: what can be mapped over, in both front ends, given directly or returned by a task."""

from __future__ import annotations

import array
import itertools
from collections.abc import Sequence

import cloudpickle
import pytest
from bodies import give, inc, state_names, total
from real import spend

from prefectish import Flow, Parameter, apply_map, flatten, flow, product, task, unmapped
from prefectish.engine.state import Failed, Mapped, Success
from prefectish.executors import DaskExecutor
from prefectish.results import LocalResult
from prefectish.tasks.mapping import UNMAPPABLE_RESULT


class Spelling:
    """A front end: how a task is called in it, and how what is built in it runs."""

    def __init__(self, executor, is_function):
        self.executor = executor
        self.is_function = is_function

    def call(self, called, *args):
        return called.submit(*args) if self.is_function else called(*args)

    def state(self, build):
        """Return the state of what `build` returns."""
        if not self.is_function:
            with Flow("inputs") as built:
                out = build()
            return built.run(executor=self.executor, history=False).result[out]
        ended = []

        @flow(executor=self.executor, history=False)
        def inputs():
            future = build()
            future.wait()
            ended.append(future.state)

        inputs()
        return ended[0]

    def of(self, made):
        """Return what a task returns that is given `made`."""
        return self.call(give, made)


@pytest.fixture(params=["with Flow", "@flow"])
def spelling(request, executor):
    return Spelling(executor, request.param == "@flow")


@task
def pair(item, label):
    return item, label


@task
def kind(x):
    return type(x).__name__


@task
def rows_of(x):
    import pandas

    return pandas.DataFrame({"a": [x, x]}) if x > 1 else pandas.Series([x, x + 1], index=[1, 0])


def results(state):
    assert isinstance(state, Mapped), state
    assert {type(child).__name__ for child in state.map_states} <= {"Success"}, state.map_states
    return state.result


def refusal(state):
    assert type(state) is Failed
    assert state.message.startswith(f"{UNMAPPABLE_RESULT} "), state.message
    assert type(state.result) is TypeError
    return state.message.removeprefix(f"{UNMAPPABLE_RESULT} ")


# ---------------------------------------------------------------------- by position


def series():
    """Return Series by what was seen to go wrong with them."""
    pandas = pytest.importorskip("pandas")
    three = pandas.Series([30, 10, 20])
    return {
        "sorted": (three.sort_values(), [10, 20, 30]),
        "concatenated": (pandas.concat([three[:2], three[:2]]), [30, 10, 30, 10]),
        "filtered": (three[three > 15], [30, 20]),
        "shifted": (pandas.Series([0, 10, 20], index=[1, 2, 3]), [0, 10, 20]),
        "reversed": (pandas.Series([10, 20, 30], index=[2, 1, 0]), [10, 20, 30]),
        "text": (pandas.Series([1, 2], index=["x", "y"]), [1, 2]),
        "dates": (pandas.Series([1, 2], index=pandas.date_range("2026-03-01", periods=2)), [1, 2]),
        "index": (pandas.Index([7, 5]), [7, 5]),
        "category": (pandas.Series(["b", "a"], index=[1, 0], dtype="category"), ["b", "a"]),
    }


def test_e2_view_of_memory_stays_one_on_its_way(spelling):
    views = {
        "bytes": (memoryview(b"ab"), [97, 98]),
        "writable": (memoryview(bytearray(b"ab")), [97, 98]),
        "numbers": (memoryview(array.array("d", [0.5, 2.0])), [0.5, 2.0]),
        "every other": (memoryview(b"a-b-")[::2], [97, 98]),
        "every other, writable": (memoryview(bytearray(b"a-b-"))[::2], [97, 98]),
        "empty": (memoryview(b""), []),
    }
    for name, (view, items) in views.items():
        state = spelling.state(lambda view=view: give.map(spelling.of(view)))
        assert results(state) == items, name
        same = spelling.state(lambda view=view: spelling.of(view)).result
        assert type(same) is memoryview
        assert (same.tolist(), same.format, same.readonly) == (items, view.format, view.readonly), name


@pytest.mark.parametrize("as_result", [False, True], ids=["constant", "result"])
def test_e2_series_is_mapped_by_position(spelling, as_result):
    pytest.importorskip("pandas")
    for name, (values, items) in series().items():
        state = spelling.state(lambda values=values: give.map(spelling.of(values) if as_result else values))
        assert results(state) == items, name


def test_e2_series_pairs_with_a_list(spelling):
    pandas = pytest.importorskip("pandas")

    @task
    def by_size():
        return pandas.Series([30, 10, 20]).sort_values()

    state = spelling.state(lambda: pair.map(spelling.call(by_size), ["small", "middle", "large"]))
    assert results(state) == [(10, "small"), (20, "middle"), (30, "large")]


def test_nu1_large_series_that_stays_on_its_worker_is_mapped_by_position(spelling):
    pandas = pytest.importorskip("pandas")

    @task
    def large():
        return pandas.Series([bytes(100_000), "b", "c"]).iloc[::-1]

    assert results(spelling.state(lambda: kind.map(spelling.call(large)))) == ["str", "str", "bytes"]


def test_e2_series_is_flattened_by_position(spelling):
    pandas = pytest.importorskip("pandas")
    late = pandas.Series([3, 4], index=[1, 0])
    made = spelling.state(lambda: give.map(flatten(rows_of.map([0, 1]))))
    assert results(made) == [0, 1, 1, 2]
    assert results(spelling.state(lambda: give.map(flatten(spelling.of([late, [5]]))))) == [3, 4, 5]
    assert results(spelling.state(lambda: give.map(flatten([late, [5]])))) == [3, 4, 5]
    reduced = spelling.state(lambda: spelling.call(total, flatten(rows_of.map([0, 1]))))
    assert reduced.result == 4


def test_e2_series_of_a_parameter_in_a_product_and_in_apply_map(executor):
    pandas = pytest.importorskip("pandas")
    values = pandas.Series([30, 10, 20]).sort_values()
    with Flow("inputs") as built:
        named = give.map(Parameter("values"))
        a, b = product(give(values), values)
        pairs = pair.map(a, b)
        applied = apply_map(lambda x: inc(x), values)
        mixed = pair.map(give(values), unmapped(values.to_list()))
    state = built.run(executor=executor, history=False, parameters={"values": values}).result
    assert results(state[named]) == [10, 20, 30]
    assert results(state[pairs]) == [(x, y) for x in (10, 20, 30) for y in (10, 20, 30)]
    assert results(state[applied]) == [11, 21, 31]
    assert results(state[mixed]) == [(x, [10, 20, 30]) for x in (10, 20, 30)]


def test_e2_resumed_map_over_a_series_keeps_its_pairs(executor, tmp_path):
    pandas = pytest.importorskip("pandas")
    failing = tmp_path / "failing"
    failing.touch()

    @task
    def label(x):
        if x == 20 and failing.exists():
            raise ValueError(x)
        return f"{x}!"

    with Flow("again", result=LocalResult(tmp_path / "results")) as built:
        out = label.map(give(pandas.Series([30, 10, 20]).sort_values()))
    history = tmp_path / "history.db"
    first = built.run(executor=executor, history=str(history))
    assert state_names(first.result[out]) == ["Success", "Failed", "Success"]
    failing.unlink()
    again = built.resume(first.context["flow_run_id"], retry_failed=True, executor=executor, history=str(history))
    assert results(again.result[out]) == ["10!", "20!", "30!"]


def test_e2_series_of_polars_and_array_of_pyarrow(spelling):
    polars, pyarrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    for values in (polars.Series([3, 1]), pyarrow.array([3, 1]), pyarrow.chunked_array([[3], [1]])):
        assert results(spelling.state(lambda values=values: inc.map(values))) == [4, 2]
        assert results(spelling.state(lambda values=values: inc.map(spelling.of(values)))) == [4, 2]


@task
def up_to(n):
    spend(0.05)
    return list(range(n))


@task
def table_of(n):
    import pandas

    return pandas.DataFrame({"a": range(n)})


def test_f2_child_that_has_not_ended_is_mapped_over_as_one_that_has(executor):
    pytest.importorskip("pandas")

    @flow(executor=executor, history=False)
    def ragged():
        lists = up_to.map([3, 0, 2])
        early = [inc.map(one) for one in lists]
        refused = inc.map(table_of.map([2])[0])
        lists.wait()
        refused.wait()
        late = [inc.map(one) for one in lists]
        found.append(refused.state)
        return [[one.result() for one in maps] for maps in (early, late)]

    found = []
    assert ragged(return_state=True).result == [[[1, 2, 3], [], [1, 2]]] * 2
    assert "is a DataFrame (table_of): map over df.to_dict" in refusal(found[0])


# ---------------------------------------------------------------------- refused


def refused():
    """Return values that are no lists, by the words of their refusal."""
    pandas = pytest.importorskip("pandas")
    return [
        (pandas.DataFrame({0: [1, 2], 1: [3, 4]}), "DataFrame", 'df.to_dict("records"), or list(df.itertuples())'),
        (pandas.DataFrame({"a": [1]}), "DataFrame", "list(df.itertuples())"),
        ({"a": 1}, "dict", "list(d.items())"),
        ({0: 1}, "dict", "list(d.items())"),
        ({1, 2}, "set", "sorted(...) or list(...) of it"),
        ("abc", "str", "list(text) for its characters, or wrap it in unmapped(...)"),
        (b"abc", "bytes", "list(data) for its bytes, or wrap it in unmapped(...)"),
        (7, "int", "a list, or wrap it in unmapped(...)"),
        (None, "NoneType", "a list, or wrap it in unmapped(...)"),
    ]


def test_nu7_result_that_cannot_be_mapped_is_refused_by_name_and_logged(spelling, caplog):
    for value, name, way_out in refused():
        caplog.clear()
        told = refusal(spelling.state(lambda value=value: give.map(spelling.of(value))))
        assert told.startswith(f"value is a {name} (give"), told
        assert way_out in told
        lines = [r.getMessage() for r in caplog.records if UNMAPPABLE_RESULT in r.getMessage()]
        assert len(lines) == 1, lines
        assert way_out in lines[0]
        assert {r.levelname for r in caplog.records if UNMAPPABLE_RESULT in r.getMessage()} == {"ERROR"}


def test_nu1_result_that_cannot_be_mapped_is_refused_under_flatten_too(spelling):
    for value, name, way_out in refused():
        told = refusal(spelling.state(lambda value=value: give.map(flatten(spelling.of(value)))))
        assert told.startswith(f"value is a {name} (give")
        assert way_out in told


def test_nu8_constant_that_cannot_be_mapped_is_refused_in_the_same_words(spelling):
    for value, name, way_out in refused():
        for given in (value, flatten(value)):
            with pytest.raises(TypeError) as caught:
                spelling.state(lambda given=given: give.map(given))
            told = str(caught.value)
            assert told.startswith(f"give.map: argument 'value' cannot be mapped over: got {name}; pass "), told
            assert way_out in told
    with pytest.raises(TypeError, match=r"^pair.map: argument 'label' cannot be mapped over: got str; .*unmapped"):
        spelling.state(lambda: pair.map([1, 2], label="hi"))


def test_nu1_table_in_what_is_flattened_fails_its_own_child(spelling):
    pytest.importorskip("pandas")
    state = spelling.state(lambda: give.map(flatten(rows_of.map([0, 2, 1]))))
    assert state_names(state) == ["Success", "Success", "Failed", "Success", "Success"]
    told = state.map_states[2].message
    assert told.startswith(f"{UNMAPPABLE_RESULT} argument 'value': "), told
    assert 'map over df.to_dict("records")' in told
    reduced = spelling.state(lambda: spelling.call(total, flatten(rows_of.map([0, 2]))))
    assert type(reduced) is Failed
    assert reduced.message.startswith(f"{UNMAPPABLE_RESULT} argument 'xs': a DataFrame cannot be mapped over")


def test_nu1_product_refuses_at_build_and_in_the_run(executor):
    for value, name, way_out in refused():
        with Flow("products"), pytest.raises(TypeError, match=f"product: input 1 cannot be .* got {name}; ") as caught:
            product([1], value)
        assert way_out in str(caught.value)
    with Flow("products") as built:
        a, _ = product(give(rows()), [1])
        out = give.map(a)
    state = built.run(executor=executor, history=False)
    assert state.is_failed()
    assert state.result[a].message.startswith(f"{UNMAPPABLE_RESULT} product[0] cannot be mapped over: got DataFrame;")
    assert "df.to_dict" in state.result[a].message
    assert state.result[out].is_failed()


def test_nu1_apply_map_refuses_at_build_and_in_the_run(executor):
    for value, name, way_out in refused():
        with Flow("applied"), pytest.raises(TypeError, match=f"object of type {name}.*unmapped") as caught:
            apply_map(lambda x: inc(x), value)
        assert way_out in str(caught.value)
    with Flow("applied") as built:
        out = apply_map(lambda x: inc(x), give(rows()))
    assert "x is a DataFrame (give): map over df.to_dict" in refusal(built.run(executor=executor).result[out])


def rows():
    return pytest.importorskip("pandas").DataFrame({0: [1, 2], 1: [3, 4]})


def test_nu1_parameter_that_cannot_be_mapped_is_refused(executor):
    with Flow("named") as built:
        out = inc.map(Parameter("xs"))
    for value, name, way_out in refused():
        told = refusal(built.run(executor=executor, history=False, parameters={"xs": value}).result[out])
        assert told.startswith(f"x is a {name} (xs): map over ")
        assert way_out in told


def test_nu7_unequal_lengths_are_logged(spelling, caplog):
    state = spelling.state(lambda: pair.map(spelling.of([1, 2]), [1, 2, 3]))
    assert state.message == "mapped inputs differ in length: item=2, label=3"
    assert [r.levelname for r in caplog.records if "differ in length: item=2, label=3" in r.getMessage()] == ["ERROR"]


# ---------------------------------------------------------------------- Dask's


@pytest.fixture
def dask_things(dask_client):
    import dask
    from dask import bag

    return [
        (dask.delayed(1), "x.compute()"),
        (bag.from_sequence([1, 2]), "x.compute()"),
        (dask_client.submit(int, 3), "future.result(), or client.gather(futures)"),
    ]


def test_f14_what_dask_has_is_refused_as_constant_and_item(spelling, dask_things):
    for value, way_out in dask_things:
        for build in (
            lambda v=value: inc.map(v),
            lambda v=value: inc.map([1, v]),
            lambda v=value: inc.map([spelling.of(1), v]),
            lambda v=value: pair.map([1, 2], unmapped(v)),
            lambda v=value: pair.map([1, 2], unmapped([v])),
            lambda v=value: spelling.call(inc, v),
            lambda v=value: spelling.call(total, [1, v]),
        ):
            with pytest.raises(TypeError) as caught:
                spelling.state(build)
            assert f"pass {way_out}" in str(caught.value)
            assert type(value).__name__ in str(caught.value)


def test_f14_dask_dataframe_is_refused_with_the_way_to_its_rows(spelling):
    pandas, dataframe = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    frame = dataframe.from_pandas(pandas.DataFrame({"x": [1, 2]}), npartitions=1)
    with pytest.raises(TypeError) as caught:
        spelling.state(lambda: inc.map(frame))
    assert 'pass x.compute().to_dict("records")' in str(caught.value)


def test_f14_delayed_in_a_result_is_refused(spelling):
    @task
    def parts():
        import dask

        return [1, dask.delayed(2)]

    @task
    def sheaf():
        from dask import bag

        return bag.from_sequence([1, 2])

    told = refusal(spelling.state(lambda: inc.map(spelling.call(parts))))
    assert told.startswith("x is a list with a Delayed")
    assert told.endswith("(parts): map over x.compute()")
    told = refusal(spelling.state(lambda: inc.map(spelling.call(sheaf))))
    assert told == "x is a Bag (sheaf): map over x.compute()"


def test_f14_delayed_that_a_child_returns_is_no_item_and_may_be_read_as_a_whole(spelling):
    @task
    def lazy(n):
        from dask import bag

        return bag.from_sequence([n, 2], npartitions=1)

    @task
    def compute(value):
        return sum(value.compute(scheduler="synchronous"))

    assert spelling.state(lambda: spelling.call(compute, spelling.call(lazy, 5))).result == 7
    for child in spelling.state(lambda: compute.map(lazy.map([1, 3]))).map_states:
        assert type(child) is Failed
        assert child.message == (
            "At least one upstream state has an unmappable result. argument 'value': a Bag cannot be mapped over: "
            "map over x.compute()"
        )


@pytest.mark.parametrize("is_function", [False, True], ids=["with Flow", "@flow"])
def test_d6_a_result_that_only_its_bodys_connection_keeps_is_refused(is_function, dask_client):
    spelling = Spelling(DaskExecutor(client=dask_client), is_function)

    @task
    def connected(kind):
        from dask import bag
        from distributed import worker_client

        with worker_client() as client:
            future = client.submit(int, 1)
            made = {"future": future, "list": [future], "lazy": bag.from_sequence([1])}
            return made[kind] if kind in made else client.persist(bag.from_sequence([1, 2], npartitions=1))

    found = spelling.state(lambda: connected.map(["future", "list", "persisted", "lazy"])).map_states
    assert type(found[3]) is Success
    begins = [
        "its result cannot be kept: a Future ends with the body that made it; return future.result(), or",
        "its result cannot be kept: a Future ends with the body that made it; return future.result(), or",
        "its result cannot be kept: what a persisted Bag holds ends with the body that made it; return a computed",
    ]
    for state, begin in zip(found, begins, strict=False):
        assert type(state) is Failed
        assert state.message.startswith(begin)


def test_f14_delayed_that_an_iterator_gives_fails_its_child(spelling):
    import dask

    state = spelling.state(lambda: inc.map(x for x in [1, dask.delayed(2), 3]))
    assert state_names(state) == ["Success", "Failed", "Success"]
    assert "map over x.compute()" in state.map_states[1].message


# ---------------------------------------------------------------------- iterators


@task
def count_down():
    return iter([2, 1])


def test_p13_an_iterator_that_a_task_returns_is_no_list_and_one_that_is_given_is_pulled(spelling):
    assert results(spelling.state(lambda: inc.map(iter([2, 1])))) == [3, 2]
    state = spelling.state(lambda: inc.map(spelling.call(count_down)))
    assert type(state) is Failed
    assert state.message.startswith(f"{UNMAPPABLE_RESULT} x is a list_iterator (count_down): map over a list:")


# ---------------------------------------------------------------------- lengths that lie


class Sized(list):
    """A list that is not as long as it says."""

    def __init__(self, values, length):
        super().__init__(values)
        self.length = length

    def __len__(self):
        if isinstance(self.length, Exception):
            raise self.length
        return self.length

    def __reduce__(self):
        return Sized, ([1, 2, 3], self.length)


cloudpickle.register_pickle_by_value(__import__("sys").modules[__name__])


@pytest.mark.time_limit(300)
@pytest.mark.parametrize("as_result", [False, True], ids=["constant", "result"])
def test_r4_length_that_lies_is_a_clear_failure(spelling, as_result):
    def state_of(length):
        @task
        def make():
            return Sized([1, 2, 3], length)

        return spelling.state(lambda: give.map(spelling.call(make) if as_result else Sized([1, 2, 3], length)))

    for length, words in (
        (10**9, "it has 1,000,000,000 items"),
        (10**6, "it says that it has 1,000,000, and the last one raised IndexError"),
        (-1, "its length raised ValueError"),
        (OSError("gone"), "its length raised OSError('gone')"),
    ):
        if as_result or length == 10**6:
            with_words = spelled(state_of, length)
        else:
            with pytest.raises(TypeError) as caught:
                state_of(length)
            with_words = str(caught.value)
        assert words in with_words
    state = state_of(5)
    assert state_names(state) == ["Success"] * 3 + ["Failed"] * 2
    assert "item [3] could not be read: IndexError" in state.map_states[3].message


def spelled(state_of, length):
    try:
        return refusal(state_of(length))
    except TypeError as error:  # a constant
        return str(error)


def test_r4_element_that_lies_fails_its_own_child(spelling):
    @task
    def make(x):
        return Sized([1, 2, 3], 10**9) if x else [x, x]

    state = spelling.state(lambda: give.map(flatten(make.map([0, 1, 0]))))
    assert state_names(state) == ["Success", "Success", "Failed", "Success", "Success"]
    assert "it has 1,000,000,000 items" in state.map_states[2].message


def test_r4_list_that_becomes_shorter_while_it_is_mapped_over(executor, in_process):
    if not in_process:
        pytest.skip("a body of another process cannot reach the list")
    values = list(range(3_000))

    @task
    def take_away(x):
        del values[2_500:]
        return x

    with Flow("shorter") as built:
        out = take_away.map(values)
    state = built.run(executor=executor, history=False).result[out]
    names = state_names(state)
    assert set(names[:2_500]) == {"Success"}
    assert state.result[:2_500] == list(range(2_500))
    assert names[-1] == "Failed"
    assert "item [2999] could not be read: IndexError" in state.map_states[-1].message


@pytest.mark.parametrize("levels", [1, 2])
def test_p13_an_iterator_that_is_flattened_is_refused_with_the_way_out(spelling, levels):
    def program():
        given = iter([[[1], [2]], [[3]]])
        return give.map(flatten(given) if levels == 1 else flatten(flatten(given)))

    with pytest.raises(TypeError, match=r"cannot be flattened: got list_iterator; pass itertools.chain.from_iterable"):
        spelling.state(program)
    with pytest.raises(TypeError, match=r"^total: argument 'xs' cannot be flattened: got list_iterator; pass "):
        spelling.state(lambda: spelling.call(total, flatten(iter([[1], [2]]))))
    state = spelling.state(lambda: give.map(itertools.chain.from_iterable(iter([[1], [2, 3]]))))
    assert state.result == [1, 2, 3]


class HidesItsClass(Sequence):
    """Raises where `isinstance` asks it, as a proxy does that is bound to a request outside of it."""

    def __init__(self, *values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, position):
        return self.values[position]

    @property
    def __class__(self):
        raise RuntimeError("outside of a request")


def test_u21_what_hides_its_class_is_mapped_over_flattened_and_waited_for(executor, in_process):
    if not in_process:
        pytest.skip("it cannot be pickled: pickle asks for its class")
    with Flow("hides") as built:
        mapped, flat = give.map(HidesItsClass(1, 2)), give.map(flatten(HidesItsClass([1], [2, 3])))
        waits = give.map([4], upstream_tasks=[HidesItsClass(5)])
    state = built.run(executor=executor, history=False)
    assert [list(state.result[each].result) for each in (mapped, flat, waits)] == [[1, 2], [1, 2, 3], [4]]


def test_e6_a_call_that_an_iterator_gives_fails_its_own_child(spelling):
    def program():
        before = spelling.call(inc, 1)
        return give.map(iter([1, before, 3]))

    state = spelling.state(program)
    assert state_names(state) == ["Success", "Failed", "Success"]
    assert "that an iterator gives cannot be mapped over: map over a list of them, list(...)" in state[1].message
    assert spelling.state(lambda: give.map([1, spelling.call(inc, 1)])).result == [1, 2]
