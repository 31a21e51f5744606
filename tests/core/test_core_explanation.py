"""The steps of an amount add up to it, whatever the price."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.billing.explanation import Conversion, Explanation, Facts, explain
from app.billing.priced_terms import KeptTerms
from app.billing.wording import words
from app.core.aggregation import Aggregation, Units
from app.core.charges.fees import FeeAmounts, fee_amounts
from app.core.charges.pricing import compile_price
from app.core.charges.pricing_units import converted
from app.core.charges.usage import BucketUsage, ChargeModel, Portion, Run, Waterfall
from app.core.explanation.figures import Figures
from app.core.explanation.steps import StepKind, charge_steps, total
from app.core.money import PRICING_UNIT, ZERO, exact, from_minor
from tests.pricing import (
    DYNAMIC,
    GRADUATED,
    GRADUATED_PERCENTAGE,
    NEXT_BOUND,
    PACKAGE,
    PERCENTAGE,
    STANDARD,
    VOLUME,
    money_text,
    quick,
    ranged,
    ranges_of,
    spent,
    tables,
    used,
)

Priced = tuple[ChargeModel, dict[str, Any], BucketUsage, bool]

values = st.builds(lambda n, p: Decimal(n).scaleb(-p), st.integers(-(10**8), 10**10), st.integers(0, 12))
"""Values of events, and units: negative ones too."""


@st.composite
def properties(draw: st.DrawFn, model: ChargeModel) -> dict[str, Any]:
    """Any properties of a model."""
    if model in (GRADUATED, VOLUME, GRADUATED_PERCENTAGE):
        return ranged(model, ranges_of(draw(tables), draw(st.sampled_from((0, 1)))))
    if model is STANDARD:
        return {"amount": draw(money_text)}
    if model is PACKAGE:
        size, free = draw(st.integers(1, 500)), draw(st.integers(0, 500))
        return {"amount": draw(money_text), "package_size": size, "free_units": free}
    if model is PERCENTAGE:
        given: dict[str, Any] = {"rate": draw(money_text)}
        for key, kind in (
            ("fixed_amount", money_text),
            ("free_units_per_events", st.integers(1, 4)),
            ("free_units_per_total_aggregation", money_text),
        ):
            if draw(st.booleans()):
                given[key] = draw(kind)
        if draw(st.booleans()):
            low, high = sorted((draw(money_text), draw(money_text)), key=Decimal)
            given |= {"per_transaction_min_amount": low, "per_transaction_max_amount": high}
        return given
    return {}


@st.composite
def priced(draw: st.DrawFn) -> Priced:
    """Any price of any usage."""
    model = draw(st.sampled_from((STANDARD, GRADUATED, VOLUME, PACKAGE, PERCENTAGE, GRADUATED_PERCENTAGE, DYNAMIC)))
    of = draw(properties(model))
    events = draw(st.lists(values, max_size=5))
    units = sum(events, ZERO)
    prorated = model in (STANDARD, GRADUATED, VOLUME) and draw(st.booleans())
    if prorated:
        portions = tuple(Portion(value, draw(st.integers(0, 30))) for value in events)
        usage = BucketUsage(
            draw(values), len(events), full_units=units, waterfall=Waterfall(portions, draw(st.integers(28, 31)))
        )
    else:
        runs = tuple(Run(value) for value in events)
        usage = BucketUsage(units, len(events), precise_total_amount=draw(values), runs=runs)
    return model, of, usage, prorated


def explained(one: Priced, *, conversion_rate: str | None = None) -> tuple[FeeAmounts, Explanation]:
    """A fee at a price, and its explanation from what is kept of it."""
    model, of, usage, prorated = one
    result = compile_price(model, of, prorated=prorated)(usage)
    amounts, conversion = fee_amounts(usage, result, "EUR"), None
    if conversion_rate is not None:
        inside = fee_amounts(usage, result, PRICING_UNIT)
        amounts = converted(inside, Decimal(conversion_rate), "EUR")
        conversion = Conversion(
            "CR",
            from_minor(inside.precise_amount_cents, PRICING_UNIT),
            from_minor(inside.amount_cents, PRICING_UNIT),
            Decimal(conversion_rate),
        )
    period_days = usage.waterfall.period_days if usage.waterfall else 30
    figures = Figures.of(Units(usage.full, usage.events_count), usage, result, period_days)
    assert Figures.read(figures.stored()) == figures
    terms = KeptTerms(
        uuid4(), model, prorated, of, "metric", Aggregation.SUM, "value", prorated, None, None, filters=()
    )
    facts = Facts(
        kind="usage",
        name="Metric",
        currency="EUR",
        tz=ZoneInfo("UTC"),
        from_=datetime(2024, 4, 1, tzinfo=UTC),
        to=datetime(2024, 4, 30, 23, 59, 59, 999_999, tzinfo=UTC),
        units=amounts.units,
        precise_unit_amount=amounts.precise_unit_amount,
        precise_amount=from_minor(amounts.precise_amount_cents, "EUR"),
        amount_cents=amounts.amount_cents,
        amount_details=amounts.amount_details,
        figures=figures.stored(),
        terms=terms,
        conversion=conversion,
    )
    return amounts, explain(facts, words("en", "EUR"))


@given(priced())
@quick
def test_steps_add_up(one: Priced) -> None:
    amounts, told = explained(one)
    with exact():
        assert sum((step.step.amount for step in told.steps), ZERO) == from_minor(amounts.amount_cents, "EUR")
        for step in told.steps:
            if step.step.kind is StepKind.ROUNDING:
                assert abs(step.step.amount) <= Decimal("0.005000000001")
    kinds = {step.step.kind for step in told.steps}
    assert StepKind.AMOUNT not in kinds, "the steps must come from the price, not from the amount"
    assert all(sentence.endswith(".") for sentence in told.sentences)


@given(priced())
@quick
def test_steps_are_the_unrounded_price(one: Priced) -> None:
    model, of, usage, prorated = one
    result = compile_price(model, of, prorated=prorated)(usage)
    amounts = fee_amounts(usage, result, "EUR")
    figures = Figures.of(Units(usage.full, usage.events_count), usage, result, 30)
    if usage.waterfall is not None:
        figures = Figures.of(Units(usage.full, 1), usage, result, usage.waterfall.period_days)
    steps = charge_steps(model, of, figures, amounts.amount_details, prorated=prorated)
    due = max(result.amount, ZERO) if usage.units >= 0 else ZERO
    with exact():
        assert abs(total(steps) - due) < Decimal("1e-60")
        if not prorated:
            assert total(steps) == due


@given(priced(), money_text)
@quick
def test_pricing_units_are_converted(one: Priced, rate: str) -> None:
    _, told = explained(one, conversion_rate=rate)
    assert told.facts.conversion is not None
    with exact():
        assert sum((step.step.amount for step in told.steps), ZERO) == told.facts.conversion.amount


@pytest.mark.parametrize(
    ("model", "of", "usage", "sentences"),
    [
        (STANDARD, {"amount": "0.05"}, used(250, 7), ["250 units × €0.05 = €12.50."]),
        (
            STANDARD, {"amount": "0.0125"}, used("0.6", 1),
            ["0.6 units × €0.0125 = €0.0075.", "Together €0.0075, rounded to €0.01."],
        ),
        (
            GRADUATED, ranged(GRADUATED, NEXT_BOUND), used(250),
            ["Units up to 100: 100 units × €0.10 = €10.00.", "Flat amount for the tier up to 100 units: €5.00.",
             "Units above 100 up to 1,000: 150 units × €0.08 = €12.00.",
             "Flat amount for the tier above 100 up to 1,000 units: €2.00.", "Together: €29.00."],
        ),
        (
            VOLUME, ranged(VOLUME, NEXT_BOUND), used(250),
            ["All units have the price of the tier above 100 up to 1,000 units: 250 units × €0.08 = €20.00.",
             "Flat amount for the tier above 100 up to 1,000 units: €2.00.", "Together: €22.00."],
        ),
        (
            GRADUATED_PERCENTAGE, ranged(GRADUATED_PERCENTAGE, [
                {"from_value": 0, "to_value": None, "per_unit_amount": "1.5", "flat_amount": "1"},
            ]), used(1_000),
            ["1.5% of 1,000 units = €15.00.", "Flat amount: €1.00.", "Together: €16.00."],
        ),
        (
            PACKAGE, {"amount": "4.5", "package_size": 100, "free_units": 50}, used(351),
            ["50 units are free.", "Packages of 100 units, begun ones in full: 4 packages × €4.50 = €18.00.",
             "Together: €18.00."],
        ),
        (
            PERCENTAGE,
            {"rate": "2", "fixed_amount": "0.5", "free_units_per_events": 1, "per_transaction_min_amount": "2",
             "per_transaction_max_amount": "5"},
            spent(200, 50, 300, 120),
            ["200 units are free.", "2% of 470 units = €9.40.", "1 event is free of the fixed amount.",
             "Fixed amount: 3 events × €0.50 = €1.50.",
             "Each event that is not free costs at least €2.00 and at most €5.00, which takes off €1.00.",
             "Together: €9.90."],
        ),
        (
            DYNAMIC, {}, used(15, 2, precise_total_amount=Decimal("12.3475")),
            ["Each event carries its own amount; together they are €12.3475.", "Together €12.3475, rounded to €12.35."],
        ),
        (STANDARD, {"amount": "1"}, used(-5), ["-5 units: usage below zero is not billed."]),
    ],
    ids=lambda one: one if isinstance(one, ChargeModel) else "",
)  # fmt: skip
def test_sentences(model: ChargeModel, of: dict[str, Any], usage: BucketUsage, sentences: list[str]) -> None:
    _, told = explained((model, of, usage, False))
    assert told.sentences[0] == "Metric, from 1 April 2024 to 30 April 2024 (UTC)."
    assert told.sentences[2:] == sentences


def test_prices_that_are_not_those_of_the_fee_are_not_told() -> None:
    amounts, told = explained((STANDARD, {"amount": "1"}, used(3), False))
    terms = told.facts.terms
    assert terms is not None
    other = KeptTerms(
        terms.charge_id,
        STANDARD,
        False,
        {"amount": "2"},
        "metric",
        Aggregation.SUM,
        None,
        False,
        None,
        None,
        filters=(),
    )
    changed = explain(
        Facts(**{**{f: getattr(told.facts, f) for f in Facts.__slots__}, "terms": other}), words("en", "EUR")
    )
    assert [step.step.kind for step in changed.steps] == [StepKind.AMOUNT]
    assert "3 units cost €3.00." in changed.sentences
    assert amounts.amount_cents == 300


def known(kind: str, **more: Any) -> Facts:
    """A fee of 33.50 euros of which little more is known."""
    month = {"from_": datetime(2024, 4, 1, tzinfo=UTC), "to": datetime(2024, 4, 30, 23, 59, 59, tzinfo=UTC)}
    facts: dict[str, Any] = {
        "name": "Calls", "currency": "EUR", "tz": ZoneInfo("UTC"), **month, "units": Decimal(2),
        "precise_unit_amount": Decimal("16.75"), "precise_amount": Decimal("33.5"), "amount_cents": 3_350,
        "amount_details": {},
    }  # fmt: skip
    return Facts(kind, **{**facts, **more})


@pytest.mark.parametrize(
    ("facts", "sentences"),
    [
        (
            known("event", event_transaction_id="t1", group={"team": "a"}),
            ['The event "t1" is paid in advance.', "They are priced by team; this is the part with team a.",
             "This event is billed for 2 units: the period costs €33.50 more with it than without it."],
        ),
        (
            known("true_up", spent=(Decimal("26.5"), Decimal("26.499"))),
            ["The minimum of this period is €59.999.", "What counts towards it comes to €26.50; the rest is billed here.",
             "Together €33.499, rounded to €33.50."],
        ),
        (known("fixed_charge"), ["2 units cost €33.50."]),
        (known("add_on"), ["2 units cost €33.50."]),
        (known("usage"), ["2 units cost €33.50."]),
        (known("subscription"), ["2 units cost €33.50."]),
        (
            known(
                "event", event_transaction_id="t1",
                conversion=Conversion("CR", Decimal("6.704"), Decimal("6.70"), Decimal(5)),
            ),
            ['The event "t1" is paid in advance.',
             "This event is billed for 2 units: the period costs 6.704 CR more with it than without it.",
             "Together 6.704 CR, rounded to 6.7 CR.", "6.7 CR at €5.00 each come to €33.50."],
        ),
    ],
)  # fmt: skip
def test_every_kind_of_fee_is_told_from_what_is_there(facts: Facts, sentences: list[str]) -> None:
    told = explain(facts, words("en", "EUR"))
    assert told.sentences[1:] == sentences
    with exact():
        assert sum((step.step.amount for step in told.steps), ZERO) == facts.in_price_units[1]


def test_numbers_follow_the_locale() -> None:
    german, unknown = words("de", "EUR"), words("xx-nowhere", "JPY")
    assert german.money(Decimal("1234.5")) == "1.234,50\xa0€"
    assert german.number(Decimal("1234.5")) == "1.234,5"
    assert unknown.money(Decimal(1234)) == "¥1,234"
    assert words("en", "EUR", "credits").money(Decimal("2.5")) == "2.5 credits"
    assert german.number(Decimal(1) / Decimal(3)) == "about 0,33333333"
