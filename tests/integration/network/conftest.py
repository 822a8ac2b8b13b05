# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network of the tests' own: bridges, addresses and packet filter rules never touch the host's."""

from __future__ import annotations

import os
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni import PLUGIN_DIRS, Cni
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import (
    NetworkConfig,
    default_config,
    parse_config,
)


@pytest.fixture(scope="session", autouse=True)
def host() -> None:
    """Skip everything here where namespaces cannot be made, and say why."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def private_network() -> t.Iterator[None]:
    """Put this thread, and all it starts, into a new network namespace."""
    if not os.path.exists(os.path.join(PLUGIN_DIRS[0], "portmap")):
        pytest.skip("needs the Debian package containernetworking-plugins")
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    netns._bring_up("lo")
    try:
        yield
    finally:
        syscalls.setns(before, syscalls.CLONE_NEWNET)
        os.close(before)


@pytest.fixture
def paths(tmp_path: t.Any) -> Paths:
    """Directories below the test's own."""
    return Paths(str(tmp_path / "state"), str(tmp_path / "run"))


@pytest.fixture
def config(tmp_path: t.Any) -> NetworkConfig:
    """The default network, with its address book below the test's directory."""
    plain = default_config(subnets=["10.199.0.0/24"]).plain()
    plain["plugins"][0]["ipam"]["dataDir"] = str(tmp_path / "ipam")
    return parse_config(plain, "test")


@pytest.fixture
def pinned(tmp_path: t.Any) -> t.Iterator[t.Callable[[str], str]]:
    """Return a function that pins a namespace and returns its path."""
    made: list[str] = []

    def pin(name: str) -> str:
        path = str(tmp_path / "netns" / name)
        netns.pin(path)
        made.append(path)
        return path

    yield pin
    for path in made:
        netns.unpin(path)


@pytest.fixture
def cni(paths: Paths, private_network: None) -> Cni:
    """CNI's verbs with real plugins in the private network."""
    return Cni(paths, SubprocessRunner())
