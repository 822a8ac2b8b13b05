# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens when the kernel or the host does not give a pod its namespaces."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    InvalidSpec,
    Unsupported,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap, Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from pvecri.sandboxes import namespaces
from pvecri.sandboxes.places import Places
from pvecri.sandboxes.pod import Pod

MAPS = (IdMap(container_id=0, host_id=100000, size=65536),)
PLAIN = Pod(key="k", name="a", namespace="b", uid="c")
OWNED = Pod(key="k", name="a", namespace="b", uid="c", uid_maps=MAPS, gid_maps=MAPS)


@pytest.fixture
def places(tmp_path: pathlib.Path) -> Places:
    """Places of a sandbox below the test's directory."""
    return Places(Paths(str(tmp_path / "s"), str(tmp_path / "r")), "ab")


@pytest.mark.parametrize(
    ("network", "ipc", "maps", "kinds"),
    [
        (False, False, (), ("net", "uts", "ipc")),
        (True, False, (), ("ipc",)),
        (False, True, (), ("net", "uts")),
        (True, True, (), ()),
        (False, False, MAPS, ("net", "uts", "ipc", "user")),
        (True, False, MAPS, ("ipc", "user")),
    ],
)
def test_kinds_of(network: bool, ipc: bool, maps: tuple[IdMap, ...], kinds: tuple[str, ...]) -> None:
    pod = Pod(
        key="k",
        name="a",
        namespace="b",
        uid="c",
        has_host_network=network,
        has_host_ipc=ipc,
        uid_maps=maps,
        gid_maps=maps,
    )
    assert namespaces.kinds_of(pod) == kinds


def test_make_nothing_for_a_pod_in_the_hosts_namespaces(places: Places) -> None:
    pod = Pod(key="k", name="a", namespace="b", uid="c", has_host_network=True, has_host_ipc=True)
    namespaces.make(pod, places)
    assert not os.path.exists(places.volatile)


def test_make_names_the_maps_that_the_kernel_refuses(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: t.Any) -> t.NoReturn:
        raise InvalidSpec("uid_maps", "the kernel refuses these id maps")

    monkeypatch.setattr(namespaces, "user_namespace", refuse)
    with pytest.raises(InvalidSpec) as caught:
        namespaces.make(OWNED, places)
    assert caught.value.field == "config.linux.security_context.namespace_options.userns_options"


def test_make_leaves_no_user_namespace_without_the_others(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[Places] = []
    monkeypatch.setattr(namespaces, "user_namespace", lambda *_args: contextlib.nullcontext(0))
    monkeypatch.setattr(netns, "pin_of_fd", lambda *_args: None)
    monkeypatch.setattr(namespaces, "release", released.append)

    def holder(argv: list[str], **_said: str) -> t.ContextManager[int]:
        assert argv == [
            "nsenter",
            f"--user={places.namespace('user')}",
            "--",
            *("unshare", "--net", "--uts", "--ipc"),
            "--",
        ]
        raise Unsupported("no")

    monkeypatch.setattr(namespaces, "namespace_holder", holder)
    with pytest.raises(Unsupported):
        namespaces.make(OWNED, places)
    assert released == [places]


def test_release_goes_on_past_an_error(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def unpin(path: str) -> bool:
        tried.append(os.path.basename(path))
        if path.endswith("net"):
            raise OSError(errno.EIO, "broken")
        return True

    monkeypatch.setattr(netns, "unpin", unpin)
    with pytest.raises(OSError, match="broken"):
        namespaces.release(places)
    assert tried == list(namespaces.KINDS)


def test_sysctl_that_is_refused_names_the_field(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []

    def write(values: dict[str, str], *, owner: int | None) -> None:
        assert owner is None
        seen.append(values)
        raise InvalidSpec("sysctls", "no such thing")

    monkeypatch.setattr(netns, "write_sysctls", write)
    monkeypatch.setattr(netns, "run_inside_all", lambda _paths, action: action())
    pod = Pod(
        key="k",
        name="a",
        namespace="b",
        uid="c",
        sysctls={"net.ipv4.conf.eth0/1.forwarding": "1", "kernel.shmmax": "2"},
    )
    for is_attached, wanted in (
        (False, {"kernel/shmmax": "2"}),
        (True, {"net/ipv4/conf/eth0.1/forwarding": "1"}),
    ):
        with pytest.raises(InvalidSpec) as caught:
            namespaces.apply_sysctls(pod, places, is_attached=is_attached)
        assert caught.value.field == "config.linux.sysctls"
        assert seen[-1] == wanted
    namespaces.apply_sysctls(PLAIN, places, is_attached=False)
    assert len(seen) == 2
