"""What is broken, one stage after another; each returns what it measured. All of a whole run leave
the cluster with as many nodes as they found."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from scripts.chaos_cluster import proof
from scripts.chaos_cluster.clients import ClientLoad
from scripts.chaos_cluster.code import next_code
from scripts.chaos_cluster.ray_nodes import HEAD
from scripts.chaos_cluster.site import Site, changed
from scripts.cluster import Config
from serve_app.operate.serve_api import ClusterFailed

Numbers = dict[str, Any]
HEAD_AWAY_SECONDS = 10.0
CUT_SECONDS = 20.0
FAILOVER_SECONDS = 20.0
STUCK_SECONDS = 60.0
AFTER_SECONDS = 12.0
"""How long the survivors are watched before what was broken comes back."""
NOTICE_SECONDS = 30.0


def lose_node(site: Site, load: ClientLoad) -> Numbers:
    """A worker's raylet and all processes beside it, for good."""
    name = site.nodes.workers[0]
    _await_renders(site, name)
    at = time.time()
    killed = site.nodes.kill(name)
    time.sleep(AFTER_SECONDS)
    return _recovery("node_kill", site, killed, at)


def kill_node(site: Site, load: ClientLoad) -> Numbers:
    """The same, but it comes back."""
    name = site.nodes.workers[0]
    numbers = lose_node(site, load)
    site.nodes.start_worker(name)
    return numbers | {"node_back_s": round(site.await_whole(), 1)}


def kill_head(site: Site, load: ClientLoad) -> Numbers:
    """All processes of the head, with the Serve controller; it is away for ten seconds."""
    at = time.time()
    site.nodes.kill(HEAD)
    time.sleep(HEAD_AWAY_SECONDS)
    site.nodes.start_head()
    whole = site.await_whole()
    failed = load.attempts.failed_between(at, time.time())
    return {"head_restart_failed_requests": failed, "head_back_s": round(whole, 1)}


def kill_backend(site: Site, load: ClientLoad) -> Numbers:
    """What HAProxy speaks to on one node, Serve's proxy; then a gateway behind the proxies."""
    name = site.nodes.workers[-1]
    at = time.time()
    _kill_one(site, name, "ProxyActor")
    site.await_whole()
    _kill_one(site, site.nodes.workers[0], "Gateway")
    time.sleep(2.0)
    site.await_whole()
    return {"backend_kill_failed_requests": load.attempts.failed_between(at, time.time())}


def kill_database(site: Site, load: ClientLoad) -> Numbers:
    """The leader, with what watches over it: the standby takes its place."""
    name, at = site.database.kill_leader()
    time.sleep(FAILOVER_SECONDS)
    site.database.restore(name)
    accepted, settled = proof.first_writes_after(site.world, at)
    return {
        "db_failover_s": round(max(accepted, settled), 1),
        "db_first_accepted_s": round(accepted, 1),
        "db_first_settled_s": round(settled, 1),
    }


def cut_both_ways(site: Site, load: ClientLoad) -> Numbers:
    """A node that nothing reaches and that reaches nothing."""
    return _cut("both", site)


def cut_hearing(site: Site, load: ClientLoad) -> Numbers:
    """A node that speaks and hears nothing."""
    return _cut("deaf", site, speaks=True)


def cut_speaking(site: Site, load: ClientLoad) -> Numbers:
    """A node that hears and cannot speak."""
    return _cut("mute", site, hears=True)


def roll_config(site: Site, load: ClientLoad) -> Numbers:
    """Deploy a config that replaces every replica, and the one before it again."""
    before, at = site.config, time.time()
    _roll(site, changed(before, dispatcher={"heartbeat_seconds": 0.4}))
    _roll(site, before)
    return _failed_since(at, load)


def roll_code(site: Site, load: ClientLoad) -> Numbers:
    """Deploy other code, and the code before it again."""
    before, at = site.config, time.time()
    with next_code(site.world.folder, before) as after:
        replicas = _roll(site, after)
        own = sum(_runs_archive(replica["pid"]) for replica in replicas)
        if own < len(replicas):
            raise RuntimeError(f"{own} of {len(replicas)} replicas run the other code")
        _roll(site, before)
    return _failed_since(at, load)


def add_and_drain(site: Site, load: ClientLoad) -> Numbers:
    """A node comes, another one is drained and ends."""
    leaving, at = site.nodes.workers[0], time.time()
    site.add_node()
    site.nodes.drain(leaving, NOTICE_SECONDS * 4)
    site.await_moved(leaving, NOTICE_SECONDS * 4)
    ended = time.time()
    killed = site.nodes.kill(leaving)
    site.await_whole()
    lost = proof.passes_lost(site.world, killed, at)
    failed = load.attempts.failed_between(at, time.time())
    return {"drain_passes_lost": lost, "drain_s": round(ended - at, 1), "drain_failed": failed}


def spot_notice(site: Site, load: ClientLoad) -> Numbers:
    """A node is told to leave in thirty seconds, and then it is gone; another comes for it."""
    leaving = site.nodes.workers[0]
    pids, at = site.network.pids(leaving), time.time()
    site.nodes.drain(leaving, NOTICE_SECONDS)
    site.add_node()
    time.sleep(max(0.0, at + NOTICE_SECONDS - time.time()))
    pids |= site.nodes.kill(leaving)
    site.await_whole()
    left = proof.last_pass_of(site.world, pids) - at
    lost = proof.passes_lost(site.world, pids, at)
    return {"spot_passes_lost": lost, "spot_left_after_s": round(left, 1)}


STAGES: dict[str, Callable[[Site, ClientLoad], Numbers]] = {
    "lose-node": lose_node,
    "kill-node": kill_node,
    "kill-head": kill_head,
    "kill-backend": kill_backend,
    "kill-database": kill_database,
    "cut": cut_both_ways,
    "cut-hearing": cut_hearing,
    "cut-speaking": cut_speaking,
    "roll-config": roll_config,
    "roll-code": roll_code,
    "drain": add_and_drain,
    "spot": spot_notice,
}
WHOLE = tuple(name for name in STAGES if name != "lose-node")
"""The stages of a whole run."""


def _cut(kind: str, site: Site, *, hears: bool = False, speaks: bool = False) -> Numbers:
    name = site.nodes.workers[-1]
    pids, at = site.network.pids(name), time.time()
    site.network.cut(name, hears=hears, speaks=speaks)
    time.sleep(CUT_SECONDS)
    site.network.heal(name)
    time.sleep(2.0)
    began = time.monotonic()
    if not _comes_back(site, name):
        site.nodes.kill(name)  # as what watches over machines does: it is started again
        site.nodes.start_worker(name)
        site.await_whole()  # until then what was drawn there unheard is drawn again
    back = {f"cut_{kind}_back_s": round(time.monotonic() - began, 1)}
    return _recovery("partition", site, pids, at) | back


def _await_renders(site: Site, name: str) -> None:
    """Until that node draws, which takes a busy machine longer than the load has run, or until that
    is stuck."""
    until = time.monotonic() + STUCK_SECONDS
    while time.monotonic() < until:
        made, wanted = proof.passes(site.world), proof.passes_wanted(site.world)
        if proof.moved(made, site.network.pids(name), time.time(), wanted):
            return
        time.sleep(0.1)


def _comes_back(site: Site, name: str) -> bool:
    """Whether all is whole again with that node; False as soon as its raylet has given up, since
    the head thinks it dead."""
    until = time.monotonic() + STUCK_SECONDS
    while time.monotonic() < until and not site.nodes.ended(name):
        with suppress(ClusterFailed):
            if site.whole():
                return True
        time.sleep(0.25)
    return False


def _recovery(kind: str, site: Site, lost: set[int], at: float) -> Numbers:
    """Of the images that the lost processes had; looked at until all are drawn elsewhere, or until
    that is stuck: when each was says its first pass there."""
    wanted = proof.passes_wanted(site.world)
    until = time.monotonic() + STUCK_SECONDS
    while True:
        images = proof.moved(proof.passes(site.world), lost, at, wanted)
        seconds = [one.seconds for one in images if one.seconds is not None]
        if len(seconds) == len(images) or time.monotonic() > until:
            break
        time.sleep(0.5)
    return {
        f"{kind}_recovery_s": round(max(seconds, default=float("nan")), 1),
        f"{kind}_images": len(images),
        f"{kind}_images_not_drawn_again": len(images) - len(seconds),
        f"{kind}_passes_lost": sum(one.lost for one in images),
    }


def _roll(site: Site, config: Config) -> list[dict[str, Any]]:
    """Deploy, and return when no replica of before is left; the new dispatchers and decoders."""
    names = ("Dispatcher", "Decoder")
    before = {r["actor_id"] for name in names for r in site.replicas(name)}
    site.deploy(config)
    for name in names:
        site.await_replaced(name, before)
    site.await_whole()
    time.sleep(4.0)
    return [replica for name in names for replica in site.replicas(name)]


def _failed_since(at: float, load: ClientLoad) -> Numbers:
    return {"rolling_update_failed_requests": load.attempts.failed_between(at, time.time())}


def _runs_archive(pid: int) -> bool:
    return "working_dir_files" in os.readlink(f"/proc/{pid}/cwd")


def _kill_one(site: Site, node: str, title: str) -> None:
    for pid in _titled(site.network.pids(node), title):
        os.kill(pid, signal.SIGKILL)


def _titled(pids: set[int], title: str) -> Iterator[int]:
    for pid in pids:
        with suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            if line.startswith(b"ray::") and title.encode() in line:
                yield pid
