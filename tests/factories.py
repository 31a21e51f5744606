"""What tests need before they can begin, made over HTTP."""

import itertools
from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx

Json = dict[str, Any]

_numbers = itertools.count(1)


def unique(prefix: str) -> str:
    """A name that was not used before."""
    return f"{prefix}-{next(_numbers)}"


def ok(response: httpx.Response) -> Json:
    """The body of a 200."""
    assert response.status_code == 200, f"{response.request.method} {response.request.url}: {response.text}"
    body: Json = response.json()
    return body


def problems(response: httpx.Response) -> Json:
    """The `error_details` of a 422."""
    assert response.status_code == 422, response.text
    body = response.json()
    assert body.keys() == {"status", "error", "code", "error_details"}
    assert (body["status"], body["error"], body["code"]) == (422, "Unprocessable Entity", "validation_errors")
    details: Json = body["error_details"]
    return details


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error that has no details."""
    body = response.json()
    assert body.keys() == {"status", "error", "code"}, response.text
    assert body["status"] == response.status_code
    return response.status_code, body["code"]


def set_clock(api: httpx.Client, now: str) -> None:
    """Move a sandbox's time."""
    ok(api.put("/api/v1/test_clock", json={"test_clock": {"now": now}}))


def make_metric(
    api: httpx.Client, code: str, aggregation: str = "count_agg", field: str | None = None, **more: object
) -> Json:
    """A billable metric; those that read a field read `value` unless told otherwise."""
    field = field or (None if aggregation == "count_agg" else "value")
    weighted = {"weighted_interval": "seconds"} if aggregation == "weighted_sum_agg" else {}
    sent = {"name": code, "code": code, "aggregation_type": aggregation, "field_name": field, **weighted, **more}
    metric: Json = ok(api.post("/api/v1/billable_metrics", json={"billable_metric": sent}))["billable_metric"]
    return metric


def standard(metric: Json, amount: str = "1", **more: object) -> Json:
    """A charge at a price per unit."""
    charge = {"billable_metric_id": metric["lago_id"], "charge_model": "standard", "properties": {"amount": amount}}
    return {**charge, **more}


def make_add_on(api: httpx.Client, code: str = "seat", **fields: object) -> Json:
    """An add-on."""
    sent = {"name": code, "code": code, "amount_cents": 200, "amount_currency": "EUR", **fields}
    add_on: Json = ok(api.post("/api/v1/add_ons", json={"add_on": sent}))["add_on"]
    return add_on


def fixed(add_on: str = "seat", units: object = 10, amount: str = "1", **more: object) -> Json:
    """A fixed charge at a price per unit."""
    charge = {"add_on_code": add_on, "units": units, "charge_model": "standard", "properties": {"amount": amount}}
    return {**charge, **more}


def make_plan(api: httpx.Client, code: str = "plan", charges: Iterable[Json] = (), **fields: object) -> Json:
    """A plan: monthly, free, in arrears and in EUR unless told otherwise."""
    sent = {
        "name": code, "code": code, "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR",
        "pay_in_advance": False, "charges": list(charges), **fields,
    }  # fmt: skip
    plan: Json = ok(api.post("/api/v1/plans", json={"plan": sent}))["plan"]
    return plan


def make_tax(api: httpx.Client, code: str, rate: str, **fields: object) -> Json:
    """A tax."""
    tax: Json = ok(api.post("/api/v1/taxes", json={"tax": {"name": code, "code": code, "rate": rate, **fields}}))["tax"]
    return tax


def make_entity(api: httpx.Client, code: str = "branch", **fields: object) -> Json:
    """A billing entity beside the default one."""
    sent = {"code": code, "name": code.title(), **fields}
    entity: Json = ok(api.post("/api/v1/billing_entities", json={"billing_entity": sent}))["billing_entity"]
    return entity


def make_feature(api: httpx.Client, code: str = "seats", privileges: Iterable[Json] = (), **fields: object) -> Json:
    """A feature."""
    sent = {"code": code, "name": code.title(), "privileges": list(privileges), **fields}
    feature: Json = ok(api.post("/api/v1/features", json={"feature": sent}))["feature"]
    return feature


def make_customer(api: httpx.Client, external_id: str = "customer", **fields: object) -> Json:
    """A customer."""
    sent = {"external_id": external_id, **fields}
    customer: Json = ok(api.post("/api/v1/customers", json={"customer": sent}))["customer"]
    return customer


def make_subscription(
    api: httpx.Client, external_id: str = "sub", plan: str = "plan", customer: str = "customer", **fields: object
) -> Json:
    """A subscription."""
    sent = {"external_id": external_id, "external_customer_id": customer, "plan_code": plan, **fields}
    subscription: Json = ok(api.post("/api/v1/subscriptions", json={"subscription": sent}))["subscription"]
    return subscription


def make_coupon(api: httpx.Client, code: str = "coupon", **fields: object) -> Json:
    """A coupon: 5.00 EUR, once and for ever valid, unless told otherwise; with a rate it is a percentage."""
    kind = {"coupon_type": "fixed_amount", "amount_cents": 500, "amount_currency": "EUR"}
    if "percentage_rate" in fields:
        kind = {"coupon_type": "percentage"}
    sent = {"name": code, "code": code, "frequency": "once", "expiration": "no_expiration", **kind, **fields}
    coupon: Json = ok(api.post("/api/v1/coupons", json={"coupon": sent}))["coupon"]
    return coupon


def give_coupon(api: httpx.Client, code: str = "coupon", customer: str = "customer", **fields: object) -> Json:
    """A coupon given to a customer."""
    sent = {"external_customer_id": customer, "coupon_code": code, **fields}
    applied: Json = ok(api.post("/api/v1/applied_coupons", json={"applied_coupon": sent}))["applied_coupon"]
    return applied


def sell(api: httpx.Client, fee: Json, customer: str = "customer", **fields: object) -> Json:
    """A one-off invoice of one fee."""
    sent = {"external_customer_id": customer, "fees": [fee], **fields}
    invoice: Json = ok(api.post("/api/v1/invoices", json={"invoice": sent}))["invoice"]
    return invoice


def event(
    code: str, subscription: str = "sub", timestamp: object = None, transaction: str | None = None, **properties: object
) -> Json:
    """An event as it is sent."""
    one: Json = {
        "transaction_id": transaction or unique("tx"),
        "external_subscription_id": subscription,
        "code": code,
        "properties": properties,
    }
    if timestamp is not None:
        one["timestamp"] = timestamp
    return one


def send_event(api: httpx.Client, one: Json) -> httpx.Response:
    """Send one event."""
    return api.post("/api/v1/events", json={"event": one})


def send_batch(api: httpx.Client, events: Iterable[Json]) -> httpx.Response:
    """Send events in one request."""
    return api.post("/api/v1/events/batch", json={"events": list(events)})


def send_events(api: httpx.Client, events: Iterable[Json]) -> list[Json]:
    """Send events that must be accepted."""
    accepted: list[Json] = ok(send_batch(api, events))["events"]
    return accepted


def usage_of(api: httpx.Client, subscription: str = "sub", customer: str = "customer", **query: Any) -> Json:
    """The current usage of a subscription."""
    path = f"/api/v1/customers/{quote(customer, safe='')}/current_usage"
    answer = api.get(path, params={"external_subscription_id": subscription, **query})
    usage: Json = ok(answer)["customer_usage"]
    return usage


def units_of(api: httpx.Client, subscription: str = "sub", customer: str = "customer") -> dict[str, Decimal]:
    """The units of each metric in the current usage."""
    charges = usage_of(api, subscription, customer)["charges_usage"]
    return {one["billable_metric"]["code"]: Decimal(one["units"]) for one in charges}


def invoices_of(api: httpx.Client, customer: str | None = None, **query: Any) -> list[Json]:
    """All invoices, or all of a customer, whole, in the order of their numbers."""
    asked = {"per_page": 1000, **query, **({"external_customer_id": customer} if customer else {})}
    listed = ok(api.get("/api/v1/invoices", params=asked))["invoices"]
    whole = [ok(api.get(f"/api/v1/invoices/{one['lago_id']}"))["invoice"] for one in listed]
    return sorted(whole, key=lambda one: (one["customer"]["external_id"], one["sequential_id"]))


def make_wallet(api: httpx.Client, customer: str = "customer", **fields: object) -> Json:
    """A wallet in EUR at 1.00 a credit, unless told otherwise, as it is once its credits are there."""
    sent = {"external_customer_id": customer, "rate_amount": "1", "currency": "EUR", **fields}
    made = ok(api.post("/api/v1/wallets", json={"wallet": sent}))["wallet"]
    return wallet_of(api, made["lago_id"])


def wallet_of(api: httpx.Client, lago_id: str) -> Json:
    """A wallet as it is now."""
    wallet: Json = ok(api.get(f"/api/v1/wallets/{lago_id}"))["wallet"]
    return wallet


def move_credits(api: httpx.Client, wallet: Json, **fields: object) -> list[Json]:
    """Sell, give or void credits: the transactions that were made."""
    sent = {"wallet_id": wallet["lago_id"], **fields}
    made: list[Json] = ok(api.post("/api/v1/wallet_transactions", json={"wallet_transaction": sent}))[
        "wallet_transactions"
    ]
    return made


def transactions_of(api: httpx.Client, wallet: Json, **query: Any) -> list[Json]:
    """The transactions of a wallet, newest first."""
    path = f"/api/v1/wallets/{wallet['lago_id']}/wallet_transactions"
    found: list[Json] = ok(api.get(path, params=query))["wallet_transactions"]
    return found
