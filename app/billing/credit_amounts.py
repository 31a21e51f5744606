"""Credit amounts and notes as they are sent with top-ups (billing spec 7.1, 7.2)."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from app.core.money import ZERO, floor_to
from app.core.wallets import CREDIT_PLACES, worth
from app.errors import Problems
from app.validation import LONGEST_KEY, LONGEST_VALUE, Changes, empty

MOST_NOTES = 15
LARGEST_WORTH = 10**15
"""The most, in minor units, that one transaction may move."""

_CREDITS = re.compile(r"[0-9]{1,25}(\.[0-9]*)?").fullmatch


def credits_sent(problems: Problems, sent: Changes, field: str) -> Decimal:
    """Credits that were sent as text, cut to 5 decimals; 0 where there are none. Notes what is wrong with them."""
    value = sent.get(field)
    if empty(value):
        return ZERO
    if not isinstance(value, str) or not _CREDITS(value):
        problems.add(field, f"invalid_{field}", "invalid_amount")
        return ZERO
    return floor_to(Decimal(value), CREDIT_PLACES)


def check_worth(problems: Problems, field: str, credit_amount: Decimal, rate: Decimal, currency: str) -> None:
    """Note credits that are worth nothing in money, or more than a transaction can move."""
    amount_cents = worth(credit_amount, rate, currency)
    if credit_amount and not amount_cents:
        problems.add(field, f"invalid_{field}", "amount_rounds_to_zero")
    elif amount_cents > LARGEST_WORTH:
        problems.add(field, f"invalid_{field}", "invalid_amount")


def check_notes(problems: Problems, field: str, notes: Sequence[Any] | None) -> None:
    """Note what is wrong with the notes on a transaction: a list of keys with values."""
    if len(notes or ()) > MOST_NOTES:
        problems.add(field, "invalid_count")
    for note in notes or ():
        if empty(note.get("key")) or empty(note.get("value")):
            problems.add(field, "value_is_mandatory")
        elif len(note["key"]) > LONGEST_KEY or len(note["value"]) > LONGEST_VALUE:
            problems.add(field, "value_is_too_long")
