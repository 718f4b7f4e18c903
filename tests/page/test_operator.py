"""The operator's view in a real browser: what it shows, refuses, and never takes for markup."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from jobs.history import LoadSample, ScalingChange
from jobs.job import JobState, RenderState
from jobs.lease import Outcome
from jobs.sql.sql_ledger import SqlLedger
from tests.page.person import all_of, come_back_until, text_of, until
from tests.page.pipeline import CONFIG

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from tests.page.pipeline import Pipeline

pytestmark = pytest.mark.page

MARKUP = "<img src=x onerror=alert(1)>"
SETTINGS = {**CONFIG, "keys": [*CONFIG["keys"], {"key": "sk-bad", "tenant": MARKUP}]}
KEPT = "meltproof-operator-key"


@pytest.fixture
def ledger(service: Pipeline, tmp_path: Path) -> Iterator[SqlLedger]:
    """An hour in it: a rush, decoders that came for it, and limits that were tightened."""
    with closing(SqlLedger(f"sqlite:///{tmp_path}/ledger.db?timeout=60")) as opened:
        now = time.time()
        for ago in range(600, 20, -20):
            work = 90.0 if 200 < ago < 300 else 4.0
            waiting = {"free": int(work), "<b>pro</b>": 1}
            opened.keep_sample(
                "default",
                LoadSample(now - ago, waiting, work, 2.0, 1.0, 1.0, work, 1 if ago > 260 else 3, 0),
            )
        reason = f"90 s of work for {MARKUP}"
        opened.log_scaling("default", [(270.0, ScalingChange(0.0, 1, 3, reason))])
        service.limit(1)
        yield opened


@pytest.fixture
def operator(page: Chrome, service: Pipeline, ledger: SqlLedger) -> Chrome:
    """The view, opened with an operator's key."""
    page.get(f"{service.url}operator")
    enter_key(page, "sk-ops")
    until(page, lambda p: text_of(p, "#models .state") == "draws")
    return page


def enter_key(page: Chrome, key: str) -> None:
    box = page.find_element(By.ID, "key")
    box.send_keys(Keys.CONTROL, "a")  # cleared, it would be another key already
    box.send_keys(key, Keys.TAB)


def order(service: Pipeline, prompt: str, key: str = "sk-local") -> str:
    """Hand in a job; its id."""
    headers = {"authorization": f"Bearer {key}", "prefer": "respond-async"}
    url = f"{service.url}v1/images/generations"
    answer = httpx.post(url, json={"prompt": prompt}, headers=headers)
    return str(answer.raise_for_status().json()["id"])


def state(ledger: SqlLedger, job_id: str) -> JobState | None:
    job = ledger.get(job_id)
    return job and job.state


def test_a_key_that_is_no_operators_says_so(page: Chrome, service: Pipeline) -> None:
    all_of(page, "a[href=operator]")[0].click()
    until(page, lambda p: "for operators" in text_of(p, "#locked-title"))
    for key, words in (("sk-wrong", "not known"), ("sk-local", "tenant's")):
        enter_key(page, key)
        until(page, lambda p, said=words: said in text_of(p, "#locked-title"))
        assert not page.find_element(By.ID, "view").is_displayed()
    enter_key(page, "sk-ops")
    until(page, lambda p: page.find_element(By.ID, "view").is_displayed())
    assert page.execute_script("return sessionStorage.getItem(arguments[0])", KEPT) == "sk-ops"
    assert page.execute_script("return Object.values(localStorage)") == []
    page.refresh()
    until(page, lambda p: text_of(p, "#models .state") == "draws")
    enter_key(page, "sk-local")
    until(page, lambda p: "tenant's" in text_of(p, "#locked-title"))
    assert not page.find_element(By.ID, "view").is_displayed()


def test_charts_are_read_by_keyboard_and_show_one_moment(operator: Chrome) -> None:
    heat = operator.find_element(By.CSS_SELECTOR, "#chart-heat .plot")
    until(operator, lambda p: all_of(p, "#chart-heat .area"))
    assert heat.accessible_name.startswith("Heat, seconds. ")
    assert text_of(operator, "#chart-heat .level") == "limits tighten"
    assert len(all_of(operator, "#chart-heat .band")) == 1, "limits are tightened"
    assert len(all_of(operator, "#chart-decoders .mark")) == 1
    times = [float(t) for t in text_of(operator, "#chart-heat .grid").split()]
    assert times[0] == 0
    assert times[-1] >= 90
    heat.send_keys(Keys.HOME)
    begun = text_of(operator, "#chart-heat .tip")
    assert "4 s" in begun
    heat.send_keys(*[Keys.ARROW_RIGHT] * 16)
    assert "90 s" in text_of(operator, "#chart-heat .tip")
    assert "Drain time 90 s" in text_of(operator, "#chart-heat [aria-live]")
    assert "90" in text_of(operator, "#chart-waiting .legend"), "the same moment"
    heat.send_keys(Keys.ESCAPE)
    assert not all_of(operator, "#chart-heat .tip:not([hidden])")
    until(operator, lambda p: len(all_of(p, "#decisions li")) == 2)
    assert "1 \u2192 3 decoders" in text_of(operator, "#decisions")
    before = text_of(operator, "#chart-heat .time")
    operator.find_element(By.CSS_SELECTOR, "label[for=window-24h]").click()
    until(operator, lambda p: text_of(p, "#chart-heat .time") != before)


@pytest.mark.parametrize("service", [SETTINGS], indirect=True)
def test_what_tenants_and_models_say_is_never_markup(
    operator: Chrome, service: Pipeline, ledger: SqlLedger
) -> None:
    service.pace.hold()
    job_id = order(service, MARKUP, "sk-bad")
    come_back_until(operator, lambda p: MARKUP in text_of(p, "#jobs"))
    until(operator, lambda p: MARKUP in text_of(p, "#decisions"))
    assert "<b>pro</b>" in text_of(operator, "#chart-waiting .legend")
    all_of(operator, "#jobs .link")[0].click()
    until(operator, lambda p: MARKUP in text_of(p, "#job[open] .facts"))
    assert job_id in text_of(operator, "#job-title")
    service.pace.go()
    come_back_until(operator, lambda p: MARKUP in text_of(p, "#tenants"))
    assert not all_of(operator, "main img, dialog img, main b b, dialog b b")
    assert MARKUP not in text_of(operator, "#life"), "prompts stay with their tenants"


def test_a_job_is_cancelled_only_after_a_second_word(
    operator: Chrome, service: Pipeline, ledger: SqlLedger
) -> None:
    service.pace.hold()
    job_id = order(service, "a red fox")
    cancel = f"[data-key='cancel {job_id}']"
    come_back_until(operator, lambda p: all_of(p, cancel))
    all_of(operator, cancel)[0].click()
    assert job_id in text_of(operator, "#confirm[open]")
    operator.switch_to.active_element.send_keys(Keys.ENTER)  # leaves it
    until(operator, lambda p: not all_of(p, "#confirm[open]"))
    assert state(ledger, job_id) is not JobState.CANCELLED
    all_of(operator, cancel)[0].click()
    operator.find_element(By.ID, "confirm-yes").click()
    until(operator, lambda _: state(ledger, job_id) is JobState.CANCELLED)
    come_back_until(operator, lambda p: "Nothing is being drawn." in text_of(p, "#no-jobs"))


def test_a_failed_job_is_found_requeued_and_told_as_a_life(
    operator: Chrome, service: Pipeline, ledger: SqlLedger
) -> None:
    service.pace.hold()
    job_id = order(service, "a red fox")
    until(operator, lambda _: state(ledger, job_id) is JobState.RUNNING)
    fail(ledger, job_id)
    operator.find_element(By.CSS_SELECTOR, "label[for=job-list-failed]").click()
    requeue = f"[data-key='requeue {job_id}']"
    come_back_until(operator, lambda p: all_of(p, requeue))
    all_of(operator, requeue)[0].click()
    operator.find_element(By.ID, "confirm-yes").click()
    until(operator, lambda _: state(ledger, job_id) is not JobState.FAILED)
    service.pace.go()
    until(operator, lambda _: state(ledger, job_id) is JobState.SUCCEEDED)
    find = operator.find_element(By.ID, "find-id")
    find.send_keys(job_id, Keys.ENTER)
    until(operator, lambda p: "succeeded" in text_of(p, "#job[open] .facts"))
    assert len(all_of(operator, "#life .track i")) > 1
    assert "the job ended: succeeded" in text_of(operator, "#life li")
    operator.switch_to.active_element.send_keys(Keys.ESCAPE)
    find.clear()
    find.send_keys("no-such-job", Keys.ENTER)
    until(operator, lambda p: "There is no such job." in text_of(p, "#jobs-said"))


def fail(ledger: SqlLedger, job_id: str) -> None:
    """As if its dispatcher had given up."""
    job = ledger.get(job_id)
    assert job is not None
    for render in job.renders:
        failed = Outcome(RenderState.FAILED, error="the decoder gave up")
        ledger.finish_render(job_id, job.fence, render.index, failed)


def test_what_was_known_stays_while_the_service_is_away(
    operator: Chrome, service: Pipeline
) -> None:
    until(operator, lambda p: len(all_of(p, "#decisions li")) == 2)
    service.away(True)
    come_back_until(operator, lambda p: "this is as of" in text_of(p, "#service"))
    assert operator.find_element(By.ID, "models").is_displayed()
    service.away(False)
    come_back_until(operator, lambda p: text_of(p, "#service").startswith("as of"))


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_every_control_has_a_name(
    operator: Chrome, service: Pipeline, width: int
) -> None:
    service.pace.hold()
    order(service, "a red fox")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    operator.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        come_back_until(operator, lambda p: all_of(p, "#jobs .small"))
        page = "return document.documentElement"
        assert operator.execute_script(f"{page}.scrollWidth") <= width
        for control in all_of(operator, "button, input, select, [tabindex], [role=meter]"):
            if control.is_displayed():
                assert control.accessible_name, control.get_attribute("outerHTML")
    finally:
        operator.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
