"""The two runs without Ray: a storm of faults with an audit, and a count of passes drawn twice."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.ledger_errors import LedgerUnavailable
from scripts.chaos import auditor, webhooks
from scripts.chaos.crew import Crew
from scripts.chaos.databases import DATABASES, Database
from scripts.chaos.world import HOUR, LANE, World, left, wish

IGNORED = shutil.ignore_patterns("*.sock", "ballast", "mp-pg-*")
DISPATCHERS, CLIENTS, WISHES = 4, 3, 8
REST_SECONDS = 120.0
ASLEEP_MOST = 3
PAUSE_SECONDS = 0.6
"""Between faults, on average."""
LONG_PASSES, LONG_RENDERS = 16, 8
LONG = {"lease_seconds": 5.0, "heartbeat_seconds": 1.0, "pass_ms": 200.0, "decoders": 2}


@dataclass(slots=True)
class Storm:
    """Faults at random times. away: (from, to) spans of the machine's time in which the ledger
    could not be written, so that 503 is the right answer."""

    world: World
    crew: Crew
    database: Database
    draw: random.Random
    faults: Counter[str] = field(default_factory=Counter)
    away: list[tuple[float, float]] = field(default_factory=list)
    _jumped: float = 0.0

    def rage(self, seconds: float, pause_seconds: float, least_faults: int) -> None:
        """One fault after another, for so long and until there were that many."""
        kinds: dict[str, tuple[float, Callable[[], bool]]] = {
            "kill dispatcher": (5, lambda: self._kill("dispatcher")),
            "kill decoder": (4, lambda: self._kill("decoder")),
            "kill client": (4, lambda: self._kill("client")),
            "stop dispatcher": (3, lambda: self._stop("dispatcher")),
            "stop decoder": (1, lambda: self._stop("decoder")),
            "stop client": (2, lambda: self._stop("client")),
            "kill deliverer": (2, lambda: self._kill("deliverer")),
            "stop deliverer": (1, lambda: self._stop("deliverer")),
            "kill receiver": (1, lambda: self._kill("receiver")),
            "clock jump": (0.4, self._jump),
            "disk full": (0.2, self._fill_disk),
            "database restart": (0.3, self._restart_database),
        }
        names, weights = list(kinds), [weight for weight, _ in kinds.values()]
        until = time.monotonic() + seconds
        self._each_once([kinds[name][1] for name in names[-3:]], names[-3:])
        while time.monotonic() < until or self.faults.total() < least_faults:
            (name,) = self.draw.choices(names, weights)
            if kinds[name][1]():
                self.faults[name] += 1
            self.crew.pass_time(self.draw.uniform(0, 2 * pause_seconds))

    def _each_once(self, rare: list[Callable[[], bool]], names: list[str]) -> None:
        """Even a short run sees the rare ones."""
        for name, fault in zip(names, rare, strict=True):
            self.crew.pass_time(0.5)
            if fault():
                self.faults[name] += 1

    def _kill(self, role: str) -> bool:
        well = self.crew.well(role)
        if not well:
            return False
        self.crew.kill(self.draw.choice(well))
        return True

    def _stop(self, role: str) -> bool:
        """Longer than a lease; never so many that no process is left to be watched. A stopped
        process may hold SQLite's write lock, so meanwhile the ledger may be away."""
        asleep = sum(member.wakes_at is not None for member in self.crew.members)
        well = self.crew.well(role)
        if asleep >= ASLEEP_MOST or len(well) < 2:
            return False
        seconds = self.world.lease_seconds * self.draw.uniform(1.2, 2.0)
        self.crew.stop(self.draw.choice(well), seconds)
        now = time.time()
        self.away.append((now - 0.5, now + seconds + 1.0))
        return True

    def _jump(self) -> bool:
        """An hour ahead, then an hour back, again and again."""
        step = -HOUR if self._jumped > 0 else HOUR
        self._jumped += step
        self.world.jump(step)
        return True

    def _fill_disk(self) -> bool:
        volume = self.database.volume
        if volume is None:
            return False
        with self._ledger_away(), volume.full():
            self.crew.pass_time(self.world.lease_seconds * 1.5)
        with self._ledger_away():
            self.database.revive()
        return True

    def _restart_database(self) -> bool:
        if self.database.restart is None:
            return False
        with self._ledger_away():
            self.database.restart(lambda: self.crew.pass_time(self.world.lease_seconds * 1.5))
        return True

    @contextmanager
    def _ledger_away(self) -> Iterator[None]:
        began = time.time()
        yield
        self.away.append((began - 0.5, time.time() + 1.0))


def weather(
    name: str, seconds: float, seed: int, keep: Path | None, least_faults: int = 0
) -> dict[str, Any]:
    """Faults for so long and at least so many, then rest, then the audit."""
    with scene(name, keep, "storm") as (world, database):
        make_ledger(world)
        webhooks.subscribe(world)
        crew = Crew(world)
        storm = Storm(world, crew, database, random.Random(seed))
        try:
            crew.muster(DISPATCHERS, CLIENTS, WISHES)
            storm.rage(seconds, PAUSE_SECONDS, least_faults)
            rested = rest(world, crew)
            webhooks.come_to_rest(world, crew.tend)
        finally:
            crew.dismiss()
        found = auditor.audit(world, storm.away, collect=True)
        note_crew(found, crew, rested=rested)
        return {"faults": storm.faults.total(), **found.summary(), "kinds": dict(storm.faults)}


def make_ledger(world: World) -> None:
    """Its tables, and the triggers that the audit believes."""
    world.ledger().close()
    auditor.install(world.url)


def note_crew(found: auditor.Findings, crew: Crew, *, rested: bool) -> None:
    """What the processes themselves did wrong."""
    for crash in crew.crashes:
        found.say("crashes", crash)
    if not rested:
        found.say("lost", f"jobs were unsettled {REST_SECONDS:.0f} s after the last fault")


def rest(world: World, crew: Crew) -> bool:
    """Clients finish what they have begun, dispatchers what is queued."""
    world.stop_file.touch()
    crew.wake()
    until = time.monotonic() + REST_SECONDS
    with closing(world.ledger()) as ledger:
        while time.monotonic() < until:
            for member in crew.members:
                if member.role == "client" and member.process.exitcode == 0:
                    member.killed = True  # it has gone home
            crew.members = [m for m in crew.members if m.process.exitcode != 0]
            crew.tend()
            at_home = not any(member.role == "client" for member in crew.members)
            with suppress(LedgerUnavailable):
                if at_home and not left(ledger):
                    return True
            time.sleep(0.2)
    return False


def passes_redone(name: str, rounds: int, keep: Path | None) -> dict[str, Any]:
    """The most passes that any image was drawn twice after one kill: of a decoder, then of a
    dispatcher, with heartbeats and leases as they are by default."""
    found: dict[str, Any] = {}
    for role in ("decoder", "dispatcher"):
        with scene(name, keep, role, **LONG) as (world, _):
            make_ledger(world)
            found[f"passes_redone_{role}_kill"] = max(_kill_rounds(world, role, rounds), default=0)
    return found


def _kill_rounds(world: World, role: str, rounds: int) -> list[int]:
    crew = Crew(world)
    draw = random.Random(role)
    try:
        crew.muster(dispatchers=2, clients_count=0, wishes=0)
        with closing(world.ledger()) as ledger:
            for number in range(rounds):
                for i in range(LONG_RENDERS):
                    seed = 1000 * number + 53 * i + 1
                    ledger.submit(wish("t", "pro", passes=LONG_PASSES, watched=False, seed=seed))
                _until_drawing(ledger, LONG_RENDERS)
                time.sleep(draw.uniform(0.5, 2.0))
                crew.kill(draw.choice(crew.well(role)))
                while left(ledger):
                    crew.pass_time(0.05)
    finally:
        crew.dismiss()
    return redone(world.passes())


def _until_drawing(ledger: Any, images: int) -> None:
    until = time.monotonic() + 20
    while ledger.depth(LANE).active_jobs < images and time.monotonic() < until:
        time.sleep(0.02)


def redone(passes: Iterable[tuple[float, str, int]]) -> list[int]:
    """Of every render stream that went on where an earlier one of the same image had been cut off:
    how many passes it repeated. passes: (time, job/index/fence.stream, pass) of every pass made."""
    streams: dict[str, dict[str, list[tuple[float, int]]]] = defaultdict(lambda: defaultdict(list))
    for at, render_id, pass_no in passes:
        image, _, stream = render_id.rpartition("/")
        streams[image][stream].append((at, pass_no))
    found: list[int] = []
    for of_image in streams.values():
        in_order = sorted(of_image.values(), key=min)
        reached = 0
        for number, stream in enumerate(in_order):
            first, last = min(p for _, p in stream), max(p for _, p in stream)
            if number:
                found.append(max(0, reached - first + 1))
            reached = max(reached, last)
    return found


@contextmanager
def scene(
    name: str, keep: Path | None, what: str, **changes: Any
) -> Iterator[tuple[World, Database]]:
    """A world over an empty database of that kind, gone after it. keep: where what it wrote is
    left, below `what`. changes: of the world's numbers."""
    root = Path(tempfile.mkdtemp(prefix="mp-chaos-"))
    try:
        with DATABASES[name](root) as database:
            world = World(root, database.url, **changes)
            world.prepare()
            yield world, database
            if keep is not None:
                shutil.copytree(root, keep / name / what, dirs_exist_ok=True, ignore=IGNORED)
    finally:
        shutil.rmtree(root, ignore_errors=True)
