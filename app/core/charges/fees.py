"""From the price of a usage to the amounts of a fee (metering spec 3.10)."""

from decimal import Decimal

from msgspec import Struct

from app.core.charges.usage import BucketUsage, Priced
from app.core.money import ZERO, minor_int, to_minor


class FeeAmounts(Struct, frozen=True):
    """Amounts of a charge fee: units, billed minor units, unrounded minor units, unit price in currency units."""

    units: Decimal
    amount_cents: int
    precise_amount_cents: Decimal
    precise_unit_amount: Decimal
    amount_details: dict[str, object]


def fee_amounts(usage: BucketUsage, priced: Priced, currency: str) -> FeeAmounts:
    """Amounts of the fee of a charge billed in arrears (metering spec 3.10, steps 1 to 3).

    Negative units or a negative amount make a zero fee, without details. Otherwise the amount is turned into
    minor units and rounded half-up once. The units shown are the full ones; when only these are negative, what the
    prorated ones cost stays due and 0 units are shown. Raises ``money.UnknownCurrency``.
    """
    precise = to_minor(priced.amount, currency)
    if usage.units < 0 or priced.amount < 0:
        return FeeAmounts(ZERO, 0, ZERO, ZERO, {})
    unit_amount = ZERO if usage.full < 0 else priced.unit_amount
    return FeeAmounts(max(usage.full, ZERO), minor_int(precise), precise, unit_amount, priced.amount_details)
