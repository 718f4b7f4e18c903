"""Who asks: a key of the config file, a signed token, or a key of the ledger; and signatures that
open a picture without a header. Holds only hashes of the keys.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from typing import Generic, TypeVar

from jobs.accounts import KEY_START, key_hash
from jobs.group_commit import AsyncLedger
from jobs.ledger import LedgerUnavailable
from jobs.request import Tenant
from serve_app.config import ClusterConfig
from serve_app.errors import Unauthorized
from serve_app.tokens import TokenRefused, looks_like_a_token, verify

log = logging.getLogger(__name__)

FRESH_SECONDS = 2.0
"""How long a change of a key may take to be seen."""
REMEMBERED_KEYS = 100_000
REMEMBERED_STRANGERS = 10_000

T = TypeVar("T")


class Keyring:
    """Everybody who may ask this lane."""

    def __init__(self, config: ClusterConfig, ledger: AsyncLedger) -> None:
        """Reads files of signing secrets. Raises ConfigError, naming the field."""
        self._configured = {key_hash(key.key): Tenant(key.tenant, key.tier) for key in config.keys}
        self._signing, self._audiences = config.signing_secrets(), config.audiences()
        self._tiers = frozenset(config.tiers)
        self._ledger_keys = LedgerKeys(ledger)

    async def tenant(self, authorization: str | None) -> Tenant:
        """Whose key or token stands in the Authorization header. Raises Unauthorized, and
        LedgerUnavailable for a key that only the ledger could know.

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
                tenant = await self._ledger_keys.owner(hashed)
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


class LedgerKeys:
    """The ledger's keys that were asked for, good and bad, for as long as no key has changed.

    While the ledger is away, who is known stays known.
    """

    def __init__(self, ledger: AsyncLedger) -> None:
        self._ledger = ledger
        self._known: _Newest[Tenant] = _Newest(REMEMBERED_KEYS)
        self._strangers: _Newest[None] = _Newest(REMEMBERED_STRANGERS)
        self._revision = -1
        self._looked_at = float("-inf")

    async def owner(self, hashed: str) -> Tenant | None:
        """Whose key that is, or None. Raises LedgerUnavailable for one that was never seen."""
        await self._look()
        if (tenant := self._known.get(hashed)) is not None:
            return tenant
        if hashed in self._strangers:
            return None
        tenant, revision = await self._ledger.key_owner(hashed)
        if revision > self._revision:
            self._forget(revision)
        if revision == self._revision:  # else a change came meanwhile: this may be old by now
            if tenant is None:
                self._strangers.put(hashed, None)
            else:
                self._known.put(hashed, tenant)
        return tenant

    async def _look(self) -> None:
        """Forget everything when any key has changed; asks at most every FRESH_SECONDS."""
        now = time.monotonic()
        if now - self._looked_at < FRESH_SECONDS:
            return
        self._looked_at = now
        try:
            revision = await self._ledger.keys_revision()
        except LedgerUnavailable as error:
            log.warning("the ledger is away, known keys stay known: %s", error)
            return
        if revision != self._revision:
            self._forget(revision)

    def _forget(self, revision: int) -> None:
        self._known.clear()
        self._strangers.clear()
        self._revision = revision


class _Newest(OrderedDict[str, T], Generic[T]):
    """The `most` entries that were last put in."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def put(self, key: str, value: T) -> None:
        """Add one, and drop the oldest when there are too many."""
        self[key] = value
        if len(self) > self._most:
            self.popitem(last=False)


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
