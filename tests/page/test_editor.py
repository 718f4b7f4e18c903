"""A picture is changed again and again, in a real browser."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.page.person import (
    all_of,
    brush,
    come_back_until,
    draw,
    hanging,
    line,
    open_first,
    say_words,
    text_of,
    title,
    until,
)
from tests.page.pipeline import CONFIG, Pipeline

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.page

PIXELS = """
const [picture] = document.querySelectorAll(arguments[0]);
if (picture.tagName === "CANVAS") return picture.toDataURL();
const canvas = document.createElement("canvas");
[canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
canvas.getContext("2d").drawImage(picture, 0, 0);
return canvas.toDataURL();
"""
DROP = """
const dataTransfer = new DataTransfer();
const bytes = Uint8Array.from(arguments[1], (character) => character.charCodeAt());
dataTransfer.items.add(new File([bytes], arguments[0]));
const how = { dataTransfer, bubbles: true, cancelable: true };
document.body.dispatchEvent(new DragEvent("drop", how));
"""
SHOWN = "#stage-image img:last-child"


def pixels(page: Chrome, selector: str) -> NDArray[np.uint8]:
    """uint8 [h, w, 4] of a picture or a canvas on the page."""
    url = page.execute_script(PIXELS, selector)
    return np.asarray(Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))))


def finished(page: Chrome, before: str) -> str:
    """Wait until another picture stands in the place of `before`; its address."""

    def now(_: Chrome) -> str | None:
        if page.find_element(By.ID, "editor").get_attribute("data-state") != "idle":
            return None
        shown = page.execute_script("return document.querySelector(arguments[0])?.src", SHOWN)
        return shown if shown and shown.startswith("blob:") and shown != before else None

    return str(until(page, now))


def address(page: Chrome) -> str:
    return str(page.find_element(By.ID, "editor-save").get_attribute("href"))


def press(page: Chrome, button: str) -> None:
    page.find_element(By.ID, button).click()


def test_a_region_changes_and_its_history_is_walked(page: Chrome, service: Pipeline) -> None:
    draw(page, "a pear")
    until(page, lambda p: hanging(p, "#now") == 1)
    open_first(page)
    first, pear = address(page), pixels(page, SHOWN)
    until(page, lambda p: p.find_element(By.ID, "vary").is_enabled())
    assert not page.find_element(By.ID, "change").is_enabled()
    brush(page, (0.2, 0.3), (0.6, 0.3))
    painted = pixels(page, "#brush")[..., 3] > 0
    assert 0.03 < painted.mean() < 0.4
    assert not page.find_element(By.ID, "vary").is_enabled()  # a region says how much itself
    say_words(page, "a plum")
    service.pace.hold()
    press(page, "change")
    service.pace.step(1)
    preview = "#stage-image img[src^='data:']"
    until(page, lambda p: all_of(p, preview))
    until(page, lambda p: all_of(p, "#editor-ticks i.done"))
    until(page, lambda p: text_of(p, "#editor-status").startswith("drawing"))
    service.pace.go()
    second = finished(page, first)
    plum = pixels(page, SHOWN)
    assert np.array_equal(plum[~painted], pear[~painted])
    assert not np.array_equal(plum, pear)
    assert title(page) == "a plum"
    until(page, lambda p: line(p) == [False, True])

    all_of(page, "#history-line button")[0].click()  # back, and another way from there
    until(page, lambda p: line(p) == [True, False])
    assert (title(page), address(page)) == ("a pear", first)
    press(page, "vary")
    until(page, lambda p: line(p) == [False, True])
    third = finished(page, first)
    assert third not in (first, second)
    assert not np.array_equal(pixels(page, SHOWN), pear)
    assert title(page) == "a pear"
    all_of(page, "#history-line button")[0].click()
    until(page, lambda p: line(p) == [True, False, False])


MARKING = {
    **CONFIG,
    "provenance": {"keys": [{"id": "page", "secret": "a secret of 32 characters, or so"}]},
}


@pytest.mark.parametrize("service", [MARKING], indirect=True)
def test_a_picture_says_where_it_is_from(page: Chrome, service: Pipeline) -> None:
    draw(page, "a pear")
    until(page, lambda p: hanging(p, "#now") == 1)
    open_first(page)
    page.execute_script("document.querySelector('#editor details').open = true")
    until(page, lambda p: p.find_element(By.ID, "provenance").is_displayed())
    press(page, "provenance")
    until(page, lambda p: "looking" not in text_of(p, "#provenance-said") != "")
    assert text_of(page, "#provenance-said") == "signed by this service, watermark of key page"


def test_what_is_refused_is_said_and_the_picture_stays(page: Chrome, service: Pipeline) -> None:
    draw(page, "a pear")
    until(page, lambda p: hanging(p, "#now") == 1)
    open_first(page)
    before = address(page)
    say_words(page, "a bomb")
    press(page, "change")
    until(page, lambda p: "The prompt was refused" in text_of(p, "#editor-problem"))
    assert address(page) == before
    service.limit(1)
    come_back_until(page, lambda p: "Temporary limits" in text_of(p, "#limits"))
    press(page, "vary")
    until(page, lambda p: "emporar" in text_of(p, "#editor-problem"))
    service.limit(0)
    come_back_until(page, lambda p: text_of(p, "#limits") == "")
    service.forget_pictures()
    press(page, "vary")
    until(page, lambda p: "has been deleted" in text_of(p, "#editor-problem"))
    until(page, lambda p: p.find_element(By.ID, "vary").is_enabled())


def test_a_change_is_stopped(page: Chrome, service: Pipeline) -> None:
    draw(page, "a pear")
    until(page, lambda p: hanging(p, "#now") == 1)
    open_first(page)
    service.pace.hold()
    press(page, "vary")
    until(page, lambda p: text_of(p, "#editor-status").startswith("drawing"))
    press(page, "editor-stop")
    service.pace.go()
    until(page, lambda p: "cancelled" in text_of(p, "#editor-problem"))
    until(page, lambda p: p.find_element(By.ID, "vary").is_enabled())


def test_the_keyboard_is_enough(page: Chrome, service: Pipeline) -> None:
    draw(page, "a pear")
    until(page, lambda p: hanging(p, "#now") == 1)
    plate = all_of(page, "#now .plate")[0]
    plate.send_keys(Keys.ENTER)
    until(page, lambda p: all_of(p, "#editor[open] #stage-image img"))
    for control in all_of(page, "#editor :is(a, button, input, textarea, canvas, [role])"):
        if control.is_displayed():
            assert control.accessible_name or control.get_attribute("role") in ("status", "alert")
    before = address(page)
    for _ in range(12):  # to the picture
        if page.switch_to.active_element.get_attribute("id") == "brush":
            break
        page.switch_to.active_element.send_keys(Keys.TAB)
    canvas = page.switch_to.active_element
    canvas.send_keys(Keys.ARROW_LEFT, " ", Keys.SHIFT, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert "painted at 44 % across, 63 % down" in text_of(page, "#brush-place")
    painted = pixels(page, "#brush")[..., 3] > 0
    rows, columns = np.nonzero(painted)
    assert rows.mean() > painted.shape[0] / 2 > columns.mean()
    page.find_element(By.ID, "words").send_keys(Keys.ENTER)
    finished(page, before)
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(page, lambda p: not p.find_element(By.ID, "editor").is_displayed())
    until(page, lambda p: p.execute_script("return document.activeElement.matches('.plate')"))


def test_a_picture_of_ones_own(page: Chrome, service: Pipeline, tmp_path: Path) -> None:
    page.execute_script(DROP, "broken.png", "\x89PNG\r\n\x1a\n and no more")
    until(page, lambda p: text_of(p, "#problem"))
    assert not page.find_element(By.ID, "editor").is_displayed()

    mine = tmp_path / "mine.png"
    noise = np.random.default_rng(7).integers(0, 255, (160, 320, 3), np.uint8)
    Image.fromarray(noise).save(mine)
    page.find_element(By.ID, "own").send_keys(str(mine))
    until(page, lambda p: all_of(p, "#editor[open] #stage-image img"))
    assert text_of(page, "#problem") == ""
    assert title(page) == "mine.png"
    before = address(page)
    brush(page, (0.5, 0.5))
    painted = pixels(page, "#brush")[..., 3] > 0
    say_words(page, "a plum")
    press(page, "change")
    finished(page, before)
    changed = pixels(page, SHOWN)[..., :3]
    assert np.array_equal(changed[~painted], noise[~painted])
    assert not np.array_equal(changed, noise)
    until(page, lambda p: line(p) == [False, True])
    all_of(page, "#history-line button")[0].click()
    until(page, lambda p: title(p) == "mine.png")
    assert address(page) == before


def test_everything_fits_on_a_phone(page: Chrome, service: Pipeline) -> None:
    def metrics(**size: Any) -> None:
        phone = {"deviceScaleFactor": 2, "mobile": True, **size}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)

    draw(page, "a pear")
    until(page, lambda p: hanging(p, "#now") == 1)
    open_first(page)
    metrics(width=360, height=740)
    try:
        wide = "return [document.documentElement, document.getElementById('editor')]"
        for element in page.execute_script(wide):
            width, room = (element.get_property(name) for name in ("scrollWidth", "clientWidth"))
            assert 0 < width <= room <= 360
        assert page.find_element(By.ID, "change").rect["y"] < 740
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
