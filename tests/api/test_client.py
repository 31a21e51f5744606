"""The official Python client for Lago against this service."""

from decimal import Decimal
from typing import Any

import httpx
import pytest
from lago_python_client.client import Client
from lago_python_client.exceptions import LagoApiError
from lago_python_client.models import (
    AddOn,
    AppliedCoupon,
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
    Coupon,
    CreditNote,
    CreditNoteEstimate,
    CreditNoteUpdate,
    Customer,
    Event,
    Fee,
    FixedCharge,
    FixedChargeOverrides,
    FixedChargeProperties,
    FixedCharges,
    Invoice,
    InvoiceFee,
    InvoiceFeesList,
    Item,
    Items,
    LimitationConfiguration,
    OneOffInvoice,
    Plan,
    Subscription,
    Tax,
    UsageThreshold,
    UsageThresholds,
    Wallet,
    WalletTransaction,
)
from lago_python_client.models.alert import Alert, AlertResponse, AlertsList, AlertThreshold, AlertThresholdList
from lago_python_client.models.charge import AppliedPricingUnit
from lago_python_client.models.payment import Payment
from lago_python_client.models.payment_request import PaymentRequest
from lago_python_client.models.wallet import AppliesTo

from tests.factories import make_metric, make_plan, ok, set_clock
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


def test_a_sale_paid_refunded_and_voided(lago: Client) -> None:
    lago.add_ons.create(AddOn(name="Setup", code="setup", amount_cents=10_000, amount_currency="EUR"))
    lago.customers.create(Customer(external_id="acme", name="Acme", currency="EUR", email="pay@example.com"))
    fees = InvoiceFeesList(__root__=[InvoiceFee(add_on_code="setup", units=1.5), InvoiceFee(add_on_code="setup")])
    sold = lago.invoices.create(OneOffInvoice(external_customer_id="acme", currency="EUR", fees=fees))
    assert (sold.invoice_type, sold.status, sold.total_due_amount_cents) == ("one_off", "finalized", 25_000)
    assert [Decimal(fee.units) for fee in sold.fees.__root__] == [Decimal("1.5"), 1]

    paid = lago.payments.create(Payment(invoice_id=sold.lago_id, amount_cents=5_000, reference="bank 1"))
    assert (paid.payment_status, paid.type, paid.invoice_ids) == ("succeeded", "manual", [sold.lago_id])
    assert lago.payments.find(paid.lago_id) == paid
    assert lago.payments.find_all({"invoice_id": sold.lago_id})["payments"] == [paid]
    (receipt,) = lago.payment_receipts.find_all({"invoice_id": sold.lago_id})["payment_receipts"]
    assert lago.payment_receipts.find(receipt.lago_id).payment == paid
    assert lago.invoices.find(sold.lago_id).total_due_amount_cents == 20_000
    assert lago.invoices.retry_payment(sold.lago_id) is None

    items = Items(__root__=[Item(fee_id=sold.fees.__root__[1].lago_id, amount_cents=4_000)])
    estimate = lago.credit_notes.estimate(CreditNoteEstimate(invoice_id=sold.lago_id, items=items))
    assert (estimate.max_refundable_amount_cents, estimate.max_offsettable_amount_cents) == (5_000, 20_000)
    note = lago.credit_notes.create(
        CreditNote(
            invoice_id=sold.lago_id, reason="other", items=items, credit_amount_cents=0, refund_amount_cents=4_000
        )
    )
    assert note.refund_status == "pending"
    assert (
        lago.credit_notes.update(CreditNoteUpdate(refund_status="succeeded"), note.lago_id).refund_status == "succeeded"
    )

    assert lago.invoices.lose_dispute(sold.lago_id).payment_dispute_lost_at == "2024-05-01T00:00:00Z"
    options = {"generate_credit_note": True, "credit_amount": 1_000, "refund_amount": 1_000}
    assert lago.invoices.void_invoice(sold.lago_id, options).status == "voided"
    assert lago.credit_notes.find_all({"external_customer_id": "acme"})["meta"]["total_count"] == 3
    with pytest.raises(LagoApiError) as refused:
        lago.invoices.payment_url(sold.lago_id)
    assert refused.value.response["error_details"] == {"base": ["no_linked_payment_provider"]}
    again = lago.invoices.create(OneOffInvoice(external_customer_id="acme", currency="EUR", fees=fees))
    assert lago.invoices.void(again.lago_id).status == "voided"
    request = PaymentRequest(email="a@example.com", external_customer_id="acme", lago_invoice_ids=[again.lago_id])
    with pytest.raises(LagoApiError) as early:
        lago.payment_requests.create(request)
    assert early.value.response["code"] == "invoices_not_overdue"
    assert lago.payment_requests.find_all()["payment_requests"] == []


def test_usage_thresholds_and_alerts(lago: Client, api: httpx.Client) -> None:
    metric = make_metric(api, "calls", "sum_agg")
    charge = Charge(billable_metric_id=metric["lago_id"], charge_model="standard", properties={"amount": "1"})
    thresholds = UsageThresholds(
        __root__=[
            UsageThreshold(amount_cents=1_000, threshold_display_name="First"),
            UsageThreshold(amount_cents=500, recurring=True),
        ]
    )
    plan = Plan(
        name="Plan", code="plan", interval="monthly", amount_cents=0, amount_currency="EUR", pay_in_advance=False,
        charges=Charges(__root__=[charge]),
        usage_thresholds=thresholds,
    )  # fmt: skip
    made = lago.plans.create(plan).usage_thresholds.__root__
    assert [(one.amount_cents, one.recurring, one.threshold_display_name) for one in made] == [
        (1_000, False, "First"), (500, True, None),
    ]  # fmt: skip
    lago.subscriptions.create(Subscription(external_customer_id="acme", external_id="sub", plan_code="plan"))
    steps = AlertThresholdList(
        __root__=[AlertThreshold(code="warn", value="500"), AlertThreshold(value="250.5", recurring=True)]
    )
    alerts = AlertsList(
        alerts=[
            Alert(alert_type="current_usage_amount", code="spend", name="Spend", thresholds=steps),
            Alert(
                alert_type="billable_metric_current_usage_units", code="calls", billable_metric_code="calls",
                thresholds=steps,
            ),
        ]
    )  # fmt: skip
    created = lago.subscriptions.create_alerts("sub", alerts)["alerts"]
    assert [(one.code, one.direction, one.lago_wallet_id) for one in created] == [
        ("spend", "increasing", None), ("calls", "increasing", None),
    ]  # fmt: skip
    assert [one.value for one in created[0].thresholds.__root__] == ["500.0", "250.5"]
    lago.events.create(
        Event(transaction_id="1", external_subscription_id="sub", code="calls", properties={"value": 12})
    )
    (invoice,) = lago.invoices.find_all({"external_customer_id": "acme"})["invoices"]
    whole = lago.invoices.find(invoice.lago_id)
    assert (whole.invoice_type, whole.fees_amount_cents) == ("progressive_billing", 1_200)
    (applied,) = whole.applied_usage_thresholds.__root__
    assert applied.usage_threshold.amount_cents == 1_000
    completions = lago.subscriptions.lifetime_usage("sub").usage_thresholds
    assert [(one.amount_cents, one.completion_ratio) for one in completions] == [(1_000, 1.0), (1_500, 0.4)]
    found = api.get("/api/v1/subscriptions/sub/alerts/spend").json()["alert"]
    assert AlertResponse.parse_obj(found).previous_value == "1200"
    lago.subscriptions.delete_alerts("sub")
    assert api.get("/api/v1/subscriptions/sub/alerts").json()["alerts"] == []


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


def test_coupons_from_the_catalog_to_an_invoice(lago: Client, api: httpx.Client) -> None:
    lago.plans.create(
        Plan(
            name="Plan",
            code="plan",
            interval="monthly",
            amount_cents=10_000,
            amount_currency="EUR",
            pay_in_advance=False,
        )
    )
    lago.customers.create(Customer(external_id="acme"))
    lago.subscriptions.create(Subscription(external_customer_id="acme", external_id="sub", plan_code="plan"))
    sent = Coupon(
        name="Ten off",
        code="ten",
        coupon_type="percentage",
        percentage_rate=12.5,
        frequency="recurring",
        frequency_duration=3,
        expiration="no_expiration",
        reusable=False,
        applies_to=LimitationConfiguration(plan_codes=["plan"], billable_metric_codes=[]),
    )
    coupon = lago.coupons.create(sent)
    assert (coupon.percentage_rate, coupon.limited_plans, coupon.plan_codes) == (12.5, True, ["plan"])
    assert lago.coupons.find("ten").lago_id == coupon.lago_id
    assert lago.coupons.update(Coupon(name="Ten"), "ten").name == "Ten"
    assert [one.code for one in lago.coupons.find_all()["coupons"]] == ["ten"]
    given = lago.applied_coupons.create(AppliedCoupon(external_customer_id="acme", coupon_code="ten"))
    assert (given.status, given.frequency_duration_remaining) == ("active", 3)
    with pytest.raises(LagoApiError) as refused:
        lago.applied_coupons.create(AppliedCoupon(external_customer_id="acme", coupon_code="ten"))
    assert refused.value.status_code == 405
    set_clock(api, "2024-06-01T00:00:00Z")
    (listed,) = lago.invoices.find_all({"external_customer_id": "acme"})["invoices"]
    invoice = lago.invoices.find(listed.lago_id)
    assert (invoice.coupons_amount_cents, invoice.total_amount_cents) == (1_250, 8_750)
    assert [(one.amount_cents, one.item.type) for one in invoice.credits.__root__] == [(1_250, "coupon")]
    (applied,) = lago.applied_coupons.find_all({"external_customer_id": "acme"})["applied_coupons"]
    assert (applied.frequency_duration_remaining, applied.credits.__root__[0].amount_cents) == (2, 1_250)
    assert lago.applied_coupons.destroy("acme", given.lago_id).status == "terminated"
    assert lago.coupons.destroy("ten").code == "ten"
