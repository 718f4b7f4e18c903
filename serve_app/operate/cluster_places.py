"""Which node of a cluster is meant."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from deployments.draining import GcsNode

SHORT = 12
"""Characters of a node's id that are shown."""
LEAST_PREFIX = 4


class UnknownNode(ValueError):
    """None is meant, or several are; the message lists those that there are."""


def named(nodes: Sequence[GcsNode], name: str) -> GcsNode:
    """By its id, the beginning of it, or its address. Raises UnknownNode."""
    long_enough = len(name) >= LEAST_PREFIX
    found = [
        node
        for node in nodes
        if name == node.address or (long_enough and node.id.startswith(name.lower()))
    ]
    return _only(found, nodes, repr(name))


def of_addresses(nodes: Sequence[GcsNode], addresses: Collection[str]) -> GcsNode:
    """The one on the machine that has these addresses. Raises UnknownNode."""
    found = [node for node in nodes if node.address in addresses]
    return _only(found, nodes, "this machine")


def _only(found: list[GcsNode], nodes: Sequence[GcsNode], what: str) -> GcsNode:
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{node.id[:SHORT]} at {node.address}" for node in found or nodes)
    if found:
        raise UnknownNode(f"{what} is more than one node, name one by its id: {listed}")
    raise UnknownNode(f"{what} is no node of this cluster; there are {listed or 'none'}")
