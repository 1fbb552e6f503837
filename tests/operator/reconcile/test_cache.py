"""What is known of the cluster: watches, listings and our own writes may arrive in any order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aiki_operator.kubernetes.cache import ClusterCache, Key, differs_in_status_only, key_of, owner_of
from aiki_operator.names import POOL_LABEL, SERVER_LABEL

laws = settings(deadline=None)  # a busy machine breaks no law


def body(name: str = "p", version: int = 1, *, kind: str = "Pod", namespace: str = "shop", **labels: str) -> dict[str, Any]:
    named = {f"aiki.dev/{label}": value for label, value in labels.items()}
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace, "resourceVersion": str(version), "labels": named}}


KEY = Key("Pod", "shop", "p")


@laws
@given(st.permutations(range(1, 6)))
def test_newest_version_wins_in_any_order(versions: list[int]) -> None:
    store = ClusterCache()
    changed = [store.put(body(version=version)) for version in versions]
    assert store.get(KEY) == body(version=5)
    assert changed[0]
    assert not store.put(body(version=5))


def test_versions_are_numbers_and_not_words() -> None:
    store = ClusterCache()
    store.put(body(version=10))
    assert not store.put(body(version=9))


def test_objects_are_found_by_the_resource_that_they_were_made_for() -> None:
    store, pool, server = ClusterCache(), Key("AikiWorkerPool", "shop", "a"), Key("AikiServer", "shop", "aiki")
    of_pool, of_server = body("p", server="aiki", pool="a"), body("q", server="aiki")
    store.put(of_pool)
    store.put(of_server)
    store.put(body("r"))
    assert (store.owned(pool, "Pod"), store.owned(server, "Pod"), store.owned(pool, "Job")) == ([of_pool], [of_server], [])
    store.drop(key_of(of_pool))
    assert (store.owned(pool, "Pod"), store.get(key_of(of_pool)), len(store)) == ([], None, 2)
    store.drop(key_of(of_pool))


def test_owner_is_named_by_labels() -> None:
    assert owner_of(body()) is None
    assert owner_of({"kind": "Pod", "metadata": {"name": "p", "labels": None}}) is None
    assert (POOL_LABEL, SERVER_LABEL) == ("aiki.dev/pool", "aiki.dev/server")


def test_listing_heals_what_a_watch_has_missed() -> None:
    store = ClusterCache()
    store.put(body("gone", 3))
    store.put(body("younger", 9))
    store.put(body("elsewhere", 3, namespace="other"))
    store.put(body("deployment", 3, kind="Deployment"))
    store.relist("Pod", [body("kept", 2)], 5, namespace="shop")
    assert {key_of(one).name for one in store.all("Pod")} == {"kept", "younger", "elsewhere"}
    assert store.get(Key("Deployment", "shop", "deployment")) is not None
    store.relist("Pod", [], 100, namespace=None)
    assert store.all("Pod") == []


def test_only_a_status_that_was_written_is_no_reason_to_look_again() -> None:
    known = {**body(), "spec": {"replicas": 1}, "status": {"readyReplicas": 0}}
    younger = {**known["metadata"], "resourceVersion": "2", "managedFields": [{"manager": "aiki-operator"}]}
    assert differs_in_status_only(known, {**known, "metadata": younger, "status": {"readyReplicas": 1}})
    assert not differs_in_status_only(None, known)
    assert not differs_in_status_only(known, {**known, "spec": {"replicas": 2}})
    assert not differs_in_status_only(known, {**known, "metadata": {**younger, "annotations": {"aiki.dev/promote": "a"}}})
    assert not differs_in_status_only(known, {**known, "metadata": {**younger, "deletionTimestamp": "2026-01-01T00:00:00Z"}})
