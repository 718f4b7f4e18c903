"""Clients of a module's own gateway."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.stages.http_stage import Stage


@pytest.fixture
def client(shared: Stage) -> Iterator[openai.OpenAI]:
    """The official SDK at a module's own `shared` stage; it tries once."""
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="sk-local", max_retries=0) as made:
        yield made


@pytest.fixture
def http(shared: Stage) -> Iterator[httpx.Client]:
    """Plain HTTP there, with the tenant's key."""
    with httpx.Client(base_url=shared.url, headers=shared.headers, timeout=60) as made:
        yield made
