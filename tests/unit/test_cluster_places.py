"""Which node of a cluster is meant, and what `meltproof drain` answers without one."""

from __future__ import annotations

import pytest

from deployments.draining import GcsNode
from serve_app.__main__ import main
from serve_app.operate.cluster_places import UnknownNode, named, of_addresses

HEAD = GcsNode("a1b2c3d4e5", "10.0.0.1", head=True, draining=False, gone_at=None)
FIRST = GcsNode("b1b2c3d4e5", "10.0.0.2", head=False, draining=False, gone_at=None)
SECOND = GcsNode("b1b2ffffff", "10.0.0.2", head=False, draining=False, gone_at=None)
NODES = [HEAD, FIRST, SECOND]


@pytest.mark.parametrize(
    ("name", "node"),
    [("10.0.0.1", HEAD), ("b1b2c", FIRST), ("B1B2F", SECOND), ("b1b2c3d4e5", FIRST)],
)
def test_a_node_has_names(name: str, node: GcsNode) -> None:
    assert named(NODES, name) is node


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("10.0.0.3", "'10.0.0.3' is no node of this cluster; there are a1b2c3d4e5 at 10.0.0.1"),
        ("a1b", "'a1b' is no node"),  # too short to be meant
        ("10.0.0.2", "'10.0.0.2' is more than one node, name one by its id: b1b2c3d4e5 at"),
        ("b1b2", "'b1b2' is more than one node"),
    ],
)
def test_what_is_no_node_or_several_is_refused_by_name(name: str, said: str) -> None:
    with pytest.raises(UnknownNode) as refused:
        named(NODES, name)
    assert said in str(refused.value)


def test_this_machine_is_a_node_by_its_addresses() -> None:
    assert of_addresses(NODES, {"127.0.0.1", "10.0.0.1"}) is HEAD
    with pytest.raises(UnknownNode, match="this machine is no node of this cluster"):
        of_addresses(NODES, {"10.0.0.9"})


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["b1b2", "--self"], 2, "name a NODE or say --self, not both"),
        (["--ray", "head"], 2, "must be HOST:PORT, not 'head'"),
        (["b1b2", "--deadline", "soon"], 2, "must be a number from 0 to 86400, not 'soon'"),
        (["b1b2", "--reason", "boredom"], 2, "invalid choice: 'boredom'"),
        (["--ray", "127.0.0.1:9"], 3, "no Ray GCS answers at 127.0.0.1:9"),
    ],
)
def test_drain_says_what_is_wrong(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        answered = main(["drain", *arguments])
    except SystemExit as exit_:
        answered = int(exit_.code or 0)
    assert answered == code
    assert said in capsys.readouterr().err
