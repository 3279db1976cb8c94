"""Sales of shops by region, of which each has another number: a nested map of ragged lists."""

from prefectish import flow, task

SHOPS = {"north": ["a", "b", "c"], "south": [], "west": ["d"]}


@task
def shops_of(region):
    return SHOPS[region]


@task
def sales_of(shop):
    return 10 * ord(shop)


@task
def total(sales):
    return sum(sales)


@flow
def regions():
    lists = shops_of.map(list(SHOPS))
    totals = [total.submit(sales_of.map(shops)) for shops in lists]
    return dict(zip(SHOPS, [future.result() for future in totals], strict=True))


if __name__ == "__main__":
    print(regions())
