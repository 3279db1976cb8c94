"""Whether the user interrupted the run, as against a body that raised KeyboardInterrupt."""

from __future__ import annotations


class InterruptFlag:
    """Remembers that the user interrupted the run, as against a body that raised KeyboardInterrupt.

    A plain flag: it is set inside a signal handler, where a lock could block for ever.
    """

    __slots__ = ("happened",)

    def __init__(self) -> None:
        self.happened = False

    def set(self) -> None:
        """Record an interrupt."""
        self.happened = True

    def clear(self) -> None:
        """Forget the interrupt."""
        self.happened = False

    def is_set(self) -> bool:
        """Whether the run was interrupted."""
        return self.happened


interrupt = InterruptFlag()


def is_users(error: BaseException) -> bool:
    """Whether what code of the user's raised is the interrupt of the run, which nothing may hold up."""
    return issubclass(type(error), KeyboardInterrupt) and interrupt.is_set()
