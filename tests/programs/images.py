"""Sizes of images, taken as they come: a flow that maps and collects by `as_completed`."""

from prefectish import as_completed, flow, task


@task
def fetch(number):
    return bytes(number)


@task
def weigh(content):
    if not content:
        raise ValueError("empty file")
    return len(content)


@flow
def images(n: int = 6):
    weights = weigh.map(fetch.map(range(n)))
    total, broken = 0, []
    for future in as_completed(weights):
        if future.state.is_completed():
            total += future.result()
        else:
            broken.append(str(future.result(raise_on_failure=False)))
    return total, broken


if __name__ == "__main__":
    print(images())
