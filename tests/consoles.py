"""Commands that pages of the documentation show, and what they print there."""

from __future__ import annotations

import re


def console(text: str) -> list[tuple[str, str]]:
    """Return the commands of a page, each with what it prints."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def matches(shown: str, printed: str) -> bool:
    """Whether a program printed what is shown, where dots stand for anything."""
    wanted, got = (re.sub(r" +(\n)?", lambda m: m[1] or " ", text).strip() for text in (shown, printed))
    return re.fullmatch(".*?".join(map(re.escape, wanted.split("..."))), got, flags=re.DOTALL) is not None
