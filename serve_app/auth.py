"""API keys: who asks, and signatures that open a picture without a header.

Holds only hashes of the keys. Knows no HTTP beyond the header's text.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from jobs.request import Tenant
from serve_app.config import KeySection
from serve_app.errors import Unauthorized


class Keyring:
    """Every API key of the lane."""

    def __init__(self, keys: Iterable[KeySection]) -> None:
        self._tenants = [(_digest(key.key), Tenant(key.tenant, key.tier)) for key in keys]

    def tenant(self, authorization: str | None) -> Tenant:
        """Whose key stands in the Authorization header. Raises Unauthorized.

        Every key is compared, in constant time, so that timing tells nothing about any of them.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("You need to send an API key: Authorization: Bearer YOUR_KEY.")
        given = _digest(token.strip())
        found: Tenant | None = None
        for digest, tenant in self._tenants:
            if hmac.compare_digest(digest, given):
                found = tenant
        if found is None:
            raise Unauthorized
        return found

    def sign(self, tenant_id: str, message: str) -> str:
        """A signature in hex over `message` with the tenant's first key."""
        secret = next(digest for digest, tenant in self._tenants if tenant.id == tenant_id)
        return _signature(secret, message)

    def signed(self, tenant_id: str, message: str, signature: str) -> bool:
        """Whether any key of the tenant made that signature."""
        given = signature.encode("utf-8", "replace")
        return any(
            hmac.compare_digest(_signature(digest, message).encode(), given)
            for digest, tenant in self._tenants
            if tenant.id == tenant_id
        )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def _signature(secret: bytes, message: str) -> str:
    return hmac.new(secret, message.encode(), hashlib.sha256).hexdigest()
