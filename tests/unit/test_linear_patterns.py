"""Every regular expression of the core packages takes time in proportion to the text it reads.

They are found in the source, so a new one is tried without being named here. Texts are made of
what the pattern itself mentions, repeated: that is where a backtracking matcher gets lost.
"""

from __future__ import annotations

import ast
import re
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("serve_app", "deployments", "autoscaling", "engine", "jobs", "dispatch")
SHORT, LONG = 2_000, 100_000
SUSPECT_SECONDS = 0.001
"""What takes longer on a SHORT text is tried on a LONG one; linear patterns need 0.05 ms."""
CPU_SECONDS = 0.5
"""A linear pattern needs milliseconds for LONG, one that takes the square of it seconds."""
MOST_MENTIONED = 6
ANCHORED = {"match", "fullmatch"}
INLINE = {"match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
EXAMPLES = {
    "CATEGORY_DIGIT": "7",
    "CATEGORY_SPACE": " ",
    "CATEGORY_WORD": "a",
    "CATEGORY_NOT_DIGIT": "a",
    "CATEGORY_NOT_SPACE": "a",
    "CATEGORY_NOT_WORD": "-",
}
Text = str | bytes


@dataclass(frozen=True)
class Found:
    """A pattern of the source. anchored: only ever asked about the beginning of a text."""

    where: str
    pattern: Text
    flags: int
    anchored: bool


class Unread(AssertionError):
    """A pattern that cannot be tried, since it is not a literal."""


def _calls(tree: ast.AST) -> Iterator[tuple[str, str, ast.Call]]:
    """(object, method, call) of every `name.method(...)` and `x.name.method(...)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            yield name, node.func.attr, node


def _flags(call: ast.Call, position: int) -> int:
    given = [*call.args[position:], *(k.value for k in call.keywords if k.arg == "flags")]
    return int(eval(ast.unparse(given[0]), {"re": re})) if given else 0


def _literal(call: ast.Call, where: str) -> Text:
    pattern = call.args[0]
    if not isinstance(pattern, ast.Constant) or not isinstance(pattern.value, str | bytes):
        raise Unread(f"{where}: write the pattern as a literal, so that it can be tried")
    return pattern.value


def patterns(files: list[tuple[str, str]]) -> list[Found]:
    """Of Python files, (name, source)."""
    trees = [(name, ast.parse(source)) for name, source in files]
    methods: defaultdict[str, set[str]] = defaultdict(set)
    for _, tree in trees:
        for name, method, _ in _calls(tree):
            methods[name].add(method)
    found = []
    for file, tree in trees:
        names = {
            node.value: node.targets[0].id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for module, method, call in _calls(tree):
            where = f"{file}:{call.lineno}"
            if module != "re" or method not in INLINE | {"compile"}:
                continue
            used = methods[names[call]] if call in names else {method}
            flags = _flags(call, 1 if method == "compile" else 99)
            found.append(Found(where, _literal(call, where), flags, used <= ANCHORED))
    return found


def _core() -> list[Found]:
    return patterns(
        [
            (str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
            for package in PACKAGES
            for path in sorted((ROOT / package).rglob("*.py"))
        ]
    )


CORE = _core()


def _mentioned(parsed: object) -> Iterator[str]:
    """One character for everything that the pattern can read, classes by an example."""
    for code, argument in parsed:  # type: ignore[attr-defined]
        if code in (codes.LITERAL, codes.NOT_LITERAL):
            yield chr(argument)
        elif code is codes.RANGE:
            yield chr(argument[0])
        elif code is codes.CATEGORY:
            yield EXAMPLES[str(argument)]
        elif code is codes.ANY:
            yield "a"
        elif code is codes.IN:
            yield from _mentioned(argument)
        else:
            yield from _inside(argument)


def _inside(argument: object) -> Iterator[str]:
    if isinstance(argument, parser.SubPattern):
        yield from _mentioned(argument)
    elif isinstance(argument, tuple | list):
        for part in argument:
            yield from _inside(part)


def texts(found: Found) -> Iterator[tuple[str, str, str]]:
    """Adversarial ones for that pattern: a beginning, what is repeated, and an end."""
    mentioned = list(_mentioned(parser.parse(found.pattern, found.flags)))
    distinct = list(dict.fromkeys(mentioned))
    step = -(-len(distinct) // MOST_MENTIONED)
    characters = dict.fromkeys([*distinct[::step], "a", "_", " "])
    units = dict.fromkeys(
        "".join(unit) for length in (1, 2, 3) for unit in product(characters, repeat=length)
    )
    yield from product(("", "".join(mentioned[:3])), units, ("\0", "aa"))


def _read(found: Found, text: str) -> float:
    """The processor seconds that it took; TimeoutError over CPU_SECONDS."""
    compiled = re.compile(found.pattern, found.flags)
    read = compiled.match if found.anchored else compiled.findall
    given = text.encode("utf-8") if isinstance(found.pattern, bytes) else text
    begin = time.thread_time()
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        read(given)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return time.thread_time() - begin


def stalls(found: Found) -> str | None:
    """The beginning of a text on which it takes longer than CPU_SECONDS."""
    for begin, unit, end in texts(found):
        try:
            if _read(found, begin + unit * (SHORT // len(unit)) + end) > SUSPECT_SECONDS:
                _read(found, begin + unit * (LONG // len(unit)) + end)
        except TimeoutError:
            return begin + 3 * unit
    return None


@pytest.fixture(autouse=True)
def _limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processor time, which a busy machine does not stretch; `re` looks for signals as it works."""

    def expired(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, expired)
    yield
    signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize("found", CORE, ids=lambda found: found.where)
def test_a_pattern_takes_time_in_proportion_to_its_text(found: Found) -> None:
    text = stalls(found)
    assert text is None, f"{found.pattern!r} takes more than linear time on {text!r}..."


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?<!\w)(?:\w[\W_]+){3,}\w(?!\w)",  # exponential
        r"(?<!\w)(?:[^\W_][\W_]+){3,}[^\W_](?!\w)",  # the square
        r"://[^/@\s]*:[^/@\s]+@",
        r"[a-z]+x",
    ],
)
def test_a_pattern_that_is_not_linear_is_noticed(pattern: str) -> None:
    assert stalls(Found("", pattern, 0, anchored=False))


def test_every_way_to_write_a_pattern_is_found() -> None:
    source = (
        "import re\nA = re.compile(r'a', re.ASCII)\nA.match('')\ndef f(t): re.sub('b', '', t)\n"
    )
    one, two = patterns([("x.py", source)])
    assert (one.pattern, one.flags, one.anchored) == ("a", re.ASCII, True)
    assert (two.pattern, two.anchored) == ("b", False)
    with pytest.raises(Unread):
        patterns([("x.py", "import re\nre.compile(f'{x}')")])
    assert len(CORE) > 20
