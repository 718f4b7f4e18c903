"""What can be read off the source without running it: lines, functions, classes, imports. Pure."""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = ("serve_app", "deployments", "dispatch", "autoscaling", "engine", "jobs")
NOT_SERVING = ("autoscaling/simulator", "autoscaling/planning", "serve_app/operate")
"""Part of the core, and not of what answers a request."""
_NOT_CODE = frozenset(
    {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
)


def sources(*folders: str) -> dict[str, str]:
    """Text by path below the root."""
    found = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in found}


def serving(path: str) -> bool:
    """Whether a file of the core takes part in serving."""
    return not path.startswith(NOT_SERVING)


def lines(text: str) -> int:
    """As `wc -l` counts."""
    return text.count("\n")


def code_lines(text: str) -> int:
    """Lines that are no blank, comment or docstring."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    used = {
        line
        for token in tokens
        if token.type not in _NOT_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(used - set(_docstring_lines(text)))


def functions(text: str) -> Iterator[tuple[str, int]]:
    """Name and lines of every function, from `def` to its last line."""
    for node in ast.walk(_parsed(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def duplicate_class_names(texts: Mapping[str, str]) -> list[str]:
    """Class names that more than one file defines at its top."""
    files = Counter(
        name
        for text in texts.values()
        for name in {node.name for node in _parsed(text).body if isinstance(node, ast.ClassDef)}
    )
    return sorted(name for name, times in files.items() if times > 1)


def longest_import_chain(texts: Mapping[str, str]) -> list[str]:
    """The longest way from a module to what it imports, and on; modules by dotted name."""
    modules = {_module(path): _parsed(text) for path, text in texts.items()}
    imports = {name: sorted(_imported(tree) & modules.keys()) for name, tree in modules.items()}

    @cache
    def chain(module: str) -> tuple[str, ...]:
        below = [chain(imported) for imported in imports[module] if imported != module]
        return (module, *max(below, key=len, default=()))

    return list(max(map(chain, modules), key=len, default=()))


def _imported(tree: ast.Module) -> set[str]:
    """Dotted names that loading a module imports; of `from a import b`, both a and a.b."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _docstring_lines(text: str) -> Iterator[int]:
    """Also of strings below a field or a constant, which document it."""
    for node in ast.walk(_parsed(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)
