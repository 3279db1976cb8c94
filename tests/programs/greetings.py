"""Greetings, printed: a task with `log_prints`."""

from prefectish import flow, get_run_logger, task


@task(log_prints=True)
def greet(name):
    print(f"hello {name}")
    get_run_logger().info("greeted %s", name)
    return len(name)


@flow(log_prints=True)
def greetings(names: tuple[str, ...] = ("Ada", "Grace")):
    print(f"{len(names)} guests")
    return sum(greet.map(names).result())


if __name__ == "__main__":
    greetings()
