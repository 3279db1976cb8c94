"""Reserve the last rows of a terminal for progress lines, while other output scrolls above them.

The scroll region of the terminal is set to the rows above (DECSTBM, as `apt` does). So other output, by prints,
logs, debuggers or other processes on the same terminal, works as usual and need not be redirected.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from typing import TextIO

SAVE, RESTORE, ERASE, RESET_REGION = "\x1b7", "\x1b8", "\x1b[2K", "\x1b[r"
ERASE_BELOW = "\x1b[J"
#: Minimum number of rows for other output.
MIN_ROWS_LEFT = 3


class Region:
    """Rows at the bottom of a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream  # of the terminal
        self.rows = 0  # of the terminal when the region was taken; 0 if it is not
        self.height = 0  # rows of the region
        self._size = (0, 0)

    def size(self) -> tuple[int, int]:
        """Return columns and rows of the terminal as it is now."""
        size = os.get_terminal_size(self._stream.fileno())
        return size.columns, size.lines

    def draw(self, lines: Sequence[str]) -> None:
        """Show lines, which must fit into a row; the region is set or resized if needed."""
        size = self.size()
        rows = size[1]
        shown = lines[: max(rows - MIN_ROWS_LEFT, 1)]
        parts = []
        if self.rows and size != self._size:
            parts.append(self._left_behind())
            parts.append(self._taken(rows, len(shown)))
        elif rows != self.rows or len(shown) > self.height:
            parts.append(self._released())
            parts.append(self._taken(rows, len(shown)))
        self._size = size
        top = self.rows - self.height + 1
        blank = [""] * (self.height - len(shown))
        parts.append(SAVE)
        parts.extend(f"\x1b[{top + n};1H{ERASE}{line}" for n, line in enumerate([*shown, *blank]))
        parts.append(RESTORE)
        self._write("".join(parts))  # in one write, so that it is not interleaved with other output

    def release(self) -> None:
        """Clear and release the rows."""
        if self.rows:
            self._write(self._released() if self.size() == self._size else self._left_behind())
            atexit.unregister(self.release)

    def _taken(self, rows: int, height: int) -> str:
        if not self.rows:
            atexit.register(self.release)
        self.rows, self.height = rows, height
        down = "\x1bD" * height  # scrolls at the bottom, and keeps the column
        return f"{down}\x1b[{height}A{SAVE}\x1b[1;{rows - height}r{RESTORE}"

    def _released(self) -> str:
        if not self.rows:
            return ""
        top = self.rows - self.height + 1
        erased = "".join(f"\x1b[{top + n};1H{ERASE}" for n in range(self.height))
        self.rows = self.height = 0
        return f"{SAVE}{RESET_REGION}{erased}{RESTORE}"

    def _left_behind(self) -> str:
        """Give up the rows after the terminal was resized: it has moved its lines, so that what stood there is unknown.

        Below the cursor is nothing but the old progress lines; what is above it is the output of others.
        """
        self.rows = self.height = 0
        return f"{SAVE}{RESET_REGION}{RESTORE}{ERASE_BELOW}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
