"""Who is let in, what a key may do, and the bodies of refusals."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.factories import Json, event, make_customer, make_metric, make_plan, ok, problems, refusal, send_event
from tests.support import Server, client, seeded, wait_for

UNAUTHORIZED = {"status": 401, "error": "Unauthorized"}
PATHS = [
    ("GET", "/api/v1/events"), ("POST", "/api/v1/events"), ("POST", "/api/v1/events/batch"),
    ("GET", "/api/v1/customers"), ("PUT", "/api/v1/test_clock"), ("DELETE", "/api/v1/subscriptions/x"),
    ("GET", "/api/v1/customers/x/current_usage"), ("GET", "/admin/organizations"), ("POST", "/admin/organizations"),
]  # fmt: skip


def organization_of(server: Server, admin: httpx.Client) -> tuple[str, httpx.Client]:
    """A fresh organization's id, and a client for it without a key."""
    made = ok(admin.post("/admin/organizations", json={"organization": {"name": "Keys", "sandbox": True}}))
    return made["organization"]["lago_id"], client(server.base_url)


def key_of(admin: httpx.Client, organization: str, **fields: object) -> tuple[str, str]:
    made = ok(admin.post(f"/admin/organizations/{organization}/api_keys", json={"api_key": fields}))["api_key"]
    return made["lago_id"], made["value"]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


class TestKeys:
    @pytest.mark.parametrize(("method", "path"), PATHS)
    @pytest.mark.parametrize(
        "headers",
        [{}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer wrong"},
         {"Authorization": "Bearer \xff\xfe"}, {"Authorization": "Bearer " + "x" * 5_000}],
        ids=["none", "empty", "no key", "wrong", "not ascii", "long"],
    )  # fmt: skip
    def test_no_key_and_a_wrong_one(self, server: Server, headers: dict[str, str], method: str, path: str) -> None:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        with client(server.base_url) as nobody:
            response = nobody.request(method, path, headers=raw, content=b"{")
        assert (response.status_code, response.json()) == (401, UNAUTHORIZED)

    def test_the_two_kinds_of_keys_are_not_each_other(self, api: httpx.Client, admin: httpx.Client) -> None:
        assert api.get("/admin/organizations").json() == UNAUTHORIZED
        assert admin.get("/api/v1/customers").json() == UNAUTHORIZED

    def test_a_revoked_key_stops_at_once(self, server: Server, admin: httpx.Client) -> None:
        organization, nobody = organization_of(server, admin)
        key_id, key = key_of(admin, organization)
        assert nobody.get("/api/v1/customers", headers=bearer(key)).status_code == 200
        ok(admin.delete(f"/admin/organizations/{organization}/api_keys/{key_id}"))
        for path in ("/api/v1/customers", "/api/v1/events"):
            assert nobody.get(path, headers=bearer(key)).json() == UNAUTHORIZED

    def test_a_rotated_key_stops_at_once(self, server: Server, admin: httpx.Client) -> None:
        organization, nobody = organization_of(server, admin)
        key_id, key = key_of(admin, organization)
        assert nobody.get("/api/v1/customers", headers=bearer(key)).status_code == 200
        rotated = ok(admin.post(f"/admin/organizations/{organization}/api_keys/{key_id}/rotate", json={"api_key": {}}))
        assert nobody.get("/api/v1/customers", headers=bearer(key)).status_code == 401
        assert nobody.get("/api/v1/customers", headers=bearer(rotated["api_key"]["value"])).status_code == 200

    def test_an_expired_key_stops_without_anyone_doing_anything(self, server: Server, admin: httpx.Client) -> None:
        """Also where the key was used a moment before."""
        organization, nobody = organization_of(server, admin)
        expires_at = datetime.now(UTC) + timedelta(seconds=2)
        _, key = key_of(admin, organization, expires_at=expires_at.isoformat())
        assert nobody.get("/api/v1/customers", headers=bearer(key)).status_code == 200
        wait_for(lambda: nobody.get("/api/v1/customers", headers=bearer(key)).status_code == 401, "the expiry", 20)
        late = datetime.now(UTC) - expires_at
        assert timedelta(seconds=-1) < late < timedelta(seconds=1)

    def test_a_limited_key(self, server: Server, admin: httpx.Client) -> None:
        organization, nobody = organization_of(server, admin)
        permissions = {"event": ["write"], "customer": ["read"], "plan": ["read", "write"]}
        _, key = key_of(admin, organization, permissions=permissions)
        nobody.headers.update(bearer(key))
        assert send_event(nobody, event("c", "s")).status_code == 200
        assert nobody.get("/api/v1/customers").status_code == 200
        make_plan(nobody)
        for method, path, resource in (
            ("GET", "/api/v1/events", "event"),
            ("POST", "/api/v1/customers", "customer"),
            ("GET", "/api/v1/invoices", "invoice"),
            ("GET", "/api/v1/customers/c/current_usage", "customer_usage"),
            ("POST", "/api/v1/subscriptions", "subscription"),
        ):
            action = "read" if method == "GET" else "write"
            wanted = {"status": 403, "error": "Forbidden", "code": f"{action}_action_not_allowed_for_{resource}"}
            response = nobody.request(method, path, content=b"{")
            assert (response.status_code, response.json()) == (403, wanted)


class TestBodies:
    @pytest.mark.parametrize(
        "path", ["/", "/nothing", "/api/v1", "/api/v1/nothing", "/api/v2/events", "/api/v1/events/a/b"]
    )
    def test_an_unknown_route(self, api: httpx.Client, path: str) -> None:
        wanted = {"status": 404, "error": "Not Found", "code": "resource_not_found"}
        for method in ("GET", "POST"):
            response = api.request(method, path)
            assert (response.status_code, response.json()) == (404, wanted)

    def test_an_unknown_method(self, api: httpx.Client) -> None:
        wanted = {"status": 405, "error": "Method Not Allowed", "code": "method_not_allowed"}
        response = api.patch("/api/v1/events", json={})
        assert (response.status_code, response.json()) == (405, wanted)

    @pytest.mark.parametrize(
        "path", ["customers", "plans", "billable_metrics", "taxes", "subscriptions", "pricing_units"]
    )
    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"null", b"\xff", b"{}", b'{"\xff": 1}', b"[" * 50_000])
    def test_a_body_that_is_no_resource(self, api: httpx.Client, path: str, body: bytes) -> None:
        response = api.post(f"/api/v1/{path}", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 400, response.text
        assert response.json().keys() == {"status", "error"}
        assert response.json()["error"].startswith("BadRequest: ")

    @pytest.mark.parametrize("root", ["customer", "plan", "billable_metric", "tax", "subscription"])
    def test_text_that_is_not_utf8(self, api: httpx.Client, root: str) -> None:
        body = b'{"' + root.encode() + b'": {"name": "\xff", "code": "\xff"}}'
        path = {"tax": "taxes"}.get(root, f"{root}s")
        response = api.post(f"/api/v1/{path}", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 400, response.text

    @pytest.mark.parametrize(
        ("path", "body", "field"),
        [
            ("billable_metrics", {"billable_metric": {"name": "n", "aggregation_type": "count_agg"}}, "code"),
            ("plans", {"plan": {"name": "n", "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR",
                                "pay_in_advance": False}}, "code"),
            ("taxes", {"tax": {"name": "n", "rate": 1}}, "code"),
            ("features", {"feature": {}}, "code"),
            ("pricing_units", {"pricing_unit": {"name": "n", "short_name": "n"}}, "code"),
            ("customers", {"customer": {}}, "external_id"),
            ("subscriptions", {"subscription": {"external_customer_id": "c", "plan_code": "plan"}}, "external_id"),
            ("subscriptions", {"subscription": {"external_id": "s", "plan_code": "plan"}}, "external_customer_id"),
        ],
    )  # fmt: skip
    def test_names_have_a_limit(self, api: httpx.Client, path: str, body: Json, field: str) -> None:
        """Far beyond it they could not be looked up."""
        make_plan(api)
        (root,) = body
        for length, wanted in ((9_000, {field: ["value_is_too_long"]}), (256, {field: ["value_is_too_long"]})):
            long = "".join(seeded(1).choices("abcdefghijklmnopqrstuvwxyz", k=length))
            assert problems(api.post(f"/api/v1/{path}", json={root: {**body[root], field: long}})) == wanted
        assert api.post(f"/api/v1/{path}", json={root: {**body[root], field: "x" * 255}}).status_code == 200

    @pytest.mark.parametrize(
        "path",
        [
            "customers",
            "plans",
            "billable_metrics",
            "taxes",
            "subscriptions",
            "invoices",
            "fees",
            "events",
            "pricing_units",
        ],
    )
    def test_nothing_of_that_name(self, api: httpx.Client, path: str) -> None:
        resource = "tax" if path == "taxes" else path.removesuffix("s")
        for name in ("none", "%00", "a%FFb", "%F0%9F%98%80", "x" * 3_000, "'--"):
            assert refusal(api.get(f"/api/v1/{path}/{name}")) == (404, f"{resource}_not_found")


def test_health(server: Server) -> None:
    with client(server.base_url) as nobody:
        answer = nobody.get("/health")
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "ok", "stores": {"postgres": "up", "clickhouse": "up"}},
    )


def test_an_organizations_objects_are_nobody_elses(api: httpx.Client, other: httpx.Client) -> None:
    make_metric(api, "calls")
    make_plan(api)
    make_customer(api)
    for path, resource in (
        ("billable_metrics/calls", "billable_metric"),
        ("plans/plan", "plan"),
        ("customers/customer", "customer"),
    ):
        for method in ("GET", "DELETE"):
            assert refusal(other.request(method, f"/api/v1/{path}")) == (404, f"{resource}_not_found")
        assert api.get(f"/api/v1/{path}").status_code == 200
        collection = path.partition("/")[0]
        assert ok(other.get(f"/api/v1/{collection}"))["meta"]["total_count"] == 0
