"""How the TOML files are read: durations, rates, and errors in one line.

Facts about providers and tools and scenario files all come in through here, so that a wrong key, unit or value is
refused the same way everywhere: one line that names the file, the key, the rule and the value.
"""

import datetime as dt
import inspect
import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema

__all__ = ["Fact", "Frozen", "Rate", "Seconds", "check", "duration", "read_json", "read_toml", "time_of_day"]

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|min|h|d)")
TIME = re.compile(r"\d\d:\d\d(:\d\d(\.\d+)?)?")
RATE = re.compile(r"(\d+(?:\.\d+)?)/(?:(\d+(?:\.\d+)?)?(s|min|h|d))")

Grade = Literal["A", "B", "C", "D", "assumed", "observed"]


def duration(value: object) -> float:
    """Seconds in a duration such as ``"45s"``, ``"10min"``, ``"1.5h"`` or ``"5d"``.

    Parameters
    ----------
    value : object
        The text of the duration. Numbers are refused: a unit belongs to it.

    Returns
    -------
    float
        The duration, in seconds.

    Raises
    ------
    ValueError
        If the value isn't a number followed by ``s``, ``min``, ``h`` or ``d``.

    Examples
    --------
    >>> duration("10min")
    600.0
    """
    found = DURATION.fullmatch(value) if isinstance(value, str) else None
    if not found or float(found[1]) == math.inf:
        raise ValueError(f"must be a duration like '45s', '10min', '8h' or '5d', got {value!r}")
    return float(found[1]) * UNITS[found[2]]


def time_of_day(value: object) -> dt.time:
    """Read a time of day such as ``"17:30"`` or ``"17:30:15"``.

    Parameters
    ----------
    value : object
        The text, or a time as TOML has it. A zone is refused: the scenario's `start` says which.

    Returns
    -------
    time
        Without a zone.

    Raises
    ------
    ValueError
        For anything else.

    Examples
    --------
    >>> time_of_day("17:30")
    datetime.time(17, 30)
    """
    text = str(value) if isinstance(value, str | dt.time) else ""
    try:
        return dt.time.fromisoformat(text if TIME.fullmatch(text) else "")
    except ValueError:
        raise ValueError(f"must be a time like '17:30', got {str(value)!r}") from None


class Rate(NamedTuple):
    """An amount in a period, as providers publish it: ``Rate(30, 60.0)`` is ``"30/min"``.

    A bare amount has no period: it lasts as long as the thing it counts (a session, a message, what is in progress).

    Parameters
    ----------
    amount : float
        What is counted: messages, recipients, bytes, …
    period : float, optional
        In seconds.

    Examples
    --------
    >>> Rate.parse("319444/10min")
    Rate(amount=319444, period=600.0)
    >>> str(Rate.parse("30/min")), str(Rate.parse(3))
    ('30/min', '3')
    """

    amount: float
    period: float | None = None

    @classmethod
    def parse(cls, value: object) -> "Rate":
        """Read ``"30/min"``, ``"319444/10min"`` or a bare number; anything else is a ValueError that says so.

        Parameters
        ----------
        value : object
            The text, a number, or a rate.

        Returns
        -------
        Rate
            Its period in seconds.

        Raises
        ------
        ValueError
            For anything else; the line says what it may look like.
        """
        if isinstance(value, Rate):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
            return cls(value)
        found = RATE.fullmatch(value) if isinstance(value, str) else None
        if not found:
            raise ValueError(f"must be a positive number or look like '100/min' (s|min|h|d), got {value!r}")
        amount, count = float(found[1]), float(found[2] or 1)
        if not 0 < amount < math.inf or not 0 < count < math.inf:
            raise ValueError(f"must be more than 0 in a period longer than 0, got {value!r}")
        return cls(int(amount) if amount.is_integer() else amount, count * UNITS[found[3]])

    @property
    def per_second(self) -> float:
        """The rate in events per second.

        Raises
        ------
        ValueError
            If there is no period.
        """
        if self.period is None:
            raise ValueError(f"a bare amount has no rate, got {self.amount}")
        return self.amount / self.period

    def __str__(self) -> str:
        if self.period is None:
            return _plain(self.amount)
        whole = ((size, unit) for unit, size in UNITS.items() if self.period % size == 0)
        size, unit = max(whole, default=(1, "s"))
        count = self.period / size
        return f"{_plain(self.amount)}/{'' if count == 1 else _plain(count)}{unit}"


def _plain(number: float) -> str:
    """Write a number so that it reads back the same, without exponent and without `.0`."""
    return f"{Decimal(repr(float(number))):f}".removesuffix(".0")


Seconds = Annotated[
    float, BeforeValidator(duration), PlainSerializer(lambda seconds: f"{_plain(seconds)}s", return_type=str)
]


def _strictly(schema: Any) -> None:
    """Make every number, yes and no within a pydantic schema strict; tuples and dates stay as lenient as they are."""
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float", "bool"):
            schema["strict"] = True
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            _strictly(part)


class Frozen(BaseModel):
    """Frozen data read from TOML; a key that nobody reads is refused, not ignored.

    Examples
    --------
    >>> class Pair(Frozen):
    ...     left: int = 0
    >>> Pair(left=1)
    Pair(left=1)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read numbers, yes and no as TOML has them: ``"25"`` is no number, ``true`` is no 1 and 1 no ``true``."""
        schema = handler(source)
        _strictly(schema)
        return schema

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Let `?` show the type that a field has, without the functions that check it."""
        shown, plain = inspect.signature(cls), get_type_hints(cls)
        fields = [one.replace(annotation=plain.get(one.name, one.annotation)) for one in shown.parameters.values()]
        cls.__signature__ = shown.replace(parameters=fields)


class Fact(Frozen):
    """What every fact carries: where it comes from, when that was said, and how good the source is.

    Grades: ``A`` vendor's document or code, ``B`` real transcript, ``C`` quoted, ``D`` a single claim, ``assumed``,
    ``observed`` (measured). ``assumed`` lists the fields that no source states.

    Parameters
    ----------
    source : str
        An address, or whatever leads to it.
    as_of : date
        When it was said.
    grade : str
        ``A`` vendor's document or code, ``B`` real transcript, ``C`` quoted, ``D`` a single claim, ``assumed``,
        ``observed`` (measured).
    review_by : date, optional
        When it has to be looked at again.
    note : str, optional
        What the source says, and what it leaves open.
    assumed : tuple of str, optional
        The fields that no source states.
    since, until : date, optional
        From when it holds (``from`` in the file), and from when no longer.

    Examples
    --------
    >>> fact = Fact(source="RFC 5321", as_of=dt.date(2008, 10, 1), grade="A", until=dt.date(2030, 1, 1))
    >>> fact.holds_on(dt.date(2029, 12, 31)), fact.holds_on(dt.date(2030, 1, 1))
    (True, False)
    """

    source: str = Field(default="", description="URL, or the best public description")
    as_of: dt.date | None = None
    grade: Grade = "assumed"
    review_by: dt.date | None = None
    note: str = ""
    assumed: tuple[str, ...] = ()
    since: dt.date | None = Field(default=None, alias="from")
    until: dt.date | None = None

    @model_validator(mode="after")
    def _has_a_source(self) -> "Fact":
        if self.grade != "assumed" and (not self.source.strip() or self.as_of is None):
            raise ValueError(f"a fact of grade {self.grade} needs `source` and `as_of`")
        unknown = [name for name in self.assumed if name not in type(self).model_fields]
        if unknown:
            raise ValueError(f"assumed names no field of this fact: {unknown[0]!r}")
        return self

    def holds_on(self, date: dt.date) -> bool:
        """Whether the fact holds on that date (`from` included, `until` excluded).

        Parameters
        ----------
        date : date
            The day.

        Returns
        -------
        bool
            True if it does.
        """
        return (self.since is None or self.since <= date) and (self.until is None or date < self.until)

    @property
    def rests_on_assumption(self) -> bool:
        """Whether the fact is graded assumed or has a field that no source states."""
        return self.grade == "assumed" or bool(self.assumed)


Checked = TypeVar("Checked", bound=BaseModel)


def check(model: type[Checked], data: object, where: str) -> Checked:
    """Build a model from parsed TOML, or raise one ValueError line that names file, key, rule and value.

    Parameters
    ----------
    model : type
        What it has to be.
    data : object
        What the file has.
    where : str
        What an error calls it: the file.

    Returns
    -------
    Checked
        An instance of the model.

    Raises
    ------
    ValueError
        One line that names file, key, rule and value.

    Examples
    --------
    >>> check(Fact, {"grade": "E"}, "a.toml")
    Traceback (most recent call last):
    ValueError: a.toml: grade: must be 'A', 'B', 'C', 'D', 'assumed' or 'observed', got 'E'
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ValueError(f"{where}: {_in_words(error, data)}") from None


RULES = {
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "model_attributes_type": "must be a table",
    "model_type": "must be a table",
    "path_type": "must be a path",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "too_short": "must have at least {min_length} entry, got {actual_length}",
    "tuple_type": "must be a list",
    "union_tag_invalid": "kind must be one of {expected_tags}, got '{tag}'",
    "union_tag_not_found": "kind is missing",
}
"""Where pydantic's words are Python's, not TOML's."""


def _in_words(error: ValidationError, data: Any) -> str:
    """Return the first error as `key: rule, got value`, with tables named by their id or name instead of a number."""
    # an unknown key explains what else went wrong; of the members of a union, the one that was read furthest was meant
    unknown = [e for e in error.errors() if e["type"] == "extra_forbidden"]
    first = unknown[0] if unknown else max(error.errors(), key=lambda e: len(e["loc"]))
    key = _key(first["loc"], data, first["type"] == "missing")
    value = first["input"]
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key (value {value!r})"
    if first["type"] == "missing":
        return f"{key}: missing"
    rule = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if first["type"] in RULES:
        rule = RULES[first["type"]].format_map(first.get("ctx", {}))
    shown = "" if "got " in rule or isinstance(value, dict | list) else f", got {value!r}"
    return f"{key}: {rule}{shown}" if key else f"{rule}{shown}"


def _key(loc: Sequence[str | int], data: Any, missing: bool) -> str:
    """Name the place as a person would: `limits[transactions].at`; its last step may be what is missing."""
    parts: list[str] = []
    for step in loc:
        if isinstance(step, int):
            data = data[step] if isinstance(data, list | tuple) and step < len(data) else None
            named = isinstance(data, Mapping)
            name = next((data[k] for k in ("id", "name", "when", "label") if k in data), None) if named else None
            parts.append(f"[{name or step + 1}]")
        elif isinstance(data, Mapping) and (step in data or (missing and step == loc[-1])):
            data = data.get(step)
            parts.append(f".{step}" if parts else step)
        # else a tag that pydantic adds for the member of a union
    return "".join(parts)


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; a missing, broken or unfathomable one is a ValueError that names it.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        What stands in it.

    Raises
    ------
    ValueError
        If it is missing or broken; the line names it.

    Examples
    --------
    >>> read_toml(Path("nowhere.toml"))
    Traceback (most recent call last):
    ValueError: nowhere.toml: No such file or directory
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, numbers of 5,000 digits, 500 brackets
        raise ValueError(f"{path}: not valid TOML: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """Parse a JSON file that holds an object; a missing or broken one is a ValueError that names it.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        What stands in it.

    Raises
    ------
    ValueError
        If it is missing, broken or no object; the line names it.

    Examples
    --------
    >>> read_json(Path("nowhere.json"))
    Traceback (most recent call last):
    ValueError: nowhere.json: No such file or directory
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: must be an object, got {type(found).__name__}")
    return found


def table_html(rows: Sequence[Mapping[str, object]], caption: str = "") -> str:
    """Return rows of text as an HTML table, as a notebook shows it; an address becomes a link to its host.

    Examples
    --------
    >>> ">learn.microsoft.com</a>" in table_html([{"limit": "30/min", "source": "https://learn.microsoft.com/a"}])
    True
    """
    heads = "".join(f'<th style="text-align: left">{escape(str(name))}</th>' for name in (rows[0] if rows else ()))
    body = "".join(f"<tr>{''.join(f'<td>{_cell(str(value))}</td>' for value in row.values())}</tr>" for row in rows)
    title = f'<caption style="text-align: left; font-weight: bold">{escape(caption)}</caption>' if caption else ""
    return f"<table>{title}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def table_text(rows: Sequence[Mapping[str, object]], caption: str = "") -> str:
    """Return rows of text as a plain table, as a terminal shows it.

    Examples
    --------
    >>> print(table_text([{"limit": "per-minute", "amount": "30/min"}], "office365"))
    office365
    limit       amount
    per-minute  30/min
    """
    columns = [[str(name), *(str(row[name]) for row in rows)] for name in (rows[0] if rows else ())]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*columns, strict=True)
    ]
    return "\n".join([caption, *lines] if caption else lines)


def _cell(text: str) -> str:
    """Escape a text for HTML; an address is shown as its host, linked."""
    if not text.startswith(("https://", "http://")) or " " in text:
        return escape(text)
    return f'<a href="{escape(text)}">{escape(text.split("/")[2])}</a>'


def parse_as(kind: Any, value: object) -> Any:
    """Read one value as a type, with the plain rule as the error."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
