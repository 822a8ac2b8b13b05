# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host from up to down.

Every step may be cut off by a kill: the record is written before anything is made, a root appears by a
rename, and up and down both begin with what an interrupted one left.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import typing as t
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from test_hosts import cgroups, network, roots
from test_hosts.ground import CACHE, RUN, HostError, is_held, locked, read_json, remove_tree, run, write_file

BOOT_S = 300
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a host as long as anything of it exists."""

    name: str
    index: int
    release: str
    folder: str

    @property
    def link(self) -> network.Link:
        """Return the host's network."""
        return network.Link(self.name, self.index)

    @property
    def root(self) -> Path:
        """Return its root file system."""
        return Path(self.folder) / "root"

    @property
    def home(self) -> Path:
        """Return its folder of volatile files."""
        return RUN / self.name

    @property
    def is_running(self) -> bool:
        """Return whether its keeper lives."""
        return is_held(self.home / "keeper.lock")

    def describe(self) -> dict[str, t.Any]:
        """Return what the world may know of the host."""
        return {
            "name": self.name,
            "address": self.link.address,
            "gateway": self.link.gateway,
            "port": 22,
            "user": "root",
            "key": str(CACHE / "ssh/id_ed25519"),
            "known_hosts": str(Path(self.folder) / "known_hosts"),
            "release": self.release,
            "netns": self.link.netns,
            "root": str(self.root),
            "console": str(self.home / "console.log"),
            "running": self.is_running,
        }


def records() -> list[Record]:
    """Return every host of the machine, running or not, by name."""
    found = (read_json(path) for path in sorted(RUN.glob("*/host.json")))
    return [Record(**data) for data in found if data]


def find(name: str) -> Record:
    """Return a host's record; raises HostError when there is none."""
    data = read_json(RUN / name / "host.json")
    if not data:
        raise HostError(
            f"there is no host {name}; scripts/hosts list names them, scripts/hosts up {name} makes it"
        )
    return Record(**data)


def name_lock(name: str) -> t.ContextManager[None]:
    """Hold a host's name, so that up and down of it never run at once."""
    if not NAME.fullmatch(name):
        raise HostError(
            f"{name!r} is no name for a host: use up to 40 lower-case letters, digits and hyphens"
        )
    return locked(RUN / "locks" / name)


def up(name: str, release: str) -> Record:
    """Bring a host up: make it, power it on, or find it running.  Returns when its sshd answers."""
    with name_lock(name):
        record = _reserve(name, release)
        if not record.is_running:
            _sweep(record)
            if not record.root.exists():
                _make_root(record)
            _start(record)
        _wait_for_ssh(record)
    return record


def down(name: str) -> bool:
    """Remove a host with all that belongs to it; say whether there was anything."""
    with name_lock(name):
        data = read_json(RUN / name / "host.json")
        if data:
            record = Record(**data)
            _end_keeper(record)
            _sweep(record)
            if record.root.exists():
                roots.keep_packages(record.release, record.root)
                # Half a root must not have the name of a whole one.
                remove_tree(record.root.with_name("root.old"))
                record.root.rename(record.root.with_name("root.old"))
        remove_tree(Path(data["folder"]) if data else CACHE / "machines" / name)
        with locked(RUN / "lock"):
            remove_tree(RUN / name)
            (RUN / "locks" / name).unlink()
            # Also when it was another one that was killed before it had come so far.
            if not records():
                network.stop_forwarding()
                _leave()
    return bool(data)


def _leave() -> None:
    """Remove what is left of the last host: the locks, unless somebody holds one."""
    with contextlib.suppress(OSError):
        (RUN / "locks").rmdir()
        (RUN / "lock").unlink()
        RUN.rmdir()


def reboot(name: str, hard: bool) -> Record:
    """Reboot a host and wait until it answers again; hard is a power cut."""
    with name_lock(name):
        record = find(name)
        if not record.is_running:
            raise HostError(f"the host {name} is off; scripts/hosts up {name} powers it on")
        before = _boot_of(record)
        if hard:
            (record.home / "reset").touch()
            cgroups.kill(name)
        else:
            os.kill(_leader(record), signal.SIGRTMIN + 5)
        deadline = time.monotonic() + BOOT_S
        while _boot_of(record) == before and record.is_running and time.monotonic() < deadline:
            time.sleep(0.05)
        _wait_for_ssh(record)
    return record


def _reserve(name: str, release: str) -> Record:
    """Return the host's record, and write it first when there is none: whatever is made is found by it."""
    with locked(RUN / "lock"):
        data = read_json(RUN / name / "host.json")
        if data:
            record = Record(**data)
            if record.release != release:
                raise HostError(
                    f"the host {name} is {record.release}, not {release}; first: scripts/hosts down {name}"
                )
            return record
        index = network.free_index({r.index for r in records()})
        record = Record(name, index, release, str(CACHE / "machines" / name))
        write_file(record.home / "host.json", json.dumps(asdict(record)) + "\n")
        network.forward()
    remove_tree(Path(record.folder))
    return record


def _sweep(record: Record) -> None:
    """Remove what a keeper that was killed could not."""
    cgroups.kill(record.name)
    cgroups.remove(record.name)
    network.remove(record.link)


def _make_root(record: Record) -> None:
    """Make the host's root file system, and let it appear complete."""
    new = record.root.with_name("root.new")
    remove_tree(new)
    remove_tree(record.root.with_name("root.old"))
    new.parent.mkdir(parents=True, exist_ok=True)
    # A copy, no overlay: containers' overlays cannot stand on another one.
    roots.copy(record.release, new)
    write_file(new / "etc/hostname", f"{record.name}\n")
    write_file(new / "etc/hosts", f"127.0.0.1 localhost\n{record.link.address} {record.name}\n")
    write_file(new / "etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444)
    roots.resolve(new)
    with locked(CACHE / "ssh.lock"):
        key = CACHE / "ssh/id_ed25519"
        if not key.with_suffix(".pub").exists():
            remove_tree(key.parent)
            key.parent.mkdir(mode=0o700)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "pvecri test hosts", "-f", str(key))
        write_file(new / "root/.ssh/authorized_keys", key.with_suffix(".pub").read_text(), 0o600)
    (new / "root/.ssh").chmod(0o700)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(new / "etc/ssh/ssh_host_ed25519_key"))
    public = (new / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
    write_file(new.parent / "known_hosts", f"{record.link.address} {' '.join(public)}\n")
    roots.give_packages(record.release, new)
    new.rename(record.root)


def _start(record: Record) -> None:
    argv = [
        sys.executable,
        "-P",
        "-m",
        "test_hosts",
        "keep",
        record.name,
        str(record.index),
        str(record.root),
    ]
    with open(record.home / "console.log", "w") as log:
        subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + 60
    while not record.is_running:
        if time.monotonic() > deadline:
            raise HostError(f"the host {record.name} did not start:\n{_console(record)}")
        time.sleep(0.02)


def _end_keeper(record: Record) -> None:
    """End the keeper by its id; it takes the host with it."""
    lock = record.home / "keeper.lock"
    deadline = time.monotonic() + 90
    while record.is_running:
        if (text := lock.read_text().strip()).isdigit():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(text), signal.SIGTERM if time.monotonic() < deadline - 30 else signal.SIGKILL)
        if time.monotonic() > deadline:
            raise HostError(f"the keeper of {record.name} (process {text}) does not end")
        time.sleep(0.1)


def _boot_of(record: Record) -> str:
    """Return what tells one boot of a host from the next."""
    path = record.home / "nspawn.pid"
    return path.read_text() if path.exists() else ""


def _leader(record: Record) -> int:
    """Return the host's PID 1 as the machine sees it."""
    boot = _boot_of(record).strip()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields["PPid"] == boot and fields["NSpid"].split()[-1] == "1":
            return int(fields["Pid"])
    raise HostError(f"the host {record.name} has no PID 1; its console:\n{_console(record)}")


def _wait_for_ssh(record: Record) -> None:
    deadline = time.monotonic() + BOOT_S
    while True:
        try:
            with socket.create_connection((record.link.address, 22), timeout=2) as peer:
                peer.settimeout(5)
                if peer.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        if not record.is_running:
            raise HostError(
                f"the host {record.name} went down while it booted; its console:\n{_console(record)}"
            )
        if time.monotonic() > deadline:
            raise HostError(
                f"no sshd answers on {record.name} after {BOOT_S} s; its console:\n{_console(record)}"
            )
        time.sleep(0.05)


def _console(record: Record) -> str:
    path = record.home / "console.log"
    return "\n".join(path.read_text(errors="replace").splitlines()[-25:]) if path.exists() else "(nothing)"
