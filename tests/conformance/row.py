"""A row of the table: one thing that the reference has, what we do with it, and the proof."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from PIL import Image

from tests.conformance.clients import Answer, Client

Check = Callable[[Client], None]
"""Raises AssertionError when the server does something else than the row says."""
ALL = ("python", "node", "http")
SDKS = ("python", "node")


class Does(StrEnum):
    """What we do with it."""

    HONOURED = "honoured"
    REFUSED = "refused"
    NO_EFFECT = "no effect"
    NEVER_SENT = "never sent"
    NOT_OFFERED = "not offered"


@dataclass(frozen=True, slots=True)
class Row:
    """where: generations, edits, ... kind: parameter, response, event, error, header, endpoint.
    name: as the reference spells it. values: the classes of values that this row is about, words of
    the reference where it lists them. clients: those that can ask so. lane: the service that the
    check needs, `embedded` where pixels or the screens on them matter."""

    where: str
    kind: str
    name: str
    values: tuple[str, ...]
    does: Does
    note: str
    check: Check
    clients: tuple[str, ...] = ALL
    lane: str = "paced"

    @property
    def id(self) -> str:
        """For people and for pytest."""
        values = f"={'|'.join(self.values)}" if self.values else ""
        return f"{self.where}.{self.name}{values}"[:70]


@dataclass(frozen=True, eq=False)
class Ask:
    """A call with fields that it always has; those given replace them."""

    method: str
    fields: Mapping[str, Any]

    def __call__(self, client: Client, **fields: Any) -> Answer:
        """The answer, whatever it is."""
        return client.call(self.method, **{**self.fields, **fields})


@cache
def asked_once(client: Client, ask: Ask, **fields: Any) -> Answer:
    """The answer to look at from many sides."""
    return good(ask(client, **fields))


def expect(found: object, wanted: object, what: str) -> None:
    """Raises AssertionError, saying what was found."""
    if found != wanted:
        raise AssertionError(f"{what}: {str(found)[:300]!r}, wanted {str(wanted)[:300]!r}")


def good(answer: Answer, status: int = 200) -> Answer:
    """The answer, if it is no refusal."""
    expect((answer.status, answer.error), (status, None), "status and error")
    return answer


def pictures(answer: Answer) -> list[bytes]:
    """The files of an answer, streamed or not."""
    found = good(answer).events or good(answer).body["data"]
    return [base64.b64decode(one["b64_json"]) for one in found]


def opened(data: bytes) -> Image.Image:
    """The picture in a file."""
    return Image.open(io.BytesIO(data))


# Checks, made from what they ask and what must be true of the answer


def honours(ask: Ask, test: Callable[[Answer], object], **fields: Any) -> Check:
    """The answer is good, and `test` does not raise or return False."""

    def check(client: Client) -> None:
        answer = good(ask(client, **fields))
        expect(test(answer) is not False, True, f"the answer to {fields}")

    return check


def honours_each(
    ask: Ask, name: str, values: tuple[Any, ...], test: Callable[[Answer, Any], object], **rest: Any
) -> Check:
    """As `honours`, for every value."""

    def check(client: Client) -> None:
        for value in values:
            answer = good(ask(client, **{name: value}, **rest))
            expect(test(answer, value) is not False, True, f"the answer to {name}={value}")

    return check


def changes_nothing(ask: Ask, *variants: Mapping[str, Any]) -> Check:
    """With these fields the pictures are what they are without."""

    def check(client: Client) -> None:
        plain = pictures(ask(client))
        for fields in variants:
            expect(pictures(ask(client, **fields)) == plain, True, f"{fields} changes nothing")

    return check


def refuses(ask: Ask, says: str, *variants: Mapping[str, Any], param: str | None = None) -> Check:
    """400 that names the parameter (`param`, or each variant's first) and says `says`."""

    def check(client: Client) -> None:
        for fields in variants:
            answer = ask(client, **fields)
            error = answer.error or {}
            expect(answer.status, 400, f"the status of {fields}")
            expect(error.get("param"), param or next(iter(fields)), f"param of {error}")
            expect(says in error.get("message", ""), True, f"{says!r} in {error}")
            expect(error.get("type"), "invalid_request_error", "type")
            expect(bool(error.get("code")), True, "a code")

    return check


def fails(ask: Ask, status: int, code: str | None, **fields: Any) -> Check:
    """This status and code."""

    def check(client: Client) -> None:
        answer = ask(client, **fields)
        found = (answer.status, (answer.error or {}).get("code"))
        expect(found, (status, code), f"status and code of {answer.error}")

    return check


def both(*checks: Check) -> Check:
    """All of them."""

    def check(client: Client) -> None:
        for one in checks:
            one(client)

    return check
