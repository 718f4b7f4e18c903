"""What is asked before an order's body is read, on each database: as `submit` would answer."""

from __future__ import annotations

from typing import Any

from jobs.ledger import Ledger
from jobs.ledger_errors import LedgerError, NotYetOpen, QueueFull, QuotaExceeded
from jobs.request import Enquiry, Tenant
from jobs.tiers import Tier
from tests.stages.ledger_kit import Clock, wish

ADA = Tenant("ada", "free")


def asked(ledger: Ledger, **known: Any) -> type[LedgerError] | None:
    """What is refused, if anything."""
    fields: dict[str, Any] = {"tenant": ADA, "lane": "chat"}
    before = ledger.version()
    try:
        ledger.check_admission(Enquiry(**(fields | known)))
    except LedgerError as error:
        return type(error)
    finally:
        assert ledger.version() == before, "asking writes nothing"
    return None


def test_the_day_is_counted(ledger: Ledger, clock: Clock) -> None:
    ledger.tiers = {"free": Tier(images_per_day=3)}
    assert asked(ledger, images=3) is None
    assert asked(ledger, images=4) is QuotaExceeded
    ledger.submit(wish(n=2))
    assert asked(ledger) is None
    assert asked(ledger, images=2) is QuotaExceeded
    ledger.submit(wish())
    assert asked(ledger) is asked(ledger, lane=None) is QuotaExceeded
    assert asked(ledger, tenant=Tenant("bob", "free")) is None
    clock.now += 86_400
    assert asked(ledger) is None


def test_the_queue_is_counted_for_orders(ledger: Ledger) -> None:
    ledger.tiers = {"free": Tier(queued_jobs=2)}
    ledger.submit(wish())
    assert asked(ledger) is None
    first = ledger.submit(wish(seed=8)).job
    assert asked(ledger) is QueueFull
    assert asked(ledger, lane=None) is asked(ledger, lane="api") is None
    ledger.cancel(first.id)
    assert asked(ledger) is None


def test_a_closed_tier_takes_no_retry_either(ledger: Ledger) -> None:
    ledger.submit(wish(idempotency_key="k"))
    ledger.tiers = {"free": Tier(rollout="off")}
    assert asked(ledger) is asked(ledger, key="k") is asked(ledger, retry=True) is NotYetOpen
    ledger.tiers = {"free": Tier(newcomers="off")}
    assert asked(ledger) is None, "who is in stays in"
    assert asked(ledger, tenant=Tenant("zoe", "free")) is NotYetOpen


def test_a_retry_is_let_pass_as_far_as_it_may_be_one(ledger: Ledger, clock: Clock) -> None:
    ledger.tiers = {"free": Tier(images_per_day=2)}
    keyed = ledger.submit(wish(idempotency_key="k", body_hash="red")).job
    ledger.submit(wish(body_hash="blue"))
    assert asked(ledger, key="k") is asked(ledger, key="k", body_hash="red") is None
    assert asked(ledger, key="k", body_hash="blue") is None, "another body is told by submit"
    assert (
        asked(ledger, key="other") is asked(ledger, key="other", body_hash="red") is QuotaExceeded
    )
    assert asked(ledger, retry=True) is asked(ledger, retry=True, body_hash="blue") is None
    assert asked(ledger, retry=True, body_hash="green") is QuotaExceeded
    assert asked(ledger, body_hash="blue") is QuotaExceeded, "it does not say that it is one"
    assert asked(ledger, tenant=Tenant("bob", "free"), key="k") is None
    ledger.cancel(keyed.id)
    ledger.submit(wish(tenant="cy", n=2))
    assert asked(ledger, key="k") is None, "its image was given back"
    ledger.submit(wish(body_hash="red"))
    assert asked(ledger, key="k") is QuotaExceeded, "a cancelled job answers no retry"
