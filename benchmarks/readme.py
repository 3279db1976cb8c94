"""What README and documentation show of the newest results: ``python -m benchmarks.readme`` writes it into the README.

A bar that was missed is shown as missed, and a question that nobody has asked yet is not shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.table import HEADER, cells, newest, number, row_of

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- bars -->", "<!-- /bars -->"
#: What a reader is told, the question, and the rows that answer it: by the clock, then by processor time.
ANSWERS = (
    ("a child on a cluster, 10,000 children", "children", r"prefectish, 10,000 children, (wall|cpu)"),
    ("a child on a cluster, 100,000 children", "children", r"prefectish, 100,000 children, (wall|cpu)"),
    ('the same with `batch_size="auto"`, 10,000', "children", r"prefectish, batched, 10,000 children, (wall|cpu)"),
    ('the same with `batch_size="auto"`, 100,000', "children", r"prefectish, batched, 100,000 children, (wall|cpu)"),
    ("a child on 64 workers", "many workers", r"64 workers, .*, (wall|cpu)"),
    ("three maps and a sum over all, 10,000 branches", "pipelines", r"prefectish pipeline, \d.*, (wall|cpu)"),
    ("300 chains of ten on threads", "graphs", r"300 chains .* on threads, (wall|cpu)"),
    ("300 chains of ten on a cluster", "graphs", r"300 chains .* on a cluster, (wall|cpu)"),
    ("10,000 different tasks on threads", "graphs", r"10,000 different tasks.*, (wall|cpu)"),
    ("another client's map of 200 beside ours", "beside others", r"another client's map .*"),
    ("its first task", "beside others", r"its first task .*"),
    ("scheduler, 400,000 children against 10,000", "memory", r"scheduler peak, .*"),
    ("client, for each of 400,000 finished children", "memory", r"client, .*"),
    ("client, a finished child beside its result", "finished", r"a child beside its result .*"),
    ("client, a child at the peak", "finished", r"client, peak resident size, .*"),
    ("scheduler, 1,000,000 children against 10,000", "millions", r"1,000,000 .* scheduler, .*"),
    ("client, 1,000,000 children and their sum", "millions", r"1,000,000 .*: client"),
    ("client, 10,000,000 children in batches and their sum", "ten millions", r"10,000,000 .*: client"),
    ("client, 64 arrays of 8 MB mapped to their means", "arrays", r".*"),
    ("of 2,000 arrays of 8 MB that `reduce` adds up, held", "reducing", r".*: held at a time"),
    ("of the first step, when the third begins, cluster", "depth first", r".*cluster.*"),
    ("64 sleeps with 16 retries, threads, over the ideal", "retries", r".*16 retries.*threads"),
    ("the same on a cluster", "retries", r".*16 retries.*cluster"),
    ("1,000 async children of 1 s on 4 threads", "sharing", r".*"),
    ("a child in this process, over the bare call", "local", r"local over .* 10,000 children, (wall|cpu)"),
    ("a child on threads, over `dask.threaded.get`", "local", r"threads over .* 10,000 children, (wall|cpu)"),
    ("a child on threads", "beside joblib", r".*threads.*"),
    ("a child in batches on processes", "beside joblib", r".*processes.*"),
    ("a history of 100,000 children on a cluster", "recording", r"cluster, .* with a history, (wall|cpu)"),
    ("the same on disk, for each child", "recording", r"cluster, .* on disk"),
    ("a resume of 100,000 children, to its first body", "resuming", r".*: first body"),
    ("live progress, 10,000 children on a cluster", "watching", r"cluster, .*, (wall|cpu)"),
    ("client and scheduler, while 100 viewers watch 10,000 children", "viewers", r".* beside it"),
    ("a flow of one task, over raw Dask", "one task", r".*"),
    ("10,000 calls by `.submit` in a flow function", "functions", r"10,000 calls by submit, (wall|cpu)"),
    ("a chain of 1,000 calls by `.submit`", "functions", r"a chain of .* by submit, (wall|cpu)"),
    ("a tree of 512 calls by `.submit`", "functions", r"a tree of .* by submit, (wall|cpu)"),
    ("`import prefectish`", "imports", r"import prefectish, (wall|cpu)"),
)
UNITS = {"us a child": "microseconds", "bytes a child": "bytes"}


def bars(content: dict[str, Any]) -> str:
    """Return a table of what was measured beside its bar, as Markdown, and below it when, and on which machine."""
    lines = ["| what | measured | bar | unit | |", "| --- | --- | --- | --- | --- |"]
    for told, question, pattern in ANSWERS:
        found = _found(content, question, pattern)
        if found:
            unit = found[0]["unit"]
            lines.append(
                f"| {told} | {_measured(found)} | {_bars(found)} | {UNITS.get(unit, unit)} | {_verdict(found)} |"
            )
    return "\n".join([*lines, "", *_days(content["asked"]), ""])


def _days(asked: list[dict[str, Any]]) -> list[str]:
    """Return a line for each day on which some of it was asked: what, unless it is the rest, and on which machine."""
    *later, first = asked
    told = [f"{day['date']} ({', '.join(day['questions'])}): {machine(day)}.\n" for day in later]
    return [*told, f"{first['date']}{' (all others)' if later else ''}: {machine(first)}."]


def unanswered(content: dict[str, Any]) -> list[str]:
    """Return what a reader would not be told although its question was asked."""
    asked = {row["question"] for row in content["rows"]}
    return [told for told, question, pattern in ANSWERS if question in asked and not _found(content, question, pattern)]


def rows(content: dict[str, Any]) -> str:
    """Return all rows, as Markdown."""
    lines = [f"| {' | '.join(HEADER)} |", f"|{' --- |' * len(HEADER)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cells(row_of(row)))} |" for row in content["rows"]), ""])


def machine(content: dict[str, Any]) -> str:
    """Return what the figures depend on."""
    facts = content["machine"]
    packages = ", ".join(f"{name} {facts[name]}" for name in ("python", "dask", "distributed") if facts.get(name))
    load = "" if facts.get("load") is None else f", load {facts['load']}"
    hardware = f"{facts['cores']} cores, {facts['memory_gb']} GB, {facts['system']} on {facts['processor']}"
    return f"{hardware}{load}; {packages}"


def _found(content: dict[str, Any], question: str, pattern: str) -> list[dict[str, Any]]:
    return [row for row in content["rows"] if row["question"] == question and re.fullmatch(pattern, row["what"])]


def _measured(found: list[dict[str, Any]]) -> str:
    return ", ".join(f"{number(row['measured'])} {_figure(row)}".rstrip() for row in found)


def _bars(found: list[dict[str, Any]]) -> str:
    told = [number(row["bar"]) for row in found if row["bar"] is not None]
    return ", ".join(dict.fromkeys(told))


def _verdict(found: list[dict[str, Any]]) -> str:
    missed = [f"missed {_figure(row)}".rstrip() for row in found if row["verdict"] == "miss"]
    if missed:
        return f"**{' and '.join(missed)}**"
    return "met" if any(row["verdict"] for row in found) else ""


def _figure(row: dict[str, Any]) -> str:
    """Return which of the two times a row has; nothing for a row that is not about time."""
    return {"wall": "wall", "cpu": "CPU"}.get(row["what"].rpartition(", ")[2], "")


def _parts(text: str) -> Iterator[str]:
    """Yield what stands before, between and after the marks."""
    before, _, rest = text.partition(BEGIN)
    between, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"README.md has no {BEGIN} ... {END}")
    yield from (before, between, after)


def shown(text: str) -> str:
    """Return what a README has between the marks."""
    _, between, _ = _parts(text)
    return between.strip("\n") + "\n"


if __name__ == "__main__":
    before, _, after = _parts(README.read_text())
    README.write_text(f"{before}{BEGIN}\n{bars(newest())}{END}{after}")
