"""How amounts came about: `/api/v1/fees/{lago_id}/explanation` and the lines of current usage, each with the events behind
it. Not in Lago's API."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import msgspec
from litestar import Controller
from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.api.enriched_events import EnrichedEventObject, EnrichedEventsPage, enriched_object
from app.api.given import Db, Now, Org, Paging, Running
from app.api.request import ExactRequest
from app.api.routes import get
from app.api.usage_options import read_group, usage_options
from app.api.wire import Page, exact_json, instant_ms, instant_ms_or_none, number
from app.billing.charge_usage import Options
from app.billing.current_usage import Restriction, current_item, current_usage
from app.billing.explained import behind_fee, behind_usage, fee_facts, usage_facts
from app.billing.explanation import Explanation, Facts, explain
from app.billing.issued import find_fee
from app.billing.priced_terms import KeptTerms
from app.billing.wording import LocalWords, words
from app.catalog.metrics import field_names
from app.core.explanation.sentences import counted
from app.core.explanation.steps import Step
from app.core.money import ZERO, decimal_text
from app.errors import NotFound, invalid
from app.metering.behind import Behind, BehindCounts, count_behind, list_behind
from app.models import BillingEntity, Customer, Organization
from app.service import Service
from app.validation import as_uuid


class WindowObject(Struct):
    """Both ends are included. `days` are local calendar days, `period_days` those of the whole billing period."""

    from_datetime: str
    to_datetime: str
    timezone: str
    days: int
    period_days: int | None


class MeasuredObject(Struct):
    """`measured_units` are what the metric's aggregation gave, `priced_units` what was priced: rounded by the metric and
    prorated. `units` are shown on the fee."""

    billable_metric_code: str
    aggregation_type: str
    field_name: str | None
    recurring: bool
    events_count: int
    measured_units: str
    rounding_function: str | None
    rounding_precision: int | None
    prorated: bool
    priced_units: str
    units: str
    filters: dict[str, Any] | None
    grouped_by: dict[str, str | None]


class PriceObject(Struct):
    """`as_billed`: these are the properties the amount was made with. Otherwise they are those that the charge has now."""

    charge_model: str
    properties: msgspec.Raw
    as_billed: bool


class StepObject(Struct, omit_defaults=True):
    """`amount` is what the step adds, in currency units or, where there is a `pricing_unit`, in these. `above` (not
    included) and `up_to` (included) bound a tier."""

    kind: str
    amount: str
    sentence: str | None = None
    quantity: str | None = None
    unit_amount: str | None = None
    rate: str | None = None
    above: str | None = None
    up_to: str | None = None
    size: int | None = None
    min_amount: str | None = None
    max_amount: str | None = None


class ConvertedObject(Struct):
    short_name: str
    amount: str
    conversion_rate: str


class TaxStepObject(Struct):
    tax_code: str
    tax_name: str
    tax_rate: msgspec.Raw
    amount_cents: int


class BehindObject(Struct):
    """The call that lists the events: `in_window_count` of them, and `before_window_count` from before that a recurring
    metric has carried over. `late_url` lists those that came after `measured_at` and are not in it. Null: not counted."""

    url: str
    in_window_count: int | None = None
    before_window_count: int | None = None
    late_count: int | None = None
    late_url: str | None = None
    measured_at: str | None = None


class ExplanationObject(Struct, kw_only=True):
    """The steps' amounts add up to the amount; `sentences` tell everything in order. `precise_coupons_amount_cents`: what
    coupons, and credit for what was billed before, have taken of it before taxes."""

    kind: str
    name: str
    lago_fee_id: UUID | None
    lago_charge_id: UUID | None
    lago_charge_filter_id: UUID | None
    external_customer_id: str
    external_subscription_id: str | None
    currency: str
    window: WindowObject
    usage: MeasuredObject | None
    price: PriceObject | None
    steps: list[StepObject]
    pricing_unit: ConvertedObject | None
    precise_amount: str
    amount_cents: int
    precise_coupons_amount_cents: str
    taxes: list[TaxStepObject]
    taxes_amount_cents: int
    total_amount_cents: int
    sentences: list[str]
    events: BehindObject | None


class ExplanationAnswer(Struct):
    explanation: ExplanationObject


class ExplanationsAnswer(Struct):
    explanations: list[ExplanationObject]


class FeeExplanationController(Controller):
    path = "/fees/{lago_id:str}"
    tags = ["fees"]

    @get("/explanation", opt={"resource": "fee"})
    def explain_fee(self, lago_id: str, db: Db, service: Running, organization: Org) -> ExplanationAnswer:
        """How a fee came about: its window and usage, each step of its price, rounding and taxes, as figures and as
        sentences; and the call that lists the events behind it."""
        fee = find_fee(db, organization.id, as_uuid(lago_id))
        facts = fee_facts(db, fee)
        said = words(locale_of(db, fee.customer_id), fee.currency)
        behind = behind_fee(db, fee, facts)
        events = None
        if behind is not None:
            service.wait_until_readable(organization.id)
            events = _behind_object(
                f"/api/v1/fees/{fee.id}/events", {}, count_behind(service.clickhouse, behind), behind
            )
        told = _object(
            explain(facts, said),
            said,
            events,
            fee_id=fee.id,
            charge_id=fee.charge_id,
            customer=fee.customer.external_id,
            subscription=fee.subscription.external_id if fee.subscription else None,
        )
        return ExplanationAnswer(told)

    @get("/events", opt={"resource": "event"})
    def list_fee_events(
        self, lago_id: str, db: Db, service: Running, organization: Org, paging: Paging, late: bool = False
    ) -> EnrichedEventsPage:
        """The very events that a fee was made of, in the order of time; with `late`, those of its window that came when its
        usage had been measured. None for a fee that is not made of events."""
        fee = find_fee(db, organization.id, as_uuid(lago_id))
        behind = behind_fee(db, fee, fee_facts(db, fee))
        if behind is None:
            return EnrichedEventsPage([], paging.meta(0))
        return _events_page(db, service, organization, behind, paging, late=late)


class UsageExplanationController(Controller):
    path = "/customers/{external_id:str}/current_usage"
    tags = ["usage"]

    @get("/explanation", opt={"resource": "customer_usage"})
    def explain_current_usage(
        self,
        external_id: str,
        request: ExactRequest,
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        external_subscription_id: str | None = None,
        charge_id: UUID | None = None,
        charge_code: str | None = None,
        billable_metric_code: str | None = None,
        skip_grouping: bool = False,
        full_usage: bool = False,
    ) -> ExplanationsAnswer:
        """How each line of a subscription's current usage came about, as for a fee: one explanation for each charge, filter
        and group that comes to something. `group[key]=value` keeps only the events whose property has the value."""
        if not external_subscription_id:
            raise invalid("external_subscription_id", "value_is_mandatory")
        options = usage_options(request.query_params, skip_grouping=skip_grouping, filter_by_presentation="[]")
        restriction = Restriction(charge_id, charge_code, billable_metric_code)
        service.wait_until_readable(organization.id)
        usage = current_usage(
            db,
            service.meter,
            service.price_book,
            organization,
            external_id,
            external_subscription_id,
            restriction,
            now,
            apply_taxes=False,
            full_usage=full_usage,
            options=options,
        )
        said = words(locale_of(db, usage.subscription.customer_id), usage.currency)
        path = f"/api/v1/customers/{quote(external_id, safe='')}/current_usage/events"
        asked = _asked(external_subscription_id, options, full_usage=full_usage)
        told = []
        for charge, facts in usage_facts(usage):
            line = _line(asked, charge.id, facts)
            told.append(
                _object(
                    explain(facts, said),
                    said,
                    BehindObject(f"{path}?{urlencode(line)}"),
                    fee_id=None,
                    charge_id=charge.id,
                    customer=external_id,
                    subscription=external_subscription_id,
                )
            )
        return ExplanationsAnswer(told)

    @get("/events", opt={"resource": "event"})
    def list_current_usage_events(
        self,
        external_id: str,
        charge_id: UUID,
        request: ExactRequest,
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        paging: Paging,
        external_subscription_id: str | None = None,
        charge_filter_id: UUID | None = None,
        grouped_by: str | None = None,
        full_usage: bool = False,
    ) -> EnrichedEventsPage:
        """The very events behind a line of current usage, in the order of time: those of a charge that fall to one of its
        filters, or (without `charge_filter_id`) to none of them, and to a group, as a JSON object."""
        if not external_subscription_id:
            raise invalid("external_subscription_id", "value_is_mandatory")
        options = usage_options(request.query_params, skip_grouping=False, filter_by_presentation=None)
        group = read_group(grouped_by)
        item = current_item(
            db,
            service.price_book,
            organization,
            external_id,
            external_subscription_id,
            Restriction(charge_id),
            now,
            full_usage=full_usage,
            options=options,
        )
        terms = KeptTerms.of(item[0].plan.charges[0])
        if charge_filter_id not in {None, *(one.id for one in terms.filters)}:
            raise NotFound("charge_filter")
        behind = behind_usage(item, terms, charge_filter_id, group, options)
        return _events_page(db, service, organization, behind, paging, late=False)


def locale_of(db: Session, customer_id: UUID) -> str:
    """What a customer's documents are written in, which decides on how numbers look: its own choice, else its billing
    entity's."""
    locale = func.coalesce(func.nullif(Customer.document_locale, ""), BillingEntity.document_locale)
    found: str = db.scalars(select(locale).join(Customer.billing_entity).where(Customer.id == customer_id)).one()
    return found


def _events_page(
    db: Session, service: Service, organization: Organization, behind: Behind, paging: Page, *, late: bool
) -> EnrichedEventsPage:
    service.wait_until_readable(organization.id)
    listed, total = list_behind(service.clickhouse, behind, late=late, limit=paging.per_page, offset=paging.offset)
    fields = field_names(db, organization.id, {behind.code})
    events: list[EnrichedEventObject] = [enriched_object(one, fields) for one in listed]
    return EnrichedEventsPage(events, paging.meta(total))


def _asked(external_subscription_id: str, options: Options, *, full_usage: bool) -> list[tuple[str, str]]:
    """The parameters that the lines of current usage share."""
    asked = [("external_subscription_id", external_subscription_id)]
    asked += [(f"group[{key}]", value) for key, values in (options.only or {}).items() for value in values]
    return [*asked, ("full_usage", "true")] if full_usage else asked


def _line(asked: Sequence[tuple[str, str]], charge_id: UUID, facts: Facts) -> list[tuple[str, str]]:
    line = [*asked, ("charge_id", str(charge_id))]
    if facts.filter_id is not None:
        line.append(("charge_filter_id", str(facts.filter_id)))
    if facts.group:
        line.append(("grouped_by", msgspec.json.encode(facts.group).decode()))
    return line


def _behind_object(path: str, query: Mapping[str, str], counts: BehindCounts, behind: Behind) -> BehindObject:
    late = {**query, "late": "true"}
    return BehindObject(
        url=f"{path}?{urlencode(query)}" if query else path,
        in_window_count=counts.within,
        before_window_count=counts.before,
        late_count=counts.late,
        late_url=f"{path}?{urlencode(late)}" if counts.late else None,
        measured_at=instant_ms_or_none(behind.measured_at),
    )


def _object(
    told: Explanation,
    said: LocalWords,
    events: BehindObject | None,
    *,
    fee_id: UUID | None,
    charge_id: UUID | None,
    customer: str,
    subscription: str | None,
) -> ExplanationObject:
    facts = told.facts
    return ExplanationObject(
        kind=facts.kind,
        name=facts.name,
        lago_fee_id=fee_id,
        lago_charge_id=charge_id,
        lago_charge_filter_id=facts.filter_id,
        external_customer_id=customer,
        external_subscription_id=subscription,
        currency=facts.currency,
        window=WindowObject(instant_ms(facts.from_), instant_ms(facts.to), facts.tz.key, told.days, told.period_days),
        usage=_measured(told),
        price=_price(facts),
        steps=[_step(one.step, one.sentence) for one in told.steps],
        pricing_unit=_converted(facts),
        precise_amount=decimal_text(facts.precise_amount),
        amount_cents=facts.amount_cents,
        precise_coupons_amount_cents=decimal_text(ZERO if facts.reduction is None else facts.reduction.cents),
        taxes=[TaxStepObject(one.code, one.name, number(one.rate), one.amount_cents) for one in facts.taxes],
        taxes_amount_cents=facts.taxes_amount_cents,
        total_amount_cents=facts.amount_cents + facts.taxes_amount_cents,
        sentences=[*told.sentences, *_late_sentences(facts, events, said)],
        events=events,
    )


def _late_sentences(facts: Facts, events: BehindObject | None, said: LocalWords) -> list[str]:
    if events is None or not events.late_count:
        return []
    one = events.late_count == 1
    many, are = counted(events.late_count, "more event", said), "is" if one else "are"
    recurs = facts.terms is not None and facts.terms.recurring
    later = f"; the next period counts {'it' if one else 'them'}, if there is one" if recurs else ""
    return [f"{many} of this time came after it had been measured and {are} not in this amount{later}."]


def _measured(told: Explanation) -> MeasuredObject | None:
    facts, figures = told.facts, told.figures
    if facts.terms is None or figures is None or facts.kind != "usage":
        return None
    terms = facts.terms
    return MeasuredObject(
        billable_metric_code=terms.metric_code,
        aggregation_type=terms.aggregation,
        field_name=terms.field_name,
        recurring=terms.recurring,
        events_count=figures.events_count,
        measured_units=decimal_text(figures.measured),
        rounding_function=terms.rounding_function,
        rounding_precision=terms.rounding_precision,
        prorated=terms.prorated,
        priced_units=decimal_text(figures.units),
        units=decimal_text(facts.units),
        filters=None if facts.filter_values is None else dict(facts.filter_values),
        grouped_by=dict(facts.group),
    )


def _price(facts: Facts) -> PriceObject | None:
    if facts.terms is None:
        return None
    properties = facts.terms.properties_of(facts.filter_id)
    return PriceObject(facts.terms.charge_model, exact_json(properties), facts.as_billed)


def _converted(facts: Facts) -> ConvertedObject | None:
    one = facts.conversion
    return None if one is None else ConvertedObject(one.short_name, decimal_text(one.amount), decimal_text(one.rate))


def _step(step: Step, sentence: str | None) -> StepObject:
    def text(value: Any) -> str | None:
        return None if value is None else decimal_text(value)

    return StepObject(
        kind=step.kind,
        amount=decimal_text(step.amount),
        sentence=sentence,
        quantity=text(step.quantity),
        unit_amount=text(step.price),
        rate=text(step.rate),
        above=text(step.above),
        up_to=text(step.up_to),
        size=step.size,
        min_amount=text(step.least),
        max_amount=text(step.most),
    )
