"""`/api/v1/add_ons` (billing spec 5.4)."""

from uuid import UUID

from litestar import Controller
from msgspec import UNSET, Struct

from app.api.given import Db, Now, Org, Paging
from app.api.routes import delete, get, post, put
from app.api.taxes import TaxObject, tax_object
from app.api.wire import Cents, Opt, PageMeta, Str, changes, fill, instant, paginate
from app.catalog.add_ons import create_add_on, delete_add_on, find_add_on, live_add_ons, update_add_on
from app.models import AddOn


class AddOnInput(Struct):
    name: Str | Opt | None = UNSET
    invoice_display_name: Str | Opt | None = UNSET
    code: Str | Opt | None = UNSET
    amount_cents: Cents | Opt | None = UNSET
    amount_currency: Str | Opt | None = UNSET
    description: Str | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET


class AddOnBody(Struct):
    add_on: AddOnInput


class AddOnObject(Struct, kw_only=True):
    lago_id: UUID
    name: str
    invoice_display_name: str | None
    code: str
    amount_cents: int
    amount_currency: str
    description: str | None
    created_at: str
    taxes: list[TaxObject]


class AddOnAnswer(Struct):
    add_on: AddOnObject


class AddOnsAnswer(Struct):
    add_ons: list[AddOnObject]
    meta: PageMeta


def add_on_object(add_on: AddOn) -> AddOnObject:
    """An add-on as it is on the wire; what `ADD_ON_PARTS` names must be loaded."""
    return fill(
        AddOnObject,
        add_on,
        lago_id=add_on.id,
        created_at=instant(add_on.created_at),
        taxes=[tax_object(tax) for tax in add_on.taxes],
    )


class AddOnController(Controller):
    path = "/add_ons"
    tags = ["add_ons"]
    opt = {"resource": "add_on"}

    @post()
    def create_add_on(self, data: AddOnBody, db: Db, organization: Org, now: Now) -> AddOnAnswer:
        """Make an add-on."""
        return AddOnAnswer(add_on_object(create_add_on(db, organization.id, changes(data.add_on), now)))

    @get()
    def list_add_ons(self, db: Db, organization: Org, paging: Paging) -> AddOnsAnswer:
        """All add-ons, newest first."""
        add_ons, meta = paginate(db, live_add_ons(organization.id), paging)
        return AddOnsAnswer([add_on_object(add_on) for add_on in add_ons], meta)

    @get("/{code:path}")
    def get_add_on(self, code: str, db: Db, organization: Org) -> AddOnAnswer:
        """One add-on."""
        return AddOnAnswer(add_on_object(find_add_on(db, organization.id, code[1:])))

    @put("/{code:path}")
    def update_add_on(self, code: str, data: AddOnBody, db: Db, organization: Org, now: Now) -> AddOnAnswer:
        """Change an add-on. Invoices that were made keep what they say."""
        add_on = find_add_on(db, organization.id, code[1:], lock=True)
        update_add_on(db, add_on, changes(data.add_on), now)
        return AddOnAnswer(add_on_object(add_on))

    @delete("/{code:path}")
    def remove_add_on(self, code: str, db: Db, organization: Org, now: Now) -> AddOnAnswer:
        """Delete an add-on, and its fixed charges from all plans."""
        add_on = find_add_on(db, organization.id, code[1:], lock=True)
        removed = add_on_object(add_on)
        delete_add_on(db, add_on, now)
        return AddOnAnswer(removed)
