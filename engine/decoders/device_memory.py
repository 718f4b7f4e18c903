"""What a process holds of its device's memory, and may hold: a GPU's by torch, else the machine's
by /proc and the control group."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch

from engine.measuring import Memory, Peak
from engine.model_directory.capacity import GIB

GROUP_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
"""Of version 2 and 1, as a container sees its own."""
RESET_PEAK = "5"


def device_memory(device: torch.device, most_gib: float = 0.0) -> Memory:
    """most_gib: what the process may hold at most; 0.0 for what is free. ValueError."""
    if most_gib < 0:
        raise ValueError(f"memory_gib must be at least 0, got {most_gib}")
    most = int(most_gib * GIB) or None
    return GpuMemory(device, most) if device.type == "cuda" else ProcessMemory(most)


class GpuMemory:
    """Of the tensors of this process on one GPU."""

    def __init__(self, device: torch.device, most: int | None) -> None:
        self._device = device
        self._most = most

    def held(self) -> int:
        """See Memory."""
        gc.collect()
        torch.cuda.synchronize(self._device)
        return torch.cuda.memory_allocated(self._device)

    def usable(self) -> int:
        """See Memory."""
        free, _ = torch.cuda.mem_get_info(self._device)
        return _bounded(free + torch.cuda.memory_reserved(self._device), self._most)

    @contextmanager
    def peak(self) -> Iterator[Peak]:
        """See Memory."""
        found = Peak()
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        yield found
        torch.cuda.synchronize(self._device)
        found.held = torch.cuda.max_memory_allocated(self._device)


class ProcessMemory:
    """Of this process, what is resident."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._process = psutil.Process()

    def held(self) -> int:
        """See Memory."""
        return int(self._process.memory_info().rss)

    def usable(self) -> int:
        """See Memory."""
        free = psutil.virtual_memory().available
        if (group := _free_of_group()) is not None:
            free = min(free, group)
        return _bounded(self.held() + free, self._most)

    @contextmanager
    def peak(self) -> Iterator[Peak]:
        """See Memory. Where the kernel does not count a peak anew, what is held at the end."""
        found = Peak()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text(RESET_PEAK)
        yield found
        found.held = max(self.held(), _peak_resident())


def _bounded(usable: int, most: int | None) -> int:
    return usable if most is None else min(usable, most)


def _free_of_group() -> int | None:
    for limit, used in GROUP_LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max"
            return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
    return None


def _peak_resident() -> int:
    """VmHWM in bytes; 0 where there is none."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
