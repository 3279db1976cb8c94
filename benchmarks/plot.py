"""Draw what the newest results hold: cost and memory against width, and memory against time of the widest run.

``python -m benchmarks.plot`` writes ``results/cost.png`` and ``results/memory.png``; it needs the extra ``bench``.
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt

from benchmarks.table import RESULTS, newest

COLOURS = {"dask": "0.5", "prefectish": "tab:blue", "prefectish, batched": "tab:orange"}


def draw_cost(rows: list[dict[str, Any]]) -> None:
    """Draw wall and processor time a child, and peaks, against width."""
    widths = {
        row["facts"]["width"]: row["facts"] for row in rows if row["question"] == "children" and "arm" in row["facts"]
    }
    figure, (cost, memory) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    order = sorted(widths)
    for name, colour in COLOURS.items():
        for what, style in (("wall", "-"), ("cpu", ":")):
            cost.plot(
                order,
                [widths[w][name][what] for w in order],
                style,
                marker="o",
                ms=3,
                c=colour,
                label=f"{name}, {what}",
            )
    wide = [width for width in order if width >= 10_000]
    for name, colour in list(COLOURS.items())[:2]:
        for what, style in (("client_peak", "-"), ("scheduler_peak", ":")):
            points = {width: widths[width][name][what] for width in wide}
            if name == "prefectish":
                points |= {run["width"]: run[what] for run in widest_runs(rows)}
            memory.plot([*points], [*points.values()], style, marker="o", ms=3, c=colour, label=f"{name}, {what[:-5]}")
    cost.set(xscale="log", yscale="log", xlabel="children", ylabel="microseconds a child")
    memory.set(xscale="log", ylim=(0, None), xlabel="children", ylabel="peak resident size, MB")
    for axes in (cost, memory):
        axes.legend(fontsize=7, frameon=False)
        axes.grid(alpha=0.3)
    figure.savefig(RESULTS / "cost.png", dpi=90)


def draw_memory(rows: list[dict[str, Any]]) -> None:
    """Draw the memory of client and scheduler over the time of the widest run."""
    for run in widest_runs(rows):
        _draw_curve(run)


def widest_runs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the widest run that was measured, or nothing."""
    return [row["facts"]["wide"] for row in rows if row["question"] == "memory" and "wide" in row["facts"]]


def _draw_curve(run: dict[str, Any]) -> None:
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    seconds, client, scheduler = zip(*run["curve"]["points"], strict=True)
    axes.plot(seconds, client, c="tab:blue", label="client")
    axes.plot(seconds, scheduler, c="tab:blue", ls=":", label="scheduler")
    axes.set(
        xlabel="seconds", ylabel="resident size, MB", ylim=(0, None), title=f"{run['width']:,} children and their sum"
    )
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(RESULTS / "memory.png", dpi=90)


if __name__ == "__main__":
    content = newest()
    draw_cost(content["rows"])
    draw_memory(content["rows"])
