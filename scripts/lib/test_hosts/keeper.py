# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that holds a running host: it boots it, boots it again when it reboots, and cleans up after it.

systemd-nspawn boots a host once; under --keep-unit it ends with 133 when the host wants to reboot.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from test_hosts import cgroups, limits, network
from test_hosts.ground import RUN, die_with_parent

REBOOT_CODE = 133


def nspawn_argv(root: Path, link: network.Link) -> list[str]:
    """Build the command that boots a host; it may do what a hypervisor's root may."""
    argv = ["systemd-nspawn", "-q", "-D", str(root), f"--machine={link.name}", "--register=no", "--keep-unit"]
    argv += [f"--network-namespace-path=/run/netns/{link.netns}", "--resolv-conf=off", "--timezone=off"]
    argv += ["--capability=all", "--system-call-filter=@known", "--bind=/dev/fuse", "--boot"]
    return argv


def main(name: str, index: int, root: Path) -> int:
    """Hold a host until it is powered off or this process is asked to end."""
    lock = hold(RUN / name / "keeper.lock")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    link = network.Link(name, index)
    try:
        while _boot(link, root):
            print("--- the host boots again", flush=True)
    finally:
        cgroups.kill(name)
        cgroups.remove(name)
        network.remove(link)
        lock.close()
    return 0


def hold(path: Path) -> t.IO[str]:
    """Hold a host's lock for this process, whose id is in it then; raises BlockingIOError."""
    # Another keeper's id stays in it until the lock is ours.
    lock = open(path, "a")  # noqa: SIM115  # its caller closes it
    deadline = time.monotonic() + 1
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # Who looks whether somebody holds it holds it for a moment.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _boot(link: network.Link, root: Path) -> bool:
    """Boot a host and wait until it is down; say whether it wants to come up again."""
    network.make(link)
    group = cgroups.make(link.name)
    may_raise = limits.may_raise()

    def enter() -> None:
        die_with_parent()
        (group / "cgroup.procs").write_text("0")
        if not may_raise:
            limits.pretend()

    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        # /proc/sys/net is the network namespace's own.
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    }
    started = time.monotonic()
    child = subprocess.Popen(
        nspawn_argv(root, link),
        stdin=subprocess.DEVNULL,
        env=env,
        start_new_session=True,
        preexec_fn=enter,  # noqa: PLW1509  # there is one thread
    )
    (RUN / link.name / "nspawn.pid").write_text(f"{child.pid}\n")
    code = child.wait()
    print(f"--- systemd-nspawn ended with {code} after {time.monotonic() - started:.1f} s", flush=True)
    # What outlived its PID 1 for a moment must not meet the next boot.
    cgroups.kill(link.name)
    cgroups.remove(link.name)
    reset = RUN / link.name / "reset"
    if reset.exists():
        reset.unlink()
        return True
    return code == REBOOT_CODE
