"""Two recorded runs compared, as text."""

from __future__ import annotations

from prefectish.display.page import seconds, size
from prefectish.history.compare import Comparison


def text_of(found: Comparison) -> str:
    """Return a comparison, a line for each finding."""
    lines = [f"{found.before.id} -> {found.after.id}: {found.before.counts().text()} -> {found.after.counts().text()}"]
    for task in found.tasks:
        if task.before is None and task.after is None:
            lines.append(f"{task.name}: did not run")
            continue
        before, after = (seconds(value) or "did not run" for value in (task.before, task.after))
        total = f"total {seconds(task.total_before)} -> {seconds(task.total_after)}"
        lines.append(f"{task.name}: median {before} -> {after}, {total}")
    for word, groups in (("new", found.new_causes), ("gone", found.gone_causes)):
        lines += [f"{word}: {group.count} x {group.type}: {group.message}" for group in groups]
    lines += [f"slower: {child.label}: {seconds(child.before)} -> {seconds(child.after)}" for child in found.slower]
    lines += [f"larger: {child.label}: {size(int(child.before))} -> {size(int(child.after))}" for child in found.larger]
    return "\n".join(lines)
