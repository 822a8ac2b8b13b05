# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods in user namespaces: who their processes and files are, inside and outside."""

from __future__ import annotations

import os
import pathlib
import shutil
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.vm.node import Node

FIRST, LENGTH = 200_000, 65_536
MAP = [{"host_id": FIRST, "container_id": 0, "length": LENGTH}]
POD = {"security_context": {"namespace_options": {"userns_options": {"mode": 0, "uids": MAP, "gids": MAP}}}}
CONTAINER = {
    "security_context": {"namespace_options": {"pid": 1, **POD["security_context"]["namespace_options"]}}
}


@pytest.fixture
def volume() -> t.Iterator[pathlib.Path]:
    """A directory of the host, as kubelet makes volumes: root's, not in memory."""
    path = pathlib.Path("/var/lib/verify-volume")
    path.mkdir(mode=0o755)
    secret = path / "secret"
    secret.write_text("of root\n")
    secret.chmod(0o600)
    yield path
    shutil.rmtree(path)


def test_root_of_the_pod_is_nobody_on_the_host(node: Node) -> None:
    script = "id -u; ls -nd /bin/busybox; touch /file; ls -n /file; exec sleep 3600"
    container = node.start(script, linux=CONTAINER, pod=POD)
    lines = container.says("/file").splitlines()
    assert lines[0] == "0"
    for line in lines[1:]:
        assert line.split()[2:4] == ["0", "0"], line
    assert container.proc.joinpath("uid_map").read_text().split() == ["0", str(FIRST), str(LENGTH)]
    assert container.proc.joinpath("gid_map").read_text().split() == ["0", str(FIRST), str(LENGTH)]
    assert os.stat(container.proc).st_uid == FIRST
    own, hosts = (os.readlink(f"/proc/{pid}/ns/user") for pid in (container.pid, 1))
    assert own != hosts
    # It is root of its namespaces, and of none of the host's.
    assert os.readlink(container.proc / "ns/net") != os.readlink("/proc/1/ns/net")
    node.crictl.try_("exec", "-s", container.id, "hostname", "other")
    assert os.uname().nodename != "other"


def test_files_of_a_mapped_volume_keep_their_owners(node: Node, volume: pathlib.Path) -> None:
    """As kubelet mounts volumes into such pods: the mount has the pod's map, and both sides see root."""
    mount = {"container_path": "/data", "host_path": str(volume), "uidMappings": MAP, "gidMappings": MAP}
    script = "cat /data/secret; touch /data/made; chown 33:34 /data/made; ls -n /data/made; sleep 3600"
    container = node.start(script, linux=CONTAINER, pod=POD, mounts=[mount])
    log = container.says("/data/made")
    assert "of root" in log
    assert log.splitlines()[-1].split()[2:4] == ["33", "34"]
    made = (volume / "made").stat()
    assert (made.st_uid, made.st_gid) == (33, 34)


def test_files_of_a_volume_without_a_map_are_somebody_elses(node: Node, volume: pathlib.Path) -> None:
    volume.chmod(0o777)
    mount = {"container_path": "/data", "host_path": str(volume)}
    script = "cat /data/secret; touch /data/made; ls -n /data/made; sleep 3600"
    container = node.start(script, linux=CONTAINER, pod=POD, mounts=[mount])
    log = container.says("/data/made")
    assert "of root" not in log
    made = (volume / "made").stat()
    assert (made.st_uid, made.st_gid) == (FIRST, FIRST)


def test_layers_of_the_image_keep_their_owners(node: Node) -> None:
    """The root file system is mapped when it is mounted: nothing is copied or given to another owner."""
    container = node.start("exec sleep 3600", linux=CONTAINER, pod=POD)
    program = os.stat(container.proc / "root/bin/busybox")
    assert program.st_uid in {0, FIRST}
    layers = pathlib.Path("/var/lib/pvecri/storage/overlay").glob("*/diff/bin/busybox")
    assert {path.stat().st_uid for path in layers} == {0}
