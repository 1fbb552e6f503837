"""Random annotations with values of theirs, for laws of what crosses: the same ones for the same number, in every process.

`faithful` ones must come back as they were; `strange` ones are such that JSON or the annotation loses something of some of them.
Needs nothing but pydantic, so that other versions of Python can make them, too.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableSequence, MutableSet, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path, PurePosixPath
from random import Random
from re import Pattern
from re import compile as pattern
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Optional, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Json,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    SecretStr,
    Tag,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
)
from typing_extensions import TypedDict

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = 2


class Level(StrEnum):
    LOW = "low"


class Size(IntEnum):
    ONE = 1


class Right(Flag):
    READ = 1
    WRITE = 2


class Small(BaseModel):
    a: int
    b: str = "b"


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    a: int
    b: str = "b"


class Larger(Small):
    c: int = 3


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    width: int

    @computed_field
    def area(self) -> int:
        return self.width**2


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Aliased(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)
    first: int = Field(serialization_alias="outName", validation_alias="inName")
    second: int = Field(alias="other")


class Message(BaseModel):
    body: Json[dict[str, int]]


class Written(BaseModel):
    at: datetime

    @field_serializer("at")
    def _at(self, at: datetime) -> str:
        return at.isoformat()


class Whole(BaseModel):
    tags: set[str]

    @model_serializer
    def _whole(self) -> dict[str, Any]:
        return {"tags": set(self.tags)}


class Hidden(BaseModel):
    a: int
    b: int = Field(default=0, exclude=True)


class Lowered(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def _half(cls, name: str) -> str:
        return name.removeprefix("-")


class Noted(BaseModel):
    a: int
    _seen: list[int] = PrivateAttr(default_factory=list)


class Names(RootModel[set[str]]):
    pass


class Box(BaseModel, Generic[T]):
    item: T


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str = "x"


class Held(BaseModel):
    anything: Any
    tags: frozenset[str] = frozenset()
    rights: dict[str, set[int]] = Field(default_factory=dict)


class Guarded(BaseModel):
    word: SecretStr


@dataclass
class Point:
    x: int
    tags: set[str] = field(default_factory=set)
    at: datetime | None = None


@dataclass(frozen=True)
class Pair:
    left: str
    right: int = 0


@dataclass
class Point3(Point):
    z: int = 0


class Numbers(BaseModel):
    them: Iterable[int]


class Row(NamedTuple):
    a: int
    b: str = "b"


class Entry(TypedDict):
    a: int
    b: NotRequired[set[str]]


Shape = Annotated[Cat | Dog, Field(discriminator="kind")]
Tagged = Annotated[
    Annotated[int, Tag("int")] | Annotated[str, Tag("str")], Discriminator(lambda value: "str" if isinstance(value, str) else "int")
]
Sorted = Annotated[list[int], PlainSerializer(lambda numbers: set(numbers))]  # noqa: PLW0108  pydantic wants a function's signature

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = (UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-3)))


def word(random: Random) -> str:
    return random.choice(["", "a", "red", "low", "x y", "ünï", "1", "true", "2026-01-01", "**********"]) + str(random.randrange(50))


def instant(random: Random) -> datetime:
    return datetime(
        2026, random.randint(1, 12), 3, 4, 5, random.choice([0, 59]), random.choice([0, 6, 120_000]), tzinfo=random.choice(ZONES)
    )


def wall(random: Random, fold: int | None = None) -> datetime:
    """What a clock on a wall shows: in an hour that some zones have twice."""
    return datetime(2026, 10, 25, 2, 30, fold=random.randrange(2) if fold is None else fold)  # noqa: DTZ001  that is the point


# Of annotations that are made while this runs: a type checker takes none of those.
LIST: Any = list
DICT: Any = dict
TUPLE: Any = tuple
SET: Any = set
FROZENSET: Any = frozenset
OPTIONAL: Any = Optional
BOX: Any = Box

LEAVES: list[tuple[Any, Any]] = [
    (int, lambda r: r.choice([0, -5, 2**70])),
    (float, lambda r: r.choice([0.5, -0.0, 1e300, 1e16])),
    (bool, lambda r: r.random() < 0.5),
    (str, word),
    (None, lambda r: None),
    (bytes, lambda r: bytes(r.choices(b"abc", k=3))),
    (datetime, instant),
    (AwareDatetime, instant),
    (date, lambda r: date(2026, 1, r.randint(1, 28))),
    (time, lambda r: time(1, 2, r.randint(0, 59), tzinfo=r.choice([None, UTC]))),
    (timedelta, lambda r: timedelta(days=r.randint(-400, 400), microseconds=r.randint(0, 10**6))),
    (Decimal, lambda r: Decimal(r.choice(["1.10", "1E+2", "-0.0"]))),
    (UUID, lambda r: UUID(int=r.getrandbits(128))),
    (IPv4Address, lambda r: IPv4Address(r.getrandbits(32))),
    (IPv6Address, lambda r: IPv6Address((0xFFFF << 32) | r.getrandbits(32))),
    (IPv6Network, lambda r: IPv6Network(f"::ffff:{r.getrandbits(8):x}:0/120")),
    (PurePosixPath, lambda r: PurePosixPath("/a") / word(r)),
    (Path, lambda r: Path("/a")),
    (Colour, lambda r: r.choice(list(Colour))),
    (Level, lambda r: Level.LOW),
    (Size, lambda r: Size.ONE),
    (Literal["a", 1], lambda r: r.choice(["a", 1])),
    (Pattern, lambda r: pattern("a+")),
    (Small, lambda r: Small(a=r.randrange(9))),
    (Frozen, lambda r: Frozen(a=r.randrange(99), b=word(r))),
    (Strict, lambda r: Strict(width=r.randrange(9))),
    (Open, lambda r: Open.model_validate({"a": 1, "more": word(r)})),
    (Aliased, lambda r: Aliased.model_validate({"inName": 1, "other": r.randrange(9)})),
    (Message, lambda r: Message.model_validate({"body": '{"a": 1}'})),
    (Written, lambda r: Written(at=instant(r))),
    (Whole, lambda r: Whole(tags={word(r) for _ in range(6)})),
    (Noted, lambda r: Noted(a=1)),
    (Names, lambda r: Names({word(r) for _ in range(6)})),
    (Box[int], lambda r: Box[int](item=r.randrange(9))),
    (Box[int], lambda r: Box(item=r.randrange(9))),
    (Shape, lambda r: r.choice([Cat(), Dog(name=word(r))])),
    (Tagged, lambda r: r.choice([1, "1"])),
    (Held, lambda r: Held(anything=[1, {"a": None}], tags=frozenset(word(r) for _ in range(6)), rights={"x": {3, 1, 2**40}})),
    (Point, lambda r: Point(1, {word(r) for _ in range(6)}, instant(r))),
    (Pair, lambda r: Pair(word(r))),
    (Row, lambda r: Row(r.randrange(9))),
    (Entry, lambda r: {"a": 1, "b": {word(r) for _ in range(6)}} if r.random() < 0.5 else {"a": 1}),
    (Counter[str], lambda r: Counter("hello"[: r.randint(0, 5)])),
    (OrderedDict[str, int], lambda r: OrderedDict(b=1, a=2)),
    (defaultdict[str, list[int]], lambda r: defaultdict(list, {word(r): [1]})),
    (deque[int], lambda r: deque([1, 2])),
    (Sequence[int], lambda r: [r.randrange(9)]),
    (MutableSequence[int], lambda r: [r.randrange(9)]),
    (AbstractSet[str], lambda r: frozenset(word(r) for _ in range(6))),
    (MutableSet[str], lambda r: {word(r) for _ in range(6)}),
    (datetime, lambda r: datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=r.randrange(2))),
    (datetime, lambda r: datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN, fold=r.randrange(2))),
    (datetime, lambda r: wall(r, 0)),
    (Any, lambda r: {"a": [1, None, 0.5, word(r)]}),
    (dict, lambda r: {word(r): [word(r)]}),
]
HASHABLE = (int, str, bytes, datetime, date, timedelta, UUID, Decimal, Colour, Level, Frozen, Pair, Row, IPv6Address)
KEYS = (str, int, date, UUID, Level, Decimal, IPv6Address)

STRANGE: list[tuple[Any, Any]] = [
    (Box[bytes], lambda r: Box[bytes](item=r.randbytes(3))),
    (Small, lambda r: Larger(a=1)),
    (Point, lambda r: Point3(1)),
    (Hidden, lambda r: Hidden(a=1, b=r.randrange(2))),
    (Lowered, lambda r: Lowered(name=f"--{word(r)}")),
    (Guarded, lambda r: Guarded(word=SecretStr(word(r)))),
    (Right, lambda r: r.choice([Right.READ, Right.READ | Right.WRITE])),
    (str, lambda r: Level.LOW),
    (int, lambda r: r.choice([True, Size.ONE])),
    (float, lambda r: r.choice([5, 2**60 + 1, True, float("nan")])),
    (Colour | str, lambda r: r.choice([Colour.RED, "red", "blue"])),
    (Level | str, lambda r: r.choice([Level.LOW, "low"])),
    (int | Size, lambda r: r.choice([Size.ONE, 1])),
    (Cat | Dog, lambda r: r.choice([Cat(), Dog()])),
    (Small | Larger, lambda r: r.choice([Small(a=1), Larger(a=1)])),
    (Point | Point3, lambda r: r.choice([Point(1), Point3(1)])),
    (str | UUID, lambda r: r.choice([str(UUID(int=5)), UUID(int=5)])),
    (bytes | str, lambda r: r.choice([b"abcd", "abcd"])),
    (date | datetime, lambda r: r.choice([date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)])),
    (date, instant),
    (datetime, lambda r: datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=3208)))),
    (int | float, lambda r: r.choice([1, 1.0])),
    (bool | int, lambda r: r.choice([True, 1])),
    (set[int] | frozenset[int], lambda r: r.choice([{1, 2}, frozenset({1, 2})])),
    (list[int] | tuple[int, ...], lambda r: r.choice([[1, 2], (1, 2)])),
    (Sequence[int], lambda r: r.choice([[1, 2], (1, 2), range(2)])),
    (Mapping[str, int], lambda r: r.choice([{"a": 1}, Counter("aa"), OrderedDict(a=1)])),
    (dict[str, int], lambda r: Counter("ab")),
    (tuple[int, str], lambda r: Row(1)),
    (Row, lambda r: (1, "b")),
    (deque[int], lambda r: deque([1], maxlen=3)),
    (Annotated[deque[int], Field(max_length=3)], lambda r: deque([1], maxlen=3)),
    (datetime, wall),
    (time, lambda r: time(2, 30, fold=r.randrange(2))),
    (time, lambda r: time(2, 30, tzinfo=BERLIN)),
    (set[datetime], lambda r: {wall(r)}),
    (Point, lambda r: Point(1, at=wall(r))),
    (Collection[int], lambda r: r.choice([[1], (1,), {1}, frozenset({1}), range(2), deque([1]), {1: 2}.keys()])),
    (Iterable[int], lambda r: r.choice([[1], (1,), {1}, range(2), deque([1]), iter([1]), (n for n in (1, 2))])),
    (Iterable[str], lambda r: r.choice(["ab", b"ab", ["ab"], {"ab": 1}])),
    (Sequence[str], lambda r: r.choice(["ab", b"ab", ("ab",), Row(1)])),
    (AbstractSet[int], lambda r: r.choice([{1}, frozenset({1}), {1: 2}.keys()])),
    (Iterator[int], lambda r: iter([1])),
    (Numbers, lambda r: Numbers(them=(n for n in (1, 2)))),
    (Pattern, lambda r: pattern("a", r.choice([0, 2]))),
    (Sorted, lambda r: r.sample(range(10**6, 10**6 + 99), 4)),
    (Held, lambda r: Held(anything=r.choice([{word(r) for _ in range(6)}, (1, 2), Small(a=1), Colour.RED]))),
    (Small, lambda r: {"a": 1}),
    (Point, lambda r: {"x": 1}),
    (Entry, lambda r: {"a": 1, "more": 2}),
    (dict[tuple[int, str], int], lambda r: {(1, word(r)): 1}),
    (dict[frozenset[str], int], lambda r: {frozenset(word(r) for _ in range(6)): 1}),
    (dict, lambda r: {r.choice([1, 1.5, True, None, (1, 2)]): 1}),
    (dict[int | str, int], lambda r: {1: 1, "1": 2}),
    (Any, lambda r: {word(r) for _ in range(6)}),
    (object, lambda r: [frozenset(word(r) for _ in range(6))]),
    (Any, lambda r: object()),
    (Box[Any], lambda r: Box[Any](item=object())),
]


def faithful(random: Random, depth: int = 2) -> tuple[Any, Any]:
    """An annotation and a value that must come back as it is."""
    if depth == 0 or random.random() < 0.4:
        annotation, make = random.choice(LEAVES)
        return annotation, make(random)
    return _container(random, *faithful(random, depth - 1), depth)


def strange(random: Random) -> tuple[Any, Any]:
    """An annotation and a value that may be refused, or must come back as it is."""
    annotation, make = random.choice(STRANGE)
    value = make(random)
    return random.choice([(annotation, value), (LIST[annotation], [value]), (DICT[str, annotation], {"k": value})])


def _container(random: Random, annotation: Any, value: Any, depth: int) -> tuple[Any, Any]:
    kind = random.randrange(7)
    if kind == 0:
        return LIST[annotation], [value] * random.randint(0, 2)
    if kind == 1:
        key, make = random.choice([leaf for leaf in LEAVES if leaf[0] in KEYS])
        return DICT[key, annotation], {make(random): value for _ in range(random.randint(0, 3))}
    if kind == 2:
        other, second = faithful(random, depth - 1)
        return TUPLE[annotation, other], (value, second)
    if kind == 3:
        return OPTIONAL[annotation], random.choice([value, None])
    if kind == 4:
        item, make = random.choice([leaf for leaf in LEAVES if leaf[0] in HASHABLE])
        items = [make(random) for _ in range(random.randint(0, 8))]
        return (SET[item], set(items)) if random.random() < 0.5 else (FROZENSET[item], frozenset(items))
    if kind == 5:
        return TUPLE[annotation, ...], (value,) * random.randint(0, 2)
    return BOX[annotation], BOX[annotation](item=value)
