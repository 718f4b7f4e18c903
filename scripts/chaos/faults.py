"""What goes wrong in a run without Ray, and how often."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from scripts.chaos.crew import Crew
from scripts.chaos.databases import Database
from scripts.chaos.world import World

ASLEEP_MOST = 3
HOUR = 3600.0


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

    def rage(self, seconds: float, pause_seconds: float) -> None:
        """One fault after another."""
        kinds: dict[str, tuple[float, Callable[[], bool]]] = {
            "kill dispatcher": (5, lambda: self._kill("dispatcher")),
            "kill decoder": (4, lambda: self._kill("decoder")),
            "kill client": (4, lambda: self._kill("client")),
            "stop dispatcher": (3, lambda: self._stop("dispatcher")),
            "stop decoder": (1, lambda: self._stop("decoder")),
            "stop client": (2, lambda: self._stop("client")),
            "clock jump": (0.4, self._jump),
            "disk full": (0.2, self._fill_disk),
            "database restart": (0.3, self._restart_database),
        }
        names, weights = list(kinds), [weight for weight, _ in kinds.values()]
        until = time.monotonic() + seconds
        self._each_once([kinds[name][1] for name in names[6:]], names[6:])
        while time.monotonic() < until:
            (name,) = self.draw.choices(names, weights)
            if kinds[name][1]():
                self.faults[name] += 1
            self._pass_time(self.draw.uniform(0, 2 * pause_seconds))

    def _each_once(self, rare: list[Callable[[], bool]], names: list[str]) -> None:
        """Even a short run sees the rare ones."""
        for name, fault in zip(names, rare, strict=True):
            self._pass_time(0.5)
            if fault():
                self.faults[name] += 1

    def _pass_time(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            self.crew.tend()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.05))

    def _kill(self, role: str) -> bool:
        well = self.crew.well(role)
        if not well:
            return False
        self.crew.kill(self.draw.choice(well))
        return True

    def _stop(self, role: str) -> bool:
        """Longer than a lease; never so many that nobody is left to be watched going on. A stopped
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
            self._pass_time(self.world.lease_seconds * 1.5)
        with self._ledger_away():
            self.database.revive()
        return True

    def _restart_database(self) -> bool:
        if self.database.restart is None:
            return False
        with self._ledger_away():
            self.database.restart(lambda: self._pass_time(self.world.lease_seconds * 1.5))
        return True

    @contextmanager
    def _ledger_away(self) -> Iterator[None]:
        began = time.time()
        yield
        self.away.append((began - 0.5, time.time() + 1.0))
