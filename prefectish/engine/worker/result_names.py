"""Which child has which name for its result: two results of one run never share a file.

Names that the user chose, by a target or a location, are taken before the body runs. The client takes those that it can
tell from the inputs as it starts rows, in their order (:mod:`prefectish.engine.scheduling.name_claims`); attempts in
its process take the others in the same table. Attempts that run elsewhere leave a file for each of the others, and list
those of other children: whichever of two comes second sees the first, and both know which of them has the lower index.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from prefectish.engine.capture import Value, capture
from prefectish.results.base import file_of, is_folder
from prefectish.slugs import child_label

if TYPE_CHECKING:
    from prefectish.results.base import Result

#: In the context of the state from which a step starts whose name another child has: that child's :class:`Holder`.
TAKEN = "result_name_taken"
#: Likewise, of a step whose name the client could not tell.
UNCLAIMED = "result_name_unclaimed"
#: Likewise, in a run that is resumed, of a step that has no record: the first part of the run whose result counts.
UNRECORDED = "result_unrecorded"


class Holder(NamedTuple):
    """A child that has a name, ordered as its step and its map are."""

    step: int
    row: int
    slug: str
    task: str  # what its task is called
    #: The name, where it is another one than was asked for: one of them is a folder in which the other one lies.
    beside: str | None = None

    @property
    def label(self) -> str:
        """What the child is called in messages."""
        return child_label(self.task, None if self.row < 0 else self.row)


class NameTable:
    """The names of one run that were taken in the process of its client."""

    __slots__ = ("_folders", "_holders", "_reserved")

    def __init__(self) -> None:
        self._holders: dict[Any, Holder] = {}
        self._folders: dict[Any, Holder] = {}  # what the names lie in, with the first child whose name does
        self._reserved: dict[Any, tuple[Any, Holder]] = {}

    def reserve(self, store: Result, name: str, identity: Any, child: Holder) -> None:
        """Note the name of a result that is kept of an earlier part of the run, and whose it is."""
        self._reserved[file_of(store, name)] = identity, child

    def reserved(self, store: Result, name: str, identity: Any) -> Holder | None:
        """Return the other child whose result is kept under a name, None if there is none."""
        found = self._reserved.get(file_of(store, name))
        return None if found is None or found[0] == identity else found[1]

    def take(self, store: Result, name: str, child: Holder) -> Holder | None:
        """Take a name for a child; return the other child that has it, or keeps it from being one; None for none."""
        file = file_of(store, name)
        holder = self._holders.get(file)
        if holder is None and is_folder(store):
            holder = self._beside(file, name, child)
        if holder is None:
            holder = self._holders.setdefault(file, child)
        return None if holder[:2] == child[:2] else holder

    def _beside(self, file: Any, name: str, child: Holder) -> Holder | None:
        """Return who has a name that a file system cannot have beside this one; note the folders of one that it can."""
        kind, path, *rest = file
        folders = {}
        inside = name.rpartition("/")[0]
        while inside:
            folders[kind, path[: len(path) - len(name) + len(inside)], *rest] = inside
            inside = inside.rpartition("/")[0]
        found = self._folders.get(file)
        for folder, inside in folders.items():
            if folder in self._holders:
                found = self._holders[folder]._replace(beside=inside)
        if found is not None and found[:2] != child[:2]:
            return found
        for folder in folders:
            self._folders.setdefault(folder, child._replace(beside=name))
        return None


def take_in_store(store: Result, folder: str, name: str, child: Holder) -> Holder | None:
    """Take a name where all workers see it; return a child of lower index that has it, None if there is none.

    Parameters
    ----------
    folder
        First part of every place of the run.
    """
    place = _folder_of(folder, name)
    store.write(f"{place}/{_file_of(child)}", b"", {"slug": child.slug, "task": child.task, "name": name})
    return lower_in_store(store, folder, name, child)


def leave_in_store(store: Result, folder: str, name: str, child: Holder) -> None:
    """Give up a name; children that come later get an error that names the child that has it."""
    store.delete(f"{_folder_of(folder, name)}/{_file_of(child)}")


def lower_in_store(store: Result, folder: str, name: str, child: Holder) -> Holder | None:
    """Return the child of the lowest index that took a name in the store, if that is another one."""
    place = _folder_of(folder, name)
    found = min(store.list(place), default=None)
    if found is None:
        return None
    step, _, index = found.rpartition("/")[2].partition("-")
    if (int(step), int(index) - 1) >= child[:2]:
        return None
    facts = capture(store.facts, found)
    known = facts.value if isinstance(facts, Value) else {}
    slug = known.get("slug", "another task")
    return Holder(int(step), int(index) - 1, slug, known.get("task", slug))


def _file_of(child: Holder) -> str:
    return f"{child.step:06}-{child.row + 1:09}"


def _folder_of(folder: str, name: str) -> str:
    return f"{folder}/.names/{blake2b(name.encode(), digest_size=16).hexdigest()}"


def taken_text(name: str, holder: Holder, child: Holder, is_target: bool) -> str:
    """Return what is wrong with a name that another child has."""
    what = "target" if is_target else "location"
    if holder.beside is not None:
        why = f"{name!r} cannot be a file beside {holder.beside!r}, where {holder.label} keeps its result"
        return f"{why}: one is a folder that the other one lies in; end the {what} with a suffix such as .pickle"
    fields = "${item_key} or ${map_index}" if holder.slug == child.slug else "${task_slug}"
    return f"{name!r} is where {holder.label} keeps its result, not {child.label}; put {fields} into the {what}"
