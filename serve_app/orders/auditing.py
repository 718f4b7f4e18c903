"""Changes that operators make over HTTP, logged as those of commands are."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from starlette.requests import Request

from jobs.admin_calls import ended, new_call
from jobs.ledger_errors import LedgerUnavailable
from jobs.request import Tenant
from serve_app.orders.app_state import app_state_of


@asynccontextmanager
async def audited(
    request: Request, operator: Tenant, action: str, target: str
) -> AsyncGenerator[None]:
    """Around a change that an operator asks for: see jobs.admin_calls.audited. Raises
    LedgerUnavailable before it begins."""
    ledger, call = app_state_of(request).ledger, new_call(operator.id, action, target)
    await ledger.log_admin_call(call)
    try:
        yield
    except BaseException as error:
        with suppress(LedgerUnavailable):
            await ledger.log_admin_call(ended(call, error))
        raise
    await ledger.log_admin_call(ended(call))
