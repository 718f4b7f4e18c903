"""The section `blobs`, and what else a bucket asks of a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.blobs.places import DirectoryPlace, S3Place
from serve_app.config.cluster import parse_cluster_config, with_live
from serve_app.config.errors import ConfigError

KEYS = {"access_key_id_file": "/run/id", "secret_access_key_file": "/run/secret"}
OFF: dict[str, Any] = {"provenance": "off"}


def test_a_directory_is_the_default() -> None:
    assert parse_cluster_config({}).blobs.place() == DirectoryPlace("var/laptop/blobs")


def test_a_bucket_is_read_as_the_store_takes_it() -> None:
    s3 = {"bucket": "pictures", "endpoint": "https://s3.example", "prefix": "a/b/", **KEYS}
    assert parse_cluster_config({"blobs": {"s3": s3}, **OFF}).blobs.place() == S3Place(
        "pictures", "https://s3.example", prefix="a/b", key_files=("/run/id", "/run/secret")
    )


@pytest.mark.parametrize(
    ("blobs", "said"),
    [
        ({"directory": "x", "s3": {"bucket": "pictures"}}, "blobs.directory: leave it out"),
        ({"s3": {}}, "blobs.s3.bucket: "),
        ({"s3": {"bucket": "Pictures"}}, "blobs.s3.bucket: "),
        ({"s3": {"bucket": "pictures", "endpoint": "s3.example"}}, "blobs.s3.endpoint: "),
        ({"s3": {"bucket": "pictures", "endpoint": "http://key:secret@s3"}}, "blobs.s3.endpoint: "),
        ({"s3": {"bucket": "pictures", "prefix": "../up"}}, "blobs.s3.prefix: "),
        ({"s3": {"bucket": "pictures", "prefix": "a//b"}}, "blobs.s3.prefix: "),
        ({"s3": {"bucket": "pictures", "downloads": "direct"}}, "blobs.s3.downloads: "),
        ({"s3": {"bucket": "pictures", "access_key_id": "AKIA"}}, "blobs.s3.access_key_id: "),
        ({"s3": {"bucket": "pictures", "access_key_id_file": "/run/id"}},
         "blobs.s3.secret_access_key_file: is missing"),
        ({"s3": {"bucket": "pictures", "session_token_file": "/run/token"}},
         "blobs.s3.access_key_id_file: is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_field(blobs: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_cluster_config({"blobs": blobs, **OFF})
    (problem,) = refused.value.problems
    assert problem.startswith(f"args: {said}")
    assert "secret@" not in problem


def test_keys_that_the_service_makes_have_a_place_beside_a_bucket() -> None:
    s3 = {"bucket": "pictures"}
    with pytest.raises(ConfigError, match=r"args: provenance.directory: is missing"):
        parse_cluster_config({"blobs": {"s3": s3}})
    config = parse_cluster_config({"blobs": {"s3": s3}, "provenance": {"directory": "/keys"}})
    assert config.identity_files().directory == "/keys/.provenance"


def test_a_config_with_a_bucket_takes_live_sections() -> None:
    config = parse_cluster_config({"blobs": {"s3": {"bucket": "pictures"}}, **OFF})
    live = with_live(config, {"tiers": {"pro": {"weight": 4}}})
    assert live.blobs == config.blobs
