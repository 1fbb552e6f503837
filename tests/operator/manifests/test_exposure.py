"""How an AikiServer is reached: Services for load balancers, Ingresses of several hosts, routes of the Gateway API."""

from __future__ import annotations

from typing import Any

import pytest

from aiki_operator.manifests import ingress, service
from aiki_operator.plan.difference import covers, marked, must_write
from aiki_operator.plan.server.exposed import route_accepted
from support.operator.fake_kubernetes import FakeKubernetes
from support.operator.objects import parsed, server_body
from support.operator.turns import SERVER, Operator, condition, patch, ready

ROUTE = ("HTTPRoute", "shop", "aiki")
GATEWAY = {"parentRefs": [{"name": "public", "namespace": "edge", "sectionName": "https"}], "hosts": ["aiki.example.com"]}


def rules(**wanted: Any) -> dict[str, Any]:
    spec = parsed(ingress=wanted)
    assert spec.ingress is not None
    found: dict[str, Any] = ingress.ingress(spec, spec.ingress)["spec"]
    return found


# ---- Service and Ingress ------------------------------------------------------------------------------------------


def test_what_a_load_balancer_needs_reaches_the_service() -> None:
    wanted = {"loadBalancerClass": "internal", "loadBalancerSourceRanges": ["10.0.0.0/8"], "externalTrafficPolicy": "Local"}
    made = service.server(parsed(service={"type": "LoadBalancer", "nodePort": 30080, **wanted}))["spec"]
    assert {name: made[name] for name in wanted} == wanted
    assert made["ports"][0]["nodePort"] == 30080
    bare = service.server(parsed())["spec"]
    assert not {*wanted} & bare.keys()
    assert "nodePort" not in bare["ports"][0]


def test_hosts_with_one_certificate_stand_together() -> None:
    hosts = [
        {"host": "a", "tlsSecretName": "wild"},
        {"host": "b"},
        {"host": "c", "tlsSecretName": "own"},
        {"host": "d", "tlsSecretName": "wild"},
    ]
    made = rules(hosts=hosts, path="/aiki")
    assert [(one["host"], one["http"]["paths"][0]["path"]) for one in made["rules"]] == [(name, "/aiki") for name in "abcd"]
    assert made["tls"] == [{"hosts": ["a", "d"], "secretName": "wild"}, {"hosts": ["c"], "secretName": "own"}]


def test_one_host_is_a_list_of_one() -> None:
    assert rules(host="a", tlsSecretName="s") == rules(hosts=[{"host": "a", "tlsSecretName": "s"}])
    assert "tls" not in rules(host="a")


# ---- Gateway API --------------------------------------------------------------------------------------------------


def test_route_leads_from_the_gateways_to_the_service() -> None:
    spec = parsed(gateway=GATEWAY, service={"port": 80})
    assert spec.gateway is not None
    made = ingress.route(spec, spec.gateway)
    assert made["spec"]["parentRefs"] == [
        {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "edge", "sectionName": "https"}
    ]
    (backend,) = made["spec"]["rules"][0]["backendRefs"]
    assert (backend["name"], backend["port"]) == ("aiki", service.server(spec)["spec"]["ports"][0]["port"])
    assert made["spec"]["hostnames"] == ["aiki.example.com"]


def test_two_listeners_of_one_gateway_are_two() -> None:
    """Lists of named things are compared by name; these two have the same."""
    spec = parsed(gateway={"parentRefs": [{"name": "g", "sectionName": "http"}, {"name": "g", "sectionName": "https"}]})
    assert spec.gateway is not None
    made = marked(ingress.route(spec, spec.gateway))
    assert not must_write(made, made)
    other = {**made, "spec": {**made["spec"], "parentRefs": made["spec"]["parentRefs"][1:]}}
    assert must_write(other, made)
    assert covers([{"name": "a", "more": 1}, {"name": "b"}], [{"name": "b"}, {"name": "a"}])


def answered(*answers: tuple[str, str]) -> dict[str, Any]:
    return {
        "status": {
            "parents": [
                {"parentRef": {"name": "public"}, "conditions": [{"type": kind, "status": status, "reason": "R", "message": "why"}]}
                for kind, status in answers
            ]
        }
    }


@pytest.mark.parametrize(
    ("live", "word", "reason"),
    [
        (None, "Unknown", "Pending"),
        ({}, "Unknown", "Pending"),
        (answered(("Accepted", "True")), "True", "Accepted"),
        (answered(("Accepted", "False")), "False", "R"),
        (answered(("Accepted", "True"), ("ResolvedRefs", "False")), "False", "R"),
    ],
)
def test_condition_says_what_the_gateways_say(live: dict[str, Any] | None, word: str, reason: str) -> None:
    (found,) = route_accepted(parsed(gateway=GATEWAY), live)
    assert (found.word, found.reason) == (word, reason)
    assert route_accepted(parsed(), live) == ()


async def test_route_comes_and_goes_with_the_field(kubernetes: FakeKubernetes, cluster: Any) -> None:
    kubernetes.put(server_body(gateway=GATEWAY))
    operator = Operator(kubernetes, cluster)
    await operator.server_until_ready()
    assert ROUTE in kubernetes.objects
    assert ready(kubernetes, SERVER) == ("True", "Ready"), "a route that no gateway has answered keeps nothing from being ready"
    kubernetes.status(ROUTE, **answered(("Accepted", "False"))["status"])
    await operator.server()
    assert ready(kubernetes, SERVER) == ("False", "R")
    patch(kubernetes, SERVER, gateway=None)
    await operator.server()
    assert ROUTE not in kubernetes.objects


async def test_cluster_without_the_gateway_api_is_told_so_and_asked_once(kubernetes: FakeKubernetes, cluster: Any) -> None:
    kubernetes.absent.add("HTTPRoute")
    kubernetes.put(server_body())
    operator = Operator(kubernetes, cluster)
    await operator.server_until_ready()
    assert ready(kubernetes, SERVER) == ("True", "Ready")
    assert sum(1 for _, _, resource in kubernetes.asked if resource == "httproutes") == 1
    patch(kubernetes, SERVER, gateway=GATEWAY, replicas=2)
    await operator.server()
    stalled = condition(kubernetes, SERVER, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "ManifestRefused")
    assert "install its CRDs" in stalled["message"]
    assert kubernetes.objects["Deployment", "shop", "aiki"]["spec"]["replicas"] == 2, "it concerns the route and nothing else"
