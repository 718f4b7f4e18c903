"""What Serve's proxies remember of refusals, without Serve."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from starlette.types import Message, Receive, Scope, Send

from serve_app.admission import cooldown as module
from serve_app.admission.cooldown import COOLDOWN, PATH, READS, Cooldown, cooldown

KEY = (b"authorization", b"Bearer sk-one")
Head = dict[bytes, bytes]


class Gateway:
    """Answers all alike, and counts what reaches it."""

    def __init__(self, status: int, mark: dict[str, str], body: bytes = b'{"error": {}}') -> None:
        self.status, self.body, self.asked = status, body, 0
        self.headers = [(b"retry-after", b"9"), (b"content-type", b"application/json")]
        self.headers += [(name.encode(), value.encode()) for name, value in mark.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        headers = list(self.headers)
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def ask(
    app: Cooldown,
    path: str = "/v1/jobs",
    query: bytes = b"",
    headers: Sequence[tuple[bytes, bytes]] = (KEY,),
    method: str = "GET",
) -> tuple[int, Head, bytes]:
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        said.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": query, "headers": list(headers),
    }  # fmt: skip
    await app(scope, receive, send)
    return said[0]["status"], dict(said[0]["headers"]), said[1]["body"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_until_the_time_is_over_the_proxy_itself_answers(clock: Clock) -> None:
    gateway = Gateway(429, cooldown(2.5, READS))
    app = Cooldown(gateway, clock)
    first = await ask(app)
    clock.now += 1.0
    status, headers, body = await ask(app, "/v1/models", b"a=b")
    assert (status, body, gateway.asked) == (429, first[2], 1)
    assert headers[b"retry-after"] == b"2"  # 1.5 seconds are left
    clock.now += 1.6
    await ask(app)
    assert gateway.asked == 2


async def test_the_mark_never_leaves_the_proxy(clock: Clock) -> None:
    app = Cooldown(Gateway(429, cooldown(1.0, PATH)), clock)
    for method in ("POST", "GET", "GET"):
        _, headers, _ = await ask(app, method=method)
        assert COOLDOWN.encode() not in headers


async def test_each_answer_has_an_id_of_its_own(clock: Clock) -> None:
    app = Cooldown(Gateway(429, cooldown(1.0, READS)), clock)
    await ask(app)
    ids = [(await ask(app))[1][b"x-request-id"] for _ in range(2)]
    _, headers, _ = await ask(app, headers=[KEY, (b"x-request-id", b"mine")])
    assert ids[0] != ids[1]
    assert headers[b"x-request-id"] == b"mine"


async def test_a_refused_path_refuses_no_other(clock: Clock) -> None:
    gateway = Gateway(429, cooldown(1.0, PATH))
    app = Cooldown(gateway, clock)
    for path, query in [("/a", b""), ("/a", b""), ("/a", b"x"), ("/b", b"")]:
        await ask(app, path, query)
    assert gateway.asked == 3


@pytest.mark.parametrize(
    ("headers", "query", "method"),
    [
        ([(b"authorization", b"Bearer sk-two")], b"", "GET"),
        ([], b"", "GET"),
        ([KEY, (b"origin", b"https://elsewhere")], b"", "GET"),
        ([KEY], b"signature=1", "GET"),
        ([KEY], b"", "POST"),
        ([KEY], b"", "DELETE"),
    ],
)
async def test_whatever_else_is_asked_reaches_the_gateway(
    clock: Clock, headers: list[tuple[bytes, bytes]], query: bytes, method: str
) -> None:
    gateway = Gateway(429, cooldown(1.0, READS))
    app = Cooldown(gateway, clock)
    await ask(app)
    await ask(app, headers=headers, query=query, method=method)
    await ask(app, headers=headers, query=query, method=method)
    assert gateway.asked >= 2


@pytest.mark.parametrize(
    "gateway",
    [
        Gateway(429, {}),
        Gateway(200, cooldown(1.0, READS)),
        Gateway(429, cooldown(1.0, READS), b"x" * (module.MOST_BYTES + 1)),
    ],
)
async def test_what_is_no_small_marked_refusal_is_not_remembered(
    clock: Clock, gateway: Gateway
) -> None:
    app = Cooldown(gateway, clock)
    for _ in range(2):
        await ask(app)
    assert gateway.asked == 2


async def test_memory_is_bounded_and_so_is_time(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    gateway = Gateway(429, cooldown(1e9, PATH))
    app = Cooldown(gateway, clock)
    for path in ("/a", "/b", "/c", "/b", "/c"):
        await ask(app, path)
    assert gateway.asked == 3
    await ask(app, "/a")
    assert gateway.asked == 4
    clock.now += module.LONGEST_SECONDS + 1
    await ask(app, "/c")
    assert gateway.asked == 5
