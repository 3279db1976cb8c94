"""A report for each customer, made by a flow of its own: a subflow per item."""

from prefectish import flow, task


@task
def orders_of(customer):
    return list(range(customer))


@task
def value_of(order):
    if order == 3:
        raise LookupError("order 3 is gone")
    return 100 + order


@flow
def report(customer: int):
    return sum(value_of.map(orders_of(customer)).result())


@flow
def customers(n: int = 5):
    states = [report(customer, return_state=True) for customer in range(n)]
    return [state.result if state.is_completed() else str(state.result) for state in states]


if __name__ == "__main__":
    print(customers())
