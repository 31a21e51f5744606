"""Prices: a charge model and its properties, made a function of usage (metering spec 3.7 to 3.9)."""

from collections.abc import Callable

from app.core.aggregation import Aggregation
from app.core.charges.dynamic import dynamic
from app.core.charges.graduated import graduated, graduated_percentage, prorated_graduated
from app.core.charges.package import package
from app.core.charges.percentage import Percentage, percentage
from app.core.charges.standard import standard
from app.core.charges.usage import BucketUsage, ChargeModel, Priced, PriceFunction
from app.core.charges.validation import Properties, property_errors
from app.core.charges.volume import volume

_COMPILERS: dict[ChargeModel, Callable[[Properties], PriceFunction]] = {
    ChargeModel.STANDARD: standard,
    ChargeModel.GRADUATED: graduated,
    ChargeModel.PACKAGE: package,
    ChargeModel.PERCENTAGE: percentage,
    ChargeModel.VOLUME: volume,
    ChargeModel.GRADUATED_PERCENTAGE: graduated_percentage,
    ChargeModel.DYNAMIC: dynamic,
}
_UNIT_EVENTS = (Aggregation.COUNT, Aggregation.UNIQUE_COUNT)


def compile_price(model: ChargeModel, properties: Properties, *, prorated: bool = False) -> PriceFunction:
    """A function of a bucket's usage giving the price under the properties, which are read only once.

    ``prorated`` prices are those of a recurring metric whose units last to the end of the period. ``ValueError`` for
    a model outside ``SUPPORTED_MODELS`` or invalid properties. See ``price``.
    """
    errors = property_errors(model, properties)
    if errors:
        raise ValueError(", ".join(errors))
    if prorated and model is ChargeModel.GRADUATED:
        return prorated_graduated(properties)
    return _COMPILERS[model](properties)


def price(model: ChargeModel, properties: Properties, usage: BucketUsage, *, prorated: bool = False) -> Priced:
    """Price of a bucket's usage, in currency units, unrounded (metering spec 3.7 to 3.9).

    Decimals of the details are wire texts; range bounds are shown as configured. Below zero units the amount is
    negative or that of 0 units: ``fee_amounts`` turns both into a zero fee. ``ValueError`` when the price looks at
    single events and the usage has none (see ``needs_events``).
    """
    return compile_price(model, properties, prorated=prorated)(usage)


def needs_events(
    model: ChargeModel, properties: Properties, aggregation: Aggregation | str, *, prorated: bool = False
) -> bool:
    """Whether a bucket's single events must be read to price it under (valid) properties.

    True for percentages with free units or bounds per transaction, which look at the values in the order of time
    (``BucketUsage.runs``), unless every event counts as 1: then ``ones(units)`` are the runs. True for everything
    prorated: units are made of each event's days (``proration``), and graduated ones are laid on the tiers one event
    after the other (``BucketUsage.waterfall``).
    """
    if prorated:
        return True
    if model is not ChargeModel.PERCENTAGE or aggregation in _UNIT_EVENTS:
        return False
    return Percentage.of(properties).looks_at_events
