"""Tables that are loaded one after another: chains of `wait_for`."""

from pathlib import Path

from prefectish import flow, task


@task
def write(name, folder):
    with Path(folder, "order").open("a") as order:
        order.write(f"{name}\n")
    if name == "broken":
        raise OSError("no space left")
    return name


@flow
def nightly(folder: str):
    drop = write.submit("drop", folder)
    create = write.submit("create", folder, wait_for=[drop])
    loads = write.map(["rows", "more rows"], [folder] * 2, wait_for=[create])
    broken = write.submit("broken", folder, wait_for=[loads])
    never = write.submit("never", folder, wait_for=[broken])
    never.wait()
    return never.state.is_completed(), loads.result()
