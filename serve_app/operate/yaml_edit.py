"""Edits of a YAML text that leave everything else as it stands: comments, layout, order.

A path is field names and list indexes, as in ("applications", 0, "args"). Nothing here checks that
the text still means what it should: what is read of it afterwards has to be compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

YamlPath = tuple[str | int, ...]
_ANCHOR_OR_ALIAS = re.compile(r"[ \t]*([&*][^\s,\[\]{}]+)?")
_ANCHORS = re.compile(r"&([^\s,\[\]{}]+)")


class NotThere(LookupError):
    """Nothing stands at this path itself, or it is written in a way that is not edited."""


def append(text: str, path: YamlPath, lines: Sequence[str]) -> str:
    """One more entry, of these lines, behind the others of a list with dashes."""
    node = _at(text, path)[1]
    if not isinstance(node, SequenceNode) or node.flow_style:
        raise NotThere(f"{dotted(path)}: must be a list with dashes")
    dash, entry = node.start_mark, node.value[0].start_mark
    beside = entry.line == dash.line  # not so for an alias, which is the node of its anchor
    column = entry.column if beside else dash.column + 2
    first, *rest = lines
    new = [" " * dash.column + "-" + " " * (column - dash.column - 1) + first]
    new += [" " * column + line for line in rest]
    if "\r\n" in text:
        new = [f"{line}\r" for line in new]
    end = _end(text, node, dash.column)
    before = text[:end] if text[:end].endswith("\n") else text[:end] + "\n"
    return before + "\n".join(new) + "\n" + text[end:]


def make_list(text: str, path: YamlPath, name: str) -> str:
    """A mapping becomes the only entry of a list, whose field is called `name`."""
    key, node = _at(text, path)
    begin, column = key.start_mark.index, key.start_mark.column
    colon = _colon(text, key)
    said = _ANCHOR_OR_ALIAS.match(text[colon:])
    anchor = (said and said[1]) or ""
    if not isinstance(node, MappingNode):
        raise NotThere(f"{dotted(path)}: must be a mapping")
    if anchor.startswith("*") or node.flow_style:
        value = text[colon:].lstrip()
        return f"{text[:begin]}{name}:\n{' ' * (column + 2)}- {value}"
    first = node.value[0][0].start_mark  # of the mapping itself, it is the anchor's
    top, end, indent = first.index, _end(text, node, column), " " * first.column
    head = text[colon + (said.end() if said else 0) : top].rstrip(" ")
    body = re.sub(r"^(?=[^\n])", "  ", text[top:end], flags=re.MULTILINE).lstrip()
    dash = f"{indent}- {anchor}\n{indent}  " if anchor else f"{indent}- "
    return f"{text[:begin]}{name}:{head}{dash}{body}{text[end:]}"


def replace(text: str, path: YamlPath, value: str) -> str:
    """Another scalar, spelled as given."""
    node = _at(text, path)[1]
    return text[: node.start_mark.index] + value + text[node.end_mark.index :]


def anchored(text: str, path: YamlPath) -> tuple[str, str]:
    """The text with an anchor on a field's value, and the anchor's name: the one that it had, or
    that its alias names."""
    colon = _colon(text, _at(text, path)[0])
    if (found := _ANCHOR_OR_ALIAS.match(text[colon:])) and found[1]:
        return text, found[1][1:]
    taken, name = set(_ANCHORS.findall(text)), str(path[-1])
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    anchor = next(one for one in (name, *numbered) if one not in taken)
    return f"{text[:colon]} &{anchor}{text[colon:]}", anchor


def dumped(section: Mapping[str, Any]) -> list[str]:
    """The lines of a mapping."""
    text = yaml.safe_dump(dict(section), sort_keys=False, allow_unicode=True, width=10_000)
    return str(text).splitlines()


def dotted(path: YamlPath) -> str:
    """As errors name a field."""
    return ".".join(map(str, path))


def _at(text: str, path: YamlPath) -> tuple[Node, Node]:
    """The key (of an entry of a list, the entry) and the value; not of what is merged in."""
    node = key = _composed(text)
    for part in path:
        if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            key = node = node.value[part]
        elif found := [pair for pair in _pairs(node) if pair[0].value == part]:
            key, node = found[0]
        else:
            raise NotThere(f"{dotted(path)}: must be written out")
    return key, node


def _composed(text: str) -> Node:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None:
        raise NotThere("nothing is written")
    return root


def _pairs(node: Node) -> list[tuple[Node, Node]]:
    return node.value if isinstance(node, MappingNode) else []


def _colon(text: str, key: Node) -> int:
    """Behind the colon of a key."""
    return text.index(":", key.end_mark.index) + 1


def _end(text: str, block: Node, column: int) -> int:
    """Behind a block and what is said of it: blank lines, and comments that are indented no further
    than `column`, belong to what follows."""
    mark = block.end_mark  # at the next token, or at the end of the text
    inside = text[mark.index - mark.column : mark.index].strip(" -")
    end = mark.index if inside else mark.index - mark.column
    lines = text[:end].splitlines(keepends=True) or [""]
    while _is_apart(lines[-1], column):
        end -= len(lines.pop())
    return int(end)


def _is_apart(line: str, column: int) -> bool:
    said = line.lstrip(" ")
    return not said.strip() or (said.startswith("#") and len(line) - len(said) <= column)
