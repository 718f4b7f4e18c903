"""Several models on the page: one is chosen, and what can be asked for fits it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from engine.capabilities import Capabilities
from jobs.announcements import Announcement
from jobs.request import WeightedLora
from tests.page.person import all_of, come_back_until, draw, hanging, text_of, until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from tests.page.pipeline import Pipeline

pytestmark = pytest.mark.page

CAN = Capabilities(
    (1024, 1024), (128, 128), 0, negative_prompt=True, loras=("ink", "oil", "wax"), loras_max=2,
    size_multiple=8,
)  # fmt: skip
ANIME = Announcement(
    lane="default", name="anime", queue="default/anime", family="diffusers",
    capabilities=asdict(CAN), guidance=5.0, size="1024x1024",
    qualities={"low": 4, "medium": 8, "max": 20}, pass_seconds=0.1, identity="0123",
)  # fmt: skip
SLIDE = """
arguments[0].value = arguments[1];
arguments[0].dispatchEvent(new Event("input", { bubbles: true }));
"""


def options(page: Chrome, select: str) -> list[str]:
    """What it offers, read at once (they come and go)."""
    script = "return [...document.getElementById(arguments[0]).options].map(one => one.text)"
    return list(page.execute_script(script, select))


def choose(page: Chrome, select: str, text: str) -> None:
    Select(page.find_element(By.ID, select)).select_by_visible_text(text)


def slide(page: Chrome, selector: str, value: float) -> None:
    page.execute_script(SLIDE, all_of(page, selector)[0], value)


def shown(page: Chrome, *names: str) -> list[bool]:
    return [page.find_element(By.ID, name).is_displayed() for name in names]


def test_what_can_be_asked_for_fits_the_chosen_model(page: Chrome, service: Pipeline) -> None:
    tools = ("guidance-choice", "negative-choice", "loras-choice", "own-choice")
    until(page, lambda p: options(p, "size") == ["256x256", "512x512", "1024x1024"])
    page.find_element(By.CSS_SELECTOR, ".more summary").click()
    assert shown(page, "model-choice", *tools) == [False, True, False, False, True]

    service.announce(ANIME, ready=False)
    come_back_until(page, lambda p: "anime (not available)" in options(p, "model"))
    choose(page, "model", "anime (not available)")
    assert text_of(page, "#model-note").startswith("anime is not available now.")
    assert shown(page, "model-choice", *tools) == [True, True, True, True, False]
    assert options(page, "quality") == ["low", "medium", "max"]
    assert text_of(page, "#steps + output") == "8"
    choose(page, "quality", "max")
    assert text_of(page, "#steps + output") == "20"
    slide(page, "#steps", 5)
    slide(page, "#guidance", 7.5)
    page.find_element(By.ID, "negative").send_keys("snow")
    boxes = all_of(page, "#loras [type=checkbox]")
    boxes[0].click()
    boxes[2].click()
    assert [box.is_enabled() for box in boxes] == [True, False, True], "two of them at most"
    slide(page, "#loras li:last-child [type=range]", 0.5)
    choose(page, "size", "1360x768")
    page.find_element(By.ID, "prompt").send_keys("a red fox")
    page.find_element(By.ID, "draw").click()
    until(page, lambda p: "first in the queue" in text_of(p, "#now .status"))
    asked = service.newest()
    assert (asked.model, asked.n, asked.width, asked.height) == ("anime", 4, 1360, 768)
    assert (asked.passes, asked.guidance, asked.negative_prompt) == (5, 7.5, "snow")
    assert asked.loras == (WeightedLora("ink", 1.0), WeightedLora("wax", 0.5))

    def says(page: Chrome, words: str, start_seconds: float | None) -> bool:
        service.announce(replace(ANIME, start_seconds=start_seconds), ready=True)
        return text_of(page, "#model-note") == words

    asleep = "anime is asleep. It starts with the first picture, in about 40 s."
    come_back_until(page, lambda p: says(p, asleep, 40))
    assert options(page, "model") == ["meltproof-paced", "anime (asleep)"]
    until(page, lambda p: text_of(p, "#service") == "anime is asleep")
    come_back_until(page, lambda p: says(p, "", None))
    assert options(page, "model") == ["meltproof-paced", "anime"]
    until(page, lambda p: text_of(p, "#service") == "anime is ready")
    choose(page, "model", "meltproof-paced")
    assert shown(page, *tools) == [True, False, False, True]
    draw(page, "a pear")
    until(page, lambda p: hanging(p, "#now") == 1)
    assert (service.newest().model, service.newest().negative_prompt) == ("meltproof-paced", None)


def test_the_page_is_light_or_dark_as_its_visitor_is(page: Chrome, service: Pipeline) -> None:
    def brightness(scheme: str) -> int:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        colour = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(int(one) for one in colour.removeprefix("rgb(").removesuffix(")").split(","))

    try:
        assert brightness("dark") < 3 * 64 < 3 * 192 < brightness("light")
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
