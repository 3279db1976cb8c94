"""Results that are elsewhere: what stands for them in a state."""

from __future__ import annotations

from typing import Any


class Deferred:
    """Base class of results that are elsewhere and are fetched when they are read."""

    __slots__ = ()

    def get(self) -> Any:
        """Return the value itself."""
        raise NotImplementedError

    @property
    def is_here(self) -> bool:
        """Whether the value can be read without what made it: its worker, or the run."""
        return True

    @property
    def is_away(self) -> bool:
        """Whether the value has to be looked up where it is kept to know that it is still there."""
        return False

    @property
    def is_kept(self) -> bool:
        """Whether the value is still there; looks where it is kept."""
        return True

    def packed(self, label: str) -> Deferred:
        """Return it as it crosses a process boundary; `label` names it in errors."""
        return self
