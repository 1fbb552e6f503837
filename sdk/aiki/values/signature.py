"""The parameters of a task: from what the code passes to canonical JSON, and to the values that the task is given.

The canonical form is by parameter name, so a call by keyword is the call by position, and without parameters that hold their
default, so that adding one with a default changes no address. A task is given copies, as they read back from JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import BoundArguments, Parameter, Signature, signature
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final, get_type_hints

from aiki.errors import PayloadError
from aiki.values.address import is_default, without_defaults
from aiki.values.codec import Codec, canonical
from aiki.values.fresh import fresh
from aiki.values.names import place_of

_PLAIN_KINDS: Final = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def canonical_arguments(texts: Mapping[str, str]) -> str:
    """The canonical JSON object of such texts: its hash is in the address."""
    if len(texts) == 1:
        ((name, text),) = texts.items()
        return f"{{{quoted(name)}:{text}}}"
    return "{" + ",".join([f"{quoted(name)}:{texts[name]}" for name in sorted(texts)]) + "}"


class Arguments:
    """What one call passes: a copy of its own for each that asks, for what has it may change it."""

    __slots__ = ("_parameters", "_taken", "_texts", "_values")

    def __init__(self, parameters: Parameters, values: dict[str, Any], texts: dict[str, str]) -> None:
        self._parameters = parameters
        self._values = values
        self._texts = texts
        self._taken = False

    def take(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments; those after the first are read from their text again."""
        values = self._values
        if self._taken and self._texts:
            values = values | {name: self._parameters.codecs[name].decode_text(text) for name, text in self._texts.items()}
        self._taken = True
        return self._parameters.call_with(values)


class Parameters:
    """The parameters of one function, behind the first `skip` ones."""

    __slots__ = ("_codecs", "_defaults", "_function", "_mutable", "_names", "_positional", "_signature", "_simple")

    def __init__(self, function: Callable[..., Any], *, skip: int = 0) -> None:
        whole = signature(function)
        parameters = list(whole.parameters.values())[skip:]
        self._function: Final = function
        self._signature: Final = Signature(parameters)
        self._names: Final = tuple(parameter.name for parameter in parameters)
        self._simple: Final = all(parameter.kind in _PLAIN_KINDS for parameter in parameters)
        self._positional: Final = sum(parameter.kind is Parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)
        self._defaults: Final = {parameter.name: parameter.default for parameter in parameters}
        self._mutable: Final = [name for name, default in self._defaults.items() if fresh(default) is not default]
        self._codecs: dict[str, Codec[Any]] | None = None

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Values by parameter name, without those left to their default. TypeError where Python would raise it."""
        if self._simple and not kwargs and len(args) == len(self._names) == self._positional:
            return dict(zip(self._names, args, strict=True))
        return dict(self._signature.bind(*args, **kwargs).arguments)

    def texts(self, bound: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
        """The canonical JSON of each value that is not its parameter's default; and, of those that are no scalars, JSON's own types."""
        codecs = self.codecs
        texts: dict[str, str] = {}
        written: dict[str, Any] = {}
        for name, value in bound.items():
            codec = codecs[name]
            try:
                if type(value) is codec.scalar:
                    if not is_default(value, self._defaults[name]):
                        texts[name] = canonical(value)
                    continue
                written[name] = told = codec.jsonable(value)
                if not is_default(value, self._defaults[name]):
                    texts[name] = canonical(without_defaults(value, told))
            except PayloadError as error:
                raise self._refused(name, error) from error
        return texts, written

    def arguments(self, bound: Mapping[str, Any], written: Mapping[str, Any]) -> Arguments:
        """The values as a task sees them: written to JSON and read back. PayloadError where one does not come back as it was."""
        if not written:
            return Arguments(self, dict(bound), {})
        values = dict(bound)
        texts: dict[str, str] = {}
        for name, told in written.items():
            try:
                texts[name], values[name] = self.codecs[name].read_back(bound[name], told)
            except PayloadError as error:
                raise self._refused(name, error) from error
        return Arguments(self, values, texts)

    def _refused(self, name: str, error: PayloadError) -> PayloadError:
        return PayloadError(f"{self._function.__qualname__}({name}=…): {error}")

    def call_with(self, values: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments that pass these values."""
        if self._simple:
            return (), values
        bound = BoundArguments(self._signature, values)
        return bound.args, bound.kwargs

    def with_fresh_defaults(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same call, with copies of the defaults that it could change: Python would hand the same object to the next one."""
        if not self._mutable:
            return args, kwargs
        bound = self._signature.bind(*args, **kwargs)
        given = set(bound.arguments)
        bound.apply_defaults()
        bound.arguments.update({name: fresh(self._defaults[name]) for name in self._mutable if name not in given})
        return bound.args, bound.kwargs

    @property
    def codecs(self) -> dict[str, Codec[Any]]:
        """Made at first use: annotations may name what is defined below the function."""
        if self._codecs is None:
            hints = type_hints(self._function)
            self._codecs = {
                parameter.name: Codec(_whole_annotation(parameter, hints.get(parameter.name, Any)))
                for parameter in self._signature.parameters.values()
            }
        return self._codecs


def type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function, resolved."""
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise PayloadError(
            f"{function.__qualname__} ({place_of(function)}) is annotated with {error.name!r}, which is not defined in its module: "
            "define it at the top level, or leave out `from __future__ import annotations`"
        ) from error


def _whole_annotation(parameter: Parameter, annotation: Any) -> Any:
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return tuple[annotation, ...]
    return dict[str, annotation] if parameter.kind is Parameter.VAR_KEYWORD else annotation
