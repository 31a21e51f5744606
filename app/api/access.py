"""Who is asking: keys to organizations, with a short-lived cache so that a key costs no query on the hot path."""

import hmac
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from litestar.concurrency import sync_to_thread
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from app.api.errors import AnyRequest
from app.clock import now_of, system_now
from app.customers.api_keys import digest
from app.errors import Forbidden, Unauthorized
from app.models import ApiKey
from app.stores.postgres import Postgres

CACHE_SECONDS = 5.0
CACHE_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """What a valid key says of the one who sent it."""

    organization_id: UUID
    sandbox: bool
    test_clock: datetime | None
    permissions: dict[str, list[str]] | None
    expires_at: datetime | None

    def may(self, resource: str, action: str) -> bool:
        """Whether the key's permissions allow `read` or `write` on a resource. No permissions set means all."""
        return self.permissions is None or action in self.permissions.get(resource, ())

    @property
    def now(self) -> datetime:
        """The time in the caller's organization."""
        return now_of(self)


class Access:
    """Finds the caller behind a key."""

    def __init__(self, postgres: Postgres, admin_digests: Collection[str]):
        self._postgres = postgres
        self._admin_digests = tuple(admin_digests)
        self._cache: dict[str, tuple[float, Caller]] = {}

    async def caller(self, key: str) -> Caller:
        """The caller behind a key.

        Raises:
            Unauthorized: the key is unknown, revoked or expired.
        """
        known = digest(key)
        cached = self._cache.get(known)
        if cached is not None and cached[0] > time.monotonic() and not _over(cached[1].expires_at, system_now()):
            return cached[1]
        caller = await sync_to_thread(self._look_up, known)
        if caller is None:
            raise Unauthorized
        if len(self._cache) >= CACHE_ENTRIES:
            self._cache.clear()
        self._cache[known] = (time.monotonic() + CACHE_SECONDS, caller)
        return caller

    def is_admin(self, key: str) -> bool:
        """Whether this is the admin key, compared in constant time."""
        sent = digest(key)
        return any(hmac.compare_digest(sent, known) for known in self._admin_digests)

    def forget(self) -> None:
        """Forget every cached caller: a key or an organization has changed."""
        self._cache.clear()

    def _look_up(self, known: str) -> Caller | None:
        now = system_now()
        with self._postgres.session() as db:
            key = db.scalar(select(ApiKey).where(ApiKey.digest == known).options(joinedload(ApiKey.organization)))
            if key is None or _over(key.revoked_at, now) or _over(key.expires_at, now):
                return None
            organization = key.organization
            return Caller(
                organization.id, organization.sandbox, organization.test_clock, key.permissions, key.expires_at
            )


def _over(at: datetime | None, now: datetime) -> bool:
    return at is not None and at <= now


def bearer(request: AnyRequest) -> str:
    """The key in the Authorization header.

    Raises:
        Unauthorized: there is none.
    """
    sent = next((value for name, value in request.scope["headers"] if name == b"authorization"), b"")
    words = sent.decode("latin-1").split()
    if len(words) < 2:  # noqa: PLR2004 (the scheme and the key)
        raise Unauthorized
    return words[1]


# Not guards of Litestar's, which copy the handler for each request: that takes longer than all that is done here.


async def require_key(request: AnyRequest) -> None:
    """Runs before every `/api/v1` request is read: a valid key, allowed to do this with the handler's `resource`."""
    access: Access = request.app.state.access
    caller = await access.caller(bearer(request))
    resource = request.scope["route_handler"].opt.get("resource")
    if resource is not None and caller.permissions is not None:
        action = "read" if request.scope["method"] in {"GET", "HEAD"} else "write"
        if not caller.may(resource, action):
            raise Forbidden(f"{action}_action_not_allowed_for_{resource}")
    request.scope["state"]["caller"] = caller


async def require_admin_key(request: AnyRequest) -> None:
    """Runs before every `/admin` request is read."""
    access: Access = request.app.state.access
    if not access.is_admin(bearer(request)):
        raise Unauthorized
