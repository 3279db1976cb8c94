"""Rows at the bottom of a terminal: what is erased when it is resized."""

from __future__ import annotations

import io
import re

from prefectish.display.region import Region


class Sized(Region):
    def __init__(self, columns, rows):
        super().__init__(io.StringIO())
        self.now = columns, rows

    def size(self):
        return self.now

    def written(self):
        text = self._stream.getvalue()
        self._stream.truncate(0)
        self._stream.seek(0)
        return text


def test_resized_terminal_loses_nothing_above_the_cursor():
    region = Sized(110, 30)
    region.draw(["one", "two"])
    region.written()
    for columns, rows in ((60, 24), (40, 24), (110, 30)):
        region.now = columns, rows
        region.draw(["one", "two"])
        written = region.written()
        assert written.startswith("\x1b7\x1b[r\x1b8\x1b[J")
        assert {int(row) for row in re.findall(r"\x1b\[(\d+);1H\x1b\[2K", written)} == {rows - 1, rows}
        assert f"\x1b[1;{rows - 2}r" in written


def test_terminal_that_was_resized_before_the_end_is_released_without_erasing_what_others_wrote():
    region = Sized(110, 30)
    region.draw(["one", "two"])
    region.written()
    region.now = 60, 24
    region.release()
    assert region.written() == "\x1b7\x1b[r\x1b8\x1b[J"


def test_region_that_grows_erases_its_own_rows_only():
    region = Sized(110, 30)
    region.draw(["one"])
    region.written()
    region.draw(["one", "two"])
    assert {int(row) for row in re.findall(r"\x1b\[(\d+);1H\x1b\[2K", region.written())} == {29, 30}
