# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See from within what a container's mounts are."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.pvecri.runtime.tests.integration.endpoint.containers.conftest import USERS
from pvecri.api import cri_pb2 as pb


def bind(source, destination="/data", **fields):
    return pb.Mount(host_path=str(source), container_path=destination, **fields)


@pytest.fixture
def place(lab):
    """A directory that the endpoint's mount namespace shares with this test."""
    path = os.path.join(lab.endpoint.top, "volumes")
    os.makedirs(path, exist_ok=True)
    yield path
    for mounted in sorted(lab.endpoint.host.mounts(path), reverse=True):
        lab.endpoint.host.run(["umount", "-l", mounted])


def test_bind_mounts(lab, place):
    os.makedirs(f"{place}/one")
    with open(f"{place}/file", "w", encoding="ascii") as stream:
        stream.write("text\n")
    container = lab.run(
        mounts=[
            bind(f"{place}/one", "/data/../data//one/"),
            bind(f"{place}/file", "/etc/deep/file", readonly=True),
            bind(f"{place}/missing/below", "/made"),
            bind(f"{place}/file", "/etc/hosts"),
        ]
    )
    assert lab.sh(container, "touch /data/one/x; cat /etc/deep/file /etc/hosts") == "text\ntext"
    assert os.path.exists(f"{place}/one/x")
    assert os.path.isdir(f"{place}/missing/below")
    assert lab.cri.exec_sync(container, ["sh", "-c", "echo >/etc/deep/file"]).exit_code != 0
    shown = {mount.container_path: mount for mount in lab.status(container).mounts}
    assert shown["/etc/deep/file"].readonly
    assert len(shown) == 4


def test_bind_of_a_link_shows_its_target(lab, place):
    os.makedirs(f"{place}/real")
    os.symlink("real", f"{place}/link")
    container = lab.run(mounts=[bind(f"{place}/link")])
    lab.sh(container, "touch /data/x")
    assert os.listdir(f"{place}/real") == ["x"]


def test_propagation(lab, place):
    host = lab.endpoint.host
    os.makedirs(f"{place}/shared")
    host.run(["mount", "--bind", f"{place}/shared", f"{place}/shared"])
    host.run(["mount", "--make-rprivate", f"{place}/shared"])
    pod = lab.pod(privileged=True)
    both = bind(f"{place}/shared", propagation=pb.PROPAGATION_BIDIRECTIONAL)
    with lab.refused("INVALID_ARGUMENT", "config.mounts[0].propagation", "not shared", "--make-rshared"):
        lab.create(pod, mounts=[both])
    host.run(["mount", "--make-rshared", f"{place}/shared"])
    privileged = {"security_context": pb.LinuxContainerSecurityContext(privileged=True)}
    maker = lab.run(pod, mounts=[both], linux=privileged)
    into = bind(f"{place}/shared", propagation=pb.PROPAGATION_HOST_TO_CONTAINER)
    slave, private = lab.run(pod, mounts=[into]), lab.run(pod, mounts=[bind(f"{place}/shared")])
    lab.sh(maker, "mkdir /data/m && mount -t tmpfs t /data/m && touch /data/m/inner")
    assert f"{place}/shared/m" in host.mounts(place)
    assert lab.sh(slave, "ls /data/m") == "inner"
    assert lab.sh(private, "ls /data/m") == ""
    lab.sh(maker, "umount /data/m")


def test_recursive_read_only(lab, place):
    host = lab.endpoint.host
    os.makedirs(f"{place}/rro/below")
    host.run(["mount", "-t", "tmpfs", "t", f"{place}/rro/below"])
    pod = lab.pod()
    plain = lab.run(pod, mounts=[bind(f"{place}/rro", readonly=True)])
    assert lab.cri.exec_sync(plain, ["touch", "/data/x"]).exit_code == 1
    lab.sh(plain, "touch /data/below/x")
    whole = lab.run(pod, mounts=[bind(f"{place}/rro", readonly=True, recursive_read_only=True)])
    for path in ("/data/x", "/data/below/x"):
        assert lab.cri.exec_sync(whole, ["touch", path]).exit_code == 1, path


def test_image_volumes(with_users, place):
    lab = with_users
    image_id = lab.cri.image_status(USERS).id
    container = lab.run(
        image=USERS,
        mounts=[
            pb.Mount(container_path="/whole", image=pb.ImageSpec(image=USERS), readonly=True),
            pb.Mount(container_path="/part", image=pb.ImageSpec(image=image_id), image_sub_path="data/below"),
        ],
    )
    assert lab.sh(container, "cat /whole/data/file; ls /part") == "of the image\nother"
    assert lab.cri.exec_sync(container, ["touch", "/part/x"]).exit_code == 1
    with lab.refused("INVALID_ARGUMENT", "cmd:", "cannot be executed"):
        lab.cri.exec_sync(container, ["/whole/bin/busybox", "true"])
    lab.endpoint.restart()
    assert lab.sh(container, "ls /part") == "other"
    for image, sub_path, code, word in (
        ("registry.test/none:1", "", "NOT_FOUND", "mounts[0].image"),
        (USERS, "data/none", "INVALID_ARGUMENT", "image_sub_path"),
    ):
        mount = pb.Mount(container_path="/x", image=pb.ImageSpec(image=image), image_sub_path=sub_path)
        with lab.refused(code, word):
            lab.create(lab.pod(), mounts=[mount])


def test_image_in_use_as_a_volume_stays(with_users):
    lab = with_users
    lab.run(mounts=[pb.Mount(container_path="/x", image=pb.ImageSpec(image=USERS))])
    with lab.refused("FAILED_PRECONDITION", "in use"):
        lab.cri.remove_image(USERS)


MAP = pb.IDMapping(container_id=0, host_id=200000, length=65536)


def user_namespace():
    return pb.NamespaceOption(
        pid=pb.CONTAINER, userns_options=pb.UserNamespace(mode=pb.POD, uids=[MAP], gids=[MAP])
    )


def test_user_namespace(lab, place):
    options = user_namespace()
    context = {"security_context": pb.LinuxSandboxSecurityContext(namespace_options=options)}
    pod = lab.pod(host_network=False, linux=context)
    os.makedirs(f"{place}/mapped")
    with open(f"{place}/mapped/secret", "w", encoding="ascii") as stream:
        stream.write("for root\n")
    os.chmod(f"{place}/mapped/secret", 0o600)
    mount = bind(f"{place}/mapped", uidMappings=[MAP], gidMappings=[MAP])
    linux = {"security_context": pb.LinuxContainerSecurityContext(namespace_options=options)}
    container = lab.run(pod, linux=linux, mounts=[mount])
    assert lab.sh(container, "cat /proc/self/uid_map").split() == ["0", "200000", "65536"]
    assert lab.sh(container, "cat /data/secret; stat -c %u:%g /bin /data/secret") == "for root\n0:0\n0:0"
    lab.sh(container, "touch /data/new /root/x /dev/shm/x; hostname; mount -t tmpfs t /tmp || true")
    assert os.stat(f"{place}/mapped/new").st_uid == 0
    pid = json.loads(lab.cri.container_status(container, verbose=True).info["info"])["pid"]
    with open(f"/proc/{pid}/status", encoding="ascii") as stream:
        assert "Uid:\t200000\t" in stream.read()
    other = lab.run(pod, linux=linux)
    assert lab.sh(container, "readlink /proc/self/ns/user") == lab.sh(other, "readlink /proc/self/ns/user")
    # Some versions of crun give it away.
    assert os.stat(os.devnull).st_uid == 0
