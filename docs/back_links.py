"""Links from the source of a name back to its documentation.

The extension `viewcode` takes the module that a page speaks of for the one of the name, so that links to what is
documented under its own module lead to no anchor. They are led to the one anchor that ends as their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path

from sphinx.application import Sphinx

_BACK = re.compile(r'(class="viewcode-back" href=")([^"#]+)#([^"]+)(")')
_ANCHOR = re.compile(r'\bid="([^"]+)"')


def mended(html: str, anchors: Callable[[str], Collection[str]]) -> str:
    """Return a page of source whose links back have an anchor; `anchors` gives those of a page by its address.

    Examples
    --------
    >>> page = '<a class="viewcode-back" href="../api/flows.html#prefectish.Edge">'
    >>> mended(page, lambda address: ["prefectish.edges.Edge"])
    '<a class="viewcode-back" href="../api/flows.html#prefectish.edges.Edge">'
    """

    def lead(match: re.Match[str]) -> str:
        known, name = anchors(match[2]), match[3]
        if name in known:
            return match[0]
        while "." in name:  # without its modules, one after the other
            name = name.partition(".")[2]
            found = [each for each in known if each.endswith(f".{name}")]
            if len(found) == 1:
                return f"{match[1]}{match[2]}#{found[0]}{match[4]}"
        return match[0]

    return _BACK.sub(lead, html)


def mend_all(app: Sphinx, exception: Exception | None) -> None:
    """Mend the pages of source once all pages are written."""
    if exception is not None or app.builder.format != "html":
        return
    for page in Path(app.outdir, "_modules").rglob("*.html"):
        text = page.read_text(encoding="utf-8")

        def anchors(address: str, page: Path = page) -> list[str]:
            return _ANCHOR.findall((page.parent / address).read_text(encoding="utf-8"))

        page.write_text(mended(text, anchors), encoding="utf-8")
