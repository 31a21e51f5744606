"""The top-up rules of a wallet as they are on the wire (billing spec 7.6)."""

from contextlib import suppress
from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct

from app.api.subscriptions import PaymentMethodInput, PaymentMethodObject
from app.api.wire import Opt, Str, instant, instant_or_none, parse_instant
from app.core.money import decimal_text
from app.errors import Invalid
from app.models import RecurringTransactionRule


class NoteInput(Struct):
    key: Str | Opt | None = UNSET
    value: Str | Opt | None = UNSET


class RuleInput(Struct):
    """Amounts of credits are text; any other kind of value is refused where they are read."""

    lago_id: Str | Opt | None = UNSET
    trigger: Str | Opt | None = UNSET
    method: Str | Opt | None = UNSET
    interval: Str | Opt | None = UNSET
    threshold_credits: Any = UNSET
    paid_credits: Any = UNSET
    granted_credits: Any = UNSET
    target_ongoing_balance: Any = UNSET
    grants_target_top_up: bool | Opt | None = UNSET
    started_at: Str | Opt | None = UNSET
    expiration_at: Str | Opt | None = UNSET
    invoice_requires_successful_payment: bool | Opt | None = UNSET
    ignore_paid_top_up_limits: bool | Opt | None = UNSET
    transaction_metadata: list[NoteInput] | Opt | None = UNSET
    transaction_name: Str | Opt | None = UNSET
    purchase_order_number: Str | Opt | None = UNSET
    invoice_custom_section: dict[str, Any] | Opt | None = UNSET
    payment_method: PaymentMethodInput | Opt | None = UNSET


class Note(Struct):
    key: str
    value: str


class RuleObject(Struct):
    lago_id: UUID
    trigger: str
    method: str
    interval: str | None
    status: str
    threshold_credits: str
    paid_credits: str
    granted_credits: str
    grants_target_top_up: bool
    started_at: str | None
    target_ongoing_balance: str | None
    created_at: str
    expiration_at: str | None
    invoice_requires_successful_payment: bool
    transaction_metadata: list[Note]
    transaction_name: str | None
    ignore_paid_top_up_limits: bool
    payment_method: PaymentMethodObject
    purchase_order_number: str | None
    applied_invoice_custom_sections: list[Any] = []


def rule_object(rule: RecurringTransactionRule) -> RuleObject:
    """A rule as it is on the wire."""
    target = rule.target_ongoing_balance
    return RuleObject(
        lago_id=rule.id,
        trigger=rule.trigger,
        method=rule.method,
        interval=rule.interval,
        status=rule.status,
        threshold_credits=decimal_text(rule.threshold_credits),
        paid_credits=decimal_text(rule.paid_credits),
        granted_credits=decimal_text(rule.granted_credits),
        grants_target_top_up=rule.grants_target_top_up,
        started_at=instant_or_none(rule.started_at),
        target_ongoing_balance=None if target is None else decimal_text(target),
        created_at=instant(rule.created_at),
        expiration_at=instant_or_none(rule.expiration_at),
        invoice_requires_successful_payment=rule.invoice_requires_successful_payment,
        transaction_metadata=[Note(one["key"], one["value"]) for one in rule.transaction_metadata],
        transaction_name=rule.transaction_name,
        ignore_paid_top_up_limits=rule.ignore_paid_top_up_limits,
        payment_method=PaymentMethodObject(**(rule.payment_method or {})),
        purchase_order_number=rule.purchase_order_number,
    )


def rule_sent(fields: dict[str, Any]) -> dict[str, Any]:
    """The keys that were sent of a rule, with instants read; text that is none stays, to be refused."""
    sent = dict(fields)
    for name in ("started_at", "expiration_at"):
        if name in sent:
            sent[name] = sent[name] or None
            with suppress(Invalid):
                sent[name] = sent[name] and parse_instant(sent[name], name)
    return sent
