"""I45: what outlives a request is never keyed by a name alone, for the next namespace has the same names."""

from __future__ import annotations

import ast
from pathlib import Path

import aiki_server

SERVER = Path(aiki_server.__file__).parent
KEYED = {"dict", "Mapping", "MutableMapping", "defaultdict", "set", "frozenset", "OrderedDict", "Counter", "WeakValueDictionary"}
BY_NO_NAME = {
    "auth.Tokens.__init__._namespaces": "by the digest of a token",
    "claims._Room.__init__._left": "by namespace",
    "consumers.Consumers.__init__._known": "by a key of Redis, which begins with the namespace",
    "notifier.Doorbell.__init__.spoiled": "by a key of Redis, which begins with the namespace",
    "health.Health.__init__._shown": "by namespace",
    "heavy.Heavy.__init__._turns": "by namespace",
    "origin.Origins.__init__._known": "by values of the Host header",
    "outcomes.Names.__init__._kept": "of one namespace",
    "outcomes.Outcomes.__init__.tenants": "by namespace",
    "outcomes.Tenant.__init__.ended": "of one namespace",
    "outcomes.Tenant.__init__.events": "of one namespace",
    "outcomes.Tenant.__init__.queued": "of one namespace",
    "pools.Pools.__init__._open": "by namespace",
    "quotas.Quotas.__init__._usages": "by namespace",
    "redis_users.RedisUsers.__init__._users": "by namespace",
    "registry.Registry.__init__._parts": "by namespace",
    "routes._Routes.__init__._of_run": "by method and path",
    "routes._Routes.__init__._plain": "by method and path",
    "shares.Shares.__init__._accounts": "by namespace",
    "counters.Tally.__init__._arrivals": "by a key of Redis, which begins with the namespace",
    "counters.Tally.__init__._served": "by a key of Redis, which begins with the namespace",
    "traffic.Traffic.__init__.answers": "by method, route and class of status",
    "traffic.Traffic.__init__.seconds": "by method and route",
    "turns.Turns.__init__._of_namespace": "by namespace",
    "scale_up.Wakes.__init__._marked": "by namespace",
    "scale_up.Wakes.__init__._waiting": "by namespace",
}
"""State whose keys are text, or tuples of text, and yet no names that two namespaces may share."""


def kept(path: Path) -> list[str]:
    """The attributes of a module's classes that are collections found by text, as `module.Class.method.attribute`."""
    tree = ast.parse(path.read_text())
    return [
        f"{path.stem}.{owner.name}.{method.name}.{target.attr}"
        for owner in ast.walk(tree)
        if isinstance(owner, ast.ClassDef)
        for method in owner.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(method)
        if isinstance(node, ast.AnnAssign) and isinstance(target := node.target, ast.Attribute) and found_by_text(node.annotation)
    ]


def found_by_text(annotation: ast.expr) -> bool:
    if not (isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name) and annotation.value.id in KEYED):
        return False
    key = annotation.slice.elts[0] if isinstance(annotation.slice, ast.Tuple) else annotation.slice
    return ast.unparse(key).startswith(("str", "bytes", "tuple[str", "object", "Any"))


def test_state_is_keyed_by_types_that_have_a_namespace():
    modules = [path for folder in ("api", "engine", "model", "store") for path in sorted((SERVER / folder).rglob("*.py"))]
    found = {name for path in modules for name in kept(path)}
    assert found - BY_NO_NAME.keys() == set(), "key it by a type of model/keys.py, which cannot be made without a namespace"


def test_the_law_finds_what_it_is_for(tmp_path):
    module = tmp_path / "registry.py"
    module.write_text(
        "class R:\n    def __init__(self):\n        self.a: dict[str, int] = {}\n        self.b: dict[tuple[str, str], int] = {}\n"
    )
    assert kept(module) == ["registry.R.__init__.a", "registry.R.__init__.b"]
