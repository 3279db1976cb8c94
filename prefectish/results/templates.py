"""Templates for names: ``"${flow_name}/${task_slug}/${item_key}.json"``, ``"{date:%A}/{task_name}.pickle"``.

Fields are written as ``${name}``, or in braces as in Prefect 1, where they may have a format and read an item:
``{map_index:03d}``, ``{parameters[region]}``. Both spellings mean the same fields.

Plain values are substituted as text: a template cannot access attributes of a user's value or call anything, and a
format cannot make a name large, so that it cannot expose anything but the fields.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from prefectish.results.names import checked, shortened
from prefectish.secrets.masking import mask

#: Fields that differ from child to child of a map, and that only children have.
CHILD_FIELDS = frozenset({"map_index", "item_key"})
#: Other fields that no two children share.
UNIQUE_FIELDS = CHILD_FIELDS | {"child_key", "task_full_name", "task_run_id"}
#: Fields that are dates, or texts made of one.
_DATES = ("date", "scheduled_start_time")
_DAYS = ("today", "yesterday", "tomorrow", "today_nodash", "yesterday_nodash", "tomorrow_nodash")
#: Fields that every task has; others are the parameters, the names of its arguments, and :data:`MAPPINGS`.
FIELDS = (
    "flow_name", "flow_run_id", "flow_run_name", "task_name", "task_slug", "task_id", "task_full_name", "task_run_id",
    "task_run_name", "task_run_count", "task_loop_count", "map_index", "item_key", "child_key", *_DATES, *_DAYS,
)  # fmt: skip
#: Fields of which a template reads an item: ``{parameters[day]}``, ``{context[team]}``.
MAPPINGS = ("parameters", "context")
PARAMETER = "parameters_"
#: Types of values that can be used in a name, besides strings.
_PLAIN = (bool, int, float, datetime.date, datetime.time)
_PLAIN_NAMES = frozenset({"uuid.UUID", "decimal.Decimal", "pathlib.PosixPath", "pathlib.WindowsPath"})
_DATE_TYPES = (datetime.date, datetime.time)
_PIECE = re.compile(
    r"(?P<escaped>\$\$|\{\{|\}\})|\$\{(?P<name>[^\W\d]\w*)\}|\$(?P<bare>[^\W\d]\w*)|\{(?P<field>[^{}]*)\}|(?P<bad>[${}])"
)
_FIELD = re.compile(
    r"(?P<name>[^\W\d]\w*)(?P<path>(?:\.[^\W\d_]\w*|\[[^\[\]]+\])*)(?:!(?P<how>[rsa]))?(?::(?P<spec>.*))?", re.DOTALL
)
_STEP = re.compile(r"\.(\w+)|\[([^\[\]]+)\]")
_HOW: dict[str, Callable[[Any], str]] = {"s": str, "r": repr, "a": ascii}
_SAMPLE = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)


class Field(NamedTuple):
    """A field of a template: its name, what is read of its value, and how that is written."""

    name: str
    path: tuple[tuple[str, str], ...] = ()
    how: str | None = None
    spec: str = ""


class Template:
    """A template for a name.

    Parameters
    ----------
    text
        Fields are written as ``${name}`` or ``{name}``, with a format ``{name:format}``, with an item ``{name[key]}``;
        a dollar sign as ``$$``, braces as ``{{`` and ``}}``.

    Attributes
    ----------
    fields
        The names of its fields.
    pieces
        Texts and fields in their order.

    Raises
    ------
    TypeError, ValueError
        If it is not a string, a ``$`` or a brace does not begin a field, or a field is not understood.

    Examples
    --------
    >>> Template("${task_name}/${map_index}.json").render({"task_name": "load", "map_index": 3})
    'load/3.json'
    >>> Template("{task_name}/{map_index:03d}.json").render({"task_name": "load", "map_index": 3})
    'load/003.json'
    """

    __slots__ = ("fields", "pieces", "text")

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a template must be a string, got {text!r}")
        self.text = text
        self.pieces = tuple(_pieces(text))
        self.fields = frozenset(piece.name for piece in self.pieces if isinstance(piece, Field))

    def keys_of(self, mapping: str) -> set[str]:
        """Return the keys that are read of a field of :data:`MAPPINGS`."""
        return {p.path[0][1] for p in self.pieces if isinstance(p, Field) and p.name == mapping}

    def render(self, fields: Mapping[str, Any]) -> str:
        """Fill in the fields and return a safe name.

        Parameters
        ----------
        fields
            Values by name: strings, numbers, dates, UUIDs or paths.

        Returns
        -------
        str
            A safe name; parts of more than 200 bytes are cut and end in a hash.

        Raises
        ------
        ValueError
            ``unsafe name ...``, or if a field is unknown or cannot be written as text.
        """
        return checked(shortened(self.fill(fields)))

    def fill(self, fields: Mapping[str, Any]) -> str:
        """Fill in the fields of a text that is not a file name; parameters and errors as for :meth:`render`."""
        return "".join(p if isinstance(p, str) else self._text(p, fields) for p in self.pieces)

    def _text(self, field: Field, fields: Mapping[str, Any]) -> str:
        try:
            value = fields[field.name]
        except KeyError:
            known = ", ".join(sorted(fields))
            raise ValueError(
                f"template {self.text!r}: unknown field {field.name!r}; available are: {known or 'none'}"
            ) from None
        shown = field.name
        for kind, key in field.path:
            shown += f"[{key}]" if kind == "item" else f".{key}"
            value = self._read(value, kind, key, shown)
        text = plain_text(value)
        if text is None:
            kind = type(value).__name__ if value is not None else "no value"
            raise ValueError(
                f"template {self.text!r}: field {shown!r} must be a string, a number or a date, got {kind}"
            )
        if field.how is None and not field.spec:
            return text
        try:
            return mask(_written(text if type(value) is str else value, field))
        except (ValueError, TypeError) as error:
            raise ValueError(f"template {self.text!r}: field {shown!r} cannot be written so: {error}") from None

    def _read(self, value: Any, kind: str, key: str, shown: str) -> Any:
        """Return an item of a plain container, or an attribute of a plain value."""
        found: Any = _NOTHING
        if kind == "item" and (type(value) in (dict, list, tuple) or isinstance(value, Items)):
            for name in (int(key), key) if key.isdecimal() and len(key) < 10 else (key,):
                try:
                    return value[name]
                except (LookupError, TypeError):
                    continue
        elif kind == "attribute" and plain_text(value) is not None and type(value) is not str:
            found = getattr(value, key, _NOTHING)
        if found is _NOTHING or callable(found):
            raise ValueError(f"template {self.text!r}: there is no {shown!r} here")
        return found

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def __reduce__(self) -> tuple[type[Template], tuple[str]]:
        return Template, (self.text,)


_NOTHING = object()


class Items:
    """Base class of mappings of which a template may read items, besides dicts."""

    __slots__ = ()


def _pieces(text: str) -> list[str | Field]:
    """Split the text of a template; errors as for :class:`Template`."""
    pieces: list[str | Field] = []
    end = 0
    for found in _PIECE.finditer(text):
        pieces.append(text[end : found.start()])
        end = found.end()
        if found["escaped"]:
            pieces.append(found["escaped"][0])
        elif found["bad"] == "$":
            raise ValueError(f"template {text!r}: '$' without a field; write ${{name}}, or $$ for a dollar sign")
        elif found["bad"]:
            wanted = f"write {{name}}, or {found['bad'] * 2} for a brace"
            raise ValueError(f"template {text!r}: {found['bad']!r} without a field; {wanted}")
        elif found["field"] is not None:
            pieces.append(_field(text, found["field"]))
        else:
            pieces.append(Field(found["name"] or found["bare"]))
    pieces.append(text[end:])
    return [piece for piece in pieces if piece]


def _field(text: str, inside: str) -> Field:
    """Return a field in braces."""
    found = _FIELD.fullmatch(inside)
    if found is None:
        raise ValueError(f"template {text!r}: {{{inside}}} is not a field; write {{name}}, or {{{{ and }}}} for braces")
    path = tuple(("item", m[2]) if m[2] else ("attribute", m[1]) for m in _STEP.finditer(found["path"]))
    field = Field(found["name"], path, found["how"], found["spec"] or "")
    if field.name in MAPPINGS and (not path or path[0][0] != "item"):
        raise ValueError(f"template {text!r}: {{{inside}}} must say which; write {{{field.name}[name]}}")
    if re.search(r"\d{4}", field.spec):
        raise ValueError(f"template {text!r}: {{{inside}}} is too wide; use at most 999 characters")
    if field.name in _DATES and not path and field.how is None:
        try:
            _written(_SAMPLE, field)
        except ValueError as error:
            raise ValueError(f"template {text!r}: {{{inside}}} cannot be written so: {error}") from None
    return field


def _written(value: Any, field: Field) -> str:
    """Return a plain value in the format of a field."""
    if field.how is not None:
        value = _HOW[field.how](value)
    if isinstance(value, _DATE_TYPES) and field.spec:
        return value.strftime(field.spec) if "%" in field.spec else _by_tokens(value, field.spec)
    return format(value, field.spec)


#: Formats of dates as Prefect 1 has them, from Pendulum, by the codes of strftime; those of one digit have no code.
_TOKENS = {
    "YYYY": "%Y", "YY": "%y", "MMMM": "%B", "MMM": "%b", "MM": "%m", "M": "%m", "DDDD": "%j", "DDD": "%j", "DD": "%d",
    "D": "%d", "dddd": "%A", "ddd": "%a", "HH": "%H", "H": "%H", "hh": "%I", "h": "%I", "mm": "%M", "m": "%M",
    "ss": "%S", "s": "%S", "SSSSSS": "%f", "A": "%p", "ZZ": "%z", "zz": "%Z", "z": "%Z",
}  # fmt: skip
_UNPADDED = frozenset({"M", "DDD", "D", "H", "h", "m", "s"})
_TOKEN = re.compile(r"\[(?P<text>[^\[\]]*)\]|(?P<token>([A-Za-z])\3*)")


def _by_tokens(value: Any, spec: str) -> str:
    """Write a date in a format of Pendulum, such as ``YYYY-MM-DD``."""

    def written(found: re.Match[str]) -> str:
        token = found["token"]
        if token is None:
            return found["text"]
        code = _TOKENS.get(token)
        if code is None:
            raise ValueError(f"{token!r} is not a date format; write it as %Y-%m-%d")
        text: str = value.strftime(code)
        return str(int(text)) if token in _UNPADDED else text

    return _TOKEN.sub(written, spec)


def template(text: str) -> Template:
    """Return the template of a text; raises as :class:`Template` does."""
    return Template(text)


def plain_text(value: Any) -> str | None:
    """Return a plain value as text for a name, None for any other value.

    Examples
    --------
    >>> plain_text("eu"), plain_text(3), plain_text([3])
    ('eu', '3', None)
    """
    if type(value) is str:
        return mask(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    kind = type(value)
    if kind in _PLAIN or f"{kind.__module__}.{kind.__qualname__}" in _PLAIN_NAMES:
        return str(value)
    return None


def place(where: str | Template | Callable[..., str], fields: Mapping[str, Any]) -> str:
    """Return the name from a template, its text, or a function of the fields as keywords.

    Raises
    ------
    ValueError
        As for :meth:`Template.render`.
    """
    if isinstance(where, str):
        where = Template(where)
    if isinstance(where, Template):
        return where.render(fields)
    return checked(call_with_fields(where, fields))


def call_with_fields(function: Callable[..., Any], fields: Mapping[str, Any]) -> Any:
    """Call a function with the fields that it takes; with all of them if it takes any keyword."""
    _, accepted = arguments_of(function)
    names = [name for name in fields if accepted is None or name in accepted]
    return function(**{name: fields[name] for name in names})


def arguments_of(function: Callable[..., Any]) -> tuple[frozenset[str], frozenset[str] | None]:
    """Return the arguments that a function requires, and all it accepts, None for any."""
    from inspect import Parameter, signature

    takes = signature(function).parameters.values()
    named = [p for p in takes if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]
    required = frozenset(p.name for p in named if p.default is Parameter.empty)
    takes_any = any(p.kind is Parameter.VAR_KEYWORD for p in takes)
    return required, None if takes_any else frozenset(p.name for p in named)
