# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest cannot be is refused by its field, and nothing is made at Proxmox VE."""

from __future__ import annotations

import pytest

from pvecri.api import cri_pb2 as pb

CONTEXT = "config.linux.security_context"
LOCALHOST = pb.SecurityProfile(profile_type=pb.SecurityProfile.Localhost, localhost_ref="/mine")


def context(**fields):
    return {"linux": {"security_context": {"namespace_options": {"pid": pb.CONTAINER}, **fields}}}


WISHES = {
    f"{CONTEXT}.privileged": context(privileged=True),
    f"{CONTEXT}.seccomp": context(seccomp=LOCALHOST),
    f"{CONTEXT}.apparmor": context(apparmor=LOCALHOST),
    f"{CONTEXT}.run_as_user": context(run_as_user={"value": 70000}),
    f"{CONTEXT}.capabilities.add_capabilities": context(capabilities={"add_capabilities": ["NET_ADMIN"]}),
    f"{CONTEXT}.namespace_options.pid": context(namespace_options={"pid": pb.NODE}),
    "memory_limit_in_bytes": {
        "linux": {"resources": pb.LinuxContainerResources(memory_limit_in_bytes=8 << 20)}
    },
    "config.mounts[0].propagation": {
        "mounts": [
            pb.Mount(host_path="/tmp", container_path="/data", propagation=pb.PROPAGATION_BIDIRECTIONAL)
        ]
    },
    "config.mounts[0].container_path": {
        "mounts": [pb.Mount(host_path="/tmp", container_path="/dev/.pvecri")]
    },
}
#: Pods that such containers may be in.
PODS = {
    f"{CONTEXT}.privileged": {"privileged": True},
    f"{CONTEXT}.namespace_options.pid": {
        "linux": {"security_context": {"namespace_options": {"pid": pb.NODE}}}
    },
}


@pytest.mark.parametrize("field", list(WISHES))
def test_refused_by_its_field_before_anything_is_made(lab, field):
    pod = lab.pod(**PODS.get(field, {}))
    lab.node.forget_requests()
    with lab.refused("FAILED_PRECONDITION", field):
        lab.create(pod, **WISHES[field])
    assert [request for request in lab.node.requests_seen() if request[0] != "GET"] == []
    assert lab.cri.list_containers() == []


def test_second_guest_of_a_pod_is_refused(lab):
    pod = lab.pod()
    lab.create(pod, name="app")
    before = len(lab.node.tasks("vzcreate"))
    with lab.refused("FAILED_PRECONDITION", "'app' runs under Proxmox LXC", "pvecri.runtime/lxc-container"):
        lab.create(pod, name="other")
    assert len(lab.node.tasks("vzcreate")) == before


def test_host_network_is_refused(lab):
    with lab.refused("FAILED_PRECONDITION", "network"):
        lab.create(lab.pod(host_network=True))
    assert lab.node.vmids() == []


def test_rule_of_the_pod_s_image_and_plain_pods_stay_with_crun(lab):
    container = lab.run(lab.pod(handler=""))
    assert lab.sh(container, "echo here") == "here"
    assert lab.node.vmids() == []
