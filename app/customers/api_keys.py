"""API keys: making, finding, rotating and revoking them (design, section 9)."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.errors import NotAllowed, NotFound, invalid
from app.models import ApiKey
from app.validation import as_uuid

HINT_LENGTH = 4

Permissions = Mapping[str, Sequence[str]]


def new_key() -> str:
    """A fresh API key; 256 bits, so its digest needs no salt."""
    return secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def create_key(
    db: Session,
    organization_id: UUID,
    now: datetime,
    *,
    name: str | None = None,
    permissions: Permissions | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new key of an organization, and the key itself, which is not to be had again.

    Raises:
        Invalid: it would have expired already.
    """
    _check_expiry(expires_at, now)
    value = new_key()
    key = ApiKey(
        organization_id=organization_id,
        name=name,
        digest=digest(value),
        hint=value[-HINT_LENGTH:],
        permissions=None if permissions is None else dict(permissions),
        created_at=now,
        expires_at=expires_at,
    )
    db.add(key)
    db.flush()
    return key, value


def organization_keys(organization_id: UUID) -> Select[ApiKey]:
    """All keys an organization has or had, newest first."""
    return select(ApiKey).where(ApiKey.organization_id == organization_id).order_by(ApiKey.created_at.desc(), ApiKey.id)


def find_key(db: Session, organization_id: UUID, key_id: str) -> ApiKey:
    """A key by its id, locked.

    Raises:
        NotFound: `api_key_not_found`.
    """
    key = db.scalar(organization_keys(organization_id).where(ApiKey.id == as_uuid(key_id)).with_for_update())
    if key is None:
        raise NotFound("api_key")
    return key


def key_status(key: ApiKey, now: datetime) -> str:
    """`active`, `revoked` or `expired`."""
    if key.revoked_at is not None and key.revoked_at <= now:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"


def rotate_key(db: Session, key: ApiKey, expires_at: datetime | None, now: datetime) -> tuple[ApiKey, str]:
    """A key with the same name and permissions in place of this one, which stops at once, or at `expires_at`.

    Raises:
        NotAllowed: `api_key_not_active`.
        Invalid: `expires_at` has passed.
    """
    if key_status(key, now) != "active":
        raise NotAllowed("api_key_not_active")
    _check_expiry(expires_at, now)
    if expires_at is None:
        key.revoked_at = now
    else:
        key.expires_at = min(expires_at, key.expires_at or expires_at)
    return create_key(db, key.organization_id, now, name=key.name, permissions=key.permissions)


def revoke_key(key: ApiKey, now: datetime) -> None:
    """Stop a key at once."""
    if key.revoked_at is None:
        key.revoked_at = now


def _check_expiry(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and expires_at <= now:
        raise invalid("expires_at", "invalid_date")
