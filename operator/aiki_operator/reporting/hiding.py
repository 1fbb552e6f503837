"""What others say of an object, without the values of its variables: conditions, events and logs are read by more people than pods are (I46).

The API server quotes what it refuses, webhooks quote what they like, and the last line of a container that has ended is whatever its program wrote
last. Of all these a condition keeps the place and the rule.

A value is known from the object that the words are about: those of `env` at any depth, and all of a Secret. It is taken out in every form in which it
may be quoted. What is shorter than six characters would be found everywhere; it is hidden by the shape of the API server's sentences, which put values
behind `Invalid value:` and `got`.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aiki.shared.redaction import HIDDEN, Redactor, without_users

Json = Mapping[str, Any]

_GOT = re.compile(r"(?<=, )got [^;]*")
"""`expected string, got &value.valueUnstructured{Value:1234}`"""
_WHOLE = re.compile(r"(?<=Invalid value: )(?:&?[\w.*\[\]]*[{\[].*[}\]]|\d[^:]*)", re.DOTALL)
"""A map, a list or a number, as Go or as JSON writes them: of a Job that must not change, the whole pod template with all its variables."""
_RAISED = re.compile(r"([A-Za-z_][\w.]*)(?:: .*)?")
"""How the last line of Python's tracebacks begins."""
_SAYING = frozenset(
    {"ModuleNotFoundError", "ImportError", "SyntaxError", "IndentationError", "NameError", "FileNotFoundError", "PermissionError"}
)
"""Errors of Python whose words are about programs and files, and never about data."""
_DATA = re.compile(r"\b(?:STATEMENT|DETAIL|CONTEXT|QUERY):")
"""Where Postgres repeats what it was sent."""
SERVICES = frozenset({"postgres", "redis", "backup", "restore"})
"""Containers whose last line is of Postgres's, Valkey's or pgBackRest's own making."""


def hiding(manifest: Json) -> Callable[[str], str]:
    """A function that takes the values of an object's variables, or of a Secret, out of what somebody says of the object.

    >>> pod = {"kind": "Pod", "spec": {"containers": [{"env": [{"name": "PASSWORD", "value": "hunter22"}]}]}}
    >>> hiding(pod)('env PASSWORD=hunter22 is not allowed')
    'env PASSWORD=*** is not allowed'
    """
    known = Redactor(_values(manifest))
    return lambda text: known(unquoted(text))


def unquoted(text: str) -> str:
    """A sentence of the API server without what it quotes in whole.

    >>> unquoted('.spec.env[name="PIN"].value: expected string, got &value.valueUnstructured{Value:1234}')
    '.spec.env[name="PIN"].value: expected string, got something else'
    >>> unquoted('spec.template: Invalid value: core.PodTemplateSpec{Spec: {Env: "x"}}: field is immutable')
    'spec.template: Invalid value: ***: field is immutable'
    """
    return _WHOLE.sub(HIDDEN, _GOT.sub("got something else", text))


def last_words(message: str | None, container: str = "") -> str:
    r"""Why a program says that it has ended, by the last line that Kubernetes kept of its log; empty where the line is the program's own business.

    >>> last_words("Traceback\nValueError: cannot charge 4111"), last_words("Traceback\nImportError: no module named flows")
    ('ValueError', 'ImportError: no module named flows')
    >>> last_words('{"event": "database not reached", "error": "OSError: no route to host"}')
    'database not reached: OSError: no route to host'
    """
    lines = (message or "").strip().splitlines()
    last = lines[-1].strip() if lines else ""
    if (said := _event(last)) is not None:
        return said
    if container in SERVICES:
        return "" if _DATA.search(last) else last
    found = _RAISED.fullmatch(last)
    if found is None or not found[1].endswith(("Error", "Exception", "Exit", "Interrupt", "Timeout")):
        return ""
    return without_users(last) if found[1] in _SAYING else found[1]


def _event(line: str) -> str | None:
    """Of a line of our own logs, which have been redacted where they were written."""
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("event"), str):
        return ""
    error = fields.get("error") or str(fields.get("traceback") or "").strip().rpartition("\n")[2]
    return f"{fields['event']}: {error}" if isinstance(error, str) and error else fields["event"]


def _values(value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        return
    if value.get("kind") == "Secret":
        yield from _of_secret(value)
    yield from _of_variables(value)


def _of_secret(secret: Json) -> Iterator[str]:
    for text in (secret.get("stringData") or {}).values():
        yield str(text)
    for coded in (secret.get("data") or {}).values():
        yield str(coded)
        try:
            yield b64decode(coded).decode()
        except ValueError:  # no text, so nothing that a sentence could hold
            continue


def _of_variables(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, member in value.items():
            if name == "env" and isinstance(member, list):
                yield from (str(one["value"]) for one in member if isinstance(one, Mapping) and one.get("value") is not None)
            elif name != "managedFields":
                yield from _of_variables(member)
    elif isinstance(value, list):
        for item in value:
            yield from _of_variables(item)
