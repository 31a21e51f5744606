"""Plans as they would be: written as always, with every rule and every check, in a transaction that is undone."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from app.catalog.plans import create_plan, find_plan, rewrite_plan
from app.models import Plan
from app.stores.postgres import Postgres
from app.validation import Changes

T = TypeVar("T")


def with_draft(
    postgres: Postgres,
    organization_id: UUID,
    plan_code: str | None,
    changes: Changes,
    now: datetime,
    read: Callable[[Session, Plan], T],
) -> T:
    """What `read` makes of a plan as it would be with the changes, whether it has subscriptions or not; without a code, of
    a new plan, which needs neither name nor code. Nothing is stored.

    Raises:
        NotFound: `plan_not_found`, `billable_metrics_not_found`, `tax_not_found`.
        Invalid: a field breaks a rule of plans and charges.
    """
    with postgres.undone() as db:
        if plan_code is None:
            name = f"draft-{uuid4()}"
            plan = create_plan(
                db, organization_id, {"name": name, "code": name, "pay_in_advance": False, **changes}, now
            )
        else:
            plan = rewrite_plan(db, find_plan(db, organization_id, plan_code, lock=True), changes, now)
        return read(db, plan)
