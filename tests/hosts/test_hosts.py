# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/hosts: hosts come, reboot and go, whenever somebody is killed, and leave nothing behind."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import time
import typing as t

import pytest

HOSTS = str(pathlib.Path(__file__).resolve().parents[2] / "scripts/hosts")
CACHE = pathlib.Path(os.environ.get("PVECRI_CACHE") or "/var/cache/pvecri") / "hosts"


def hosts(*argv: str) -> str:
    done = subprocess.run([HOSTS, *argv], capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout


def up(name: str) -> dict[str, t.Any]:
    data: dict[str, t.Any] = json.loads(hosts("up", name))
    return data


def boot_id(name: str) -> str:
    return hosts("ssh", name, "cat", "/proc/sys/kernel/random/boot_id")


def traces(name: str) -> list[str]:
    """Return everything on this machine that bears the name of a host."""
    found = [
        f"namespace {line}" for line in _lines("ip", "netns", "list") if line.split()[0] == f"pvh-{name}"
    ]
    rules = [*_lines("iptables-save"), *_lines("ip", "-br", "link")]
    found += [line for line in rules if f'"pvecri test host {name}"' in line]
    found += [
        line for line in pathlib.Path("/proc/self/mounts").read_text().splitlines() if f"/{name}/" in line
    ]
    for cmdline in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name in words or f"--machine={name}" in words:
            found.append(" ".join(words))
    groups = pathlib.Path("/sys/fs/cgroup")
    places = [pathlib.Path("/run/pvecri-hosts", name), CACHE / "machines" / name]
    places += [groups / "pvecri-hosts" / name, groups / "unified/pvecri-hosts" / name]
    return found + [str(path) for path in places if path.exists()]


def _lines(*argv: str) -> list[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()


pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root"),
    # Each host is a whole root file system; the first may have to make one, and the machine may be busy.
    pytest.mark.timeout(1800),
]


@pytest.fixture(name="name")
def fixture_name(request: pytest.FixtureRequest) -> t.Iterator[str]:
    prefix = os.environ.get("PVECRI_HOSTS_PREFIX") or "t"
    name = f"{prefix}-{os.getpid()}-{request.function.__name__[-8:].replace('_', '')}"
    yield name
    hosts("down", name)
    assert traces(name) == []


def test_host_reboots_from_inside_and_from_outside(name: str) -> None:
    host = up(name)
    assert host["running"]
    assert host["release"] == "trixie"
    first = boot_id(name)
    assert up(name) == host
    assert boot_id(name) == first
    hosts("ssh", name, "touch /root/kept /run/gone; ip link add left type bridge")
    hosts("reboot", name)
    second = boot_id(name)
    assert second != first
    assert (
        hosts("ssh", name, "ls /root/kept; ls -d /run/gone /sys/class/net/left 2>/dev/null || true")
        == "/root/kept\n"
    )
    hosts("reboot", "--hard", name)
    third = boot_id(name)
    assert third != second
    subprocess.run([HOSTS, "ssh", name, "systemctl reboot"], check=False, capture_output=True)
    nspawn = pathlib.Path("/run/pvecri-hosts", name, "nspawn.pid")
    before = nspawn.read_text()
    while nspawn.read_text() == before:
        time.sleep(0.1)
    up(name)
    assert boot_id(name) != third


def test_killed_keeper_takes_its_host_along_and_up_powers_it_on(name: str) -> None:
    up(name)
    first = boot_id(name)
    hosts("ssh", name, "touch /root/kept; sync")
    os.kill(int(pathlib.Path("/run/pvecri-hosts", name, "keeper.lock").read_text()), signal.SIGKILL)
    up(name)
    assert boot_id(name) != first
    assert hosts("ssh", name, "ls /root/kept") == "/root/kept\n"


@pytest.mark.parametrize("command", ["up", "down"])
def test_killed_command_is_mended_by_the_next(name: str, command: str) -> None:
    """Kill it after 0.1 s, 0.2 s, 0.4 s … until it ends by itself: between more and more of its steps."""
    delay = 0.1
    while True:
        if command == "down":
            up(name)
        child = subprocess.Popen([HOSTS, command, name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert child.wait(delay) == 0
            break
        except subprocess.TimeoutExpired:
            pass
        finally:
            child.kill()
            child.wait()
        if command == "up":
            hosts("down", name)
            assert traces(name) == []
        delay *= 2
    assert command == "down" or boot_id(name)


def test_hosts_that_come_at_once_do_not_share_an_address(name: str) -> None:
    names = [name, f"{name}b"]
    children = [subprocess.Popen([HOSTS, "up", one], stdout=subprocess.PIPE, text=True) for one in names]
    try:
        found = [json.loads(child.communicate()[0]) for child in children]
        assert found[0]["address"] != found[1]["address"]
        reach = f"exec 3<>/dev/tcp/{found[1]['address']}/22; head -c 4 <&3"
        assert hosts("ssh", name, f"bash -c '{reach}'") == "SSH-"
    finally:
        hosts("down", names[1])
    assert traces(names[1]) == []


def test_host_of_another_release_is_refused(name: str) -> None:
    up(name)
    done = subprocess.run(
        [HOSTS, "up", name, "--release", "bookworm"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"scripts/hosts down {name}" in done.stderr
