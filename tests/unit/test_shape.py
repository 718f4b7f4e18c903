"""What CONTRIBUTING.md promises of the code's shape. `make shape` prints the figures."""

from __future__ import annotations

import pytest

from scripts.shape.picture import files_of_one_picture
from scripts.shape.source import (
    CORE,
    ROOT,
    code_lines,
    duplicate_class_names,
    functions,
    lines,
    longest_import_chain,
    sources,
)

FILE_LINES = 400
FUNCTION_LINES = 50
IMPORT_CHAIN = 22
PICTURE_FILES = 94
CODE = sources(*CORE, "scripts", "meltproof_temporal")

EXCEPTIONS = {
    "serve_app/operate/commands/simulate.py:_parser": "one statement for each option",
    "serve_app/wire/openapi.py:_orders": "one entry for each documented operation",
    "engine/decoders/reference.py:draw": "the slow reference reads as the paper's algorithm does",
}
"""Files, and functions as file:name, that may be longer, and why."""


def test_files_stay_short() -> None:
    long = {path: lines(text) for path, text in CODE.items() if lines(text) > FILE_LINES}
    assert long.keys() <= EXCEPTIONS.keys(), long


def test_functions_stay_short() -> None:
    long = {
        f"{path}:{name}": size
        for path, text in CODE.items()
        for name, size in functions(text)
        if size > FUNCTION_LINES
    }
    assert long.keys() <= EXCEPTIONS.keys(), long


def test_every_exception_is_about_a_file_that_is_there() -> None:
    assert [name for name in EXCEPTIONS if not (ROOT / name.partition(":")[0]).exists()] == []


def test_no_class_name_stands_for_two_things() -> None:
    assert duplicate_class_names(sources(*CORE)) == []


def test_imports_are_not_deep() -> None:
    chain = longest_import_chain(sources(*CORE))
    assert len(chain) <= IMPORT_CHAIN, " > ".join(chain)


def test_the_way_of_a_picture_does_not_get_longer() -> None:
    passed = files_of_one_picture()
    assert {"serve_app/routes/images.py", "engine/engine.py"} < {*passed}
    assert len(passed) <= PICTURE_FILES, passed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"""Doc."""\n\n# why\nx = 1\n"""Of x."""\n', 1),
        ("def f(\n    a: int,\n) -> str:\n    '''Doc.\n\n    More.'''\n    return '''\n\n'''\n", 6),
        ("x = 1  # so\n\n\ny = 2\n", 2),
    ],
)
def test_lines_of_code_are_neither_blank_nor_comment_nor_docstring(
    text: str, expected: int
) -> None:
    assert code_lines(text) == expected


def test_a_class_name_in_two_files_is_found() -> None:
    texts = {"a.py": "class A: ...\nclass B: ...\n", "b.py": "class A: ...\n", "c.py": "A = 1\n"}
    assert duplicate_class_names(texts) == ["A"]


def test_the_longest_way_through_the_imports_is_found() -> None:
    texts = {
        "p/__init__.py": "",
        "p/a.py": "from p import b\nfrom p.d import x\n",
        "p/b.py": "from p.c import x\n",
        "p/c.py": "import p.d\n",
        "p/d.py": "",
    }
    assert longest_import_chain(texts) == ["p.a", "p.b", "p.c", "p.d"]
