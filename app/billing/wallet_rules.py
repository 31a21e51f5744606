"""The top-up rules that a wallet is made and changed with (billing spec 7.6)."""

from datetime import datetime
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.billing.credit_amounts import check_notes, check_worth, credits_sent
from app.billing.rule_top_ups import schedule_rules
from app.core.money import ZERO
from app.core.periods import Interval
from app.core.top_up_rules import Amounts, Method, Trigger
from app.core.wallets import worth
from app.errors import Problems, invalid
from app.models import RecurringTransactionRule, Wallet
from app.validation import Changes, as_uuid, assign, check_length, check_one_of, empty

FIELD = "recurring_transaction_rules"
MOST_RULES = 1
LONGEST_NAME = 255

NO_CREDITS = Amounts()
_FIXED = ("paid_credits", "granted_credits")
_LEVELS = ("threshold_credits", "target_ongoing_balance")
_SWITCHES = ("grants_target_top_up", "invoice_requires_successful_payment", "ignore_paid_top_up_limits")
_TEXTS = ("transaction_name", "purchase_order_number")


def write_rules(db: Session, wallet: Wallet, sent: Changes, now: datetime, initial: Amounts = NO_CREDITS) -> None:
    """Give a wallet the rules that were sent, if any were: one with the id of a rule changes that, others are new, and what
    is not sent any more ends. A new rule by fixed amounts that has none gets the `initial` ones. The wallet and its
    customer are locked, and the customer is loaded with its billing entity.

    Raises:
        Invalid: `recurring_transaction_rules`, when a rule cannot be, or there are too many.
    """
    if FIELD not in sent:
        return
    given = sent[FIELD] or []
    if len(given) > MOST_RULES:
        raise invalid(FIELD, "invalid_number_of_recurring_rules")
    mine = (RecurringTransactionRule.wallet_id == wallet.id, RecurringTransactionRule.status == "active")
    active = {one.id: one for one in db.scalars(select(RecurringTransactionRule).where(*mine))}
    for fields in given:
        rule_id = as_uuid(fields.get("lago_id"))
        rule = active.pop(rule_id, None) if rule_id is not None else None
        if rule is None:
            rule = _new(wallet, now)
            _write(rule, _completed(fields, initial), wallet, now)
        else:
            _write(rule, fields, wallet, now)
        schedule_rules(db, [(rule, wallet)], now)
        db.add(rule)
    for ended in active.values():
        ended.status, ended.terminated_at, ended.updated_at = "terminated", now, now
    wallet.ready_to_be_refreshed = True
    db.flush()
    db.refresh(wallet, ["rules"])


def _new(wallet: Wallet, now: datetime) -> RecurringTransactionRule:
    return RecurringTransactionRule(
        id=uuid4(),
        organization_id=wallet.organization_id,
        wallet_id=wallet.id,
        status="active",
        method=Method.FIXED.value,
        threshold_credits=ZERO,
        paid_credits=ZERO,
        granted_credits=ZERO,
        grants_target_top_up=False,
        invoice_requires_successful_payment=wallet.invoice_requires_successful_payment,
        ignore_paid_top_up_limits=False,
        transaction_metadata=[],
        created_at=now,
    )


def _completed(fields: Changes, initial: Amounts) -> Changes:
    """A new rule's fields, with the wallet's initial credits where it has no amounts; what it must have is there, if only
    as null."""
    mandatory = dict.fromkeys(("trigger", "interval", *_LEVELS))
    fixed = fields.get("method") in {None, Method.FIXED}
    if fixed and all(empty(fields.get(name)) for name in _FIXED):
        texts = (format(initial.paid, "f"), format(initial.granted, "f"))
        return {**mandatory, **fields, **dict(zip(_FIXED, texts, strict=True))}
    return {**mandatory, **fields}


def _write(rule: RecurringTransactionRule, fields: Changes, wallet: Wallet, now: datetime) -> None:
    """Set a rule's fields, and look at what it has become.

    Raises:
        Invalid: it cannot be like that.
    """
    problems = Problems()
    check_one_of(problems, fields, "trigger", list(Trigger))
    check_one_of(problems, fields, "method", list(Method))
    check_one_of(problems, fields, "interval", list(Interval))
    check_length(problems, fields, dict.fromkeys(_TEXTS, LONGEST_NAME))
    check_notes(problems, "transaction_metadata", fields.get("transaction_metadata"))
    for name in (*_FIXED, *_LEVELS):
        if name in fields:
            setattr(rule, name, credits_sent(problems, fields, name))
    for name in _SWITCHES:
        if fields.get(name) is not None:
            setattr(rule, name, fields[name])
    for name in ("started_at", "expiration_at"):
        if not isinstance(fields.get(name), datetime | None):
            problems.add(name, "invalid_date")
    assign(rule, fields, ("trigger", "interval", "started_at", "expiration_at", *_TEXTS, "payment_method"))
    rule.method = fields.get("method") or rule.method
    if "transaction_metadata" in fields:
        rule.transaction_metadata = [dict(one) for one in fields["transaction_metadata"] or ()]
    rule.updated_at = now
    if not problems.details:
        _check(problems, rule, fields, wallet, now)
    if problems.details:
        raise invalid(FIELD, "invalid_recurring_rule")


def _check(problems: Problems, rule: RecurringTransactionRule, fields: Changes, wallet: Wallet, now: datetime) -> None:
    """Note what does not go together in a rule, each field of which is right by itself."""
    by_threshold, to_target = rule.trigger == Trigger.THRESHOLD, rule.method == Method.TARGET
    if empty(rule.trigger):
        problems.add("trigger", "value_is_mandatory")
    if by_threshold and "threshold_credits" in fields and empty(fields["threshold_credits"]):
        problems.add("threshold_credits", "value_is_mandatory")
    if rule.trigger == Trigger.INTERVAL and empty(rule.interval):
        problems.add("interval", "value_is_mandatory")
    if to_target:
        goal = rule.target_ongoing_balance
        if not goal or (by_threshold and goal < rule.threshold_credits):
            problems.add("target_ongoing_balance", "value_is_invalid")
    elif rule.grants_target_top_up:
        problems.add("grants_target_top_up", "value_is_invalid")
    else:
        _check_amounts(problems, rule, wallet)
    if "expiration_at" in fields and rule.expiration_at is not None and rule.expiration_at <= now:
        problems.add("expiration_at", "value_is_invalid")


def _check_amounts(problems: Problems, rule: RecurringTransactionRule, wallet: Wallet) -> None:
    """Note fixed amounts that no top-up may have."""
    for name in _FIXED:
        check_worth(problems, name, getattr(rule, name), wallet.rate_amount, wallet.currency)
    if rule.paid_credits and not rule.ignore_paid_top_up_limits:
        amount_cents = worth(rule.paid_credits, wallet.rate_amount, wallet.currency)
        least, most = wallet.paid_top_up_min_amount_cents, wallet.paid_top_up_max_amount_cents
        if (least is not None and amount_cents < least) or (most is not None and amount_cents > most):
            problems.add("paid_credits", "value_is_out_of_range")
