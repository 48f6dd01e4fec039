"""What the kernel counts of a container: memory, processors, whether a limit was met. Both versions of cgroups."""

from __future__ import annotations

from pathlib import Path

ROOT, PROCESSES = Path("/sys/fs/cgroup"), Path("/proc")


class NotSeen(RuntimeError):
    """The container's cgroup is not to be seen from here: no Linux, or an engine on another machine."""


class Cgroup:
    """The cgroup of a process.

    Args:
        root, processes: where the kernel shows them.

    Raises:
        NotSeen: there is none here.
    """

    def __init__(self, pid: int, *, root: Path = ROOT, processes: Path = PROCESSES) -> None:
        try:
            lines = [line.split(":", 2) for line in (processes / str(pid) / "cgroup").read_text().splitlines()]
        except OSError as error:
            raise NotSeen(f"process {pid} is none of this machine") from error
        places = {controller: path for _, names, path in lines for controller in names.split(",")}
        self._old = "memory" in places
        if self._old:
            self._memory = root / "memory" / places["memory"].lstrip("/")
            self._cpu = root / "cpu" / places["cpu"].lstrip("/")
            self._cpuacct = root / "cpuacct" / places["cpuacct"].lstrip("/")
        else:
            self._memory = self._cpu = root / places[""].lstrip("/")
        if not self._memory.is_dir():
            raise NotSeen(f"{self._memory} is not there")

    @property
    def memory_limit(self) -> int:
        """Bytes."""
        return self._number(self._memory / ("memory.limit_in_bytes" if self._old else "memory.max"))

    @property
    def working_set(self) -> int:
        """Bytes in use without the files that nobody has read for a while: what `kubectl top` shows."""
        usage = self._number(self._memory / ("memory.usage_in_bytes" if self._old else "memory.current"))
        inactive = self._table(self._memory / "memory.stat")["total_inactive_file" if self._old else "inactive_file"]
        return max(usage - inactive, 0)

    @property
    def peak(self) -> int:
        """The most bytes that were ever in use, every cached file among them: the limit is on this."""
        return self._number(self._memory / ("memory.max_usage_in_bytes" if self._old else "memory.peak"))

    @property
    def limit_met(self) -> int:
        """How often the memory limit was run into."""
        if self._old:
            return self._number(self._memory / "memory.failcnt")
        return self._table(self._memory / "memory.events")["max"]

    @property
    def killed(self) -> int:
        """How many processes were killed for want of memory."""
        return self._table(self._memory / ("memory.oom_control" if self._old else "memory.events"))["oom_kill"]

    @property
    def cpus(self) -> float:
        """The limit, in processors."""
        if self._old:
            quota = self._number(self._cpu / "cpu.cfs_quota_us")
            return quota / self._number(self._cpu / "cpu.cfs_period_us")
        quota_us, period_us = (self._cpu / "cpu.max").read_text().split()
        return int(quota_us) / int(period_us)

    @property
    def cpu_s(self) -> float:
        """Seconds of processors used so far."""
        if self._old:
            return self._number(self._cpuacct / "cpuacct.usage") / 1e9
        return self._table(self._cpu / "cpu.stat")["usage_usec"] / 1e6

    @property
    def held_back(self) -> tuple[int, int]:
        """Periods of the processor limit so far, and how many of them ended in waiting for the next."""
        table = self._table(self._cpu / "cpu.stat")
        return table["nr_periods"], table["nr_throttled"]

    @staticmethod
    def _number(file: Path) -> int:
        return int(file.read_text())

    @staticmethod
    def _table(file: Path) -> dict[str, int]:
        return {name: int(value) for name, value in map(str.split, file.read_text().splitlines())}
