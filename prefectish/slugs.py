"""Names of tasks: slugs, which are unique in a flow and stay the same, and labels, which people read.

One rule says what a task is called in every text: messages, logs, reprs, pages, pictures, commands. In a flow it is
the name, or the slug if several tasks have the name. A flow function calls tasks one by one: the first call or map by a
name is called by the name, and later ones by their slugs. A child has its index behind it. Whatever takes a task by a
text takes its slug, its label, and its name, in this order (:func:`meant`). The errors of what cannot be pickled, of
dead workers and of changed tasks name the slug: programs look for how they begin, in the flow as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


class SlugBook:
    """Generates slugs ``name-tags...-n``, where n counts from 1 for each prefix and skips slugs in use."""

    __slots__ = ("_counts", "_taken")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._taken: set[str] = set()

    def take(self, slug: str) -> bool:
        """Reserve a user-defined slug; return False if it is in use."""
        if slug in self._taken:
            return False
        self._taken.add(slug)
        return True

    def make(self, name: str, tags: Iterable[str]) -> str:
        """Generate a slug.

        Examples
        --------
        >>> book = SlugBook()
        >>> book.make("load", {"io", "big"}), book.make("load", {"io", "big"})
        ('load-big-io-1', 'load-big-io-2')
        """
        prefix = "-".join([name, *sorted(tags)])
        n = self._counts.get(prefix, 0) + 1
        while not self.take(f"{prefix}-{n}"):
            n += 1
        self._counts[prefix] = n
        return f"{prefix}-{n}"

    def free(self, slug: str) -> None:
        """Release a slug."""
        self._taken.discard(slug)

    def copy(self) -> SlugBook:
        """Return an independent copy."""
        new = SlugBook()
        new._counts, new._taken = dict(self._counts), set(self._taken)
        return new


def labels(tasks: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what each task of a flow is called, by slug: its name, or its slug if another has its name, or it as slug.

    Examples
    --------
    >>> labels([("load-1", "load"), ("add-1", "add"), ("add-2", "add")])
    {'load-1': 'load', 'add-1': 'add-1', 'add-2': 'add-2'}
    """
    known = list(tasks)
    names = Counter(name for _, name in known) + Counter(slug for slug, name in known if slug != name)
    return {slug: name if names[name] <= 1 else slug for slug, name in known}


def labels_of_tasks(slugs: Mapping[Any, str]) -> dict[Any, str]:
    """Return what each task of a flow is called, by task, from their slugs."""
    called = labels((slug, task.name) for task, slug in slugs.items())
    return {task: called[slug] for task, slug in slugs.items()}


class Labels:
    """What the tasks of a flow function are called, of which it is not known how many will have a name.

    The first task by a name is called by it, and each later one by its slug. So a text that names a task stays right,
    whatever is called after it was printed.

    Examples
    --------
    >>> called = Labels()
    >>> called.of("add-1", "add"), called.of("add-2", "add"), called.of("load-1", "load")
    ('add', 'add-2', 'load')
    """

    __slots__ = ("_slugs",)

    def __init__(self) -> None:
        self._slugs: dict[str, str] = {}  # of the first task by each name

    def of(self, slug: str, name: str) -> str:
        """Return what a task is called."""
        return name if self._slugs.setdefault(name, slug) == slug else slug


def meant(text: str, tasks: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return the slugs of the tasks that are meant by a slug, a label or a name; of a name there may be several.

    Parameters
    ----------
    tasks
        Slug, label and name of each.

    Examples
    --------
    >>> called = [("add-1", "add", "add"), ("add-2", "add-2", "add")]  # by a flow function
    >>> meant("add", called), meant("add-1", called), meant("add-2", called)
    (['add-1'], ['add-1'], ['add-2'])
    >>> meant("add", [("add-1", "add-1", "add"), ("add-2", "add-2", "add")])
    ['add-1', 'add-2']
    """
    known = list(tasks)
    for place in (0, 1, 2):
        found = dict.fromkeys(task[0] for task in known if task[place] == text)
        if found:
            return list(found)
    return []


def child_label(label: str, index: int | None) -> str:
    """Return what a child of a task is called; the task itself without an index.

    Examples
    --------
    >>> child_label("load", 17), child_label("load", None)
    ('load[17]', 'load')
    """
    return label if index is None else f"{label}[{index}]"
