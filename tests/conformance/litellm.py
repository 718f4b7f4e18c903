"""The same service behind LiteLLM's proxy, which has an environment of its own: its pins and ours
do not fit together. What passes, and what it drops, on each of its two ways to us."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from serve_app.config.cluster import environment
from serve_app.operate.http_proxies import no_proxy
from serve_app.operate.local_cluster import free_port
from tests.conformance.clients import Answer, Client, PythonSdk
from tests.conformance.edit_rows import EDIT, hole, keeps_the_right_half
from tests.conformance.row import Ask, Check, Does, Row, both, expect, good, honours, pictures

VERSION = "1.106.2"
VENV = Path(".cache/litellm")
CONFIG = Path("examples/litellm.yaml")
START_SECONDS = 120.0
EXAMPLE_URL = "http://127.0.0.1:8000/v1"


def missing() -> str | None:
    """Why it cannot run here, or None."""
    if (VENV / "bin" / "litellm").is_file():
        return None
    return f"LiteLLM is not installed in {VENV} (make conformance installs it)"


def install() -> None:
    """LiteLLM's proxy at its pinned version in an environment of its own: 750 MB."""
    if missing() is not None:
        print(f"installing LiteLLM {VERSION} into {VENV}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, f"litellm[proxy]=={VERSION}"], check=True)


@contextmanager
def proxy(upstream: str, folder: Path, model: str) -> Iterator[dict[str, Client]]:
    """Clients of it while it runs: `models` of its own routes, `passthrough` of the other.
    upstream: our base URL, which ends in /v1. RuntimeError when it does not start."""
    port, key = free_port(), f"sk-{secrets.token_hex(16)}"
    text = CONFIG.read_text(encoding="utf-8").replace(EXAMPLE_URL, upstream)
    config = folder / "litellm.yaml"
    config.write_text(text.replace("meltproof-emoji", model), encoding="utf-8")
    log = folder / "litellm.log"
    variables = {
        **environment(),
        **no_proxy(environment()),
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OPENAI_API_BASE": upstream.removesuffix("v1"),
        "OPENAI_API_KEY": "sk-local",
    }
    command = [str((VENV / "bin" / "litellm").absolute()), "--config", str(config)]
    with log.open("wb") as sink:
        child = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=variables,
            cwd=folder,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _await(url, child, log)
        own, through = PythonSdk(f"{url}/v1", key), PythonSdk(f"{url}/openai_passthrough/v1", key)
        with own, through:
            yield {"litellm": own, "litellm passthrough": through}
    finally:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(15)
        child.kill()
        child.wait()


def _await(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and child.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health/liveliness", trust_env=False).is_success:
                return
        time.sleep(0.25)
    raise RuntimeError(f"LiteLLM did not start:\n{log.read_text(errors='replace')[-3000:]}")


# What passes. `models` are LiteLLM's own routes, where it reads the request and writes the answer.

OWN, THROUGH = ("litellm",), ("litellm passthrough",)
FOX = {"prompt": "a red fox", "size": "64x64", "quality": "low", "seed": 7}
ROUTED = Ask("images.generate", {**FOX, "model": "meltproof"})
PASSED = Ask("images.generate", FOX)
ROUTED_EDIT = Ask("images.edit", {**EDIT.fields, "model": "meltproof"})
DROPPED = ("image_index", "seed", "id")


def _as_asked(answer: Answer) -> bool:
    said = (answer.body["size"], answer.body["output_format"], len(pictures(answer)))
    return said == ("128x64", "webp", 2) and answer.body["usage"]["total_tokens"] > 0


def _same_pictures(client: Client) -> None:
    expect(pictures(ROUTED(client)) == pictures(ROUTED(client)), True, "the same seed")


def _drops(answer: Answer) -> bool:
    picture = answer.body["data"][0]
    return not any(picture.get(name) for name in DROPPED) and "safety_identifier" not in answer.body


def _is_litellms(status: int, says: str, **fields: object) -> Check:
    """LiteLLM refuses by itself."""

    def check(client: Client) -> None:
        answer = ROUTED(client, **fields)
        expect(answer.status, status, f"the status of {answer.error}")
        expect(says in str(answer.error), True, f"{says!r} in {answer.error}")

    return check


def _errors(code: str, details: bool) -> Callable[[Ask], Check]:
    def of(ask: Ask) -> Check:
        def check(client: Client) -> None:
            wrong, blocked = ask(client, size="17x17"), ask(client, prompt="gore after a bomb")
            error, block = wrong.error or {}, blocked.error or {}
            found = (wrong.status, error.get("param"), error.get("code"))
            expect(found, (400, "size", code), f"{error}")
            expect(blocked.status, 400, f"{block}")
            expect(block.get("type"), "image_generation_user_error", f"{block}")
            expect("moderation_details" in block, details, f"{block}")

        return check

    return of


def _streams(ask: Ask) -> Check:
    def check(client: Client) -> None:
        *partials, last = good(ask(client, stream=True, partial_images=2)).events
        kinds = {event["type"].split(".")[1] for event in partials}
        expect(kinds, {"partial_image"}, "previews")
        expect((last["type"].split(".")[1], last["seed"]), ("completed", 7), "the last event")

    return check


def _row(name: str, does: Does, note: str, check: Check, clients: tuple[str, ...]) -> Row:
    where = "litellm" if clients == OWN else "litellm passthrough"
    return Row(where, "thing", name, (), does, note, check, clients)


LITELLM = (
    _row(
        "generations",
        Does.HONOURED,
        "with n, size, quality, formats, compression, background, moderation; usage comes back",
        honours(
            ROUTED,
            _as_asked,
            n=2,
            size="128x64",
            output_format="webp",
            output_compression=50,
            background="opaque",
            moderation="low",
        ),
        OWN,
    ),
    _row(
        "edits",
        Does.HONOURED,
        "multipart, with a mask",
        honours(ROUTED_EDIT, keeps_the_right_half, mask=hole()),
        OWN,
    ),
    _row("seed", Does.HONOURED, "unknown fields reach us", _same_pictures, OWN),
    _row(
        "image_index, seed, id, safety_identifier",
        Does.NEVER_SENT,
        "LiteLLM drops them from answers; so are `errors` of images that are missing",
        honours(ROUTED, _drops, user="u1"),
        OWN,
    ),
    _row(
        "stream",
        Does.REFUSED,
        "LiteLLM answers 500: it cannot stream pictures; use the pass-through",
        _is_litellms(500, "model_dump", stream=True),
        OWN,
    ),
    _row(
        "style, response_format",
        Does.REFUSED,
        "LiteLLM refuses them itself, or drops them where its `drop_params` says so",
        both(
            _is_litellms(400, "UnsupportedParams", style="vivid"),
            _is_litellms(400, "UnsupportedParams", response_format="url"),
        ),
        OWN,
    ),
    _row(
        "errors",
        Does.HONOURED,
        "status, type and param pass; the code becomes the status, the message gets a prefix, "
        "`moderation_details` are dropped",
        _errors("400", details=False)(ROUTED),
        OWN,
    ),
    _row(
        "generations",
        Does.HONOURED,
        "with every field of ours",
        honours(PASSED, lambda a: a.body["data"][0]["seed"] == 7),
        THROUGH,
    ),
    _row(
        "edits",
        Does.HONOURED,
        "multipart, with a mask",
        honours(EDIT, keeps_the_right_half, mask=hole()),
        THROUGH,
    ),
    _row(
        "stream", Does.HONOURED, "of generations: every event as it is", _streams(PASSED), THROUGH
    ),
    _row("stream of edits", Does.HONOURED, "every event as it is", _streams(EDIT), THROUGH),
    _row(
        "errors",
        Does.HONOURED,
        "as they are",
        _errors("invalid_value", details=True)(PASSED),
        THROUGH,
    ),
)
