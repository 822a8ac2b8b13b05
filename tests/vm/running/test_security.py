# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Profiles of AppArmor and filters of system calls: which one a container has, and what it keeps it from."""

from __future__ import annotations

import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.vm.node import Node

DEFAULT, UNCONFINED, LOCALHOST = 0, 1, 2
PROFILES = pathlib.Path("/sys/kernel/security/apparmor/profiles")
#: May do all but write below /data.
PROFILE = """\
abi <abi/4.0>,
profile pvecri-verify flags=(attach_disconnected,mediate_deleted) {
  capability,
  file,
  network,
  signal,
  unix,
  umount,
  ptrace,
  deny /data/** w,
}
"""
#: A mount, which the capability allows and the profile does not.
MOUNT = "mount -t tmpfs none /tmp && echo mounted || echo denied; exec sleep 3600"


def context(kind: int, ref: str = "", **more: t.Any) -> dict[str, t.Any]:
    """Return the part of a container's configuration that names a profile."""
    profile = {"profile_type": kind, "localhost_ref": ref}
    capabilities = {"add_capabilities": ["SYS_ADMIN"]}
    return {"security_context": {"apparmor": profile, "capabilities": capabilities, **more}}


def profile_of(pid: int) -> str:
    return pathlib.Path(f"/proc/{pid}/attr/apparmor/current").read_text().strip("\0\n")


@pytest.fixture
def localhost_profile(tmp_path: pathlib.Path) -> t.Iterator[str]:
    """A profile of the host's own."""
    path = tmp_path / "profile"
    path.write_text(PROFILE)
    subprocess.run(["apparmor_parser", "--replace", str(path)], check=True)
    yield "pvecri-verify"
    subprocess.run(["apparmor_parser", "--remove", str(path)], check=True)


def test_default_profile_is_loaded_and_applied(node: Node) -> None:
    container = node.start(MOUNT, linux=context(DEFAULT))
    container.says("denied")
    name = profile_of(container.pid)
    assert name.startswith("pvecri-default-")
    assert name.endswith(" (enforce)")
    assert name in PROFILES.read_text().splitlines()
    # What exec starts is held by it, too.
    assert container.exec("cat", "/proc/self/attr/apparmor/current").strip("\0\n") == name
    refused = node.crictl.try_("exec", "-s", container.id, "mount", "-t", "tmpfs", "none", "/tmp")
    assert refused.returncode != 0
    assert "denied" in (refused.stdout + refused.stderr).lower()


def test_container_that_names_no_profile_has_the_default_one(node: Node) -> None:
    assert profile_of(node.start("exec sleep 3600").pid).startswith("pvecri-default-")


def test_unconfined_is_unconfined(node: Node) -> None:
    container = node.start(MOUNT, linux=context(UNCONFINED))
    container.says("mounted")
    assert profile_of(container.pid) == "unconfined"


def test_privileged_is_unconfined(node: Node) -> None:
    # The pod must allow it.
    pod = {"security_context": {"privileged": True}}
    container = node.start(MOUNT, linux={"security_context": {"privileged": True}}, pod=pod)
    container.says("mounted")
    assert profile_of(container.pid) == "unconfined"
    assert "Seccomp:\t0" in container.proc.joinpath("status").read_text()


def test_profile_of_the_host_is_applied(node: Node, localhost_profile: str) -> None:
    script = (
        "mkdir /data; echo x > /data/file && echo written || echo denied;"
        " echo x > /file && echo elsewhere; exec sleep 3600"
    )
    container = node.start(script, linux=context(LOCALHOST, localhost_profile))
    log = container.says("elsewhere")
    assert "denied" in log
    assert "written" not in log
    assert profile_of(container.pid) == f"{localhost_profile} (enforce)"


def test_profile_that_is_not_loaded_is_refused(node: Node) -> None:
    with pytest.raises(AssertionError, match=r"pvecri-nowhere.*is loaded on this host"):
        node.start("sleep 1", linux=context(LOCALHOST, "pvecri-nowhere"))


def test_default_filter_of_system_calls(node: Node) -> None:
    """Anybody may switch the randomisation of addresses off, but not under the default filter."""
    script = "busybox linux64 -R true && echo done || echo denied; exec sleep 3600"
    kinds = {DEFAULT: ("denied", "2"), UNCONFINED: ("done", "0")}
    for kind, (said, mode) in kinds.items():
        seccomp = {"seccomp": {"profile_type": kind}}
        container = node.start(script, linux={"security_context": seccomp})
        container.says(said)
        status = container.proc.joinpath("status").read_text()
        assert f"Seccomp:\t{mode}" in status
