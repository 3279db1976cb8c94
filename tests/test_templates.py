"""Names with fields: what may stand in them, and what never comes out of one."""

from __future__ import annotations

import datetime
import decimal
import pathlib
import pickle
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labels import label

from prefectish.results import template
from prefectish.results.names import MAX_NAME_BYTES, MAX_PART_BYTES, checked, quoted, shortened
from prefectish.results.templates import place

SECRET = "swordfish"


class Plain:
    def __init__(self):
        self.secret = SECRET


class Sly(str):
    """Text that would rather say something else."""

    __slots__ = ()

    def __str__(self):
        return SECRET


FIELDS = {
    "flow_name": "census",
    "task_slug": "load-1",
    "map_index": 3,
    "item_key": "eu/1",
    "x": 1.5,
    "r": Plain(),
    "parameters": {"day": "mon", "list": ["a", "b"]},
    "date": datetime.datetime(2026, 1, 2, 3),
}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("fixed.json", "fixed.json"),
        ("${flow_name}/${task_slug}/${map_index}", "census/load-1/3"),
        ("$flow_name/$map_index.json", "census/3.json"),
        ("${item_key}.json", "eu/1.json"),
        ("x=${x}", "x=1.5"),
        ("$$5/${x}", "$5/1.5"),
        ("{flow_name}", "census"),
        ("{{flow_name}}", "{flow_name}"),
        ("{map_index:03d}/{x:.2f}", "003/1.50"),
        ("{parameters[day]}-{parameters[list][1]}", "mon-b"),
        ("{date:%A}", "Friday"),
        ("{date:YYYY-MM-DD}", "2026-01-02"),
        ("{date:D [of] MMMM}", "2 of January"),
        ("{date.year}", "2026"),
        ("{flow_name!r:>10}", "  'census'"),
    ],
)
def test_fields_are_put_in(text, name):
    assert template(text).render(FIELDS) == name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (3, "3"),
        (True, "True"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3), "2026-01-02T03:00:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.50"), "1.50"),
        (pathlib.Path("a/b"), "a/b"),
    ],
)
def test_plain_value_is_written_as_text(value, text):
    assert template("${value}").render({"value": value}) == text


@pytest.mark.parametrize("value", [["a"], {"a": 1}, b"a", Plain(), Sly("a"), None, 1j, ValueError], ids=label)
def test_x6_any_other_value_is_refused(value):
    with pytest.raises(
        ValueError, match=r"template '\$\{value\}': field 'value' must be a string, a number or a date, got"
    ) as caught:
        template("${value}").render({"value": value})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "{r.__init__.__globals__[SECRET]}", "${r.__init__.__globals__[SECRET]}", "${r.secret}", "${r}.secret", "%(r)s",
        "${r!r}", "{r.secret}", "${r[secret]}",
    ],
)  # fmt: skip
def test_x6_template_reaches_into_nothing(text):
    try:
        name = template(text).render(FIELDS)
    except ValueError as error:
        name = str(error)
    assert SECRET not in name


@pytest.mark.parametrize("text", ["${}", "${a b}", "a$", "${a", "${a.b}", "$1"])
def test_x6_dollar_that_begins_no_field_is_refused(text):
    with pytest.raises(ValueError, match=r"template .*: '[$]' without a field"):
        template(text)


def test_x6_unknown_field_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"template '\$\{slug\}': unknown field 'slug'; available are: map_index, x$"):
        template("${slug}").render({"x": 1, "map_index": 2})
    with pytest.raises(ValueError, match=r"template '\$\{slug\}': unknown field 'slug'; available are: none"):
        template("${slug}").render({})


@pytest.mark.parametrize("text", ["{:>1000000000}", "${x:>1000000000}", "%1000000000d"])
def test_x7_format_bomb_is_text_or_refused(text):
    try:
        outcome = template(text).render(FIELDS)
    except ValueError as error:
        outcome = str(error)
    assert len(outcome) < 200


def test_x7_long_part_is_cut_and_stays_apart_from_others_that_begin_alike():
    names = {template("${a}/${b}.json").render({"a": "x" * 5000, "b": "y" * 5000 + end}) for end in "123"}
    assert len(names) == 3
    assert all(len(part) == MAX_PART_BYTES for name in names for part in name.split("/"))


@pytest.mark.parametrize("value", ["../../x", "/etc/passwd", "a\0", "CON", "..", "", "a\\b", "C:\\x", "\n"])
def test_x5_field_that_leads_elsewhere_is_refused(value):
    with pytest.raises(ValueError, match="unsafe name"):
        template("${value}").render({"value": value})


def test_template_tells_its_fields_and_survives_a_pickle():
    copy = pickle.loads(pickle.dumps(template("${a}/$b")))
    assert copy.fields == {"a", "b"}
    assert copy.text == "${a}/$b"
    assert repr(copy) == "Template('${a}/$b')"


def test_template_is_text():
    with pytest.raises(TypeError, match="a template must be a string, got 3"):
        template(3)


def test_function_is_given_the_fields_and_its_name_is_checked():
    assert place(lambda x, **_: f"x-{x}", FIELDS) == "x-1.5"
    assert place("x-${x}", FIELDS) == "x-1.5"
    for bad in ("../x", None, 3):
        with pytest.raises(ValueError, match="unsafe name"):
            place(lambda bad=bad, **_: bad, FIELDS)


@given(st.text())
def test_quoted_text_is_always_a_safe_part(text):
    assert checked(quoted(text)) == quoted(text)
    assert "/" not in quoted(text)


@given(st.text(max_size=20), st.text(max_size=20))
def test_quoted_texts_are_equal_exactly_where_texts_are(one, other):
    assert (quoted(one) == quoted(other)) == (one == other)


@given(st.text(max_size=30), st.lists(st.text(alphabet="ab./\\:\0 ~x"), max_size=6))
def test_x5_name_that_is_let_through_stays_inside(text, parts):
    for name in (text, "/".join(parts)):
        try:
            checked(name)
        except ValueError:
            continue
        inside = pathlib.PurePosixPath("/store", name)
        assert ".." not in inside.parts
        assert inside.is_relative_to("/store")
        assert inside != pathlib.PurePosixPath("/store")
        assert not pathlib.PureWindowsPath(name).is_absolute()
        assert pathlib.PureWindowsPath(name).drive == ""


@given(st.text(min_size=1))
def test_shortened_name_has_no_long_part(text):
    assert all(len(part.encode("utf-8", "surrogatepass")) <= MAX_PART_BYTES for part in shortened(text).split("/"))


def test_name_of_many_parts_is_too_long_nevertheless():
    with pytest.raises(ValueError, match=f"longer than {MAX_NAME_BYTES} bytes"):
        template("${value}").render({"value": "/".join("abc" for _ in range(1000))})
