"""What a person at the page does and sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PATIENCE_SECONDS = 60


def until(page: Chrome, what: Callable[[Chrome], Any]) -> Any:
    """Wait until `what` is true; its value."""
    return WebDriverWait(page, PATIENCE_SECONDS, poll_frequency=0.05).until(what)


def all_of(page: Chrome, selector: str) -> list[WebElement]:
    return page.find_elements(By.CSS_SELECTOR, selector)


def text_of(page: Chrome, selector: str) -> str:
    """Everything that the elements say, read at once (elements come and go)."""
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent).join(' ')"
    return str(page.execute_script(script, selector))


def draw(page: Chrome, prompt: str, n: int = 1) -> None:
    """As a person does: choose, type, press Enter."""
    Select(page.find_element(By.ID, "n")).select_by_visible_text(str(n))
    Select(page.find_element(By.ID, "size")).select_by_visible_text("256x256")
    box = page.find_element(By.ID, "prompt")
    box.clear()
    box.send_keys(prompt, Keys.ENTER)


def hanging(page: Chrome, where: str) -> int:
    """How many final pictures are loaded below an element."""
    script = """return [...document.querySelectorAll(arguments[0] + ' .plate:enabled img')]
        .filter(i => i.src.startsWith('blob:') && i.complete && i.naturalWidth === 256).length"""
    return int(page.execute_script(script, where))


def come_back_until(page: Chrome, what: Callable[[Chrome], Any]) -> Any:
    """As from another window, again and again: the page looks at the service each time."""

    def look(page: Chrome) -> Any:
        page.execute_script("window.dispatchEvent(new Event('focus'))")
        return what(page)

    return WebDriverWait(page, PATIENCE_SECONDS, poll_frequency=0.25).until(look)


def open_first(page: Chrome) -> None:
    """Click the newest picture of the easel, and wait until it is shown large."""
    all_of(page, "#now .plate:enabled")[0].click()
    until(page, lambda p: all_of(p, "#editor[open] #stage-image img"))


def brush(page: Chrome, *points: tuple[float, float]) -> None:
    """One stroke over the large picture; (0, 0) is its top left corner, (1, 1) the other one."""
    canvas = page.find_element(By.ID, "brush")
    width, height = canvas.size["width"], canvas.size["height"]
    places = [(int((x - 0.5) * width), int((y - 0.5) * height)) for x, y in points]
    hand = ActionChains(page, duration=20)
    hand.move_to_element_with_offset(canvas, *places[0]).click_and_hold()
    for place in places[1:]:
        hand.move_to_element_with_offset(canvas, *place)
    hand.release().perform()


def say_words(page: Chrome, words: str) -> None:
    """Other words for the large picture."""
    box = page.find_element(By.ID, "words")
    box.clear()
    box.send_keys(words)


def title(page: Chrome) -> str:
    """Of the large picture."""
    return text_of(page, "#editor-title")


def line(page: Chrome) -> list[bool]:
    """The steps of the history; True is the one that is shown."""
    steps = "[...document.querySelectorAll('#history-line button')]"
    return list(page.execute_script(f"return {steps}.map(b => b.ariaCurrent === 'step')"))
