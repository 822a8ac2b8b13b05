# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do with real LXC what Proxmox VE's programs do on a node: write configs, start, stop, limit, remove.

Everything is below one directory, which stands for ``/var/lib/lxc``.  What a container's
``config`` holds follows ``update_lxc_config`` of pve-container's src/PVE/LXC.pm, starting and
stopping ``vm_start`` and ``vm_stop`` there and the unit ``pve-container@.service``.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time
import typing as t

from ansible_collections.pvecri.runtime.tests.support import cgroups, pve_images

Config = t.Mapping[str, t.Any]

#: Where an unprivileged container's user 0 begins.
SHIFT = 100000

_COMMON = "/usr/share/lxc/config"
_STOP_S = 20.0
_MIB = 1024 * 1024

#: systemd gives units the usual signals, whatever whoever started the tests ignores, but for this one.
_AS_A_UNIT = ("env", "--default-signal", "--ignore-signal=PIPE")


def missing() -> str | None:
    """Return what this host lacks for containers of real LXC, or None."""
    programs = ("lxc-start", "lxc-stop", "lxc-attach")
    lacking = next((name for name in programs if shutil.which(name) is None), None)
    if lacking or monitor_daemon() is None:
        return f"needs {lacking or 'lxc-monitord'} (package lxc)"
    return None


def monitor_daemon() -> str | None:
    """Return the path of lxc-monitord."""
    places = ("/usr/libexec/lxc", "/usr/lib/x86_64-linux-gnu/lxc", "/usr/lib/aarch64-linux-gnu/lxc")
    return next((path for place in places if os.access(path := f"{place}/lxc-monitord", os.X_OK)), None)


def uses_v2() -> bool:
    """Whether the host has the unified hierarchy alone."""
    return pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists()


class Machine:
    """The containers below one directory.

    ``enter`` makes an argument list one that runs in their host, ``view`` says how a path there is
    opened from here.
    """

    def __init__(
        self,
        lxc_path: str,
        enter: t.Callable[[t.Sequence[str]], list[str]] = list,
        view: t.Callable[[str], str] = str,
    ) -> None:
        self.lxc_path = lxc_path
        self._enter = enter
        self._view = view
        self._disks: set[int] = set()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        os.makedirs(lxc_path, exist_ok=True)

    def rootfs(self, vmid: int) -> str:
        """Return where a container's root file system is."""
        return f"{self.lxc_path}/{vmid}/rootfs"

    def stderr_file(self, vmid: int) -> str:
        """Return what ``lxc-start`` of a container said."""
        return f"{self.lxc_path}/.ct-{vmid}.stderr"

    # ------------------------------------------------------------------ made and gone

    def files(self, vmid: int) -> str:
        """Return where a container's files are seen from here."""
        return self._view(self.rootfs(vmid))

    def unpack(self, vmid: int, archive: str, *, unprivileged: bool, size: int) -> dict[str, t.Any]:
        """Fill a container's disk of ``size`` bytes; return what the image's configuration brings along."""
        os.makedirs(self.rootfs(vmid))
        options = f"size={size},mode=0755"
        self._host("mount", "-t", "tmpfs", "-o", options, f"disk-{vmid}", self.rootfs(vmid))
        self._disks.add(vmid)
        return pve_images.unpack(archive, self.files(vmid), SHIFT if unprivileged else 0)

    def _host(self, *argv: str) -> None:
        subprocess.run(self._enter(argv), check=True, capture_output=True, timeout=_STOP_S)

    def remove(self, vmid: int) -> None:
        """Remove all of a container that is stopped."""
        if vmid in self._disks:
            self._disks.remove(vmid)
            self._host("umount", "-l", self.rootfs(vmid))
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(f"{self.lxc_path}/{vmid}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.stderr_file(vmid))
        self._remove_cgroups(vmid)

    @staticmethod
    def _remove_cgroups(vmid: int) -> None:
        for parent in ("lxc", "lxc.monitor"):
            for top in cgroups.directories(f"{parent}/{vmid}"):
                for path, _directories, _files in os.walk(top, topdown=False):
                    # Whatever still runs there is not for this to end.
                    with contextlib.suppress(OSError):
                        os.rmdir(path)

    # ------------------------------------------------------------------ power

    def write_config(self, vmid: int, config: Config) -> None:
        """Write what LXC reads, from what Proxmox VE keeps."""
        os.makedirs(self.rootfs(vmid), exist_ok=True)
        text = "".join(f"{key} = {value}\n" for key, value in lxc_lines(vmid, config, self.rootfs(vmid)))
        pathlib.Path(self.lxc_path, str(vmid), "config").write_text(text, encoding="utf-8")

    def begin(self, vmid: int) -> subprocess.Popen[bytes]:
        """Start a container as its unit does; the process lives as long as the container."""
        # On cgroup v1 LXC leaves them behind and refuses to start a container of the same name.
        self._remove_cgroups(vmid)
        argv = [*_AS_A_UNIT, "lxc-start", "-F", "-P", self.lxc_path, "-n", str(vmid)]
        with open(self.stderr_file(vmid), "wb") as stderr:
            process = subprocess.Popen(
                self._enter(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"},
            )
        self._running[vmid] = process
        return process

    def said(self, vmid: int) -> list[str]:
        """Return the lines that the last start left."""
        with contextlib.suppress(FileNotFoundError):
            return pathlib.Path(self.stderr_file(vmid)).read_text(errors="replace").splitlines()
        return []

    def is_up(self, vmid: int) -> bool:
        """Whether a container's LXC runs."""
        process = self._running.get(vmid)
        return process is not None and process.poll() is None

    def stop(self, vmid: int, *, timeout_s: float | None = None) -> bool:
        """Kill a container, or with ``timeout_s`` ask it to end; return whether it has ended."""
        process = self._running.get(vmid)
        if process is None or process.poll() is not None:
            return True
        how = ["--kill"] if timeout_s is None else ["--nokill", "--timeout", str(max(1, round(timeout_s)))]
        argv = ["lxc-stop", "-P", self.lxc_path, "-n", str(vmid), *how]
        done = subprocess.run(
            self._enter(argv), check=False, capture_output=True, timeout=(timeout_s or 0) + _STOP_S
        )
        try:
            process.wait(_STOP_S if timeout_s is None or done.returncode == 0 else 0.05)
        except subprocess.TimeoutExpired:
            return False
        self._remove_cgroups(vmid)
        return True

    def init_pid(self, vmid: int) -> int | None:
        """Return the container's first process, a child of LXC's."""
        process = self._running.get(vmid)
        with contextlib.suppress(OSError, ValueError):
            path = f"/proc/{process.pid}/task/{process.pid}/children" if process else ""
            return int(pathlib.Path(path).read_text().split()[0])
        return None

    def close(self) -> None:
        """End every container, whatever state it is in."""
        for vmid, process in self._running.items():
            with contextlib.suppress(subprocess.TimeoutExpired, OSError):
                self.stop(vmid)
            # LXC's monitor may be beyond being asked.
            for pid in (self.init_pid(vmid), process.pid):
                with contextlib.suppress(ProcessLookupError):
                    if pid is not None and process.poll() is None:
                        os.kill(pid, signal.SIGKILL)
            process.wait(_STOP_S)
            _await_gone(vmid)
            self._remove_cgroups(vmid)
        for vmid in list(self._disks):
            self.remove(vmid)

    # ------------------------------------------------------------------ limits

    def apply_limits(self, vmid: int, config: Config) -> None:
        """Write limits to a running container's cgroup; raises OSError where the kernel refuses."""
        todo = [(key.partition(".")[2], value) for key, value in limit_lines(config)]
        if not uses_v2() and config.get("cpulimit") in (None, 0, "0"):
            todo.append(("cpu.cfs_quota_us", "-1"))
        refused: list[tuple[str, str]] = []
        for name, value in todo:
            try:
                self._write(vmid, name, value)
            except OSError:
                # Memory and memory with swap: the order depends on whether they grow or shrink.
                refused.append((name, value))
        for name, value in refused:
            self._write(vmid, name, value)

    @staticmethod
    def _write(vmid: int, key: str, value: str) -> None:
        name = key.partition(".")[2] if key.startswith(("cgroup.", "cgroup2.")) else key
        for place in cgroups.directories(f"lxc/{vmid}"):
            if (place / name).exists():
                (place / name).write_text(value, encoding="ascii")


def _await_gone(vmid: int) -> None:
    deadline = time.monotonic() + _STOP_S
    while time.monotonic() < deadline:
        places = cgroups.directories(f"lxc/{vmid}")
        if not any(path.read_text().strip() for place in places for path in place.rglob("cgroup.procs")):
            return
        time.sleep(0.01)


def lxc_lines(vmid: int, config: Config, rootfs: str) -> t.Iterator[tuple[str, str]]:
    """Yield keys and values of LXC's configuration in Proxmox VE's order.  Pure but for the host's files."""
    yield "lxc.cgroup.relative", "0"
    yield "lxc.cgroup.dir.monitor", f"lxc.monitor/{vmid}"
    yield "lxc.cgroup.dir.container", f"lxc/{vmid}"
    yield "lxc.cgroup.dir.container.inner", "ns"
    yield "lxc.arch", str(config.get("arch", "amd64"))
    unprivileged = bool(int(config.get("unprivileged", 0)))
    yield "lxc.include", f"{_COMMON}/common.conf"
    if unprivileged:
        yield "lxc.include", f"{_COMMON}/userns.conf"
    yield "lxc.mount.auto", "sys:mixed"
    yield "lxc.monitor.unshare", "1"
    if unprivileged:
        yield from (("lxc.idmap", f"{kind} 0 {SHIFT} 65536") for kind in "ug")
    if not int(config.get("console", 1)):
        yield "lxc.console.path", "none"
    yield "lxc.tty.max", str(config.get("tty", 2))
    yield "lxc.environment", "TERM=linux"
    for variable in str(config.get("env", "")).split("\0"):
        if variable:
            yield "lxc.environment", variable
    yield "lxc.uts.name", str(config.get("hostname", f"CT{vmid}"))
    yield from limit_lines(config)
    yield "lxc.rootfs.path", rootfs
    if config.get("entrypoint"):
        yield "lxc.init.cmd", str(config["entrypoint"])
    raw = [(str(key), str(value)) for key, value in config.get("lxc", ())]
    yield from raw
    if config.get("cores") and not any("cpuset.cpus" in key for key, _value in raw):
        version = "2" if uses_v2() else ""
        some = sorted(os.sched_getaffinity(0))[: int(config["cores"])]
        yield f"lxc.cgroup{version}.cpuset.cpus", ",".join(map(str, some))


def limit_lines(config: Config) -> t.Iterator[tuple[str, str]]:
    """Yield the limits of memory and CPU as LXC's keys."""
    memory = int(config.get("memory") or 512) * _MIB
    swap = int(config.get("swap") or 0) * _MIB
    share = float(config.get("cpulimit") or 0)
    units = config.get("cpuunits")
    if uses_v2():
        yield "lxc.cgroup2.memory.max", str(memory)
        yield "lxc.cgroup2.memory.high", str(max(memory - 128 * _MIB, int(memory * 0.9)))
        yield "lxc.cgroup2.memory.swap.max", str(swap)
        if share:
            yield "lxc.cgroup2.cpu.max", f"{int(100000 * share)} 100000"
        if units is not None:
            yield "lxc.cgroup2.cpu.weight", str(min(10000, max(1, int(units))))
        return
    yield "lxc.cgroup.memory.limit_in_bytes", str(memory)
    if _has_swap_limit():
        yield "lxc.cgroup.memory.memsw.limit_in_bytes", str(memory + swap)
    if share:
        yield "lxc.cgroup.cpu.cfs_period_us", "100000"
        yield "lxc.cgroup.cpu.cfs_quota_us", str(int(100000 * share))
    yield "lxc.cgroup.cpu.shares", str(min(262144, max(2, int(units or 1024))))


def _has_swap_limit() -> bool:
    return pathlib.Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
