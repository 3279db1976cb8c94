"""Tasks and flow functions as methods of objects, classes and of neither, in both front ends."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from bodies import inc

from prefectish import Flow, context, flow, task
from prefectish.errors import FlowDefinitionError
from prefectish.tasks.methods import TaskOfObject
from prefectish.tasks.task import FunctionTask


def plain(x):
    return x + 1


class Shop:
    """What every front end and executor is asked to do with methods."""

    tax = 2
    attribute = task(plain)

    def __init__(self, rent=10):
        self.rent = rent

    @task
    def price(self, x):
        return x + self.rent

    @task(retries=1, retry_delay_seconds=0)
    def again(self, x):
        if context.task_run_count < 2:
            raise OSError(x)
        return x * self.rent

    @task
    @classmethod
    def taxed(cls, x):
        return x * cls.tax

    @classmethod
    @task
    def taxed_too(cls, x):
        return x * cls.tax

    @task
    @staticmethod
    def free(x):
        return x

    @task
    async def later(self, x):
        return x + self.rent

    @flow(history=False)
    def sells(self, xs):
        return self.price.map(xs).result(), self.taxed(3)

    @flow(history=False)
    @classmethod
    def counts(cls, xs):
        return cls.taxed.map(xs).result()

    @flow(history=False)
    @staticmethod
    def opens(x):
        return inc(x)

    @flow(history=False)
    async def waits(self, x):
        return await self.later(x), await asyncio.gather(self.later(1), self.later(2))


class Stall(Shop):
    tax = 5


def test_methods_in_a_flow_function(executor):
    shop = Shop()

    def called():
        return (
            shop.price(1), shop.price.submit(inc.submit(1)).result(), shop.price.map([1, 2]).result(),
            shop.again(2), shop.taxed(1), Shop.taxed.submit(2).result(), Stall().taxed.map([1]).result(),
            shop.taxed_too(3), shop.free(4), Shop.free.map([5]).result(), Shop.price(shop, 6), shop.attribute(7),
            shop.price.with_options(name="dear")(8), shop.price([1, 2], mapped=True).result(), shop.later(9),
        )  # fmt: skip

    expected = 11, 12, [11, 12], 20, 2, 4, [5], 6, 4, [5], 16, 8, 18, [11, 12], 19
    assert flow(called, executor=executor, history=False)() == expected


def test_methods_in_a_graph(run):
    shop = Shop()
    with Flow("methods") as graph:
        one, several = shop.price(inc(1)), shop.price.map([1, 2])
        more = shop.taxed(one), Stall.taxed.map(several), shop.free(1), shop.again(3)
    result = run(graph).result
    assert [result[t].result for t in (one, several, *more)] == [12, [11, 12], 24, [55, 60], 1, 30]


def test_flows_are_methods(executor):
    shop = Shop()
    assert shop.sells.with_options(executor=executor)([1, 2]) == ([11, 12], 6)
    assert Stall.counts.with_options(executor=executor)([1, 2]) == Stall().counts([1, 2]) == [5, 10]
    assert Shop.opens.with_options(executor=executor)(1) == shop.opens(1) == 2
    assert asyncio.run(shop.waits.with_options(executor=executor)(3)) == (13, [11, 12])
    assert shop.sells.run(xs=[3]).result == ([13], 6)


def test_calls_of_a_method_are_calls_of_one_task():
    shops = Shop(), Shop(20)

    @flow(history=False)
    def called():
        return [shop.price.submit(n).name for n in (1, 2) for shop in shops]

    assert called() == ["price[0]", "price[1]", "price[2]", "price[3]"]


def test_method_is_what_its_task_is():
    price = Shop(4).price
    assert (type(price), price.name, price.max_retries, price.run(1), price.fn(2)) == (TaskOfObject, "price", 0, 5, 6)
    assert repr(price) == "<<Task: price> of Shop>"
    assert Shop.price is Shop.__dict__["price"]
    assert price.copy(retries=3).max_retries == 3
    with pytest.raises(AttributeError, match=r"write task\.max_retries"):
        price.retries  # noqa: B018


def test_inspect_tells_the_arguments_of_a_task_and_of_a_method():
    """A task has a `__get__`, for which `inspect` would take it for a builtin without a signature."""
    told = [str(inspect.signature(asked)) for asked in (task(plain), Shop().price, Shop.price, FunctionTask)]
    assert told[:3] == ["(x)", "(x)", "(self, x)"]
    assert told[3].startswith("(function: ")


@pytest.mark.parametrize("make", [flow, task])
def test_what_is_no_function_is_refused(make):
    with pytest.raises((FlowDefinitionError, TypeError), match="got <property"):
        make(property(plain))
