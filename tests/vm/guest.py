# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An LXC container as Proxmox VE makes and starts it, under the driver that the endpoint has for such.

There is no Proxmox VE on the machine: its unit and what it writes for LXC are this file's, profile of
AppArmor included.  LXC, its monitor, systemd and the kernel are the real ones.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import layout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.driver import LxcDriver
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.include import IncludeFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths

LXC_PATH = pathlib.Path("/var/lib/lxc")
#: The container's user 0 comes to its sockets by their paths.
STATE, RUN = pathlib.Path("/var/lib/verify-lxc"), pathlib.Path("/run/verify-lxc")
#: First host id of an unprivileged container.
SHIFT = 100_000
#: What the pod's network namespace has.
INTERFACE, HOST_NAME = "eth0", "the-pod"
MIB = 1 << 20

_UNIT = pathlib.Path("/run/systemd/system/pve-container@.service")
_UNIT_TEXT = """\
[Unit]
DefaultDependencies=No
[Service]
Type=simple
Delegate=yes
KillMode=mixed
ExecStart=/usr/bin/lxc-start -F -n %i
StandardOutput=null
StandardError=file:/run/verify-lxc/ct-%i.stderr
"""
_DEADLINE_S = 60.0


class Guest:
    """One container with the number ``vmid``."""

    def __init__(self, vmid: int, *, unprivileged: bool) -> None:
        self.vmid = vmid
        self.name = f"{vmid:064x}"
        self.unprivileged = unprivileged
        self.shift = SHIFT if unprivileged else 0
        self.log = STATE / f"{vmid}.log"
        self.pid = 0
        self.paths = Paths(str(STATE), str(RUN), owner=Owner.CRI)
        self.driver = LxcDriver(self.paths, SubprocessRunner())
        self._home = LXC_PATH / str(vmid)
        self._namespaces = RUN / f"ns-{vmid}"

    # ------------------------------------------------------------------ life

    def start(self, config: dict[str, t.Any], *, terminal: bool = False) -> None:
        """Start it with a ``config.json``, and wait until its program runs."""
        for path in (STATE, RUN, self._home / "rootfs", self._namespaces):
            path.mkdir(parents=True, exist_ok=True)
        if not _UNIT.exists():
            _UNIT.write_text(_UNIT_TEXT)
            subprocess.run(["systemctl", "daemon-reload"], check=True)
        self._make_root()
        self._make_namespaces()
        record = LxcRecord(
            name=self.name,
            vmid=self.vmid,
            node="pve1",
            sandbox_id=self.name,
            bundle=str(self._home),
            log_path=str(self.log),
            boot_id=procfs.boot_id(),
            created_at=time.time(),
            lxc_path=str(LXC_PATH),
            unprivileged=self.unprivileged,
            id_offset=self.shift,
            terminal=terminal,
        )
        facts = IncludeFacts(
            netns=str(self._namespaces / "net"),
            ipcns=str(self._namespaces / "ipc"),
            utsns=str(self._namespaces / "uts"),
            unprivileged=self.unprivileged,
            stop_signal=15,
        )
        self.driver.prepare(record, config, facts)
        self._write_config()
        subprocess.run(["systemctl", "start", f"pve-container@{self.vmid}"], check=True)
        self.pid = self.driver.await_start(self.name, _DEADLINE_S)

    def stop(self) -> int | None:
        """Ask it to end as Proxmox VE does, and return its exit code."""
        subprocess.run(["lxc-stop", "-n", str(self.vmid), "--timeout", "30"], check=True)
        return self.driver.wait(self.name, _DEADLINE_S)

    def remove(self) -> None:
        """Remove all of it, whatever state it is in."""
        subprocess.run(["lxc-stop", "-n", str(self.vmid), "--kill"], check=False, capture_output=True)
        if self.driver.knows(self.name):
            self.driver.wait(self.name, _DEADLINE_S)
            self.driver.clear_away(self.name)
        for path in self._namespaces.iterdir():
            subprocess.run(["umount", str(path)], check=False)
        self.log.unlink(missing_ok=True)
        for path in (self._namespaces, self._home):
            shutil.rmtree(path, ignore_errors=True)

    # ------------------------------------------------------------------ looking

    def logged(self) -> dict[str, list[str]]:
        """Return what its log has, by stream."""
        found: dict[str, str] = {"stdout": "", "stderr": ""}
        # A terminal's lines end in CR LF, which stays.
        for line in self.log.read_bytes().decode().split("\n")[:-1]:
            _time, stream, flag, text = line.split(" ", 3)
            found[stream] += text if flag == "P" else f"{text}\n"
        return {stream: text.splitlines() for stream, text in found.items()}

    def limit(self, name: str) -> str:
        """Return the content of a file of the control group that limits it."""
        return pathlib.Path(f"/sys/fs/cgroup/lxc/{self.vmid}/{name}").read_text().strip()

    def profile(self) -> str:
        """Return the profile of AppArmor that its first process has, as the host sees it."""
        return pathlib.Path(f"/proc/{self.pid}/attr/apparmor/current").read_text().strip("\0\n")

    def run(self, script: str) -> tuple[int, str]:
        """Run a shell script in it, and return exit code and output."""
        done = self.driver.exec(self.name, ["/bin/sh", "-c", script], timeout_s=_DEADLINE_S)
        return done.rc, done.stdout + done.stderr

    # ------------------------------------------------------------------ making

    def _make_root(self) -> None:
        root = self._home / "rootfs"
        for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "mnt"):
            (root / name).mkdir(exist_ok=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for name in ("sh", "cat", "echo", "ls", "hostname", "sleep", "mount", "touch", "tail", "tty"):
            (root / "bin" / name).symlink_to("busybox")
        subprocess.run(["chown", "-R", f"{self.shift}:{self.shift}", str(root)], check=True)

    def _make_namespaces(self) -> None:
        places = {kind: self._namespaces / kind for kind in ("net", "ipc", "uts")}
        for path in places.values():
            path.touch()
        inside = f"ip link set lo up; ip link add {INTERFACE} type veth peer name other; hostname {HOST_NAME}"
        pins = [f"--{kind}={path}" for kind, path in places.items()]
        subprocess.run(["unshare", *pins, "/bin/sh", "-ec", inside], check=True)

    def _write_config(self) -> None:
        """Write what Proxmox VE writes at each start (``update_lxc_config`` of PVE/LXC.pm)."""
        seccomp = self._home / "rules.seccomp"
        rules = pathlib.Path("/usr/share/lxc/config/common.seccomp").read_text().rstrip()
        seccomp.write_text(f"{rules}\nkeyctl errno 38\n")
        include = layout.guest(self.paths, self.vmid).config
        maps = [f"lxc.idmap = {kind} 0 {SHIFT} 65536" for kind in "ug"] if self.unprivileged else []
        lines = [
            "lxc.cgroup.relative = 0",
            f"lxc.cgroup.dir.monitor = lxc.monitor/{self.vmid}",
            f"lxc.cgroup.dir.container = lxc/{self.vmid}",
            "lxc.cgroup.dir.container.inner = ns",
            "lxc.arch = amd64",
            "lxc.include = /usr/share/lxc/config/common.conf",
            *(["lxc.include = /usr/share/lxc/config/userns.conf"] if self.unprivileged else []),
            f"lxc.seccomp.profile = {seccomp}",
            "lxc.apparmor.profile = generated",
            "lxc.apparmor.raw = deny mount -> /proc/,",
            "lxc.apparmor.raw = deny mount -> /sys/,",
            *(["lxc.mount.auto = sys:mixed"] if self.unprivileged else []),
            "lxc.monitor.unshare = 1",
            *maps,
            "lxc.tty.max = 2",
            "lxc.environment = TERM=linux",
            f"lxc.uts.name = CT{self.vmid}",
            f"lxc.cgroup2.memory.max = {512 * MIB}",
            f"lxc.rootfs.path = {self._home}/rootfs",
            "lxc.init.cmd = /sbin/init",
            f"lxc.include = {include}",
        ]
        (self._home / "config").write_text("\n".join(lines) + "\n")
