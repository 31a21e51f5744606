"""Plans with prices for one subscription: copies of a plan in which something is otherwise (`plan_overrides`; billing
spec 1.11).

A copy keeps the code of its plan and is not listed. It is priced like any plan; it follows its plan only in a cascade
(`app.catalog.cascades`). It lives as long as its subscription.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.catalog.charges import charges_of, has_charges, override_charges
from app.catalog.copies import copy_plan
from app.catalog.metrics import share_metrics
from app.catalog.plans import check_billing, load_plan, write_commitment, write_metadata
from app.catalog.taxes import taxes_by_code
from app.catalog.usage_thresholds import same_thresholds, write_thresholds
from app.errors import Problems
from app.models import Charge, Plan
from app.validation import Changes, assign, check_currency, check_mandatory

_FIELDS = ("name", "invoice_display_name", "description", "amount_cents")
_ONLY_AT_FIRST = ("amount_currency", "trial_period")
"""What stays once a subscription is on the copy: as on any plan that is in use."""
_MANDATORY = ("name", "amount_cents", "amount_currency")
_WITHOUT_A_COPY = frozenset({"fixed_charges"})
"""What is kept with the subscription and not on a plan of its own."""


def asks_for_own_plan(overrides: Changes) -> bool:
    """Whether overrides name anything that is kept on a plan of its own."""
    return not overrides.keys() <= _WITHOUT_A_COPY


def lock_against_changes(db: Session, plan_id: UUID) -> None:
    """Keep a plan from being changed or deleted until the transaction ends: others may be copied and subscribed to."""
    db.execute(select(Plan.id).where(Plan.id == plan_id).with_for_update(read=True, key_share=True))


def copy_for_subscription(db: Session, plan: Plan, now: datetime) -> Plan:
    """A copy of a plan with nothing changed yet, loaded whole. The plan must be locked against changes."""
    metrics = charges_of(plan).with_only_columns(Charge.billable_metric_id).order_by(None)
    share_metrics(db, plan.organization_id, set(db.scalars(metrics)))
    return load_plan(db, plan.organization_id, copy_plan(db, plan, now))


def override_plan(db: Session, copy: Plan, overrides: Changes, now: datetime, *, in_use: bool) -> Plan:
    """Change a copy, as far as it can be otherwise than its plan; loaded whole again. Charges that are not named stay.

    Raises:
        NotFound: `charge_not_found`, `tax_not_found`.
        Invalid: a field breaks a rule.
    """
    problems = Problems()
    check_mandatory(problems, overrides, _MANDATORY, creating=False)
    check_currency(problems, overrides, "amount_currency")
    check_billing(problems, overrides)
    problems.check()
    assign(copy, overrides, _FIELDS if in_use else (*_FIELDS, *_ONLY_AT_FIRST))
    if "tax_codes" in overrides:
        copy.taxes = taxes_by_code(db, copy.organization_id, overrides["tax_codes"] or ())
    if "metadata" in overrides:
        write_metadata(copy, overrides["metadata"] or {}, now, replace=True)
    if "minimum_commitment" in overrides:
        write_commitment(db, copy, overrides["minimum_commitment"] or {}, now)
    copy.updated_at = now
    db.flush()
    if "usage_thresholds" in overrides:
        write_thresholds(db, copy, overrides["usage_thresholds"], now)
    if overrides.get("charges"):
        override_charges(db, copy, overrides["charges"], now)
    return load_plan(db, copy.organization_id, copy.id)


def is_as_overridden(plan: Plan, overrides: Changes) -> bool:
    """Whether a plan, loaded whole, is already as the overrides say."""
    fields = (*_FIELDS, *_ONLY_AT_FIRST)
    if any(overrides[name] != getattr(plan, name) for name in fields if name in overrides):
        return False
    if "tax_codes" in overrides and {tax.code for tax in plan.taxes} != set(overrides["tax_codes"] or ()):
        return False
    if "metadata" in overrides and plan.plan_metadata != (overrides["metadata"] or {}):
        return False
    if "minimum_commitment" in overrides and not _has_commitment(plan, overrides["minimum_commitment"] or {}):
        return False
    if "usage_thresholds" in overrides and not same_thresholds(
        plan.usage_thresholds, overrides["usage_thresholds"] or ()
    ):
        return False
    return has_charges(plan, overrides.get("charges") or ())


def _has_commitment(plan: Plan, sent: Changes) -> bool:
    commitment = plan.minimum_commitment
    if commitment is None or not sent:
        return commitment is None and not sent
    if any(
        sent[name] != getattr(commitment, name) for name in ("amount_cents", "invoice_display_name") if name in sent
    ):
        return False
    return "tax_codes" not in sent or {tax.code for tax in commitment.taxes} == set(sent["tax_codes"] or ())
