"""The two apps that `make bench-accept` compares, as uvicorn's factories. The database's URL is in
the environment variable MELTPROOF_ACCEPT_URL."""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import text

from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.db.database import open_database
from jobs.sql.sql_ledger import SqlLedger
from serve_app.config.cluster import parse_cluster_config
from serve_app.gateway import create_app

CONFIG = {
    "model": {"name": "bench", "family": "paced"},
    "tiers": {"free": {"images_per_day": 100_000_000}},
    "keys": [{"key": "sk-bench", "tenant": "bench"}],
}


def ours() -> FastAPI:
    """The gateway."""
    config = parse_cluster_config(CONFIG)
    ledger = SqlLedger(os.environ["MELTPROOF_ACCEPT_URL"], tiers=config.tier_promises())
    blobs = DirectoryBlobs(Path(tempfile.mkdtemp()))
    return create_app(AsyncLedger(ledger), blobs, config)


class Wish(BaseModel):
    """What the bare app reads of an order."""

    prompt: str
    model: str
    n: int = 1
    size: str = "auto"


def bare() -> FastAPI:
    """One insert and one commit for each request, through the doors of our own ledger."""
    database = open_database(os.environ["MELTPROOF_ACCEPT_URL"])
    with database.durable.begin() as connection:
        connection.execute(text("create table bare (id text primary key, wish text)"))
    insert = text("insert into bare (id, wish) values (:id, :wish)")
    app = FastAPI()

    @app.post("/v1/images/generations", status_code=202)
    def create(wish: Wish) -> dict[str, str]:
        row = {"id": uuid.uuid4().hex, "wish": wish.model_dump_json()}
        with database.durable.begin() as connection:
            connection.execute(insert, row)
        return {"id": row["id"]}

    return app
