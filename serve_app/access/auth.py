"""Who asks: a key of the config file, a signed token, or a key of the ledger; and signatures that
open a picture without a header. Holds only hashes of the keys.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

from jobs.client.async_ledger import AsyncLedger
from jobs.request import Tenant
from jobs.sql.accounts import KEY_START, key_hash
from serve_app.access.ledger_keys import LedgerKeys
from serve_app.access.tokens import TokenRefused, looks_like_a_token, verify
from serve_app.config.cluster import ClusterConfig
from serve_app.wire.errors import Unauthorized


class Keyring:
    """Everybody who may ask this lane."""

    def __init__(self, config: ClusterConfig, ledger: AsyncLedger) -> None:
        """Reads files of signing secrets. Raises ConfigError, naming the field."""
        self._configured = {key_hash(key.key): Tenant(key.tenant, key.tier) for key in config.keys}
        self._signing, self._audiences = config.signing_secrets(), config.audiences()
        self._tiers = frozenset(config.tiers)
        self._ledger_keys = LedgerKeys(ledger)

    async def tenant(self, authorization: str | None, suspect: Callable[[], bool]) -> Tenant:
        """Whose key or token stands in the Authorization header. suspect: whether its address has
        sent too many wrong ones lately. Raises Unauthorized, and for a key that only the ledger
        could know LedgerUnavailable and TooManyRequests.

        Keys are found by their hash: how long that takes says nothing about any of them.
        """
        scheme, _, bearer = (authorization or "").partition(" ")
        bearer = bearer.strip()
        if scheme.lower() != "bearer" or not bearer:
            raise Unauthorized("You need to send an API key: Authorization: Bearer YOUR_KEY.")
        hashed = key_hash(bearer)
        tenant = self._configured.get(hashed)
        if tenant is None:
            tenant = self._signed(bearer) if looks_like_a_token(bearer) else None
            if tenant is None and bearer.startswith(KEY_START):
                tenant = await self._ledger_keys.owner(hashed, suspect=suspect())
        if tenant is None:
            raise Unauthorized
        if tenant.tier not in self._tiers:
            raise Unauthorized(f"There is no tier '{tenant.tier}' here.", code="unknown_tier")
        return tenant

    def _signed(self, token: str) -> Tenant:
        try:
            return verify(token, self._signing, time.time(), self._audiences)
        except TokenRefused as refused:
            raise Unauthorized(str(refused), code="invalid_token") from None


class UrlSigner:
    """Signs what may be opened without a key, with the secret that all gateways share."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, message: str) -> str:
        """A signature in hex."""
        return hmac.new(self._secret, message.encode(), hashlib.sha256).hexdigest()

    def signed(self, message: str, signature: str) -> bool:
        """Whether that signature is ours."""
        given = signature.encode("utf-8", "replace")
        return hmac.compare_digest(self.sign(message).encode(), given)
