"""What tests look for in pages: their text, and that nothing in them can act."""

from __future__ import annotations

from html.parser import HTMLParser

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>\x1b[2J\nforged"


class Page(HTMLParser):
    """Collects tags and text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.opened = [], "", []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            assert "javascript:" not in (value or "")

    def handle_data(self, data):
        self.text += data


def safe(html):
    page = Page(html)
    assert not {"script", "img", "iframe", "link", "object"} & set(page.tags)
    assert "\x1b" not in html
    return page
