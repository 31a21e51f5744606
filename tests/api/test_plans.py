"""`/api/v1/plans` and the charges on them."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

URL = "/api/v1/plans"
PLAN_FIELDS = {
    "lago_id", "name", "invoice_display_name", "created_at", "code", "interval", "description", "amount_cents",
    "amount_currency", "trial_period", "pay_in_advance", "bill_charges_monthly", "bill_fixed_charges_monthly",
    "minimum_commitment", "charges", "fixed_charges", "taxes", "usage_thresholds", "entitlements", "metadata",
    "customers_count", "active_subscriptions_count", "draft_invoices_count",
}  # fmt: skip
CHARGE_FIELDS = {
    "lago_id", "lago_billable_metric_id", "code", "billable_metric_code", "invoice_display_name", "created_at",
    "charge_model", "pay_in_advance", "invoiceable", "regroup_paid_fees", "prorated", "min_amount_cents",
    "properties", "filters", "taxes", "applied_pricing_unit", "accepts_target_wallet", "lago_parent_id",
}  # fmt: skip
BASE = {
    "name": "Pro", "code": "pro", "interval": "monthly", "amount_cents": 4900, "amount_currency": "EUR",
    "pay_in_advance": False,
}  # fmt: skip
RANGES = [
    {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "0"},
    {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "3"},
]
FLAT_NUMBER = [{**RANGES[1], "from_value": 0, "flat_amount": 3}]


def problems(response: httpx.Response) -> dict:
    assert response.status_code == 422, response.text
    return response.json()["error_details"]


def post(api: httpx.Client, **fields: object) -> httpx.Response:
    return api.post(URL, json={"plan": {**BASE, **fields}})


def put(api: httpx.Client, **fields: object) -> httpx.Response:
    return api.put(f"{URL}/pro", json={"plan": fields})


def plan_of(response: httpx.Response) -> dict:
    assert response.status_code == 200, response.text
    return response.json()["plan"]


def make_metric(api: httpx.Client, code: str = "calls", aggregation: str = "sum_agg", **fields: object) -> str:
    sent = {"name": code, "code": code, "aggregation_type": aggregation, "field_name": "n", **fields}
    response = api.post("/api/v1/billable_metrics", json={"billable_metric": sent})
    assert response.status_code == 200, response.text
    return response.json()["billable_metric"]["lago_id"]


def make_tax(api: httpx.Client, code: str = "vat") -> None:
    tax = {"name": code, "code": code, "rate": 20}
    assert api.post("/api/v1/taxes", json={"tax": tax}).status_code == 200


def standard(metric: str, **fields: object) -> dict:
    return {"billable_metric_id": metric, "charge_model": "standard", "properties": {"amount": "1.50"}, **fields}


def subscribe(api: httpx.Client) -> None:
    subscription = {"external_customer_id": "c1", "external_id": "s1", "plan_code": "pro"}
    response = api.post("/api/v1/subscriptions", json={"subscription": subscription})
    assert response.status_code == 200, response.text


class TestPlan:
    def test_create_find_update_delete(self, api: httpx.Client) -> None:
        made = plan_of(post(api, description="d", invoice_display_name="i", metadata={"a": "b", "c": None}))
        assert made.keys() == PLAN_FIELDS
        assert {field: made[field] for field in BASE} == BASE
        neutral = {
            "trial_period": 0, "bill_charges_monthly": None, "bill_fixed_charges_monthly": None, "charges": [],
            "minimum_commitment": None, "fixed_charges": [], "taxes": [], "usage_thresholds": [], "entitlements": [],
            "customers_count": 0, "active_subscriptions_count": 0, "draft_invoices_count": 0,
        }  # fmt: skip
        assert {field: made[field] for field in neutral} == neutral
        assert made["metadata"] == {"a": "b", "c": None}
        assert plan_of(api.get(f"{URL}/pro")) == made

        sent = {
            "name": "Max", "code": "v2/max", "interval": "yearly", "amount_cents": 0, "amount_currency": "JPY",
            "pay_in_advance": True, "description": None, "invoice_display_name": None, "metadata": {},
        }  # fmt: skip
        changed = plan_of(put(api, **sent))
        assert changed == {**made, **sent}
        assert plan_of(api.delete(f"{URL}/v2/max")) == changed
        for response in (api.get(f"{URL}/v2/max"), api.delete(f"{URL}/v2/max"), put(api, name="x")):
            assert (response.status_code, response.json()["code"]) == (404, "plan_not_found")
        assert plan_of(post(api, code="v2/max"))["lago_id"] != made["lago_id"]

    @pytest.mark.parametrize("interval", ["weekly", "monthly", "quarterly", "semiannual", "yearly"])
    def test_intervals(self, api: httpx.Client, interval: str) -> None:
        assert plan_of(post(api, interval=interval))["interval"] == interval

    def test_all_that_is_missing_is_told_at_once(self, api: httpx.Client) -> None:
        mandatory = {field: ["value_is_mandatory"] for field in BASE}
        assert problems(api.post(URL, json={"plan": {}})) == {**mandatory, "interval": ["value_is_invalid"]}
        assert api.post(URL, json={}).status_code == 400
        post(api)
        nulls = dict.fromkeys(BASE)
        assert problems(put(api, **nulls)) == {**mandatory, "interval": ["value_is_invalid"]}

    @pytest.mark.parametrize(
        ("field", "value", "code"),
        [
            ("interval", "daily", "value_is_invalid"),
            ("amount_currency", "XXX", "value_is_invalid"),
            ("amount_currency", "eur", "value_is_invalid"),
            ("amount_cents", -1, "value_is_out_of_range"),
            ("amount_cents", 10**30, "value_is_out_of_range"),
            ("amount_cents", "many", "value_is_invalid"),
            ("amount_cents", 1.5, "value_is_invalid"),
            ("pay_in_advance", "maybe", "value_is_invalid"),
            ("name", ["x"], "value_is_invalid"),
            ("name", "a\x00", "value_is_invalid"),
            ("code", "a/", "value_is_invalid"),
            ("charges", {}, "value_is_invalid"),
            ("tax_codes", "vat", "value_is_invalid"),
            ("metadata", {"a": {}}, "value_is_invalid"),
            ("trial_period", "long", "value_is_invalid"),
            ("usage_thresholds", 1, "value_is_invalid"),
            ("minimum_commitment", [], "value_is_invalid"),
        ],
    )
    def test_broken_rules(self, api: httpx.Client, field: str, value: object, code: str) -> None:
        assert problems(post(api, **{field: value})) == {field: [code]}
        made = plan_of(post(api))
        assert problems(put(api, **{"name": "changed", field: value})) == {field: [code]}
        assert plan_of(api.get(f"{URL}/pro")) == made

    def test_codes_are_unique(self, api: httpx.Client) -> None:
        post(api)
        post(api, code="other")
        assert problems(post(api)) == {"code": ["value_already_exist"]}
        assert problems(api.put(f"{URL}/other", json={"plan": {"code": "pro"}})) == {"code": ["value_already_exist"]}
        assert plan_of(put(api, code="pro", name="same code"))["name"] == "same code"

    def test_two_requests_with_one_code(self, api: httpx.Client) -> None:
        with ThreadPoolExecutor(8) as pool:
            statuses = sorted(response.status_code for response in pool.map(lambda _: post(api), range(8)))
        assert statuses == [200] + [422] * 7

    def test_taxes(self, api: httpx.Client) -> None:
        make_tax(api)
        make_tax(api, "city")
        assert [tax["code"] for tax in plan_of(post(api, tax_codes=["vat", "city", "vat"]))["taxes"]] == ["city", "vat"]
        assert [tax["code"] for tax in plan_of(put(api, tax_codes=["vat"]))["taxes"]] == ["vat"]
        assert [tax["code"] for tax in plan_of(put(api, name="x"))["taxes"]] == ["vat"]
        unknown = put(api, tax_codes=["vat", "nope"])
        assert (unknown.status_code, unknown.json()["code"]) == (404, "tax_not_found")
        assert api.delete("/api/v1/taxes/vat").status_code == 200
        assert plan_of(api.get(f"{URL}/pro"))["taxes"] == []
        assert plan_of(put(api, tax_codes=["city"]))["taxes"][0]["code"] == "city"
        assert plan_of(put(api, tax_codes=None))["taxes"] == []

    @pytest.mark.parametrize(("interval", "kept"), [("yearly", True), ("semiannual", True), ("monthly", None)])
    def test_months_of_longer_plans(self, api: httpx.Client, interval: str, kept: bool | None) -> None:
        monthly = {"bill_charges_monthly": True, "bill_fixed_charges_monthly": True}
        made = plan_of(post(api, **monthly, interval=interval))
        assert [made[field] for field in monthly] == [kept, kept]

    def test_pages_newest_first(self, api: httpx.Client) -> None:
        for number in range(3):
            post(api, code=str(number))
        page = api.get(URL, params={"per_page": 2}).json()
        assert page["meta"] == {
            "current_page": 1, "next_page": 2, "prev_page": None, "total_pages": 2, "total_count": 3,
        }  # fmt: skip
        assert [plan["code"] for plan in page["plans"]] == ["2", "1"]

    def test_another_organizations_plan_is_not_found(self, api: httpx.Client, admin: httpx.Client) -> None:
        metric = make_metric(api)
        made = plan_of(post(api, charges=[standard(metric)]))
        other = admin.post("/admin/organizations", json={"organization": {"name": "Other"}}).json()["organization"]
        headers = {"Authorization": f"Bearer {other['api_key']}"}
        for response in (
            api.get(f"{URL}/pro", headers=headers),
            api.put(f"{URL}/pro", headers=headers, json={"plan": {"name": "mine"}}),
            api.delete(f"{URL}/pro", headers=headers),
        ):
            assert (response.status_code, response.json()["code"]) == (404, "plan_not_found")
        theirs = api.post(URL, headers=headers, json={"plan": {**BASE, "charges": [standard(metric)]}})
        assert (theirs.status_code, theirs.json()["code"]) == (404, "billable_metrics_not_found")
        assert api.get(URL, headers=headers).json()["plans"] == []
        assert plan_of(api.get(f"{URL}/pro")) == made


class TestCharges:
    def test_every_field_is_there(self, api: httpx.Client) -> None:
        make_tax(api)
        metric = make_metric(api)
        graduated = {
            "billable_metric_id": metric,
            "charge_model": "graduated",
            "properties": {"graduated_ranges": RANGES},
        }
        charges = [standard(metric, invoice_display_name="Calls", tax_codes=["vat"]), graduated]
        first, second = plan_of(post(api, charges=charges))["charges"]
        assert first.keys() == CHARGE_FIELDS
        assert (first["lago_billable_metric_id"], first["billable_metric_code"]) == (metric, "calls")
        assert (first["code"], second["code"]) == ("calls", "calls_2")
        assert (first["invoice_display_name"], second["invoice_display_name"]) == ("Calls", None)
        assert first["properties"] == {"amount": "1.50"}
        assert second["properties"] == {"graduated_ranges": RANGES}
        assert [tax["code"] for tax in first["taxes"]] == ["vat"]
        neutral = {
            "pay_in_advance": False, "invoiceable": True, "regroup_paid_fees": None, "prorated": False,
            "min_amount_cents": 0, "filters": [], "applied_pricing_unit": None, "accepts_target_wallet": False,
            "lago_parent_id": None,
        }  # fmt: skip
        assert {field: second[field] for field in neutral} == neutral

    def test_default_properties(self, api: httpx.Client) -> None:
        metric = make_metric(api)
        charges = [
            {"billable_metric_id": metric, "charge_model": "standard"},
            {"billable_metric_id": metric, "charge_model": "graduated", "properties": None},
        ]
        first, second = plan_of(post(api, charges=charges))["charges"]
        assert first["properties"] == {"amount": "0"}
        open_range = {"from_value": 0, "to_value": None, "per_unit_amount": "0", "flat_amount": "0"}
        assert second["properties"] == {"graduated_ranges": [open_range]}

    def test_other_properties_are_dropped(self, api: httpx.Client) -> None:
        properties = {
            "amount": "1", "rate": "2", "graduated_ranges": RANGES, "anything": {"x": 1},
            "pricing_group_keys": ["region"], "grouped_by": ["region"],
        }  # fmt: skip
        (charge,) = plan_of(post(api, charges=[standard(make_metric(api), properties=properties)]))["charges"]
        assert charge["properties"] == {"amount": "1", "pricing_group_keys": ["region"], "grouped_by": ["region"]}

    def test_fractional_bounds_are_kept_digit_for_digit(self, api: httpx.Client) -> None:
        ranges = (
            '[{"from_value": 0, "to_value": 0.100000000000000001, "per_unit_amount": "1", "flat_amount": "0"},'
            '{"from_value": 0.100000000000000001, "to_value": null, "per_unit_amount": "1", "flat_amount": "0"}]'
        )
        plan = (
            '{"plan": {"name": "Pro", "code": "pro", "interval": "monthly", "amount_cents": 1,'
            '"amount_currency": "EUR", "pay_in_advance": false,'
            f'"charges": [{{"billable_metric_id": "{make_metric(api)}",'
            f'"charge_model": "graduated", "properties": {{"graduated_ranges": {ranges}}}}}]}}}}'
        )
        response = api.post(URL, content=plan.encode(), headers={"Content-Type": "application/json"})
        assert response.status_code == 200, response.text
        assert api.get(f"{URL}/pro").text.count("0.100000000000000001") == 2

    @pytest.mark.parametrize(
        ("model", "properties", "codes"),
        [
            ("standard", {}, ["invalid_amount"]),
            ("standard", {"amount": 1}, ["invalid_amount"]),
            ("standard", {"amount": "-1"}, ["invalid_amount"]),
            ("standard", {"amount": "1e5"}, ["invalid_amount"]),
            ("standard", {"amount": "1\x00"}, ["invalid_amount"]),
            ("standard", {"amount": "1", "pricing_group_keys": [1]}, ["invalid_type"]),
            ("standard", {"amount": "1", "presentation_group_keys": ["x"]}, ["invalid_type"]),
            ("standard", {"amount": "x", "pricing_group_keys": "x"}, ["invalid_amount", "invalid_type"]),
            ("graduated", {}, ["missing_graduated_ranges"]),
            ("graduated", {"graduated_ranges": []}, ["missing_graduated_ranges"]),
            ("graduated", {"graduated_ranges": "x"}, ["invalid_graduated_ranges"]),
            ("graduated", {"graduated_ranges": RANGES[:1]}, ["invalid_graduated_ranges"]),
            ("graduated", {"graduated_ranges": FLAT_NUMBER}, ["invalid_amount"]),
            (
                "graduated",
                {"graduated_ranges": [RANGES[0], {**RANGES[1], "from_value": 12}]},
                ["invalid_graduated_ranges"],
            ),
            ("standard", ["amount"], ["value_is_invalid"]),
            ("package", {"amount": "1", "package_size": 0}, ["invalid_package_size", "invalid_free_units"]),
            ("percentage", {"rate": 1, "fixed_amount": "-1"}, ["invalid_rate", "invalid_fixed_amount"]),
            ("volume", {"volume_ranges": [RANGES[0], {**RANGES[1], "from_value": 12}]}, ["invalid_volume_ranges"]),
            ("graduated_percentage", {"amount": "1"}, ["missing_graduated_percentage_ranges"]),
        ],
    )
    def test_property_rules(self, api: httpx.Client, model: str, properties: object, codes: list[str]) -> None:
        metric = make_metric(api)
        charge = {"billable_metric_id": metric, "charge_model": model, "properties": properties}
        assert problems(post(api, charges=[standard(metric), charge])) == {"properties": codes}
        assert api.get(URL).json()["plans"] == []

    def test_property_rules_hold_for_filters(self, api: httpx.Client) -> None:
        filters = [{"values": {"region": ["us"]}, "properties": {"amount": 1}}]
        metric = make_metric(api, filters=[{"key": "region", "values": ["us"]}])
        assert problems(post(api, charges=[standard(metric, filters=filters)])) == {"properties": ["invalid_amount"]}

    @pytest.mark.parametrize(
        ("fields", "answer"),
        [
            ({"charge_model": None}, {"charge_model": ["value_is_mandatory"]}),
            ({"charge_model": "custom"}, {"charge_model": ["value_is_invalid"]}),
            ({"charge_model": "free"}, {"charge_model": ["value_is_invalid"]}),
            ({"min_amount_cents": -1}, {"min_amount_cents": ["value_is_out_of_range"]}),
            (
                {"min_amount_cents": 1, "pay_in_advance": True},
                {"min_amount_cents": ["not_compatible_with_pay_in_advance"]},
            ),
            ({"invoiceable": False}, {"invoiceable": ["must_be_true_unless_pay_in_advance"]}),
            (
                {"regroup_paid_fees": "invoice"},
                {"regroup_paid_fees": ["only_compatible_with_pay_in_advance_and_non_invoiceable"]},
            ),
            (
                {"regroup_paid_fees": "x", "pay_in_advance": True, "invoiceable": False},
                {"regroup_paid_fees": ["value_is_invalid"]},
            ),
            (
                {"prorated": True, "pay_in_advance": True, "charge_model": "graduated", "properties": None},
                {"prorated": ["invalid_billable_metric_or_charge_model"]},
            ),
        ],
    )
    def test_forbidden_combinations(self, api: httpx.Client, fields: dict, answer: dict) -> None:
        assert problems(post(api, charges=[standard(make_metric(api), **fields)])) == answer

    def test_combinations_forbidden_by_the_metric(self, api: httpx.Client) -> None:
        highest, calls = make_metric(api, "highest", "max_agg"), make_metric(api, "count", "count_agg")
        in_advance = problems(post(api, charges=[standard(highest, pay_in_advance=True)]))
        assert in_advance == {"pay_in_advance": ["invalid_aggregation_type_or_charge_model"]}
        prorated = problems(post(api, charges=[standard(calls, prorated=True)]))
        assert prorated == {"prorated": ["invalid_billable_metric_or_charge_model"]}
        dynamic = problems(post(api, charges=[standard(calls, charge_model="dynamic", properties={})]))
        assert dynamic == {"charge_model": ["invalid_aggregation_type_or_charge_model"]}
        latest = make_metric(api, "latest", "latest_agg")
        rated = problems(post(api, charges=[standard(latest, charge_model="percentage", properties={"rate": "1"})]))
        assert rated == {"properties": ["invalid_value"]}

    def test_options_together(self, api: httpx.Client) -> None:
        """Every option that can be together."""
        region = [{"key": "region", "values": ["us"]}]
        metric = make_metric(api, recurring=True, filters=region)
        later = {
            "pay_in_advance": True, "invoiceable": False, "regroup_paid_fees": "invoice", "prorated": True,
            "filters": [{"values": {"region": ["us"]}, "properties": {"amount": "2"}, "invoice_display_name": "us"}],
            "accepts_target_wallet": True,
        }  # fmt: skip
        (charge,) = plan_of(post(api, charges=[standard(metric, **later)]))["charges"]
        assert [charge[field] for field in later if field != "filters"] == [True, False, "invoice", True, True]

    @pytest.mark.parametrize("metric", [None, "x", "7f0c0f5c-6a4e-4d0e-9b77-2f6a4f1d9a10", 7])
    def test_unknown_metric(self, api: httpx.Client, metric: object) -> None:
        response = post(api, charges=[standard(make_metric(api)), {**standard(""), "billable_metric_id": metric}])
        if metric == 7:
            assert problems(response) == {"billable_metric_id": ["value_is_invalid"]}
        else:
            assert (response.status_code, response.json()["code"]) == (404, "billable_metrics_not_found")
        assert api.get(URL).json()["plans"] == []

    def test_unknown_tax(self, api: httpx.Client) -> None:
        response = post(api, charges=[standard(make_metric(api), tax_codes=["nope"])])
        assert (response.status_code, response.json()["code"]) == (404, "tax_not_found")
        assert api.get(URL).json()["plans"] == []

    def test_codes(self, api: httpx.Client) -> None:
        metric = make_metric(api)
        charges = [standard(metric), standard(metric, code="calls"), standard(metric), standard(metric, code="calls_3")]
        made = plan_of(post(api, charges=charges))["charges"]
        assert [charge["code"] for charge in made] == ["calls_2", "calls", "calls_4", "calls_3"]
        twice = put(api, charges=[standard(metric, code="x"), standard(metric, code="x")])
        assert problems(twice) == {"code": ["value_already_exist"]}

    def test_codes_change_hands(self, api: httpx.Client) -> None:
        metric = make_metric(api)
        first, second = plan_of(post(api, charges=[standard(metric), standard(metric)]))["charges"]
        swapped = [{"id": first["lago_id"], "code": "calls_2"}, {"id": second["lago_id"], "code": "calls"}]
        assert [charge["code"] for charge in plan_of(put(api, charges=swapped))["charges"]] == ["calls_2", "calls"]
        handed = [standard(metric), {"id": first["lago_id"]}, {"id": second["lago_id"], "code": "old"}]
        changed = plan_of(put(api, charges=handed))["charges"]
        assert [charge["code"] for charge in changed] == ["calls", "calls_2", "old"]
        assert [charge["lago_id"] for charge in changed[1:]] == [first["lago_id"], second["lago_id"]]

    def test_update_changes_keeps_adds_and_removes(self, api: httpx.Client) -> None:
        make_tax(api)
        metric, other = make_metric(api), make_metric(api, "other")
        first, second, third = plan_of(
            post(api, charges=[standard(metric), standard(metric, tax_codes=["vat"]), standard(other)])
        )["charges"]
        sent = [
            {"id": third["lago_id"], "properties": {"amount": "9"}, "invoice_display_name": "Third"},
            {"billable_metric_id": metric, "charge_model": "graduated", "properties": {"graduated_ranges": RANGES}},
            {"id": second["lago_id"]},
        ]
        changed = plan_of(put(api, charges=sent))["charges"]
        assert changed[0] == {**third, "properties": {"amount": "9"}, "invoice_display_name": "Third"}
        assert changed[1]["code"] == "calls"
        assert changed[2] == second
        assert first["lago_id"] not in [charge["lago_id"] for charge in changed]
        assert plan_of(put(api, name="x"))["charges"] == changed
        assert plan_of(api.get(f"{URL}/pro"))["charges"] == changed
        assert plan_of(put(api, charges=[]))["charges"] == []

    def test_without_subscriptions_everything_about_a_charge_changes(self, api: httpx.Client) -> None:
        metric, other = make_metric(api), make_metric(api, "other")
        (charge,) = plan_of(post(api, charges=[standard(metric)]))["charges"]
        sent = {"id": charge["lago_id"], "charge_model": "graduated", "code": "new", "billable_metric_id": other}
        (changed,) = plan_of(put(api, charges=[sent]))["charges"]
        assert (changed["lago_id"], changed["charge_model"], changed["code"]) == (charge["lago_id"], "graduated", "new")
        assert changed["billable_metric_code"] == "other"
        assert len(changed["properties"]["graduated_ranges"]) == 1
        wrong = put(api, charges=[{"id": charge["lago_id"], "properties": {"amount": "1"}}])
        assert problems(wrong) == {"properties": ["missing_graduated_ranges"]}

    def test_concurrent_updates_leave_one_list(self, api: httpx.Client) -> None:
        metric = make_metric(api)
        post(api)
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: put(api, charges=[standard(metric), standard(metric)]), range(12)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(plan_of(api.get(f"{URL}/pro"))["charges"]) == 2


class TestInUse:
    def test_what_may_not_change_is_ignored(self, api: httpx.Client) -> None:
        metric, other = make_metric(api), make_metric(api, "other")
        made = plan_of(post(api, charges=[standard(metric)]))
        subscribe(api)
        sent = {
            "name": "New", "description": "new", "invoice_display_name": "new", "amount_cents": 1,
            "code": "changed", "interval": "daily", "amount_currency": "ZZZ", "pay_in_advance": True,
        }  # fmt: skip
        free = {field: sent[field] for field in ("name", "description", "invoice_display_name", "amount_cents")}
        assert plan_of(put(api, **sent)) == {**made, **free}

        (charge,) = made["charges"]
        charge_sent = {
            "id": charge["lago_id"], "charge_model": "graduated", "billable_metric_id": other, "code": "changed",
            "min_amount_cents": 5, "invoiceable": False, "properties": {"amount": "7"}, "invoice_display_name": "new",
        }  # fmt: skip
        (changed,) = plan_of(put(api, charges=[charge_sent]))["charges"]
        assert changed == {**charge, "properties": {"amount": "7"}, "invoice_display_name": "new"}

    def test_charges_come_and_go(self, api: httpx.Client) -> None:
        metric = make_metric(api)
        (charge,) = plan_of(post(api, charges=[standard(metric)]))["charges"]
        subscribe(api)
        (added,) = plan_of(put(api, charges=[standard(metric)]))["charges"]
        assert added["lago_id"] != charge["lago_id"]
        assert added["code"] == "calls"


class TestMetadata:
    METADATA = f"{URL}/pro/metadata"

    def test_replace_merge_and_remove(self, api: httpx.Client) -> None:
        post(api, metadata={"a": "1"})

        def metadata(response: httpx.Response) -> dict:
            assert response.status_code == 200, response.text
            assert response.json().keys() == {"metadata"}
            assert plan_of(api.get(f"{URL}/pro"))["metadata"] == response.json()["metadata"]
            return response.json()["metadata"]

        merged = {"a": "1", "b": None, "c/d.e%": "2"}
        assert metadata(api.patch(self.METADATA, json={"metadata": {"b": None, "c/d.e%": "2"}})) == merged
        assert metadata(api.patch(self.METADATA, json={"metadata": {"a": "x"}})) == {**merged, "a": "x"}
        assert metadata(api.delete(f"{self.METADATA}/c/d.e%25")) == {"a": "x", "b": None}
        answer = api.delete(f"{self.METADATA}/c/d.e%25")
        assert (answer.status_code, answer.json()["code"]) == (404, "metadata_not_found")
        assert metadata(api.delete(f"{self.METADATA}/b")) == {"a": "x"}
        assert metadata(api.patch(self.METADATA, json={"metadata": None})) == {"a": "x"}
        assert metadata(api.post(self.METADATA, json={"metadata": {"n": "y"}})) == {"n": "y"}
        assert metadata(api.post(self.METADATA, json={"metadata": None})) == {}
        assert metadata(api.post(self.METADATA, json={"metadata": {"k" * 100: "v" * 255}})) == {"k" * 100: "v" * 255}
        assert metadata(api.delete(self.METADATA)) == {}

    @pytest.mark.parametrize(
        ("sent", "code"),
        [
            ({"k" * 101: "v"}, "value_is_too_long"),
            ({"k": "v" * 256}, "value_is_too_long"),
            ({"": "v"}, "value_is_invalid"),
            ({"k": 5}, "value_is_invalid"),
            ({"k": "a\x00"}, "value_is_invalid"),
            ({"k\x00": "a"}, "value_is_invalid"),
        ],
    )
    def test_bad_input_changes_nothing(self, api: httpx.Client, sent: dict, code: str) -> None:
        post(api, metadata={"a": "1"})
        for method in ("POST", "PATCH"):
            assert problems(api.request(method, self.METADATA, json={"metadata": sent})) == {"metadata": [code]}
            assert api.request(method, self.METADATA, json={}).status_code == 400
        assert problems(put(api, metadata=sent)) == {"metadata": [code]}
        assert plan_of(api.get(f"{URL}/pro"))["metadata"] == {"a": "1"}

    def test_of_no_plan(self, api: httpx.Client) -> None:
        for method, path in (("POST", ""), ("PATCH", ""), ("DELETE", ""), ("DELETE", "/a")):
            answer = api.request(method, f"{URL}/none/metadata{path}", json={"metadata": {}})
            assert (answer.status_code, answer.json()["code"]) == (404, "plan_not_found")
