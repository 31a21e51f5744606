"""The ledgers of customers: what invoices, coupons, credit notes, wallets and payments say of each other must balance.

Every amount that is stored twice, once where it was made and once in a sum or a balance, is compared (billing spec 3.5,
3.6, 4, 5.3, 6, 7); the rules are in `postgres/queries/ledger_*.sql`, one file for each kind of account.
"""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Uuid, bindparam, text
from sqlalchemy.orm import Session

from app.stores.files import query_text

MOST = 1_000


@dataclass(frozen=True, slots=True)
class Imbalance:
    """A figure that does not follow from the others. `organization` is a name and `customer` an external id; `expected` and
    `found` are in minor units, credits, percents or numbers of things, as the rule's name says."""

    organization: str
    customer: str
    object: str
    object_id: UUID
    rule: str
    expected: Decimal
    found: Decimal

    def __str__(self) -> str:
        return (
            f"{self.rule} of {self.object} {self.object_id} of customer {self.customer} of {self.organization}"
            f" is {self.found:f}, not {self.expected:f}"
        )


@dataclass(frozen=True, slots=True)
class Imbalances:
    """How many there are, and the first of them."""

    number: int
    first: list[Imbalance]


def find_imbalances(db: Session, organization_id: UUID | None = None, most: int = MOST) -> Imbalances:
    """Everything that does not balance, of an organization or of all; `most`: how many to name. All is read at one instant,
    in a number of queries that does not depend on how much there is."""
    statement = text(query_text("ledger", "postgres")).bindparams(bindparam("organization_id", type_=Uuid))
    rows = db.execute(statement, {"organization_id": organization_id, "most": most}).all()
    return Imbalances(rows[0].imbalances if rows else 0, [Imbalance(*row[:-1]) for row in rows])
