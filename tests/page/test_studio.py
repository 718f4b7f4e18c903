"""The studio in a real browser: what a person sees from typing a prompt to the gallery."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import openai
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.page.person import all_of, come_back_until, draw, hanging, text_of, until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from tests.page.pipeline import Pipeline

pytestmark = pytest.mark.page

RECORD_PREVIEWS = """
window.seen = [];
new MutationObserver((changes) => {
  for (const change of changes) for (const node of change.addedNodes)
    if (node.tagName === "IMG") window.seen.push(node.src);
}).observe(document.body, { childList: true, subtree: true });
"""


def detail(url: str) -> float:
    """How much neighbouring pixels differ in a data: URL's picture."""
    picture = Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
    pixels = np.asarray(picture, dtype=np.float64)
    return float(np.abs(np.diff(pixels, axis=0)).mean() + np.abs(np.diff(pixels, axis=1)).mean())


def test_a_prompt_becomes_a_picture_from_blurry_to_clear(page: Chrome, service: Pipeline) -> None:
    page.execute_script(RECORD_PREVIEWS)
    service.pace.hold()
    draw(page, "a red fox")
    until(page, lambda p: "drawing: 0 of 12 passes" in text_of(p, ".status"))
    for count, (passes, preview) in enumerate(((2, 2), (4, 6), (4, 10)), start=1):
        service.pace.step(passes)
        until(page, lambda p, no=preview: all_of(p, f"[data-preview='{no}']"))
        until(page, lambda p, no=count: len(p.execute_script("return seen")) == no)
    until(page, lambda p: len(all_of(p, ".ticks i.done")) >= 9)
    assert hanging(page, "#now") == 0
    service.pace.go()
    until(page, lambda p: hanging(p, "#now") == 1)
    until(page, lambda p: "done in" in text_of(p, ".status"))
    previews = [url for url in page.execute_script("return seen") if url.startswith("data:")]
    details = [detail(url) for url in previews]
    assert details == sorted(details)
    assert len(set(details)) == 3


def test_the_gallery_holds_what_was_made(page: Chrome, service: Pipeline) -> None:
    draw(page, "a strawberry", n=2)
    until(page, lambda p: hanging(p, "#now") == 2)
    draw(page, "a cactus")
    until(page, lambda p: hanging(p, "#now") == 1)
    until(page, lambda p: hanging(p, "#made") == 2)
    page.refresh()
    until(page, lambda p: hanging(p, "#made") == 3)
    captions = [caption.text for caption in all_of(page, "#made .caption")]
    assert captions == ["a cactus", "a strawberry", "a strawberry"]
    all_of(page, "#made .plate")[0].click()
    editor = page.find_element(By.ID, "editor")
    until(page, lambda _: editor.is_displayed())
    assert "a cactus" in editor.text
    assert page.find_element(By.ID, "editor-save").get_attribute("download").endswith(".png")
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(page, lambda _: not editor.is_displayed())


def test_a_reload_takes_up_what_is_running(page: Chrome, service: Pipeline) -> None:
    service.pace.hold()
    draw(page, "a lighthouse")
    until(page, lambda p: "drawing" in text_of(p, ".status"))
    service.pace.step(4)
    until(page, lambda p: all_of(p, "[data-preview='2']"))
    page.refresh()
    until(page, lambda p: all_of(p, "[data-preview='2'] img"))
    service.pace.go()
    until(page, lambda p: hanging(p, "#now") == 1)


def test_a_lost_gateway_is_found_again(page: Chrome, service: Pipeline) -> None:
    service.pace.hold()
    draw(page, "a snail")
    until(page, lambda p: "drawing" in text_of(p, ".status"))
    service.pace.step(3)
    until(page, lambda p: all_of(p, "[data-preview='2']"))
    service.drop_connections()
    service.pace.go()
    until(page, lambda p: hanging(p, "#now") == 1)
    assert service.streams_from[0] == ""
    assert service.streams_from[-1] == "0.2"


def test_the_queue_and_cancelling(page: Chrome, service: Pipeline) -> None:
    service.pace.hold()
    for prompt in ("one", "two", "three", "four"):
        draw(page, prompt, n=4)
        until(page, lambda p, words=prompt: words in text_of(p, "#now h3"))
    until(page, lambda p: "in the queue" in text_of(p, ".status"))
    for place in ("last", "first"):  # one that waits, and one that is drawn
        all_of(page, f".job:{place}-child .cancel")[0].click()
        cancelled = f".job:{place}-child[data-state='cancelled'] .status"
        until(page, lambda p, gone=cancelled: "cancelled" in text_of(p, gone))
    service.pace.go()
    until(page, lambda p: hanging(p, "#now") == 8)


def test_a_blocked_prompt_says_why(page: Chrome, service: Pipeline) -> None:
    draw(page, "a bomb")
    until(page, lambda p: "The prompt was refused" in text_of(p, "#now .note"))
    assert "(weapons)" in text_of(page, "#now .note")
    until(page, lambda p: "blocked" in text_of(p, ".status"))


def test_what_the_service_refuses_is_shown(page: Chrome, service: Pipeline) -> None:
    draw(page, " ")
    problem = page.find_element(By.ID, "problem")
    until(page, lambda p: problem.is_displayed())
    assert "'prompt'" in problem.text
    draw(page, "a pear")
    until(page, lambda p: hanging(p, "#now") == 1)
    assert not problem.is_displayed()


def test_a_wrong_key_is_named(page: Chrome, service: Pipeline) -> None:
    key = page.find_element(By.ID, "key")
    assert key.get_attribute("value") == "sk-local"
    key.clear()
    key.send_keys("sk-wrong", Keys.TAB)
    until(page, lambda p: "this key is not known" in text_of(p, "#service"))
    draw(page, "a pear")
    until(page, lambda p: "Incorrect API key" in text_of(p, "#problem"))


def test_a_key_stays_for_this_tab_alone(page: Chrome, service: Pipeline) -> None:
    page.execute_script("localStorage.setItem('meltproof-key', 'sk-of-last-year')")
    key = page.find_element(By.ID, "key")
    key.clear()
    key.send_keys("sk-mine", Keys.TAB)
    page.refresh()
    assert page.find_element(By.ID, "key").get_attribute("value") == "sk-mine"
    assert page.execute_script("return Object.values(localStorage)") == []
    first = page.current_window_handle
    page.switch_to.new_window("tab")
    page.get(service.url)
    assert page.find_element(By.ID, "key").get_attribute("value") == "sk-local"
    page.close()
    page.switch_to.window(first)


def test_every_control_has_a_name(page: Chrome, service: Pipeline) -> None:
    draw(page, "a pear")
    until(page, lambda p: hanging(p, "#now") == 1)
    for control in all_of(page, "button, input, select, textarea, [role=progressbar]"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")


def test_temporary_limits_are_told_calmly_and_go_away(page: Chrome, service: Pipeline) -> None:
    notice = page.find_element(By.ID, "limits")
    until(page, lambda _: "ready" in text_of(page, "#service"))
    assert not notice.is_displayed()
    service.limit(1)
    come_back_until(page, lambda _: notice.is_displayed())
    assert notice.text.startswith(
        "Temporary limits: 1 picture a day (usually 100), 1 drawn at a time (usually any number), "
    )
    assert page.find_element(By.ID, "draw").is_enabled()
    service.limit(0)
    come_back_until(page, lambda _: not notice.is_displayed())


def test_batches_are_shown_with_how_far_they_are(page: Chrome, service: Pipeline) -> None:
    assert not page.find_element(By.ID, "batches-section").is_displayed()
    service.pace.hold()
    line = {"method": "POST", "url": "/v1/images/generations", "body": {"prompt": "a pear"}}
    lines = [json.dumps({**line, "custom_id": str(number)}) for number in range(2)]
    with openai.OpenAI(base_url=f"{service.url}v1", api_key="sk-local") as client:
        file = client.files.create(file=("a.jsonl", "\n".join(lines).encode()), purpose="batch")
        client.batches.create(
            input_file_id=file.id, endpoint="/v1/images/generations", completion_window="24h"
        )
    come_back_until(page, lambda p: "in progress: 0 of 2 drawn" in text_of(p, "#batches"))
    service.pace.go()
    come_back_until(page, lambda p: "completed: 2 of 2 drawn" in text_of(p, "#batches"))
    bar = page.find_element(By.CSS_SELECTOR, "#batches progress")
    assert (bar.get_attribute("value"), bar.get_attribute("max")) == ("2", "2")
