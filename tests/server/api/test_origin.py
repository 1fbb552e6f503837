"""A server on loopback answers to nobody but this machine, whatever a browser on it was made to send (a page of another's, a name that was bound anew)."""

from __future__ import annotations

import pytest
from starlette.routing import Route

from aiki.protocol import LOOPBACK
from aiki_server.api.edge.origin import Origins
from aiki_server.settings import Settings

REBOUND = {"host": "evil.example:8080", "origin": "http://evil.example:8080"}
FORM = {"host": "localhost:8080", "origin": "https://evil.example", "sec-fetch-site": "cross-site", "content-type": "application/x-www-form-urlencoded"}  # fmt: skip
NEIGHBOUR = {"host": "localhost:8080", "origin": "http://localhost:3000", "sec-fetch-site": "same-site"}
IMAGE = {"host": "127.0.0.1:8080", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
NAMELESS: dict[str, str] = {}
STRANGE = {"rebound": REBOUND, "form": FORM, "neighbour": NEIGHBOUR, "image": IMAGE, "nameless": NAMELESS}
OURS = ({"host": "localhost:8080"}, {"host": "127.0.0.1"}, {"host": "[::1]:8080"}, {"host": "LOCALHOST:1"})
TYPED = {"host": "localhost:8080", "sec-fetch-site": "none", "sec-fetch-mode": "navigate"}
OWN_PAGE = {"host": "localhost:8080", "origin": "http://localhost:8080", "sec-fetch-site": "same-origin"}
LINK = {"host": "localhost:8080", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


@pytest.fixture
async def local(start_server):
    """A server without tokens, on loopback: what a page can reach most of."""
    return await start_server(hosts=LOOPBACK, tokens={})


@pytest.mark.parametrize("headers", STRANGE.values(), ids=STRANGE)
async def test_no_route_answers_a_strange_request(local, headers):
    run = (await local.request("POST", "/api/v1/runs", value={"workflow": "flow"}, headers={"host": "localhost"})).json()["id"]
    routes = [route for route in local.app._app.routes if isinstance(route, Route)]
    asked = [(method, route.path) for route in routes for method in sorted(route.methods or ())]
    assert len(asked) > 30
    for method, path in asked:
        named = path.format(run=run, ref="r", pool="p", build="b", worker="w", pod="p", path="x")
        reply = await local.request(method, named, headers=headers)
        assert (reply.status, "evil" in reply.body.decode()) == (403, False), f"{method} {path}"
    reply = await local.request("GET", "/nowhere", headers=headers)
    assert reply.status == 403
    shown = await local.request("GET", f"/api/v1/runs/{run}", headers={"host": "localhost"})
    assert (shown.json()["status"], shown.json()["pause_requested"]) == ("queued", False)


@pytest.mark.parametrize("headers", [*OURS, TYPED, OWN_PAGE, LINK])
async def test_this_machine_is_answered(local, headers):
    assert (await local.request("GET", "/api/v1/runs", headers=headers)).status == 200


async def test_a_link_of_another_page_changes_nothing(local):
    assert (await local.request("POST", "/api/v1/runs", value={"workflow": "flow"}, headers=LINK)).status == 403


async def test_a_web_socket_of_another_page_is_closed_before_it_opens(local):
    sent = []

    async def send(message):
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in REBOUND.items()]
    await local.app({"type": "websocket", "path": "/api/v1/worker/line", "headers": headers}, None, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(("environment", "names"), [
    ({}, LOOPBACK),
    ({"AIKI_ALLOWED_HOSTS": "Aiki.example, [::2]"}, LOOPBACK | {"aiki.example", "::2"}),
    ({"AIKI_HOST": "0.0.0.0"}, frozenset()),
    ({"AIKI_HOST": "0.0.0.0", "AIKI_ALLOWED_HOSTS": "aiki.example"}, {"aiki.example"}),
])  # fmt: skip
def test_names_come_from_where_it_listens_and_from_what_is_listed(environment, names):
    settings = Settings.from_environment({"AIKI_TOKENS": "default:secret-token", "AIKI_DATABASE_URL": "postgresql://u@h/d", **environment})
    assert settings.hosts == names


def test_without_names_any_will_do():
    assert Origins(()).refusal({"type": "http", "method": "POST", "headers": [(b"host", b"anything")]}) is None
