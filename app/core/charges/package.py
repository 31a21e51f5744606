"""Package charges: units are sold in whole packages, after some free ones (metering spec 3.7, 3.8)."""

from decimal import Decimal

from app.core.charges.literals import amount_or_zero, whole
from app.core.charges.usage import BucketUsage, Priced, PriceFunction, per_unit
from app.core.charges.validation import Properties
from app.core.money import ZERO, decimal_text, exact


def package(properties: Properties) -> PriceFunction:
    """``amount`` for each package begun above the free units. The unit price is per paid unit."""
    price = amount_or_zero(properties["amount"])
    size = Decimal(whole(properties["package_size"], 1) or 1)
    free = Decimal(whole(properties["free_units"], 0) or 0)
    terms = {"per_package_size": int(size), "per_package_unit_amount": decimal_text(price)}
    free_text, nothing = decimal_text(free), decimal_text(ZERO)
    unused = {"free_units": nothing, "paid_units": nothing, "per_package_size": 0, "per_package_unit_amount": nothing}

    def priced(usage: BucketUsage) -> Priced:
        with exact():
            paid = max(usage.units - free, ZERO)
            amount = packages(paid, size) * price
            unit_amount = per_unit(amount, paid)
        if not usage.units:
            return Priced(amount, unit_amount, dict(unused))
        return Priced(amount, unit_amount, {"free_units": free_text, "paid_units": decimal_text(paid), **terms})

    return priced


def packages(paid: Decimal, size: Decimal) -> Decimal:
    """How many packages the paid units begin. To be called in ``money.exact()``."""
    # Not the ceiling of a quotient, which would have been rounded.
    full, rest = divmod(paid, size)
    return full + 1 if rest else full
