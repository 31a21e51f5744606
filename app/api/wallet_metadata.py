"""What an organization notes of wallets, by their id and by their code."""

from litestar import Controller
from msgspec import Struct

from app.api.given import Db, Now, Org
from app.api.routes import delete, patch, post
from app.api.slashes import named
from app.api.wire import Str
from app.billing.wallets import find_wallet, find_wallet_of, remove_wallet_metadata, write_wallet_metadata
from app.customers.customers import find_customer
from app.models import Wallet
from app.validation import as_uuid


class WalletMetadataBody(Struct):
    metadata: dict[Str, Str | None] | None


class WalletMetadataAnswer(Struct):
    metadata: dict[str, str | None]


def _answer(wallet: Wallet) -> WalletMetadataAnswer:
    return WalletMetadataAnswer(wallet.wallet_metadata or {})


class WalletMetadataController(Controller):
    path = "/wallets/{lago_id:str}/metadata"
    tags = ["wallets"]
    opt = {"resource": "wallet"}

    @post()
    def replace_wallet_metadata(
        self, lago_id: str, data: WalletMetadataBody, db: Db, organization: Org, now: Now
    ) -> WalletMetadataAnswer:
        """Make the entries that were sent all of a wallet's metadata."""
        wallet = find_wallet(db, organization.id, as_uuid(lago_id), lock=True)
        write_wallet_metadata(wallet, data.metadata or {}, now, replace=True)
        return _answer(wallet)

    @patch()
    def merge_wallet_metadata(
        self, lago_id: str, data: WalletMetadataBody, db: Db, organization: Org, now: Now
    ) -> WalletMetadataAnswer:
        """Set entries of a wallet's metadata; the others stay."""
        wallet = find_wallet(db, organization.id, as_uuid(lago_id), lock=True)
        write_wallet_metadata(wallet, data.metadata or {}, now, replace=False)
        return _answer(wallet)

    @delete()
    def clear_wallet_metadata(self, lago_id: str, db: Db, organization: Org, now: Now) -> WalletMetadataAnswer:
        """Remove all of a wallet's metadata."""
        wallet = find_wallet(db, organization.id, as_uuid(lago_id), lock=True)
        write_wallet_metadata(wallet, {}, now, replace=True)
        return _answer(wallet)

    @delete("/{key:str}")
    def remove_wallet_metadata_key(
        self, lago_id: str, key: str, db: Db, organization: Org, now: Now
    ) -> WalletMetadataAnswer:
        """Remove one entry of a wallet's metadata."""
        wallet = find_wallet(db, organization.id, as_uuid(lago_id), lock=True)
        remove_wallet_metadata(wallet, named(key), now)
        return _answer(wallet)


class CustomerWalletMetadataController(Controller):
    path = "/customers/{external_id:str}/wallets/{code:str}/metadata"
    tags = ["wallets"]
    opt = {"resource": "wallet"}

    @post()
    def replace_customer_wallet_metadata(
        self, external_id: str, code: str, data: WalletMetadataBody, db: Db, organization: Org, now: Now
    ) -> WalletMetadataAnswer:
        """Make the entries that were sent all of a wallet's metadata."""
        wallet = find_wallet_of(db, find_customer(db, organization.id, external_id), named(code), lock=True)
        write_wallet_metadata(wallet, data.metadata or {}, now, replace=True)
        return _answer(wallet)

    @patch()
    def merge_customer_wallet_metadata(
        self, external_id: str, code: str, data: WalletMetadataBody, db: Db, organization: Org, now: Now
    ) -> WalletMetadataAnswer:
        """Set entries of a wallet's metadata; the others stay."""
        wallet = find_wallet_of(db, find_customer(db, organization.id, external_id), named(code), lock=True)
        write_wallet_metadata(wallet, data.metadata or {}, now, replace=False)
        return _answer(wallet)

    @delete()
    def clear_customer_wallet_metadata(
        self, external_id: str, code: str, db: Db, organization: Org, now: Now
    ) -> WalletMetadataAnswer:
        """Remove all of a wallet's metadata."""
        wallet = find_wallet_of(db, find_customer(db, organization.id, external_id), named(code), lock=True)
        write_wallet_metadata(wallet, {}, now, replace=True)
        return _answer(wallet)

    @delete("/{key:str}")
    def remove_customer_wallet_metadata_key(
        self, external_id: str, code: str, key: str, db: Db, organization: Org, now: Now
    ) -> WalletMetadataAnswer:
        """Remove one entry of a wallet's metadata."""
        wallet = find_wallet_of(db, find_customer(db, organization.id, external_id), named(code), lock=True)
        remove_wallet_metadata(wallet, named(key), now)
        return _answer(wallet)
