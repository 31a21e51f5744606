"""How an amount came about: the facts of a fee, or of a line of current usage, as steps and sentences.

Each kind of fee is one function of `KINDS`, from the facts to what is particular to it; window, rounding, conversion and
taxes are told for all of them alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from app.billing.priced_terms import KeptTerms
from app.billing.wording import LocalWords, moment, stretch
from app.core.explanation.figures import Figures
from app.core.explanation.sentences import (
    bucket_sentences,
    counted,
    measured_sentence,
    prorated_sentence,
    rounded_sentence,
    rounding_sentence,
    step_sentence,
)
from app.core.explanation.steps import (
    Step,
    StepKind,
    charge_steps,
    difference,
    less_paid,
    missing_to_minimum,
    period_fee,
    total,
)
from app.core.money import ZERO, exact, from_minor, minor_int, round_half_up
from app.core.periods import calendar_days
from app.core.values import replace

SHOWN_PLACES = 15
"""Decimal places of a step's amount; what that leaves out is in the rounding."""
TOLERANCE = Decimal("1e-12")
"""Steps that miss the amount by more than this tell of other prices than it was made with."""
PRICING_UNIT_PLACES = 2


@dataclass(frozen=True, slots=True)
class TaxFacts:
    """A tax on a fee: its rate in percent, its amount in minor units."""

    code: str
    name: str
    rate: Decimal
    amount_cents: int


@dataclass(frozen=True, slots=True)
class Reduction:
    """What was taken of a fee before taxes, in minor units, and by what: coupons, credit for what was billed before."""

    cents: Decimal
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conversion:
    """Prices in pricing units: the amount in these, unrounded and rounded to hundredths, and what one is worth."""

    short_name: str
    precise_amount: Decimal
    amount: Decimal
    rate: Decimal


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is known of an amount. `precise_amount` is in currency units, unrounded; `amount_cents` is billed.

    `terms` are what a charge was priced with, None where that is not known; `as_billed` tells whether they were kept with
    the fee. `spent` is, of a true-up, what the charge's other fees come to: billed and unrounded, in currency units.
    """

    kind: str
    name: str
    currency: str
    tz: ZoneInfo
    from_: datetime
    to: datetime
    units: Decimal
    precise_unit_amount: Decimal
    precise_amount: Decimal
    amount_cents: int
    amount_details: Mapping[str, Any]
    events_count: int | None = None
    figures: Mapping[str, Any] | None = None
    terms: KeptTerms | None = None
    as_billed: bool = True
    filter_id: UUID | None = None
    filter_values: Mapping[str, Sequence[str]] | None = None
    group: Mapping[str, str | None] = field(default_factory=dict)
    conversion: Conversion | None = None
    spent: tuple[Decimal, Decimal] | None = None
    event_transaction_id: str | None = None
    reduction: Reduction | None = None
    taxes: tuple[TaxFacts, ...] = ()
    taxes_amount_cents: int = 0

    @property
    def left_cents(self) -> Decimal:
        """What is taxed, in minor units."""
        return self.amount_cents - (ZERO if self.reduction is None else self.reduction.cents)

    @property
    def amount(self) -> Decimal:
        """The billed amount in currency units."""
        return from_minor(self.amount_cents, self.currency)

    @property
    def in_price_units(self) -> tuple[Decimal, Decimal]:
        """The unrounded and the rounded amount in the unit of the prices."""
        if self.conversion is not None:
            return self.conversion.precise_amount, self.conversion.amount
        return self.precise_amount, self.amount


@dataclass(frozen=True, slots=True)
class Part:
    """What is particular to a kind: the steps to the amount, and sentences that come before them. `precise` is what the
    steps come to, where it is not the unrounded amount."""

    steps: list[Step]
    sentences: list[str] = field(default_factory=list)
    precise: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ToldStep:
    """A step with its sentence, None where there is nothing to say about it."""

    step: Step
    sentence: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """How an amount came about. The amounts of `steps`, rounding included, add up to the amount in the unit of the prices;
    `sentences` tell everything in the order in which it happened."""

    facts: Facts
    days: int
    period_days: int | None
    figures: Figures | None
    steps: list[ToldStep]
    sentences: list[str]


def explain(facts: Facts, words: LocalWords) -> Explanation:
    """The explanation of an amount. `words` write money in the currency, whatever the prices are in."""
    in_prices = words if facts.conversion is None else replace(words, unit=facts.conversion.short_name)
    part = KINDS.get(facts.kind, _amount)(facts, in_prices)
    precise, rounded = facts.in_price_units
    target = precise if part.precise is None else part.precise
    with exact():
        is_told = abs(total(part.steps) - target) <= TOLERANCE
    if not is_told:
        part, target = replace(_amount(facts, in_prices), sentences=part.sentences), precise
    told = [ToldStep(step, step_sentence(step, in_prices)) for step in _shown(part.steps)]
    with exact():
        rest = rounded - total(one.step for one in told)
    if rest:
        told.append(ToldStep(Step(StepKind.ROUNDING, rest), None))
    days = calendar_days(facts.from_, facts.to, facts.tz)
    period_days = (facts.figures or {}).get("period_days")
    sentences = [_window_sentence(facts, words, days, period_days), *part.sentences]
    sentences += [one.sentence for one in told if one.sentence]
    if len(part.steps) > 1 or target != rounded:
        sentences.append(rounding_sentence(target, rounded, in_prices))
    sentences += [
        *_conversion_sentences(facts, words),
        *_reduction_sentences(facts, words),
        *_tax_sentences(facts, words),
    ]
    figures = Figures.read(facts.figures) if facts.figures and "measured" in facts.figures else None
    return Explanation(facts, days, period_days, figures, told, sentences)


def _shown(steps: Sequence[Step]) -> list[Step]:
    return [replace(step, amount=round_half_up(step.amount, SHOWN_PLACES)) for step in steps]


def _window_sentence(facts: Facts, words: LocalWords, days: int, period_days: int | None) -> str:
    text = f"{facts.name}, {stretch(facts.from_, facts.to, facts.tz)} ({facts.tz.key})"
    if period_days is None or days >= period_days:
        return f"{text}."
    return f"{text}: {words.number(Decimal(days))} of the {counted(period_days, 'day', words)} of the period."


def _conversion_sentences(facts: Facts, words: LocalWords) -> list[str]:
    if facts.conversion is None:
        return []
    one = facts.conversion
    amount, value = f"{words.number(one.amount)} {one.short_name}", words.money(one.rate)
    text = f"{amount} at {value} each come to {words.money(facts.precise_amount)}"
    rounded = "" if facts.precise_amount == facts.amount else f", rounded to {words.money(facts.amount)}"
    return [f"{text}{rounded}."]


def _reduction_sentences(facts: Facts, words: LocalWords) -> list[str]:
    if facts.reduction is None:
        return []
    taken, left = (
        words.money(from_minor(cents, facts.currency)) for cents in (facts.reduction.cents, facts.left_cents)
    )
    return [f"Less {taken} for {' and '.join(facts.reduction.by)}: {left} is left."]


def _tax_sentences(facts: Facts, words: LocalWords) -> list[str]:
    def money(cents: int | Decimal) -> str:
        return words.money(from_minor(cents, facts.currency))

    base = money(facts.left_cents)
    told = [
        f"{one.name}: {words.number(one.rate.normalize())}% of {base} = {money(one.amount_cents)}."
        for one in facts.taxes
    ]
    if told:
        told.append(f"With taxes: {money(minor_int(facts.left_cents) + facts.taxes_amount_cents)}.")
    return told


def _usage(facts: Facts, words: LocalWords) -> Part:
    """A charge's usage of a period."""
    terms = facts.terms
    if terms is None or facts.figures is None:
        return _amount(facts, words)
    figures = Figures.read(facts.figures)
    steps = charge_steps(
        terms.charge_model,
        terms.properties_of(facts.filter_id),
        figures,
        facts.amount_details,
        prorated=terms.prorated,
    )
    sentences = bucket_sentences(facts.filter_values, len(terms.filters) - (facts.filter_id is not None), facts.group)
    sentences.append(measured_sentence(terms.aggregation, terms.field_name, figures, words, recurring=terms.recurring))
    if terms.rounding_function is not None:
        rounding = rounded_sentence(figures, terms.rounding_function, terms.rounding_precision or 0, words)
        sentences += [rounding] if rounding else []
    if terms.prorated:
        sentences.append(prorated_sentence(figures, words))
    return Part(steps, sentences)


def _event(facts: Facts, _: LocalWords) -> Part:
    """One event of a charge paid in advance: what it makes of a difference (metering spec 3.12)."""
    sentences = [f'The event "{facts.event_transaction_id}" is paid in advance.']
    sentences += bucket_sentences(facts.filter_values, 0, facts.group)
    return Part(difference(facts.units, facts.in_price_units[0]), sentences)


def _subscription(facts: Facts, words: LocalWords) -> Part:
    """The fee of a plan for a period or for some of its days (billing spec 1.4)."""
    figures, plan_cents = facts.figures, facts.amount_details.get("plan_amount_cents")
    if figures is None or plan_cents is None:
        return _amount(facts, words)
    sentences = []
    if "trial_ends_at" in figures:
        ends = moment(datetime.fromisoformat(figures["trial_ends_at"]), facts.tz)
        sentences.append(f"The free trial goes on until {ends}.")
    if figures.get("upgraded"):
        sentences.append("The day of the upgrade is billed with the new plan.")
    price = from_minor(plan_cents, facts.currency)
    return Part(period_fee(facts.precise_amount, price, figures["days"], figures["period_days"]), sentences)


def _true_up(facts: Facts, words: LocalWords) -> Part:
    """What a charge lacks of its spending minimum (metering spec 3.11)."""
    if facts.spent is None:
        return _amount(facts, words)
    billed, precise = facts.spent
    with exact():
        # The unrounded amount is what the unrounded fees lack; what is billed is what the billed ones lack.
        minimum = facts.in_price_units[0] + precise
        return Part(missing_to_minimum(minimum, billed), precise=minimum - billed)


def _commitment(facts: Facts, words: LocalWords) -> Part:
    """What a period lacks of its plan's minimum commitment (billing spec 2.5)."""
    if facts.figures is None:
        return _amount(facts, words)
    spent = from_minor(facts.figures["spent_cents"], facts.currency)
    with exact():
        return Part(missing_to_minimum(facts.amount + spent, spent))


def _fixed_charge(facts: Facts, words: LocalWords) -> Part:
    """Units of an add-on, less what was paid for the same days before an upgrade (billing spec 2.6)."""
    if facts.figures is None:
        return _amount(facts, words)
    whole = from_minor(Decimal(facts.figures["whole_cents"]), facts.currency)
    return Part(less_paid(facts.precise_amount, whole, facts.units, facts.precise_unit_amount))


def _amount(facts: Facts, _: LocalWords) -> Part:
    """What is known of any fee: its units and what they cost."""
    return Part([Step(StepKind.AMOUNT, facts.in_price_units[0], facts.units, facts.precise_unit_amount)])


KINDS: Mapping[str, Callable[[Facts, LocalWords], Part]] = {
    "usage": _usage,
    "event": _event,
    "subscription": _subscription,
    "true_up": _true_up,
    "commitment": _commitment,
    "fixed_charge": _fixed_charge,
}
"""By what a fee is for; anything else is told by its units and their price."""
