# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LXC pods under the profile of AppArmor that LXC generates, with cgroup v2 and an older kernel."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.vm.guest import HOST_NAME, INTERFACE, MIB, Guest
from ansible_collections.pvecri.runtime.tests.vm.node import eventually

SCRIPT = """\
echo to-err >&2
echo "host $(hostname)" "interfaces $(echo $(ls /sys/class/net))"
echo "secret $(cat /volume/secret)"
echo x 2>/dev/null > /volume/new || echo volume-is-read-only
echo x > /scratch/file && echo scratch-is-writable
touch /file 2>/dev/null || echo root-is-read-only
echo "memory $(cat /sys/fs/cgroup/memory.max)" "cpu $(cat /sys/fs/cgroup/cpu.max)"
mount -t proc none /mnt 2>/dev/null || echo mount-is-denied
trap 'echo bye; exit 11' TERM
echo ready
while :; do sleep 1; done
"""
CAPABILITIES = ["CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_ADMIN"]


def config(volume: pathlib.Path, script: str = SCRIPT) -> dict[str, t.Any]:
    """Return a ``config.json`` with what a pod asks for."""
    kept = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    process = {
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/bin", "LINES=a\nb"],
        "cwd": "/tmp",
        "user": {"uid": 0, "gid": 0},
        "capabilities": kept,
    }
    resources = {
        "memory": {"limit": 64 * MIB},
        "cpu": {"quota": 50_000, "period": 100_000},
        "pids": {"limit": 77},
    }
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [
            {"destination": "/volume", "type": "bind", "source": str(volume), "options": ["rbind", "ro"]},
            {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]},
        ],
        "linux": {"resources": resources},
    }


@pytest.fixture(scope="module", params=[True, False], ids=["unprivileged", "privileged"])
def guest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Guest]:
    """Start a container; of each kind one, since a start takes a second here."""
    volume = tmp_path_factory.mktemp("volume")
    (volume / "secret").write_text("told")
    (volume / "secret").chmod(0o600)
    made = Guest(900_001 if request.param else 900_002, unprivileged=request.param)
    try:
        made.start(config(volume))
        eventually(lambda: "ready" in made.logged()["stdout"])
        yield made
    finally:
        made.remove()


def test_generated_profile_lets_the_program_be_what_the_pod_asks_for(guest: Guest) -> None:
    assert guest.profile().startswith(f"lxc-{guest.vmid}_")
    assert guest.profile().endswith("(enforce)")
    logged = guest.logged()
    assert logged["stderr"] == ["to-err"]
    assert logged["stdout"] == [
        f"host {HOST_NAME} interfaces {INTERFACE} lo other",
        "secret told",
        "volume-is-read-only",
        "scratch-is-writable",
        "root-is-read-only",
        # What a program finds that sizes itself by it.
        f"memory {64 * MIB} cpu 50000 100000",
        "mount-is-denied",
        "ready",
    ]


def test_limits_are_the_kernels_and_change_while_it_runs(guest: Guest) -> None:
    limits = {name: guest.limit(name) for name in ("memory.max", "cpu.max", "pids.max")}
    assert limits == {"memory.max": str(64 * MIB), "cpu.max": "50000 100000", "pids.max": "77"}
    guest.driver.update(guest.name, {"memory": {"limit": 48 * MIB}})
    assert guest.limit("memory.max") == str(48 * MIB)
    assert guest.run("cat /sys/fs/cgroup/memory.max") == (0, f"{48 * MIB}\n")


def test_commands_have_the_same_profile_filter_and_group(guest: Guest) -> None:
    # Its root could make the root file system writable again, were it not for the profile.
    code, said = guest.run("mount -o remount,rw / 2>/dev/null || echo denied; exit 5")
    assert (code, said) == (5, "denied\n")
    session = guest.run("cat /proc/self/status /proc/self/cgroup")[1].splitlines()
    fields = dict(line.split(":", 1) for line in session)
    own = pathlib.Path(f"/proc/{guest.pid}/status").read_text()
    assert fields["Seccomp"].strip() == "2"
    assert f"CapBnd:{fields['CapBnd']}" in own
    # LXC has a group of its own for them, below the container's.
    assert fields["0"] in {":/", ":/.lxc"}


def test_it_stops_when_asked_and_its_exit_code_is_known(guest: Guest) -> None:
    # The kernel tells only parents here: lxc-monitord knows the code.
    assert guest.stop() == 11
    assert guest.logged()["stdout"][-1] == "bye"
    assert not pathlib.Path(f"/sys/fs/cgroup/lxc/{guest.vmid}").exists()


@pytest.fixture
def other(tmp_path: pathlib.Path) -> t.Iterator[Guest]:
    """One more, not yet started."""
    made = Guest(900_003, unprivileged=True)
    yield made
    made.remove()


def test_program_that_takes_too_much_memory_is_known_to_have_been_killed_for_it(
    other: Guest, tmp_path: pathlib.Path
) -> None:
    other.start(config(tmp_path, "exec tail /dev/zero"))
    assert other.driver.wait(other.name, 60) == 137
    state = other.driver.state(other.name)
    assert state is not None
    assert state.oom_killed


def test_terminal_is_the_containers_console(other: Guest, tmp_path: pathlib.Path) -> None:
    other.start(config(tmp_path, "tty; echo err >&2; exit 3"), terminal=True)
    assert other.driver.wait(other.name, 60) == 3
    assert other.logged() == {"stdout": ["/dev/console", "err"], "stderr": []}
