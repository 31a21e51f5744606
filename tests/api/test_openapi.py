"""The description of the API, and that no body of any shape upsets the service."""

import json
import re
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import (
    Json,
    fixed,
    make_add_on,
    make_coupon,
    make_customer,
    make_feature,
    make_metric,
    make_plan,
    make_subscription,
    make_wallet,
    ok,
    set_clock,
    standard,
)
from tests.support import Server

PATHS = {
    "/api/v1/events", "/api/v1/events/batch", "/api/v1/events/{transaction_id}", "/api/v1/billable_metrics",
    "/api/v1/plans", "/api/v1/customers", "/api/v1/customers/{external_id}/current_usage", "/api/v1/subscriptions",
    "/api/v1/subscriptions/{external_id}", "/api/v1/invoices", "/api/v1/invoices/{lago_id}", "/api/v1/fees",
    "/api/v1/fees/{lago_id}", "/api/v1/features/{code}/privileges/{privilege_code}",
    "/api/v1/taxes", "/api/v1/test_clock", "/api/v1/organizations", "/admin/organizations",
    "/health",
}  # fmt: skip
ROOTS = {
    "events": "event", "batch": "events", "billable_metrics": "billable_metric", "plans": "plan", "taxes": "tax",
    "wallets": "wallet", "wallet_transactions": "wallet_transaction",
    "customers": "customer", "subscriptions": "subscription", "invoices": "invoice", "fees": "fee",
    "test_clock": "test_clock", "organizations": "organization", "api_keys": "api_key", "rotate": "api_key",
    "charges": "charge", "filters": "filter", "reconcile": "reconcile", "features": "feature",
    "entitlements": "entitlements", "metadata": "metadata", "pricing_units": "pricing_unit",
    "lifetime_usage": "lifetime_usage", "credit_notes": "credit_note",
    "add_ons": "add_on", "fixed_charges": "fixed_charge", "billing_runs": "billing_run", "rehearsal": "billing_run",
    "billing_entities": "billing_entity",
    "coupons": "coupon", "applied_coupons": "applied_coupon",
    "payments": "payment", "payment_requests": "payment_request", "alerts": "alert",
    "adjusted_fees": "adjusted_fee", "regenerate": "invoice",
}  # fmt: skip
WRITES = [
    ("POST", "/api/v1/events"), ("POST", "/api/v1/events/batch"),
    ("POST", "/api/v1/billable_metrics"), ("PUT", "/api/v1/billable_metrics/calls"),
    ("POST", "/api/v1/plans"), ("PUT", "/api/v1/plans/plan"), ("POST", "/api/v1/taxes"), ("PUT", "/api/v1/taxes/none"),
    ("POST", "/api/v1/wallets"), ("PUT", "/api/v1/wallets/none"), ("PATCH", "/api/v1/wallets/none/metadata"),
    ("POST", "/api/v1/customers/customer/wallets"), ("PUT", "/api/v1/customers/customer/wallets/main"),
    ("PATCH", "/api/v1/customers/customer/wallets/main/metadata"), ("POST", "/api/v1/wallet_transactions"),
    ("POST", "/api/v1/customers"), ("POST", "/api/v1/subscriptions"), ("PUT", "/api/v1/subscriptions/sub"),
    ("PUT", "/api/v1/invoices/none"), ("POST", "/api/v1/invoices/none/adjusted_fees"),
    ("PUT", "/api/v1/invoices/none"), ("POST", "/api/v1/invoices/preview"),
    ("PUT", "/api/v1/fees/none"), ("PUT", "/api/v1/test_clock"),
    ("POST", "/api/v1/plans/plan/charges"), ("PUT", "/api/v1/plans/plan/charges/calls"),
    ("POST", "/api/v1/plans/plan/charges/calls/filters"),
    ("PUT", "/api/v1/plans/plan/charges/calls/filters/00000000-0000-0000-0000-000000000000"),
    ("POST", "/api/v1/plans/plan/metadata"), ("PATCH", "/api/v1/plans/plan/metadata"),
    ("POST", "/api/v1/features"), ("PUT", "/api/v1/features/seats"),
    ("POST", "/api/v1/plans/plan/entitlements"), ("PATCH", "/api/v1/plans/plan/entitlements"),
    ("PATCH", "/api/v1/subscriptions/sub/entitlements"),
    ("POST", "/api/v1/credit_notes"), ("POST", "/api/v1/credit_notes/estimate"), ("PUT", "/api/v1/credit_notes/none"),
    ("PATCH", "/api/v1/credit_notes/none/metadata"),
    ("POST", "/api/v1/pricing_units"), ("PUT", "/api/v1/pricing_units/credits"),
    ("PUT", "/api/v1/subscriptions/sub/lifetime_usage"),
    ("POST", "/api/v1/subscriptions/sub/alerts"), ("PUT", "/api/v1/subscriptions/sub/alerts/spend"),
    ("POST", "/api/v1/add_ons"), ("PUT", "/api/v1/add_ons/seat"), ("POST", "/api/v1/plans/plan/fixed_charges"),
    ("PUT", "/api/v1/plans/plan/fixed_charges/seat"), ("PUT", "/api/v1/subscriptions/sub/fixed_charges/seat"),
    ("POST", "/api/v1/billing_entities"), ("PUT", "/api/v1/billing_entities/default"),
    ("POST", "/api/v1/invoices"), ("POST", "/api/v1/invoices/none/void"), ("POST", "/api/v1/payments"),
    ("POST", "/api/v1/invoices/none/regenerate"),
    ("POST", "/api/v1/payment_requests"),
    ("POST", "/api/v1/coupons"), ("PUT", "/api/v1/coupons/coupon"), ("POST", "/api/v1/applied_coupons"),
    ("PUT", "/api/v1/organizations"), ("POST", "/admin/organizations"), ("POST", "/admin/reconcile"),
    ("POST", "/admin/billing_runs"), ("POST", "/admin/billing_runs/rehearsal"),
]  # fmt: skip


def test_the_document(api: httpx.Client) -> None:
    document = ok(api.get("/docs/openapi.json"))
    assert document["openapi"].startswith("3.1")
    assert document["paths"].keys() >= PATHS
    assert {"bearer"} == {one["scheme"] for one in document["components"]["securitySchemes"].values()}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            described = operation.get("description") or operation.get("summary")
            assert described, f"{method} {path} says nothing of itself"


def test_the_document_tells_what_is_always_in_an_answer(api: httpx.Client) -> None:
    make_plan(api)
    make_feature(api)
    make_customer(api)
    make_subscription(api)
    document = ok(api.get("/docs/openapi.json"))
    schemas = document["components"]["schemas"]
    for path, root in (
        ("plans/plan", "plan"),
        ("features/seats", "feature"),
        ("subscriptions/sub", "subscription"),
    ):
        (template,) = (one for one in document["paths"] if re.fullmatch(f"/api/v1/{path.split('/')[0]}/{{\\w+}}", one))
        answer = document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        shape = schemas[answer["$ref"].rpartition("/")[2]]
        assert shape["required"] == [root]
        inner = schemas[shape["properties"][root]["$ref"].rpartition("/")[2]]
        assert set(inner["required"]) == ok(api.get(f"/api/v1/{path}"))[root].keys()
    (config,) = (one for name, one in schemas.items() if name.endswith("PrivilegeConfigObject"))
    assert not config.get("required")


def test_every_path_that_writes_is_tried_below(api: httpx.Client) -> None:
    document = ok(api.get("/docs/openapi.json"))
    described = {
        (method.upper(), path.partition("{")[0].rstrip("/"))
        for path, operations in document["paths"].items()
        for method in operations
        if method in {"post", "put", "patch"} and "{id}" not in path and "api_keys" not in path
    }
    tried = {(method, "/".join(path.split("/")[:4])) for method, path in WRITES}
    assert {(method, "/".join(path.split("/")[:4])) for method, path in described} <= tried


@pytest.fixture(scope="module")
def victim(server: Server) -> httpx.Client:
    """An organization with something of everything."""
    api = server.organization("Victim", sandbox=True)
    set_clock(api, "2024-05-01T00:00:00Z")
    make_add_on(api)
    make_coupon(api)
    make_plan(api, charges=[standard(make_metric(api, "calls", "sum_agg"))], amount_cents=100, fixed_charges=[fixed()])
    make_feature(api, "seats", [{"code": "max", "value_type": "integer"}])
    make_customer(api)
    make_subscription(api)
    make_wallet(api, code="main", granted_credits="10")
    unit = {"code": "credits", "name": "Credits", "short_name": "CR"}
    ok(api.post("/api/v1/pricing_units", json={"pricing_unit": unit}))
    alert = {"code": "spend", "alert_type": "current_usage_amount", "thresholds": [{"value": 1}]}
    ok(api.post("/api/v1/subscriptions/sub/alerts", json={"alert": alert}))
    return api


@pytest.fixture(scope="module")
def shapes(victim: httpx.Client) -> dict[tuple[str, str], list[str]]:
    """The names of the fields of each root object, as the document has them."""
    document = ok(victim.get("/docs/openapi.json"))
    schemas = document["components"]["schemas"]
    fields: dict[tuple[str, str], list[str]] = {}
    for method, path in WRITES:
        template = next(
            (one for one in document["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one), path)
             and method.lower() in document["paths"][one]), None
        )  # fmt: skip
        body = document["paths"][template][method.lower()].get("requestBody", {}) if template else {}
        fields[method, path] = sorted(_names(body, schemas, depth=0))
    return fields


def _names(schema: Any, schemas: Json, depth: int) -> set[str]:
    """Every property name within a schema."""
    found: set[str] = set()
    if depth > 6:
        return found
    if isinstance(schema, list):
        return found.union(*(_names(one, schemas, depth + 1) for one in schema))
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _names(schemas[schema["$ref"].rpartition("/")[2]], schemas, depth + 1)
        found |= set(schema.get("properties", {}))
        return found.union(*(_names(one, schemas, depth + 1) for one in schema.values()))
    return found


TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "\x00", "calls", "plan", "sub", "customer", "sum_agg", "standard", "graduated", "EUR", "monthly",
                     "2024-05-02", "9999-12-31T23:59:59Z", "0001-01-01", "-1", "1e400", "NaN", "x" * 300,
                     "seats", "max", "integer", "coupon",
                     "Europe/Berlin", "../etc", "00000000-0000-0000-0000-000000000000"]),
)  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False), TEXTS,
)  # fmt: skip


def bodies(root: str, fields: list[str]) -> st.SearchStrategy[Any]:
    """Objects with the names of real fields and values of any kind, and anything at all."""
    names = st.sampled_from(fields) if fields else st.text(max_size=5)
    values = st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | TEXTS, inner, max_size=4),
        max_leaves=8,
    )
    inner = st.dictionaries(names, values, max_size=8)
    content = st.lists(inner, max_size=3) if root == "events" else inner
    return st.one_of(st.fixed_dictionaries({root: content}), st.fixed_dictionaries({root: values}), values)


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_no_body_is_a_server_error(
    server: Server, victim: httpx.Client, shapes: dict[tuple[str, str], list[str]], method: str, path: str
) -> None:
    named = [part for part in path.split("/") if part in ROOTS]
    api = server.client() if path.startswith("/admin") else victim
    strategy = bodies(ROOTS[named[-1]], shapes[method, path])

    @settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def never_fails(body: Any) -> None:
        sent = json.dumps(body)
        response = api.request(method, path, content=sent, headers={"Content-Type": "application/json"})
        assert response.status_code < 500, sent
        if response.status_code != 200:
            assert response.json()["status"] == response.status_code

    never_fails()
