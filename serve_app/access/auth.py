"""Authentication: a key of the config file, a token that is signed with a secret of ours or by an
OpenID Connect issuer, or a key of the ledger; and signatures
that open a picture without a header. Holds only hashes of the keys.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from jobs.client.async_ledger import AsyncKeys
from jobs.ledger_errors import LedgerError, LedgerUnavailable
from jobs.request import Tenant
from jobs.sql.accounts import KEY_START, key_hash
from serve_app.access.issuer_keys import KeysUnread
from serve_app.access.oidc import Issuers, issuers
from serve_app.access.tokens import (
    ALGORITHM,
    TokenRefused,
    looks_like_a_token,
    unchecked,
    verify,
)
from serve_app.config.cluster import ClusterConfig
from serve_app.wire.errors import ApiError, TooManyRequests, Unauthorized

log = logging.getLogger(__name__)

FRESH_SECONDS = 2.0
"""How long a change of a key may take to be seen."""
REMEMBERED_KEYS = 100_000
REMEMBERED_WRONG = 100_000
"""Hashes of keys that are none: a wrong key is looked up once."""
PAUSE_SECONDS = 0.1
"""Keys from addresses that sent too many wrong ones wait for each other so long: ten look-ups a
second, whatever comes."""
MOST_TOGETHER = 500

T = TypeVar("T")
KeyOwner = tuple[Tenant | None, int]
"""The key's tenant, if it is valid, and the revision of the keys that says so."""


class IssuerUnavailable(ApiError):
    """The issuer of this token cannot be asked for its keys just now. Please try again."""

    status = 503
    code = "issuer_unavailable"
    headers = {"retry-after": "5"}


class Keyring:
    """All that may authenticate to this lane."""

    def __init__(
        self, config: ClusterConfig, ledger: AsyncKeys, before: Keyring | None = None
    ) -> None:
        """Reads files of keys and secrets. before: that of an earlier config. Raises ConfigError,
        naming the field."""
        self._issuers: Issuers = issuers(config.auth.oidc, before._issuers if before else {})
        self._configured = {key_hash(key): one for key, one in config.tenants_by_key().items()}
        self._signing, self._audiences = config.signing_secrets(), config.audiences()
        self._operator_signers = config.operator_signers()
        self._tiers = frozenset(config.tiers)
        self._ledger_keys = LedgerKeys(ledger)

    async def tenant(self, authorization: str | None, suspect: Callable[[], bool]) -> Tenant:
        """The tenant of the key or token in the Authorization header. suspect: whether its address
        has sent too many wrong ones lately. Raises Unauthorized, and for a key that only the ledger
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
            tenant = await self._signed(bearer) if looks_like_a_token(bearer) else None
            if tenant is None and bearer.startswith(KEY_START):
                tenant = await self._ledger_keys.owner(hashed, suspect=suspect())
        if tenant is None:
            raise Unauthorized
        if tenant.tier not in self._tiers:
            raise Unauthorized(f"There is no tier '{tenant.tier}' here.", code="unknown_tier")
        return tenant

    async def _signed(self, token: str) -> Tenant:
        try:
            if self._issuers:
                header, claims = unchecked(token)
                if issuer := self._issuers.get(str(claims.get("iss"))):
                    return await issuer.tenant(token, header.get("kid"), time.time())
                if header.get("alg") != ALGORITHM:
                    raise TokenRefused("The token's issuer (iss) is not known here.")
            return verify(
                token, self._signing, time.time(), self._audiences, self._operator_signers
            )
        except KeysUnread:
            raise IssuerUnavailable from None
        except TokenRefused as refused:
            raise Unauthorized(str(refused), code=refused.code) from None


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


class LedgerKeys:
    """The ledger's keys that were asked for, for as long as no key has changed.

    While the ledger is away, known keys stay valid.
    """

    def __init__(self, ledger: AsyncKeys) -> None:
        self._ledger = ledger
        self._known: _Newest[Tenant] = _Newest(REMEMBERED_KEYS)
        self._wrong: _Newest[None] = _Newest(REMEMBERED_WRONG)
        self._together = _Together(ledger)
        self._revision = -1
        self._looked_at = float("-inf")

    async def owner(self, hashed: str, *, suspect: bool) -> Tenant | None:
        """The key's tenant, or None. suspect: its address has sent too many wrong ones, so that a
        key that was not seen yet is looked up together with others. Raises LedgerUnavailable for
        one that was never seen, and TooManyRequests when too many suspects wait."""
        await self._look()
        if (tenant := self._known.get(hashed)) is not None:
            return tenant
        if hashed in self._wrong:
            return None
        ask = self._together.owner if suspect else self._ledger.key_owner
        tenant, revision = await ask(hashed)
        if revision > self._revision:
            self._forget(revision)
        if revision == self._revision:  # else a change came meanwhile: this may be old by now
            if tenant is None:
                self._wrong.put(hashed, None)
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
        self._wrong.clear()
        self._revision = revision


class _Together:
    """Look-ups that wait for each other: one question to the ledger for all that came meanwhile."""

    def __init__(self, ledger: AsyncKeys) -> None:
        self._ledger = ledger
        self._waiting: dict[str, asyncio.Future[KeyOwner]] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def owner(self, hashed: str) -> KeyOwner:
        """As AsyncKeys.key_owner. Raises TooManyRequests, too."""
        if hashed not in self._waiting:
            if len(self._waiting) >= MOST_TOGETHER:
                message = "Too many unknown keys came from your address. Try again in 1 s."
                raise TooManyRequests(message, headers={"retry-after": "1"})
            if not self._waiting:
                task = asyncio.create_task(self._ask())
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
            self._waiting[hashed] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._waiting[hashed])

    async def _ask(self) -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        asked, self._waiting = self._waiting, {}
        try:
            owners, revision = await self._ledger.key_owners(list(asked))
        except LedgerError as error:
            for future in asked.values():
                future.set_exception(error)
                future.exception()  # the caller may have left
            return
        for hashed, future in asked.items():
            future.set_result((owners.get(hashed), revision))


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
