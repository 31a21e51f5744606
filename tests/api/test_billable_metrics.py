"""`/api/v1/billable_metrics`."""

import httpx
import pytest

FIELDS = {
    "lago_id", "name", "code", "description", "aggregation_type", "recurring", "rounding_function",
    "rounding_precision", "created_at", "expression", "field_name", "weighted_interval", "filters",
    "active_subscriptions_count", "draft_invoices_count", "plans_count",
}  # fmt: skip
URL = "/api/v1/billable_metrics"


def problems(response: httpx.Response) -> dict:
    assert response.status_code == 422, response.text
    return response.json()["error_details"]


def make_metric(api: httpx.Client, **fields: object) -> dict:
    sent = {"name": "Seats", "code": "seats", "aggregation_type": "sum_agg", "field_name": "n", **fields}
    response = api.post(URL, json={"billable_metric": sent})
    assert response.status_code == 200, response.text
    return response.json()["billable_metric"]


def make_plan(api: httpx.Client, metric: dict, code: str = "plan") -> dict:
    charges = [{"billable_metric_id": metric["lago_id"], "charge_model": "standard", "properties": {"amount": "1"}}]
    plan = {
        "name": "Plan", "code": code, "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR",
        "pay_in_advance": False, "charges": charges,
    }  # fmt: skip
    response = api.post("/api/v1/plans", json={"plan": plan})
    assert response.status_code == 200, response.text
    return response.json()["plan"]


def other_organization(admin: httpx.Client) -> dict[str, str]:
    made = admin.post("/admin/organizations", json={"organization": {"name": "Other"}}).json()["organization"]
    return {"Authorization": f"Bearer {made['api_key']}"}


def test_create_find_update_delete(api: httpx.Client) -> None:
    made = make_metric(api, description="d", rounding_function="ceil", rounding_precision=-2)
    assert made.keys() == FIELDS
    assert (made["recurring"], made["expression"], made["weighted_interval"]) == (False, None, None)
    assert (made["rounding_function"], made["rounding_precision"]) == ("ceil", -2)
    assert api.get(f"{URL}/seats").json() == {"billable_metric": made}
    sent = {
        "name": "Users", "code": "v1/users", "aggregation_type": "unique_count_agg", "field_name": "user",
        "description": None, "rounding_function": None, "rounding_precision": None,
    }  # fmt: skip
    changed = api.put(f"{URL}/seats", json={"billable_metric": sent}).json()["billable_metric"]
    assert changed == {**made, **sent}
    assert api.get(f"{URL}/seats").status_code == 404
    assert api.delete(f"{URL}/v1/users").json()["billable_metric"] == changed
    for method in ("GET", "DELETE"):
        response = api.request(method, f"{URL}/v1/users")
        assert (response.status_code, response.json()["code"]) == (404, "billable_metric_not_found")
    assert make_metric(api, code="v1/users")["lago_id"] != made["lago_id"]


@pytest.mark.parametrize("aggregation", ["sum_agg", "max_agg", "unique_count_agg"])
def test_aggregations_that_read_a_field(api: httpx.Client, aggregation: str) -> None:
    assert make_metric(api, aggregation_type=aggregation)["field_name"] == "n"
    sent = {"name": "x", "code": "x", "aggregation_type": aggregation}
    assert problems(api.post(URL, json={"billable_metric": sent})) == {"field_name": ["value_is_mandatory"]}


def test_a_count_reads_no_field(api: httpx.Client) -> None:
    assert make_metric(api, aggregation_type="count_agg")["field_name"] is None
    back = api.put(f"{URL}/seats", json={"billable_metric": {"aggregation_type": "sum_agg"}})
    assert problems(back) == {"field_name": ["value_is_mandatory"]}


def test_all_that_is_missing_is_told_at_once(api: httpx.Client) -> None:
    assert problems(api.post(URL, json={"billable_metric": {}})) == {
        "name": ["value_is_mandatory"],
        "code": ["value_is_mandatory"],
        "aggregation_type": ["value_is_invalid"],
        "field_name": ["value_is_mandatory"],
    }
    assert api.post(URL, json={}).status_code == 400
    assert api.post(URL, content=b"").status_code == 400


@pytest.mark.parametrize(
    ("field", "value", "answer"),
    [
        ("aggregation_type", "median_agg", {"aggregation_type": ["value_is_invalid"]}),
        ("aggregation_type", "weighted_sum_agg", {"weighted_interval": ["value_is_invalid"]}),
        ("weighted_interval", "days", {"weighted_interval": ["value_is_invalid"]}),
        ("rounding_function", "trunc", {"rounding_function": ["value_is_invalid"]}),
        ("rounding_precision", 1.5, {"rounding_precision": ["value_is_invalid"]}),
        ("rounding_precision", 10**20, {"rounding_precision": ["value_is_out_of_range"]}),
        ("rounding_precision", 51, {"rounding_precision": ["value_is_out_of_range"]}),
        ("rounding_precision", -51, {"rounding_precision": ["value_is_out_of_range"]}),
        ("filters", [{"key": "k", "values": []}], {"values": ["value_is_mandatory"]}),
        ("filters", [{"key": "k"}], {"values": ["value_is_mandatory"]}),
        ("filters", [{"key": "", "values": ["v"]}], {"key": ["value_is_mandatory"]}),
        ("filters", [{"values": ["v"]}], {"key": ["value_is_mandatory"]}),
        ("filters", [{"key": "k", "values": ["v"]}] * 2, {"key": ["value_already_exist"]}),
        ("filters", [{"key": "k", "values": [1]}], {"values": ["value_is_invalid"]}),
        ("filters", [{"key": "k", "values": ["\x00"]}], {"values": ["value_is_invalid"]}),
        ("filters", {"k": ["v"]}, {"filters": ["value_is_invalid"]}),
        ("code", "/seats", {"code": ["value_is_invalid"]}),
        ("code", "a//b", {"code": ["value_is_invalid"]}),
        ("code", "..", {"code": ["value_is_invalid"]}),
        ("code", "evaluate_expression", {"code": ["value_is_invalid"]}),
        ("code", "a\x00", {"code": ["value_is_invalid"]}),
        ("name", 3, {"name": ["value_is_invalid"]}),
        ("recurring", "often", {"recurring": ["value_is_invalid"]}),
    ],
)
def test_broken_rules(api: httpx.Client, field: str, value: object, answer: dict) -> None:
    sent = {"name": "Seats", "code": "seats", "aggregation_type": "sum_agg", "field_name": "n", field: value}
    assert problems(api.post(URL, json={"billable_metric": sent})) == answer
    make_metric(api)
    assert problems(api.put(f"{URL}/seats", json={"billable_metric": {field: value}})) == answer
    assert api.get(URL).json()["meta"]["total_count"] == 1


@pytest.mark.parametrize("aggregation", ["count_agg", "max_agg"])
def test_not_every_aggregation_recurs(api: httpx.Client, aggregation: str) -> None:
    sent = {"name": "x", "code": "x", "aggregation_type": aggregation, "field_name": "n", "recurring": True}
    refused = problems(api.post(URL, json={"billable_metric": sent}))
    assert refused == {"recurring": ["not_compatible_with_aggregation_type"]}


def test_custom_aggregation_is_not_available(api: httpx.Client) -> None:
    response = api.post(URL, json={"billable_metric": {"name": "x", "code": "x", "aggregation_type": "custom_agg"}})
    assert (response.status_code, response.json()["code"]) == (403, "feature_unavailable")


def test_codes_are_unique(api: httpx.Client) -> None:
    make_metric(api)
    make_metric(api, code="other")
    taken = {"code": ["value_already_exist"]}
    sent = {"name": "x", "code": "seats", "aggregation_type": "count_agg"}
    assert problems(api.post(URL, json={"billable_metric": sent})) == taken
    assert problems(api.put(f"{URL}/other", json={"billable_metric": {"code": "seats"}})) == taken
    assert api.put(f"{URL}/seats", json={"billable_metric": {"code": "seats"}}).status_code == 200


def test_filters_are_sorted_and_replaced_as_a_whole(api: httpx.Client) -> None:
    filters = [{"key": "tier", "values": ["gold", "basic", "gold"]}, {"key": "region", "values": ["us"]}]
    made = make_metric(api, filters=filters)
    ordered = [{"key": "region", "values": ["us"]}, {"key": "tier", "values": ["basic", "gold"]}]
    assert made["filters"] == ordered

    def put(sent: dict) -> list:
        return api.put(f"{URL}/seats", json={"billable_metric": sent}).json()["billable_metric"]["filters"]

    assert put({"name": "Renamed"}) == ordered
    assert put({"filters": [{"key": "tier", "values": ["gold"]}]}) == [{"key": "tier", "values": ["gold"]}]
    assert put({"filters": []}) == []
    put({"filters": filters})
    assert put({"filters": None}) == []


def test_in_use_only_name_description_and_filters_change(api: httpx.Client) -> None:
    made = make_metric(api)
    make_plan(api, made)
    sent = {
        "name": "New", "description": "new", "filters": [{"key": "k", "values": ["v"]}], "code": "changed",
        "aggregation_type": "count_agg", "field_name": "m", "rounding_function": "wrong", "rounding_precision": 3,
    }  # fmt: skip
    changed = api.put(f"{URL}/seats", json={"billable_metric": sent}).json()["billable_metric"]
    assert changed == {**made, "name": "New", "description": "new", "filters": [{"key": "k", "values": ["v"]}]}
    api.delete("/api/v1/plans/plan")
    changed = api.put(f"{URL}/seats", json={"billable_metric": {"code": "changed"}}).json()["billable_metric"]
    assert changed["code"] == "changed"


def test_delete_removes_its_charges_from_plans(api: httpx.Client) -> None:
    gone, stays = make_metric(api), make_metric(api, code="stays")
    plan = make_plan(api, gone)
    charges = [
        {"id": plan["charges"][0]["lago_id"]},
        {"billable_metric_id": stays["lago_id"], "charge_model": "standard", "properties": {"amount": "1"}},
    ]
    assert api.put("/api/v1/plans/plan", json={"plan": {"charges": charges}}).status_code == 200
    assert api.delete(f"{URL}/seats").status_code == 200
    shown = api.get("/api/v1/plans/plan").json()["plan"]["charges"]
    assert [charge["billable_metric_code"] for charge in shown] == ["stays"]


def test_pages_newest_first(api: httpx.Client) -> None:
    for number in range(3):
        make_metric(api, code=str(number))
    page = api.get(URL, params={"per_page": 2, "page": 2}).json()
    assert page["meta"] == {"current_page": 2, "next_page": None, "prev_page": 1, "total_pages": 2, "total_count": 3}
    assert [metric["code"] for metric in page["billable_metrics"]] == ["0"]
    assert api.get(URL, params={"per_page": 10**6}).json()["meta"]["total_pages"] == 1


def test_another_organizations_metric_is_not_found(api: httpx.Client, admin: httpx.Client) -> None:
    made = make_metric(api)
    headers = other_organization(admin)
    for response in (
        api.get(f"{URL}/seats", headers=headers),
        api.put(f"{URL}/seats", headers=headers, json={"billable_metric": {"name": "mine"}}),
        api.delete(f"{URL}/seats", headers=headers),
    ):
        assert (response.status_code, response.json()["code"]) == (404, "billable_metric_not_found")
    assert api.get(URL, headers=headers).json()["billable_metrics"] == []
    assert api.get(f"{URL}/seats").json()["billable_metric"] == made
