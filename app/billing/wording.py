"""Amounts, numbers and dates in sentences: as a customer's locale writes them."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, format_decimal

from app.core.money import decimal_places, round_half_up
from app.core.periods import local_date, local_end, local_start

MOST_PLACES = 8
"""Longer fractions are shortened in sentences; the figures beside them keep every digit."""
LANGUAGE = "en"
"""What the sentences are written in, and so the names of months."""


@dataclass(frozen=True, slots=True)
class LocalWords:
    """Numbers as a locale writes them, money in a currency. A `unit` is what prices are in, if not in that currency."""

    locale: Locale
    currency: str
    unit: str | None = None

    def money(self, amount: Decimal) -> str:
        """An amount in the unit of the prices, every digit up to the eighth."""
        if self.unit is not None:
            return f"{self.number(amount)} {self.unit}"
        shown, about = _shortened(amount)
        return about + format_currency(shown, self.currency, locale=self.locale, decimal_quantization=False)

    def number(self, value: Decimal) -> str:
        """A quantity, on the same terms."""
        shown, about = _shortened(value)
        return about + format_decimal(shown, locale=self.locale, decimal_quantization=False)


def words(locale: str | None, currency: str, unit: str | None = None) -> LocalWords:
    """How numbers are written for a customer; in English where the locale is none that is known."""
    return LocalWords(known_locale(locale or LANGUAGE), currency, unit)


@cache
def known_locale(name: str) -> Locale:
    """The locale of a name such as `fr` or `pt-BR`."""
    try:
        return Locale.parse(name.replace("-", "_"))
    except (ValueError, UnknownLocaleError):
        return Locale.parse(LANGUAGE)


def stretch(from_: datetime, to: datetime, tz: ZoneInfo) -> str:
    """A stretch of time, both ends included: in days where it is made of whole local days, else to the second."""
    first, last = local_date(from_, tz), local_date(to, tz)
    if from_ == local_start(first, tz) and to >= local_end(last, tz).replace(microsecond=0):
        if first == last:
            return f"on {format_date(first, 'd MMMM y', locale=LANGUAGE)}"
        return f"from {format_date(first, 'd MMMM y', locale=LANGUAGE)} to {format_date(last, 'd MMMM y', locale=LANGUAGE)}"
    return f"from {moment(from_, tz)} to {moment(to, tz)}"


def moment(instant: datetime, tz: ZoneInfo) -> str:
    """An instant in a zone, to the second."""
    return format_datetime(instant, "d MMMM y, HH:mm:ss", tzinfo=tz, locale=LANGUAGE)


def _shortened(value: Decimal) -> tuple[Decimal, str]:
    if decimal_places(value) <= MOST_PLACES:
        return value, ""
    shown = round_half_up(value, MOST_PLACES)
    return shown, "" if shown == value else "about "
