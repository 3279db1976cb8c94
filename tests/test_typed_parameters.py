"""Parameters with a type, and dates with time: what a run accepts, and what it says otherwise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    ParamSpec,
    Required,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
)
from uuid import UUID

import pytest
from bodies import take
from labels import label

from prefectish import DateTimeParameter, Flow, Parameter, context, flow, validation
from prefectish.engine.capture import Value, capture
from prefectish.errors import FlowDefinitionError, ParameterError
from prefectish.parameters import settle
from prefectish.validation import checked, misfits, schema_of


class Point:
    """A class that pydantic knows nothing of."""


# ---------------------------------------------------------------------- types

pydantic = pytest.importorskip("pydantic")
typing_extensions = pytest.importorskip("typing_extensions")  # it comes with pydantic

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Size(pydantic.BaseModel):
    width: int
    height: int = 1


@pytest.mark.parametrize(
    ("wanted", "given", "value"),
    [
        (int, "3", 3),
        (int, 3, 3),
        (float, 3, 3.0),
        (str, "a", "a"),
        (list[int], ["1", 2], [1, 2]),
        (dict[str, float], {"a": "1.5"}, {"a": 1.5}),
        (int | None, None, None),
        (Literal["a", "b"], "b", "b"),
        (datetime, "2026-03-01T00:00Z", datetime(2026, 3, 1, tzinfo=UTC)),
        (Size, {"width": "3"}, Size(width=3)),
        (Annotated[int, pydantic.Field(gt=2)], 3, 3),
        (Point, point := Point(), point),
        (list[Point], [point], [point]),
    ],
    ids=label,
)
def test_value_becomes_one_of_the_type(wanted: Any, given: Any, value: Any) -> None:
    settled = settle([Parameter("x", type=wanted)], {"x": given}, {})["x"]
    assert settled == value
    assert type(settled) is type(value)


@pytest.mark.parametrize(
    ("wanted", "given", "text"),
    [
        (int, "many", "parameter 'x' must be int, got 'many': Input should be a valid integer"),
        (int, 1.5, "parameter 'x' must be int, got 1.5: "),
        (int, None, "parameter 'x' must be int, got None: "),
        (list[int], [1, "b"], "parameter 'x' must be list[int], got [1, 'b']: 1: Input should be a valid integer"),
        (int | None, "b", "parameter 'x' must be int | None, got 'b': "),
        (Size, {"height": "b"}, "parameter 'x' must be Size, got {'height': 'b'}: width: Field required; height: "),
        (Annotated[int, pydantic.Field(gt=2)], 2, "Input should be greater than 2"),
        (Point, 3, "parameter 'x' must be Point, got 3: Input should be an instance of Point"),
        (list[int], ["a"] * 9, "and 6 more"),
        (int, "9" * 5000, "99…"),
    ],
    ids=label,
)
def test_value_that_is_not_is_named_with_the_type(wanted: Any, given: Any, text: str) -> None:
    with pytest.raises(ParameterError) as caught:
        settle([Parameter("x", type=wanted)], {"x": given}, {})
    assert text in str(caught.value)
    assert len(str(caught.value)) < 600


def test_validator_of_the_user_that_raises_is_reported() -> None:
    def check(value: int) -> int:
        raise KeyError("lost")

    wanted = Annotated[int, pydantic.AfterValidator(check)]
    with pytest.raises(ParameterError, match=r"parameter 'x' must be .*, got 3: KeyError: 'lost'"):
        settle([Parameter("x", type=wanted)], {"x": 3}, {})


def test_every_wrong_value_is_named() -> None:
    parameters = [Parameter("x", type=int), Parameter("y", type=float), Parameter("z", type=str)]
    with pytest.raises(ParameterError, match=r"^parameter 'x' must be int, .*; parameter 'y' must be float, got 'b': "):
        settle(parameters, {"x": "a", "y": "b", "z": "c"}, {})


def test_missing_and_unknown_are_reported_before_types() -> None:
    with pytest.raises(ParameterError, match=r"^missing: y; unknown: z$"):
        settle([Parameter("x", type=int), Parameter("y")], {"x": "a", "z": 1}, {})


def test_default_is_checked_at_once_and_converted_in_the_run() -> None:
    with pytest.raises(ParameterError, match="parameter 'x' must be int, got 'a': Input should be a valid integer,"):
        Parameter("x", default="a", type=int)
    made = Parameter("x", default="3", type=int)
    assert made.default == "3"
    assert settle([made], {}, {}) == {"x": 3}


def test_value_of_the_context_is_checked_too() -> None:
    made = Parameter("x", type=int)
    assert settle([made], {}, {"x": "3"}) == {"x": 3}
    with context(parameters={"x": "3"}):
        assert made.run() == 3


@pytest.mark.parametrize("options", [{"required": False}, {"default": None}])
def test_optional_parameter_may_be_none(options: dict[str, Any]) -> None:
    made = Parameter("x", type=int, **options)
    assert settle([made], {}, {}) == settle([made], {"x": None}, {}) == {"x": None}


def test_type_that_cannot_be_checked_is_refused_at_once() -> None:
    with pytest.raises(FlowDefinitionError, match="parameter 'x': type=3 cannot be checked"):
        Parameter("x", type=3)


def test_copy_keeps_the_type_or_takes_another() -> None:
    made = Parameter("x", type=int)
    assert settle([made.copy("y")], {"y": "3"}, {}) == {"y": 3}
    assert settle([made.copy("y", type=str)], {"y": "3"}, {}) == {"y": "3"}


def test_run_is_refused_before_anything_runs() -> None:
    ran = []
    with Flow("f") as flow:
        take.copy(state_handlers=[lambda *states: ran.append(states)])(Parameter("x", type=int))
    with pytest.raises(ParameterError, match="parameter 'x' must be int, got 'a': Input should be a valid integer,"):
        flow.run(x="a")
    assert not ran
    assert flow.run(x="3").result[flow.get_tasks("take")[0]].result == 3


def test_without_pydantic_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(FlowDefinitionError, match=r'type=int.*pip install "prefectish\[typed\]"'):
        Parameter("x", type=int)
    assert settle([Parameter("y")], {"y": 1}, {}) == {"y": 1}
    assert settle([DateTimeParameter("z")], {"z": "2026-03-01"}, {})["z"].year == 2026


def test_pydantic_is_imported_by_types_only() -> None:
    code = (
        "import sys; from prefectish import Flow, Parameter, DateTimeParameter\n"
        "Flow('f', tasks=[Parameter('x'), DateTimeParameter('y')]).run(x=1, y='2026-03-01')\n"
        "before = 'pydantic' in sys.modules\n"
        "Parameter('z', type=int)\n"
        "print(before, 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"


# ---------------------------------------------------------------------- dates with time

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("2026-03-01T12:00Z", NOON),
        ("2026-03-01 12:00", NOON),
        (" 2026-03-01T14:00+02:00 ", NOON),
        ("20260301T120000", NOON),
        ("2026-03-01", NOON.replace(hour=0)),
        (NOON, NOON),
        (NOON.replace(tzinfo=None), NOON),
        (date(2026, 3, 1), NOON.replace(hour=0)),
    ],
    ids=label,
)
def test_date_time_is_aware(given: Any, value: datetime) -> None:
    settled = settle([DateTimeParameter("x")], {"x": given}, {})["x"]
    assert settled == value
    assert settled.tzinfo is not None


def test_date_time_keeps_its_zone() -> None:
    zone = timezone(timedelta(hours=2))
    assert DateTimeParameter("x").accept(datetime(2026, 3, 1, tzinfo=zone)).tzinfo is zone
    assert DateTimeParameter("x").accept("2026-03-01T00:00+02:00").utcoffset() == timedelta(hours=2)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("soon", "parameter 'x' must be a date with time, got 'soon': pass a string like 2026-03-01T12:00+02:00"),
        ("2026-02-30", "parameter 'x' must be a date with time, got '2026-02-30'"),
        (12, "parameter 'x' must be a date with time, got 12: pass a datetime or a string"),
        (None, "parameter 'x' must be a date with time, got None: pass a datetime"),
    ],
)
def test_what_is_not_a_date_is_refused(given: Any, text: str) -> None:
    with pytest.raises(ParameterError) as caught:
        settle([DateTimeParameter("x")], {"x": given}, {})
    assert text in str(caught.value)


def test_date_time_may_have_a_default_or_none() -> None:
    made = DateTimeParameter("x", default="2026-03-01T12:00")
    assert settle([made], {}, {}) == {"x": NOON}
    assert settle([DateTimeParameter("x", required=False)], {}, {}) == {"x": None}
    with pytest.raises(ParameterError, match="parameter 'x' must be a date with time, got 'soon': pass a string like"):
        DateTimeParameter("x", default="soon")
    assert (made.slug, made.required, repr(made)) == ("x", False, "<Parameter: x>")


def test_iterable_is_passed_as_it_was_given() -> None:
    items = [1, 2]
    assert checked("x", Iterable[int], items) is items
    assert checked("x", Iterable[int] | None, items) == items
    with pytest.raises(ParameterError, match="parameter 'x' must be"):
        checked("x", Iterable[int], 3)


class Lenient(Enum):
    FIRST = "first"

    @classmethod
    def _missing_(cls, value: object) -> Lenient:
        return cls.FIRST


class Region(Enum):
    EU = "eu"


class Pair(NamedTuple):
    left: int
    right: int


class Order(pydantic.BaseModel):
    """Models within a model, and a field of two names."""

    model_config = pydantic.ConfigDict(populate_by_name=True, extra="allow")
    sizes: list[Size] = pydantic.Field(default_factory=list)
    due: date | None = None
    region: Region = Region.EU
    number: int = pydantic.Field(0, alias="no")
    parts: list[Order] = pydantic.Field(default_factory=list)


class Address(pydantic.BaseModel):
    """Texts are made of numbers."""

    model_config = pydantic.ConfigDict(coerce_numbers_to_str=True)
    zip_code: str


class Code(pydantic.BaseModel):
    """Texts lose their spaces before their length counts."""

    model_config = pydantic.ConfigDict(str_strip_whitespace=True)
    code: Annotated[str, pydantic.Field(max_length=2)]


class Loud(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(str_to_upper=True)
    code: Annotated[str, pydantic.Field(min_length=2)]


@pydantic.dataclasses.dataclass(config=pydantic.ConfigDict(str_to_lower=True))
class Quiet:
    code: Annotated[str, pydantic.Field(min_length=2)]


JSON_VALUES: list[Any] = [
    {"zip_code": 1234}, {"code": " ab "}, {"code": "\u00df"}, {"code": "\u0130"}, " ab ", "\u00df",
    None, True, 0, 3, -1, 1.5, 3.0, "3", "1.5", "eu", "many", "", "true", "2026-03-01", "2026-03-01T12:00Z", "PT1H",
    "12:30", "6b0ce253-0000-4000-8000-000000000000", "10MB", "127.0.0.1", [], [1, 2], ["3", 4], ["many"], [[1]], {},
    {"a": 1}, {"a": "many"}, {"width": "3"}, {"left": 1, "right": 2}, [None],
    {"sizes": [{"width": "3"}], "due": "2026-03-01", "region": "eu", "number": 3, "more": []}, {"no": "4", "due": None},
    {"parts": [{"parts": [{"no": 1}]}]}, {"x": 1.0, "y": "2"},
]  # fmt: skip
JSON_TYPES: list[Any] = [
    int, float, str, bool, list[int], list[list[int]], tuple[int, int], set[int], dict[str, int], dict[int, int],
    int | None, int | str, Literal["eu", "us"], Literal[1, 2], Size, list[Size], Region, Lenient, Order, list[Order],
    Pair, date, datetime, timedelta, Decimal, UUID, Path, bytes, complex, IPv4Address, Iterable[int], Sequence[int],
    pydantic.ByteSize, Any, Address, list[Address], Code, dict[str, Code], Loud, Quiet,
    Annotated[str, pydantic.Field(max_length=2), pydantic.StringConstraints(strip_whitespace=True)],
    Annotated[str, pydantic.Field(coerce_numbers_to_str=True)],
    Annotated[str, pydantic.StringConstraints(to_upper=True, min_length=2)],
    Annotated[int, pydantic.Field(ge=0)], Annotated[str, pydantic.Field(max_length=2)], Point, list[Point],
    Annotated[int, pydantic.BeforeValidator(lambda value: 7)], Annotated[list[int], pydantic.Field(min_length=1)],
]  # fmt: skip


@pytest.mark.parametrize("wanted", JSON_TYPES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_schema_of_a_type_refuses_nothing_that_the_type_takes(wanted: Any) -> None:
    for value in JSON_VALUES:
        found = capture(checked, "x", wanted, value)
        if isinstance(found, Value):
            assert list(misfits({"x": value}, {"x": schema_of(wanted)})) == [], value


@pytest.mark.parametrize(
    ("wanted", "given", "text"),
    [
        (int, "many", "parameter 'x' must be int, got 'many': Input should be a valid integer"),
        (str, 3, "parameter 'x' must be str, got 3: "),
        (bool, "perhaps", "parameter 'x' must be bool, got 'perhaps': "),
        (list[int], [1, "b"], "parameter 'x' must be list[int], got [1, 'b']: 1: Input should be a valid integer"),
        (dict[str, float], {"a": "b"}, "parameter 'x' must be dict[str, float], got {'a': 'b'}: a: "),
        (int | None, "b", "parameter 'x' must be int | None, got 'b': "),
        (Literal["eu", "us"], "asia", "parameter 'x' must be "),
        (Region, "asia", "parameter 'x' must be "),
        (Size, "wide", "parameter 'x' must be Size, got 'wide': "),
        (list[Size], [3], "parameter 'x' must be list[Size], got [3]: "),
        (Size, {"width": "wide"}, "parameter 'x' must be Size, got {'width': 'wide'}: width: Input should be"),
        (Order, {"sizes": [{"width": "wide"}]}, "must be Order, got {'sizes': [{'width': 'wide'}]}: sizes.0.width: "),
        (Order | None, {"due": "soon"}, "got {'due': 'soon'}: "),
        (dict[str, Order], {"a": {"region": "asia"}}, "a.region: Input should be 'eu'"),
        (date, "tomorrow", "parameter 'x' must be date, got 'tomorrow': "),
        (datetime, "tomorrow", "parameter 'x' must be datetime, got 'tomorrow': "),
        (Annotated[int, pydantic.Field(ge=0)], -1, "must be int, got -1: Input should be greater"),
    ],
    ids=label,
)  # fmt: skip
def test_schema_of_a_type_refuses_what_the_type_refuses(wanted: Any, given: Any, text: str) -> None:
    (error,) = misfits({"x": given}, {"x": schema_of(wanted)})
    assert text in str(error)


def test_schema_takes_the_texts_of_a_date_time_parameter() -> None:
    schemas = {"since": schema_of(DateTimeParameter("since").annotation)}
    for text in ("2026-03-01", "20260301T120000", "2026-W09-7", " 2026-03-01T12:00+02:00 "):
        assert DateTimeParameter("since").accept(text)
        assert list(misfits({"since": text}, schemas)) == []


def test_without_pydantic_types_are_left_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    schemas = {"x": schema_of(int)}
    monkeypatch.setattr(validation, "can_validate", lambda: False)
    assert list(misfits({"x": "many"}, schemas)) == []


# ---------------------------------------------------------------------- arguments of flow functions


def test_any_keyword_of_a_flow_function_is_of_its_type() -> None:
    @flow(history=False)
    def takes(x: int, **more: int) -> Any:
        return x, more

    assert takes("1", z="2") == (1, {"z": 2})
    with pytest.raises(ParameterError, match="parameter 'z' must be int, got 'many'"):
        takes(1, z="many")
    with pytest.raises(ParameterError, match="parameter 'z' must be int, got 'many'"):
        takes.run({"x": 1, "z": "many"})


class Options(TypedDict, total=False):
    count: Required[int]
    ratio: Annotated[float, pydantic.Field(le=1)]
    text: typing_extensions.ReadOnly[str]
    more: list[int]


class Held(TypedDict, Generic[T]):
    value: T


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("unpack", [Unpack, typing_extensions.Unpack], ids=["typing", "extensions"])
def test_keywords_of_a_flow_function_are_of_the_types_of_a_typed_dict(unpack: Any) -> None:
    def takes(**more: Any) -> Any:
        return more

    takes.__annotations__["more"] = unpack[Options]
    typed = flow(takes, history=False)
    given = {"count": "2", "ratio": "0.5", "text": "a", "more": ["1"], "other": point}
    assert typed(**given) == typed.run(given).result == {**given, "count": 2, "ratio": 0.5, "more": [1]}
    for name, value in {"count": "many", "ratio": 2, "text": 3, "more": [None]}.items():
        with pytest.raises(ParameterError, match=f"parameter '{name}' must be "):
            typed(**{"count": 1, name: value})
    takes.__annotations__["more"] = unpack[Held[int]]
    assert flow(takes, history=False)(value=point) == {"value": point}


@pytest.mark.filterwarnings("error")
def test_values_by_position_of_a_flow_function_are_of_the_types_of_a_tuple() -> None:
    @flow(history=False)
    def pairs(x: int, *rest: *tuple[int, str]) -> Any:
        return x, rest

    @flow(history=False)
    def numbers(*rest: *tuple[int, ...]) -> Any:
        return rest

    assert pairs("1", "2", "a") == (1, (2, "a"))
    assert numbers("1", 2) == (1, 2)
    assert numbers() == ()
    for wrong in ((1, 2), (1, "a", "b"), (1, "a", 3)):
        with pytest.raises(ParameterError, match=r"parameter 'rest' must be tuple\[int, str\], got "):
            pairs(*wrong)
    with pytest.raises(ParameterError, match="parameter 'rest' must be "):
        numbers("many")


@pytest.mark.filterwarnings("error")
def test_variables_of_arguments_of_a_flow_function_take_any() -> None:
    def takes(*rest: P.args, **more: P.kwargs) -> Any:
        return rest, more

    def takes_all(*rest: *Ts) -> Any:
        return rest

    assert flow(takes, history=False)(1, point, x=point) == ((1, point), {"x": point})
    assert flow(takes_all, history=False)(1, point) == (1, point)


def test_what_an_argument_of_a_flow_function_is_annotated_with_holds() -> None:
    @flow(history=False)
    def takes(x: Annotated[int, pydantic.Field(gt=0)]) -> int:
        return x

    assert takes("3") == 3
    with pytest.raises(ParameterError, match="parameter 'x' must be int, got -1"):
        takes(-1)


def test_annotation_that_cannot_be_found_leaves_the_others() -> None:
    def takes(x: int, y: Any, *rest: float, **more: int) -> Any:
        return x, y, rest, more

    takes.__annotations__ = {"x": "int", "y": "OnlyForTypeCheckers", "rest": "float", "more": "int", "return": "Any"}
    typed = flow(takes, history=False)
    assert typed("1", "any", "2", z="3") == (1, "any", (2.0,), {"z": 3})
    with pytest.raises(ParameterError, match="parameter 'x' must be int, got 'many'"):
        typed("many", "any")
