# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates of Proxmox VE's own list as images: pulled, listed, run with their own init, removed."""

from __future__ import annotations

import gzip

import pytest

from ansible_collections.pvecri.runtime.tests.support.images import File, busybox_files, tar_layer
from ansible_collections.pvecri.runtime.tests.support.pve_node import TOKEN, USER
from pvecri.api import cri_pb2 as pb

NAME = "lxc/tiny"
FILE = "tiny_1.2-1_amd64.tar.gz"
INIT = b"""#!/bin/sh
echo booted in $container
trap 'echo bye; exit 0' TERM PWR
while :; do sleep 0.1; done
"""


@pytest.fixture
def native(lab):
    files = [*busybox_files(), File("sbin/init", INIT, 0o755)]
    lab.node.storage.appliances[FILE] = gzip.compress(tar_layer(files), mtime=0)
    yield lab
    lab.clear()
    if lab.cri.list_images(NAME):
        lab.cri.remove_image(NAME)


def test_pull_list_run_and_remove(native):
    lab = native
    reference = lab.cri.pull(NAME)
    assert (lab.node.storage.cache / FILE).exists()
    image = lab.cri.image_status(NAME)
    assert reference == image.id
    assert image.size > 0
    assert image.id in [each.id for each in lab.cri.list_images()]
    container = lab.run(command=[], image=NAME)
    # systemd wants to be told where it runs.
    lab.printed(container, "booted in lxc")
    assert lab.sh(container, "cat /proc/1/comm") in ("init", "sh")
    assert lab.address(lab.cri.list_pods()[0].id) in lab.sh(container, "ip -o -4 addr show dev eth0")
    lab.cri.stop(container, 20)
    assert lab.ended(container).exit_code == 0
    assert "bye" in lab.log(container)
    lab.cri.remove(container)
    lab.cri.remove_image(NAME)
    assert lab.cri.image_status(NAME) is None


def test_privileged_guest_is_made_of_a_native_template(native):
    lab = native
    lab.cri.pull(NAME)
    context = {"namespace_options": {"pid": pb.CONTAINER}, "privileged": True}
    wish = {"command": [], "image": NAME, "linux": {"security_context": context}}
    pod = lab.pod(privileged=True)
    # The role gives its token no such power.
    with lab.refused("FAILED_PRECONDITION", "Sys.Modify"):
        lab.create(pod, **wish)
    assert lab.node.vmids() == []
    lab.node.access.roles["More"] = {"Sys.Modify"}
    for kind, who in (("user", USER), ("token", f"{USER}!{TOKEN}")):
        lab.node.access.give(kind, who, "/", "More", propagate=False)
    container = lab.run(pod, **wish)
    lab.printed(container, "booted in lxc")
    assert lab.node.config(lab.vmid(container)).get("unprivileged", 0) == 0
    del lab.node.access.roles["More"]


def test_unknown_template_is_not_found(native):
    with native.refused("NOT_FOUND", "nothing-like-it"):
        native.cri.pull("lxc/nothing-like-it")


def test_native_template_is_not_for_crun(native):
    lab = native
    lab.cri.pull(NAME)
    with lab.refused("FAILED_PRECONDITION", NAME):
        lab.create(lab.pod(handler="crun"), command=[], image=NAME)
