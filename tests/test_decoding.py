"""Decoded copies of texts: a value is found however it is written, and what is masked is all of it and nothing else."""

from __future__ import annotations

import csv
import html
import io
import json
import shlex
import urllib.parse
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import URL

from prefectish.secrets import masking
from prefectish.secrets.decoding import copies


def as_csv(text):
    file = io.StringIO()
    csv.writer(file).writerow([text, 1])
    return file.getvalue()


ENCODERS = {
    "repr": repr,
    "ascii": ascii,
    "repr of bytes": lambda text: repr(text.encode()),
    "list": lambda text: repr([{"token": text}]),
    "json": lambda text: json.dumps({"token": text}),
    "json, not ascii": lambda text: json.dumps([text], ensure_ascii=False),
    "quote": urllib.parse.quote,
    "quote all": lambda text: urllib.parse.quote(text, safe=""),
    "quote_plus": urllib.parse.quote_plus,
    "lower-case escapes": lambda text: urllib.parse.quote(text, safe="").replace("%2F", "%2f").replace("%3D", "%3d"),
    "urlencode": lambda text: urllib.parse.urlencode({"t": text}),
    "html": html.escape,
    "xml": escape,
    "csv": as_csv,
    "shell": shlex.quote,
    "database URL": lambda text: URL.create("pg", "u", text, "h").render_as_string(hide_password=False),
}
#: Values as people have them; what separates words is not at their ends.
VALUES = (
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=6, max_size=30)
    .map(str.strip)
    .filter(
        lambda text: len(text) >= 6 and len(masking._forms_of(text)) and min(map(len, masking._forms_of(text))) >= 4
    )
)


def hidden(value, text):
    """Return the text as it is masked where `value` is the only secret."""
    masking._known, masking.pattern = frozenset(), None
    masking.register(value)
    try:
        return masking.mask(text)
    finally:
        masking._known, masking.pattern = frozenset(), None


@pytest.mark.parametrize("name", ENCODERS)
@given(value=VALUES)
@example(value="wJalr/XUtn+FEMI=K7MDENG/bPx")
@example(value="pä\"ss'wörd\\ n%41&amp;😀")
def test_x16_value_is_masked_however_it_is_written(name, value):
    text = f"<{ENCODERS[name](value)}>"
    shown = hidden(value, text)
    assert masking.MASK in shown
    assert value not in shown


@given(value=VALUES, names=st.lists(st.sampled_from(sorted(ENCODERS)), min_size=2, max_size=3))
@example(value='0000"\\', names=["csv", "csv"])
@example(value='0000"\\', names=["csv", "database URL"])
def test_value_is_masked_in_encodings_of_encodings(value, names):
    text = value
    for name in names:
        text = ENCODERS[name](text)
    assert masking.MASK in hidden(value, text)


@pytest.mark.parametrize("name", ENCODERS)
def test_what_stands_around_a_value_stays(name):
    text = ENCODERS[name]("before §sec/ret+ =va'l\"ue§ after")
    shown = hidden("sec/ret+ =va'l\"ue", text)
    before, _, after = shown.partition(masking.MASK)
    assert "before" in before
    assert "after" in after
    assert "ret" not in before + after


@given(text=st.text())
def test_text_without_the_value_is_left_alone(text):
    assert hidden("a value that nobody wrote", text) is text


@given(text=st.text(st.sampled_from(list("ab%25\\nux0041&amp;'\"+\xc3\xa4\ud83d\ude00"))))
def test_every_part_of_a_copy_has_its_place(text):
    """The places are in order, inside the text, and all of a copy is all of the text."""
    for copy in copies(text):
        if copy.text:
            assert copy.span(0, len(copy.text)) == (0, len(text))
            spans = [copy.span(at, at + 1) for at in range(len(copy.text))]
            assert spans == sorted(spans)
            assert all(0 <= start < end <= len(text) for start, end in spans)


def test_decoding_has_an_end():
    assert len(list(copies("%" + "25" * 1000 + "41"))) <= 13
