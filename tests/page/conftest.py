"""A browser and a service for it. Without Chromium these tests are skipped by name, unless
REQUIRE_ALL=1 asks for all of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.page.pipeline import Pipeline

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
)


def _program(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        missing = f"{names[0]} is not installed (apt-get install chromium chromium-driver)"
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pipeline]:
    """The pipeline on a loopback port, with a ledger of its own; its parameter: other settings."""
    pipeline = Pipeline(tmp_path, getattr(request, "param", None))
    yield pipeline
    pipeline.close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Headless Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(_program("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, service: Pipeline) -> Iterator[webdriver.Chrome]:
    """The studio, just opened by somebody who was never here."""
    browser.get(service.url)
    browser.execute_script("localStorage.clear(); sessionStorage.clear()")
    browser.get(service.url)
    browser.get_log("browser")  # what was logged before is not ours
    yield browser
    complaints = [
        entry["message"]
        for entry in browser.get_log("browser")
        if entry["level"] == "SEVERE" and entry["source"] != "network"
    ]
    browser.get("about:blank")  # no stream may stay open
    assert complaints == []
