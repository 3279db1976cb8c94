"""Run benchmarks, print the table, and keep it: ``python -m benchmarks [names] [--quick]``."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.table import RESULTS, Row, machine, row_of, text

#: One question a module, the cheap ones first.
QUESTIONS = (
    "imports", "local", "graphs", "beside_joblib", "one_task", "depth_first", "retries", "sharing", "arrays",
    "beside_others",
    "reducing", "watching", "measuring", "recording", "browser", "viewers", "unattended", "resuming", "functions",
    "holding", "finished",
    "pipelines", "children", "memory",
)  # fmt: skip
#: Those that are asked by name only: each takes long, or much of a machine.
LONG = ("many_workers", "millions", "failing")


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help=f"questions to ask: {', '.join(QUESTIONS)}; by name only: {', '.join(LONG)}",
    )
    parser.add_argument("--quick", action="store_true", help="small widths, few rounds: does it run at all?")
    parser.add_argument("--results", type=Path, default=None, help="folder to write to; by default none with --quick")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {*QUESTIONS, *LONG}
    if unknown:
        parser.error(f"no such question: {', '.join(sorted(unknown))}; there are {', '.join((*QUESTIONS, *LONG))}")
    rows: list[Row] = []
    for name in options.names or QUESTIONS:
        found = importlib.import_module(f"benchmarks.{name}").rows(options.quick)
        print(text(found), flush=True)
        rows += found
    folder = options.results or (None if options.quick else RESULTS)
    if folder is not None:
        print(f"written to {keep(rows, folder).name}")
    return rows


def keep(rows: Sequence[Row], folder: Path) -> Path:
    """Write rows as Markdown and JSON under today's date and return the Markdown file; rows of today's are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    day = datetime.now(UTC).date().isoformat()
    path = folder / f"{day}.json"
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    asked = {row.question for row in rows}
    kept = [row_of(row) for row in before if row["question"] not in asked]
    merged = [*kept, *rows]
    facts = machine()
    lines = ",\n".join(json.dumps({**row._asdict(), "verdict": row.verdict}) for row in merged)
    path.write_text(f'{{"date": "{day}", "machine": {json.dumps(facts)}, "rows": [\n{lines}\n]}}\n')
    head = [f"# {day}", "", ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None), ""]
    summary = path.with_suffix(".md")
    summary.write_text("\n".join([*head, text(merged), ""]))
    return summary


if __name__ == "__main__":
    main()
