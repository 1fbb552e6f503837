"""Addresses are for ever: golden values, and what may change in the code without changing them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from aiki.values.address import address, child_id
from aiki.values.signature import Parameters, canonical_arguments


class Old(BaseModel):
    name: str


class New(BaseModel):
    name: str
    nick: str | None = None
    tags: list[str] = Field(default_factory=list)
    age: int = 18
    inner: Old = Old(name="x")


@dataclass
class Flat:
    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list)


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


def text_of(function: Any, *args: Any, **kwargs: Any) -> str:
    parameters = Parameters(function)
    bound = parameters.bind(args, kwargs)
    return canonical_arguments(parameters.texts(bound)[0])


def copies_of(parameters: Parameters, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    bound = parameters.bind(args, kwargs)
    return parameters.arguments(bound, parameters.texts(bound)[1]).take()


def charge(amount: int, to: str = "me", *, note: str = "") -> None: ...
def charge_before(amount: int) -> None: ...
def greet(who: Old) -> None: ...
def greet_new(who: New) -> None: ...
def greet_many(who: list[New]) -> None: ...
def greet_old_many(who: list[Old]) -> None: ...
def flat(point: Flat) -> None: ...
def pet(animal: Cat | Dog) -> None: ...
def variadic(first: int, *rest: int, **named: str) -> None: ...
def untyped(value): ...
def truth(value: Any = 1) -> None: ...


@pytest.mark.parametrize(
    ("kind", "name", "text", "expected"),
    [
        ("task", "charge", '{"amount":10}', "task:charge:1qLiLgv6QoWBI64hR_jgkBT"),
        ("sleep", "", "86400000000", "sleep::1uM6h_ui3N3Oaa07P0DO8W-"),
        ("event", "verified", "null", "event:verified:1dCNOmK_nSY-12vHzasLXis"),
        ("child", "flow@1.0", "{}", "child:flow@1.0:1RBNvo1WzZ4oRRq0W9-hknp"),
    ],
)
def test_addresses_are_those_of_every_release(kind: str, name: str, text: str, expected: str) -> None:
    assert address(kind, name, text) == expected


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (text_of(charge, 10), '{"amount":10}'),
        (text_of(charge, amount=10), '{"amount":10}'),
        (text_of(charge, 10, "me", note=""), '{"amount":10}'),
        (text_of(charge_before, 10), '{"amount":10}'),
        (text_of(charge, 10, "ann"), '{"amount":10,"to":"ann"}'),
        (text_of(greet, Old(name="ann")), '{"who":{"name":"ann"}}'),
        (text_of(greet_new, New(name="ann")), '{"who":{"name":"ann"}}'),
        (text_of(greet_new, New(name="ann", tags=["a"], age=19)), '{"who":{"age":19,"name":"ann","tags":["a"]}}'),
        (text_of(greet_many, [New(name="ann")]), text_of(greet_old_many, [Old(name="ann")])),
        (text_of(flat, Flat(1)), '{"point":{"x":1}}'),
        (text_of(pet, Cat()), '{"animal":{"kind":"cat"}}'),
        (text_of(pet, Dog()), '{"animal":{"kind":"dog"}}'),
        (text_of(variadic, 1, 2, 3, a="x"), '{"first":1,"named":{"a":"x"},"rest":[2,3]}'),
        (text_of(untyped, {"b": 1, "a": "ü"}), '{"value":{"a":"\\u00fc","b":1}}'),
        (text_of(truth, True), '{"value":true}'),
        (text_of(truth, 1.0), '{"value":1.0}'),
        (text_of(truth, 1), "{}"),
    ],
)
def test_equal_arguments_have_one_text(call: str, expected: str) -> None:
    assert call == expected


def test_generated_models_work_like_written_ones() -> None:
    model = create_model("Made", name=(str, ...), extra=(int, 3))

    def made(value): ...

    made.__annotations__ = {"value": model}
    assert text_of(made, model(name="a")) == '{"value":{"name":"a"}}'


@pytest.mark.parametrize("args", [(), (1, 2, 3, 4), ("x", "y", "z")])
def test_wrong_arguments_raise_as_in_python(args: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        text_of(charge, *args)


def test_arguments_are_copied_and_typed() -> None:
    given = [New(name="ann")]
    _, copies = copies_of(Parameters(greet_many), given)
    assert copies == {"who": given}
    assert copies["who"][0] is not given[0]


def test_variadic_arguments_come_back_in_place() -> None:
    assert copies_of(Parameters(variadic), 1, 2, 3, a="x") == ((1, 2, 3), {"a": "x"})


def test_child_id_is_made_of_shard_time_parent_and_number() -> None:
    parent = "07" + "0" * 30
    made = child_id(parent, 3, 1_700_000_000_123_456)
    assert made == child_id(parent, 3, 1_700_000_000_123_999)
    assert made[:14] == "07" + f"{1_700_000_000_123:012x}"
    assert len(made) == 32
    assert made != child_id(parent, 4, 1_700_000_000_123_456)
    assert made[14:] == "e0588dcdaaf2bc7aef"
