"""Templates for names: ``"${flow_name}/${task_slug}/${item_key}.json"``.

Only whole fields are substituted, as plain text: a template cannot access attributes of a value or format
it, so that it cannot expose anything but the fields.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from string import Template as Pattern
from typing import Any

from prefectish.results.names import checked, shortened
from prefectish.secrets.masking import mask

#: Fields that every task has; others are `PARAMETER` + the name of a parameter, and the names of its arguments.
FIELDS = ("flow_name", "flow_run_id", "task_name", "task_slug", "map_index", "item_key")
PARAMETER = "parameters_"
#: Types of values that can be used in a name, besides strings.
_PLAIN = (bool, int, float, datetime.date, datetime.time)
_PLAIN_NAMES = frozenset({"uuid.UUID", "decimal.Decimal", "pathlib.PosixPath", "pathlib.WindowsPath"})


class Template:
    """A template for a name.

    Parameters
    ----------
    text
        Fields are written as ``${name}``, a dollar sign as ``$$``.

    Attributes
    ----------
    fields
        The names of its fields.

    Raises
    ------
    TypeError, ValueError
        If it is not a string, or a ``$`` does not begin a field.

    Examples
    --------
    >>> Template("${task_name}/${map_index}.json").render({"task_name": "load", "map_index": 3})
    'load/3.json'
    """

    __slots__ = ("_pattern", "fields", "text")

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a template must be a string, got {text!r}")
        self._pattern = Pattern(text)
        if not self._pattern.is_valid():
            raise ValueError(f"template {text!r}: '$' without a field; write ${{name}}, or $$ for a dollar sign")
        self.text = text
        self.fields = frozenset(self._pattern.get_identifiers())

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
        return self._pattern.substitute(self._texts(fields))

    def _texts(self, fields: Mapping[str, Any]) -> dict[str, str]:
        texts = {}
        for name in sorted(self.fields):
            if name not in fields:
                known = ", ".join(sorted(fields))
                raise ValueError(f"template {self.text!r}: unknown field {name!r}; available are: {known or 'none'}")
            texts[name] = self._text(name, fields[name])
        return texts

    def _text(self, name: str, value: Any) -> str:
        text = plain_text(value)
        if text is None:
            kind = type(value).__name__ if value is not None else "no value"
            raise ValueError(f"template {self.text!r}: field {name!r} must be a string, a number or a date, got {kind}")
        return text

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def __reduce__(self) -> tuple[type[Template], tuple[str]]:
        return Template, (self.text,)


def template(text: str) -> Template:
    """Return the template of a text; raises as :class:`Template` does."""
    return Template(text)


def misspelt(text: str) -> str | None:
    """Return a hint if a text has only fields in the syntax of `str.format`, else None.

    Examples
    --------
    >>> misspelt("{task_name}.pickle")
    'it has no fields; write ${task_name} for {task_name}'
    """
    found = None if "$" in text else re.search(r"\{(\w+)[^{}]*\}", text)
    return None if found is None else f"it has no fields; write ${{{found[1]}}} for {found[0]}"


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
    return checked(where(**fields))
