"""The official Python client for Lago against this service."""

from decimal import Decimal
from typing import Any

import httpx
import pytest
from lago_python_client.client import Client
from lago_python_client.exceptions import LagoApiError
from lago_python_client.models import (
    AddOn,
    BatchEvent,
    BillableMetric,
    BillableMetricFilter,
    BillableMetricFilters,
    BillingEntity,
    BillingEntityBillingConfiguration,
    BillingEntityUpdate,
    Charge,
    ChargeFilter,
    ChargeFilters,
    Charges,
    Customer,
    Event,
    Fee,
    FixedCharge,
    FixedChargeOverrides,
    FixedChargeProperties,
    FixedCharges,
    Invoice,
    Plan,
    Subscription,
    Tax,
    Wallet,
    WalletTransaction,
)
from lago_python_client.models.charge import AppliedPricingUnit
from lago_python_client.models.wallet import AppliesTo

from tests.factories import make_plan, ok, set_clock
from tests.support import Server

NOON = 1_715_342_400


@pytest.fixture
def lago(server: Server, api: httpx.Client) -> Client:
    """The official client in a sandbox on 1 May 2024."""
    set_clock(api, "2024-05-01T00:00:00Z")
    return Client(api_key=api.headers["Authorization"].removeprefix("Bearer "), api_url=server.base_url)


def test_a_month_from_tax_to_fees(lago: Client, api: httpx.Client) -> None:
    tax = lago.taxes.create(Tax(name="VAT", code="vat", rate=20.0, applied_to_organization=False))
    assert (tax.code, tax.rate) == ("vat", 20.0)
    metric = lago.billable_metrics.create(
        BillableMetric(name="Storage", code="storage", aggregation_type="sum_agg", field_name="gb", recurring=False)
    )
    assert lago.billable_metrics.find("storage").lago_id == metric.lago_id
    charge = Charge(billable_metric_id=metric.lago_id, charge_model="standard", properties={"amount": "0.5"})
    plan = lago.plans.create(
        Plan(
            name="Plan",
            code="plan",
            interval="monthly",
            amount_cents=3_100,
            amount_currency="EUR",
            pay_in_advance=False,
            charges=Charges(__root__=[charge]),
            tax_codes=["vat"],
        )
    )
    assert plan.charges.__root__[0].billable_metric_code == "storage"
    customer = lago.customers.create(Customer(external_id="acme", name="Acme", currency="EUR"))
    assert lago.customers.find("acme").lago_id == customer.lago_id
    subscription = lago.subscriptions.create(
        Subscription(external_customer_id="acme", external_id="sub", plan_code="plan")
    )
    assert (subscription.status, subscription.plan_code) == ("active", "plan")
    sent = Event(
        transaction_id="t1", external_subscription_id="sub", code="storage", timestamp=NOON, properties={"gb": 2.5}
    )
    assert lago.events.create(sent).transaction_id == "t1"
    assert lago.events.create(sent).transaction_id == "t1"
    batch = [
        Event(
            transaction_id=f"b{n}", external_subscription_id="sub", code="storage", timestamp=NOON, properties={"gb": n}
        )
        for n in range(5)
    ]
    lago.events.batch_create(BatchEvent(events=batch))
    found = lago.events.find("t1")
    assert (found.external_subscription_id, found.timestamp) == ("sub", "2024-05-10T12:00:00.000Z")

    usage = lago.customers.current_usage("acme", "sub")
    assert (usage.amount_cents, usage.taxes_amount_cents, usage.total_amount_cents) == (625, 125, 750)
    (charge_usage,) = usage.charges_usage
    assert (Decimal(charge_usage.units), charge_usage.billable_metric.code) == (Decimal("12.5"), "storage")

    set_clock(api, "2024-06-01T00:00:00Z")
    invoices: dict[str, Any] = lago.invoices.find_all({"external_customer_id": "acme"})
    (listed,) = invoices["invoices"]
    assert invoices["meta"]["total_count"] == 1
    invoice = lago.invoices.find(listed.lago_id)
    assert (invoice.total_amount_cents, invoice.status) == (4_470, "finalized")
    assert [fee.amount_cents for fee in invoice.fees.__root__] == [3_100, 625]
    fees = lago.fees.find_all({"external_subscription_id": "sub"})["fees"]
    assert sorted(fee.amount_cents for fee in fees) == [625, 3_100]
    fee = lago.fees.find(fees[0].lago_id)
    assert fee.lago_invoice_id == invoice.lago_id
    assert lago.fees.update(Fee(payment_status="succeeded"), fee.lago_id).payment_status == "succeeded"
    assert lago.subscriptions.destroy("sub").status == "terminated"


def test_charge_filters(lago: Client) -> None:
    filters = [BillableMetricFilter(key="region", values=["us", "eu"])]
    metric = lago.billable_metrics.create(
        BillableMetric(
            name="Calls", code="calls", aggregation_type="count_agg", filters=BillableMetricFilters(__root__=filters)
        )
    )
    charge = Charge(billable_metric_id=metric.lago_id, charge_model="standard", properties={"amount": "1"})
    plan = Plan(
        name="Plan", code="plan", interval="monthly", amount_cents=0, amount_currency="EUR", pay_in_advance=False,
        charges=Charges(__root__=[charge]),
    )  # fmt: skip
    lago.plans.create(plan)
    us = ChargeFilter(values={"region": ["us"]}, properties={"amount": "2"}, invoice_display_name="US")
    made = lago.plans.create_charge_filter("plan", "calls", us)
    assert (made.values, made.properties, made.invoice_display_name) == ({"region": ["us"]}, {"amount": "2"}, "US")
    changed = lago.plans.update_charge_filter("plan", "calls", made.lago_id, ChargeFilter(properties={"amount": "3"}))
    assert (changed.lago_id, changed.values, changed.properties) == (made.lago_id, made.values, {"amount": "3"})
    assert lago.plans.find_charge_filter("plan", "calls", made.lago_id) == changed
    listed: Any = lago.plans.find_all_charge_filters("plan", "calls", {"per_page": 1})
    assert (listed["filters"], listed["meta"]["total_count"]) == ([changed], 1)
    assert lago.plans.destroy_charge_filter("plan", "calls", made.lago_id).lago_id == made.lago_id
    shown = lago.plans.find("plan").charges.__root__[0]
    assert shown.filters.__root__ == []


def test_plan_metadata(lago: Client) -> None:
    lago.plans.create(
        Plan(
            name="Plan", code="plan", interval="monthly", amount_cents=0, amount_currency="EUR", pay_in_advance=False,
            metadata={"a": "1"},
        )
    )  # fmt: skip
    assert lago.plans.merge_metadata("plan", {"b": None}) == {"a": "1", "b": None}
    assert lago.plans.delete_metadata_key("plan", "a") == {"b": None}
    assert lago.plans.replace_metadata("plan", {"c": "2"}) == {"c": "2"}
    assert lago.plans.find("plan").metadata == {"c": "2"}
    assert lago.plans.delete_all_metadata("plan") == {}


def test_usage_past_present_and_to_come(lago: Client, api: httpx.Client) -> None:
    filters = [BillableMetricFilter(key="region", values=["us"])]
    metric = lago.billable_metrics.create(
        BillableMetric(
            name="Calls", code="calls", aggregation_type="count_agg", filters=BillableMetricFilters(__root__=filters)
        )
    )
    unit = {"code": "credits", "name": "Credits", "short_name": "CR"}
    ok(api.post("/api/v1/pricing_units", json={"pricing_unit": unit}))
    charge = Charge(
        billable_metric_id=metric.lago_id, charge_model="standard", min_amount_cents=500,
        properties={"amount": "1", "pricing_group_keys": ["team"]},
        applied_pricing_unit=AppliedPricingUnit(code="credits", conversion_rate=0.5),
        filters=ChargeFilters(__root__=[ChargeFilter(values={"region": ["us"]}, properties={"amount": "2"})]),
    )  # fmt: skip
    plan = Plan(
        name="Plan", code="plan", interval="monthly", amount_cents=0, amount_currency="EUR", pay_in_advance=False,
        charges=Charges(__root__=[charge]),
    )  # fmt: skip
    assert lago.plans.create(plan).charges.__root__[0].min_amount_cents == 500
    lago.subscriptions.create(Subscription(external_customer_id="acme", external_id="sub", plan_code="plan"))
    for region in ("us", "eu"):
        properties = {"region": region, "team": "a"}
        lago.events.create(
            Event(transaction_id=region, external_subscription_id="sub", code="calls", properties=properties)
        )
    (present,) = lago.customers.current_usage("acme", "sub").charges_usage
    assert (present.amount_cents, present.pricing_unit_details.amount_cents) == (150, 300)
    projected = lago.customers.projected_usage("acme", "sub")
    assert projected.projected_amount_cents == 31 * 150
    assert [one.projected_amount_cents for one in projected.charges_usage[0].filters] == [31 * 100, 31 * 50]
    assert lago.subscriptions.update_lifetime_usage("sub", 70).external_historical_usage_amount_cents == 70
    set_clock(api, "2024-06-01T00:00:00Z")
    past: Any = lago.customers.past_usage("acme", "sub", {"periods_count": 1})
    (period,) = past["usage_periods"]
    assert (period.amount_cents, past["meta"]["total_count"]) == (250, 1)
    assert period.charges_usage[0].pricing_unit_details.short_name == "CR"
    lifetime = lago.subscriptions.lifetime_usage("sub")
    assert (lifetime.invoiced_usage_amount_cents, lifetime.current_usage_amount_cents) == (250, 0)
    (missing,) = (one for one in lago.fees.find_all({"fee_type": "charge"})["fees"] if one.lago_true_up_parent_fee_id)
    assert (missing.amount_cents, missing.pricing_unit_details.conversion_rate) == (100, 0.5)


def test_fixed_charges(lago: Client) -> None:
    add_on = lago.add_ons.create(AddOn(name="Seat", code="seat", amount_cents=200, amount_currency="EUR"))
    assert lago.add_ons.find("seat").lago_id == add_on.lago_id
    charge = FixedCharge(
        add_on_id=add_on.lago_id, charge_model="standard", units=10, pay_in_advance=True,
        properties=FixedChargeProperties(amount="1.5"),
    )  # fmt: skip
    plan = Plan(
        name="Plan", code="plan", interval="monthly", amount_cents=0, amount_currency="EUR", pay_in_advance=False,
        fixed_charges=FixedCharges(__root__=[charge]),
    )  # fmt: skip
    (made,) = lago.plans.create(plan).fixed_charges.__root__
    assert (made.units, made.properties.amount, made.invoice_display_name) == (10, "1.5", "Seat")
    assert lago.plan_fixed_charges.find("plan", "seat") == made
    changed = lago.plan_fixed_charges.update("plan", "seat", FixedCharge(units=12.5))
    assert (changed.lago_id, changed.units) == (made.lago_id, 12.5)
    lago.subscriptions.create(Subscription(external_customer_id="acme", external_id="sub", plan_code="plan"))
    own = lago.subscription_fixed_charges.update(
        "sub", "seat", FixedChargeOverrides(units=20, apply_units_immediately=True)
    )
    assert own.units == lago.subscription_fixed_charges.find("sub", "seat").units == 20
    fees = lago.fees.find_all({"external_subscription_id": "sub"})["fees"]
    billed = sorted((fee.item.type, fee.item.item_type, Decimal(fee.units), fee.amount_cents) for fee in fees)
    assert billed == [
        ("fixed_charge", "AddOn", Decimal("7.5"), 1_125),
        ("fixed_charge", "AddOn", Decimal("12.5"), 1_875),
    ]
    assert lago.plan_fixed_charges.destroy("plan", "seat").lago_id == made.lago_id
    assert lago.add_ons.destroy("seat").lago_id == add_on.lago_id


def test_billing_entities(lago: Client, api: httpx.Client) -> None:
    tax = lago.taxes.create(Tax(name="VAT", code="vat", rate=20.0, applied_to_organization=False))
    made = lago.billing_entities.create(
        BillingEntity(
            code="paris", name="Paris", country="FR", timezone="Europe/Paris", document_numbering="per_billing_entity",
            document_number_prefix="PAR", email_settings=["invoice.finalized"],
            billing_configuration=BillingEntityBillingConfiguration(invoice_grace_period=3, document_locale="fr"),
        )
    )  # fmt: skip
    assert (made.code, made.is_default, made.invoice_grace_period, made.document_locale) == ("paris", False, 3, "fr")
    changed = lago.billing_entities.update(
        BillingEntityUpdate(
            name="Paris", tax_codes=["vat"], logo_url="https://example.com/logo.png", phone="1",
            billing_configuration=BillingEntityBillingConfiguration(invoice_grace_period=0),
        ),
        "paris",
    )  # fmt: skip
    assert [one.lago_id for one in changed.taxes.__root__] == [tax.lago_id]
    assert changed == lago.billing_entities.find("paris")
    assert (changed.country, changed.logo_url, changed.phone) == ("FR", "https://example.com/logo.png", "1")
    found = lago.billing_entities.find_all()["billing_entities"]
    assert {one.code: one.is_default for one in found} == {"default": True, "paris": False}
    make_plan(api, amount_cents=1_000, pay_in_advance=True)
    customer = lago.customers.create(Customer(external_id="acme", billing_entity_code="paris"))
    assert (customer.billing_entity_code, customer.applicable_timezone) == ("paris", "Europe/Paris")
    subscription = lago.subscriptions.create(
        Subscription(external_customer_id="acme", external_id="sub", plan_code="plan")
    )
    assert subscription.billing_entity_code == "paris"
    (invoice,) = lago.invoices.find_all({"billing_entity_codes[]": "paris"})["invoices"]
    assert (invoice.billing_entity_code, invoice.number) == ("paris", "PAR-202405-001")
    assert lago.invoices.find_all({"billing_entity_codes[]": "default"})["invoices"] == []


def test_wallets(lago: Client) -> None:
    lago.customers.create(Customer(external_id="acme", currency="EUR"))
    made = lago.wallets.create(
        Wallet(
            external_customer_id="acme", name="Main", rate_amount="2", paid_credits="3", granted_credits="5",
            applies_to=AppliesTo(fee_types=["charge"]), transaction_name="Start", metadata={"a": "1"},
        )
    )  # fmt: skip
    wallet = lago.wallets.find(made.lago_id)
    assert (wallet.balance_cents, wallet.credits_balance, wallet.code) == (1_000, "5.0", "main")
    assert lago.customers.wallets.find("acme", "main") == wallet
    assert lago.customers.wallets.update("acme", "main", Wallet(name="Other", priority=4)).priority == 4
    assert lago.wallets.update(Wallet(name="Third"), wallet.lago_id).name == "Third"
    listed: Any = lago.wallets.find_all({"external_customer_id": "acme"})
    assert [one.lago_id for one in listed["wallets"]] == [wallet.lago_id]
    nested: Any = lago.customers.wallets.find_all("acme")
    assert nested["wallets"] == listed["wallets"]
    assert lago.wallets.merge_metadata(wallet.lago_id, {"b": "2"}) == {"a": "1", "b": "2"}
    assert lago.wallets.delete_metadata_key(wallet.lago_id, "a") == {"b": "2"}
    assert lago.customers.wallets.metadata.replace("acme", "main", {"c": None}) == {"c": None}
    assert lago.customers.wallets.metadata.delete_all("acme", "main") == {}

    sent = WalletTransaction(wallet_id=wallet.lago_id, granted_credits="1")
    (given,) = lago.wallet_transactions.create(sent)["wallet_transactions"]
    sent = WalletTransaction(wallet_id=wallet.lago_id, voided_credits="5.5")
    (void,) = lago.wallet_transactions.create(sent)["wallet_transactions"]
    assert (void.amount, given.remaining_amount_cents) == ("11.0", 200)
    found: Any = lago.wallet_transactions.find_all(wallet.lago_id, {"transaction_status": "purchased"})
    (bought,) = found["wallet_transactions"]
    assert (bought.name, bought.status, bought.amount) == ("Start", "pending", "6.0")
    with pytest.raises(LagoApiError) as refused:
        lago.wallet_transactions.payment_url(bought.lago_id)
    assert refused.value.response["error_details"] == {"base": ["no_linked_payment_provider"]}
    fundings: Any = lago.wallet_transactions.fundings(void.lago_id)
    assert [one.amount_cents for one in fundings["wallet_transaction_fundings"]] == [1_000, 100]
    consumptions: Any = lago.wallet_transactions.consumptions(given.lago_id)
    (consumption,) = consumptions["wallet_transaction_consumptions"]
    assert consumption.wallet_transaction.lago_id == void.lago_id
    invoice = lago.invoices.find(bought.lago_invoice_id)
    assert (invoice.invoice_type, invoice.fees.__root__[0].item.type) == ("credit", "credit")
    assert lago.invoices.update(Invoice(payment_status="succeeded"), invoice.lago_id).payment_status == "succeeded"
    assert lago.wallets.find(wallet.lago_id).balance_cents == 700
    second = lago.customers.wallets.create("acme", Wallet(code="second", rate_amount="1"))
    assert lago.customers.wallets.destroy("acme", "second").lago_id == second.lago_id
    assert lago.wallets.destroy(wallet.lago_id).status == "terminated"


def test_errors(lago: Client) -> None:
    with pytest.raises(LagoApiError) as refused:
        lago.customers.find("nobody")
    assert (refused.value.status_code, refused.value.response["code"]) == (404, "customer_not_found")
    with pytest.raises(LagoApiError) as invalid:
        lago.events.create(Event(transaction_id="", external_subscription_id="s", code="c"))
    assert (invalid.value.status_code, invalid.value.response["code"]) == (422, "validation_errors")
