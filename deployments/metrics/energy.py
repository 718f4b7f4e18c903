"""What the GPUs and CPU packages of a node have used, where the hardware counts it."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

RAPL = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"


class CpuEnergy:
    """By Intel's and AMD's RAPL counters, which wrap around after some kilojoules."""

    def __init__(self, folder: Path = RAPL) -> None:
        self._packages = [
            package
            for package in sorted(folder.glob("intel-rapl:*"))
            if package.name.count(":") == 1
        ]
        self._last: dict[str, float] = {}
        self._joules: dict[str, float] = {}

    def joules(self) -> Mapping[str, float]:
        """Since the first call, by package; none that may not be read."""
        for number, package in enumerate(self._packages):
            try:
                now = _micro(package / "energy_uj")
                wraps_at = _micro(package / "max_energy_range_uj")
            except (OSError, ValueError):
                continue
            name = f"cpu{number}"
            used = now - self._last.get(name, now)
            used += wraps_at if used < 0 else 0.0
            self._joules[name] = self._joules.get(name, 0.0) + used
            self._last[name] = now
        return self._joules


class GpuEnergy:
    """By NVML's counters since the driver was loaded."""

    def __init__(self) -> None:
        self._nvml: ctypes.CDLL | None = None
        try:
            nvml = ctypes.CDLL(NVML)
        except OSError:
            return
        if nvml.nvmlInit_v2() == 0:
            self._nvml = nvml

    def joules(self) -> Mapping[str, float]:
        """By GPU; none that has no counter."""
        if self._nvml is None:
            return {}
        count, found = ctypes.c_uint(), {}
        if self._nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return {}
        for number in range(count.value):
            gpu, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
            if self._nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(gpu)) != 0:
                continue
            counted = self._nvml.nvmlDeviceGetTotalEnergyConsumption(gpu, ctypes.byref(millijoules))
            if counted == 0:
                found[f"gpu{number}"] = millijoules.value / 1e3
        return found


def _micro(file: Path) -> float:
    return int(file.read_text()) / 1e6
