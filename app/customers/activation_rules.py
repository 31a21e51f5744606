"""What must happen before a subscription starts (billing spec 1.10): the only rule is that its first invoice is paid.

A rule is kept as it is on the wire, with the invoice that is to be paid. Its `status` is `inactive` until the subscription
is due to start, `pending` while it waits, then `satisfied`, `failed` or `expired`; `not_applicable` where the start bills
nothing, or is not one that waits.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from app.errors import Problems, invalid
from app.models import Invoice, Subscription
from app.validation import Changes

PAYMENT = "payment"
LONGEST_HOURS = 24 * 3_660
"""Ten years."""


def check_rules(problems: Problems, sent: Changes) -> None:
    """Note what is wrong with the `activation_rules` that were sent."""
    rules = sent.get("activation_rules")
    if rules is None:
        return
    if not isinstance(rules, list) or not all(_is_well_formed(one) for one in rules):
        problems.add("activation_rules", "invalid_format")
        return
    types = [one.get("type") for one in rules]
    if any(one != PAYMENT for one in types):
        problems.add("activation_rules", "invalid_type")
    elif len(set(types)) < len(types):
        problems.add("activation_rules", "duplicated_type")


def _is_well_formed(rule: object) -> bool:
    if not isinstance(rule, dict):
        return False
    hours = rule.get("timeout_hours")
    return hours is None or (isinstance(hours, int) and not isinstance(hours, bool) and 0 <= hours <= LONGEST_HOURS)


def new_rules(sent: Sequence[Changes] | None, now: datetime, status: str = "inactive") -> list[dict[str, Any]]:
    """Rules as they are kept, from those that were sent and have been checked."""
    return [
        {
            "lago_id": str(uuid4()),
            "type": one["type"],
            "timeout_hours": one.get("timeout_hours") or 0,
            "status": status,
            "expires_at": None,
            "created_at": now.isoformat(),
            "updated_at": now.isoformat(),
            "invoice": None,
        }
        for one in sent or ()
    ]


def replace_rules(subscription: Subscription, sent: Sequence[Changes], now: datetime) -> None:
    """Give a subscription that has not started other rules. A cheaper plan that waits for the end of a period has none that
    apply.

    Raises:
        Invalid: `subscription_not_pending`.
    """
    if subscription.status != "pending":
        raise invalid("activation_rules", "subscription_not_pending")
    status = "inactive" if subscription.previous_subscription_id is None else "not_applicable"
    subscription.activation_rules = new_rules(sent, now, status)


def has_gate(subscription: Subscription) -> bool:
    """Whether a subscription is to wait for a payment before it starts."""
    return any(one["status"] == "inactive" for one in subscription.activation_rules or ())


def note_outcome(subscription: Subscription, status: str, now: datetime) -> None:
    """Note what has become of the rules of a subscription."""
    _change(subscription, now, status=status)


def note_wait(subscription: Subscription, invoice: Invoice, now: datetime) -> None:
    """Note that a subscription waits for an invoice to be paid, and until when; without hours, for ever."""
    hours = [one["timeout_hours"] for one in subscription.activation_rules if one["timeout_hours"]]
    expires_at = now + timedelta(hours=min(hours)) if hours else None
    subscription.gate_expires_at = expires_at
    due = {"lago_id": str(invoice.id), "total_amount_cents": invoice.total_amount_cents, "currency": invoice.currency}
    _change(subscription, now, status="pending", expires_at=expires_at and expires_at.isoformat(), invoice=due)


def _change(subscription: Subscription, now: datetime, **values: object) -> None:
    changed = [{**one, **values, "updated_at": now.isoformat()} for one in subscription.activation_rules or ()]
    subscription.activation_rules = changed
