"""What a run costs: seconds, operations, peak memory and energy, and the machine it ran on."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import clbench


class Meter:
    """What one task costs, part by part; ``flops`` counts floating-point operations, which slows small networks."""

    def __init__(self, device: torch.device, flops: bool = False) -> None:
        self._device, self._flops = device, flops
        self._costs: dict[str, Any] = {}
        self._energy = energy_joules(device)
        self.seconds = 0.0  # of all parts, with whatever the counter added
        reset_peak_memory(device)

    @contextlib.contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Time a part, ``train`` or ``evaluate``."""
        counter = _flop_counter() if self._flops else None
        begin = time.perf_counter()
        with counter or contextlib.nullcontext():
            yield
        passed = time.perf_counter() - begin
        if part == "train":
            self._costs["energy_joules"] = self._spent()
        self.seconds += passed
        self._costs[f"{part}_seconds"] = None if counter else passed  # of a counted run the time says nothing
        self._costs[f"{part}_flops"] = counter.get_total_flops() if counter else None

    def leave_out(self, part: str, seconds: float) -> None:
        """Take the time of something else that happened meanwhile off a part."""
        if self._costs[f"{part}_seconds"] is not None:
            self._costs[f"{part}_seconds"] -= seconds

    def costs(self) -> dict[str, Any]:
        """Seconds, operations, joules of training and peak bytes; None for what was not or cannot be measured."""
        return self._costs | {"peak_memory_bytes": peak_memory(self._device)}

    def _spent(self) -> float | None:
        """Joules since the beginning; None where nobody counts, or where the counter has begun anew."""
        now = energy_joules(self._device)
        return None if now is None or self._energy is None or now < self._energy else now - self._energy


def _flop_counter() -> Any:
    from torch.utils.flop_counter import FlopCounterMode

    return FlopCounterMode(display=False)


def reset_peak_memory(device: torch.device) -> None:
    """Start a new peak-memory measurement, where the machine can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # where it cannot be reset, the peak since the process began is reported
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int | None:
    """Peak bytes since the reset: of the allocator on CUDA, else of the resident set; None where unknown."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), None)


def energy_joules(device: torch.device, powercap: Path = Path("/sys/class/powercap")) -> float | None:
    """A counter of the energy used so far by the processor packages, or by the CUDA device; None where there is none.

    It counts all that the packages or the device do, other processes too.
    """
    if device.type == "cuda":
        try:
            import pynvml

            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(
                device.index if device.index is not None else torch.cuda.current_device()
            )
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
        except Exception:  # no library, no driver, or a device that does not count: not measured
            return None
    packages = [p for p in powercap.glob("intel-rapl:*") if p.name.count(":") == 1]
    try:
        return sum(int((p / "energy_uj").read_text()) for p in packages) / 1e6 if packages else None
    except (OSError, ValueError):  # read by root only, on most machines
        return None


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, hardware and commit, as plain data."""
    import numpy

    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "clbench": clbench.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": f"{sys.platform}-{platform.machine()}",
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),  # processors of one name may have others: other bits
        "accelerator": accelerator,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _commit() -> str | None:
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD")
    dirty = git("status", "--porcelain", "--untracked-files=no", "--", "clbench", "conf", "scenarios")
    return (commit + ("-dirty" if dirty else "")) or None


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)
