"""Scores against one large table: a loop of submits with one big argument."""

import numpy as np

from prefectish import flow, task


@task
def score(row, table):
    return float(table[row].sum())


@flow
def scores(n: int = 20):
    table = np.arange(n * 50_000, dtype=float).reshape(n, 50_000)
    futures = [score.submit(row, table) for row in range(n)]
    return [future.result() for future in futures]


if __name__ == "__main__":
    print(scores()[:3])
