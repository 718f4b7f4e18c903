"""Where in a YAML file a field stands, so that an editor can jump to it."""

from __future__ import annotations

from collections.abc import Iterator

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

Place = tuple[Node, Node]  # where the entry begins, and its value


def line_of(text: str, path: str) -> int:
    """The line of `applications.0.args.decoder.slots`, from 1; of the innermost part that is there
    when not all of it is. Behind an alias it is a line of the anchor."""
    node, line = yaml.compose(text, Loader=yaml.SafeLoader), 1
    for part in path.split("."):
        place = _entry(node, part)
        if place is None:
            break
        line, node = place[0].start_mark.line + 1, place[1]
    return line


def _entry(node: Node | None, part: str) -> Place | None:
    if isinstance(node, SequenceNode):
        inside = part.isdecimal() and int(part) < len(node.value)
        return (node.value[int(part)],) * 2 if inside else None
    if not isinstance(node, MappingNode):
        return None
    for key, value in node.value:
        if key.value == part:
            return key, value
    merged = [value for key, value in node.value if key.tag == "tag:yaml.org,2002:merge"]
    return next((place for value in merged if (place := _entry(value, part))), None)


def repeated_keys(text: str) -> list[str]:
    """`a.b: given twice`: YAML forbids it, its reader silently takes the last one."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    return [f"{path}: given twice, keep one" for path in dict.fromkeys(_repeated(node, "", set()))]


def _repeated(node: Node | None, path: str, seen: set[int]) -> Iterator[str]:
    if not isinstance(node, MappingNode | SequenceNode) or id(node) in seen:
        return
    seen.add(id(node))  # an alias is the node of its anchor once more
    if isinstance(node, SequenceNode):
        entries = [(str(number), value) for number, value in enumerate(node.value)]
    else:
        entries = [(str(key.value), value) for key, value in node.value]
    names: set[str] = set()
    for name, value in entries:
        here = f"{path}.{name}".lstrip(".")
        if name in names:
            yield here
        names.add(name)
        yield from _repeated(value, here, seen)
