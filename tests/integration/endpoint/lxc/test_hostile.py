# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What asks for too much or for nonsense is answered by its field, and never leaves anything behind."""

from __future__ import annotations

import pytest

from pvecri.api import cri_pb2 as pb


def mount(source: str, target: str, **fields):
    return {"mounts": [pb.Mount(host_path=source, container_path=target, **fields)]}


@pytest.mark.parametrize("propagation", ["PROPAGATION_PRIVATE", "PROPAGATION_HOST_TO_CONTAINER"])
def test_whole_host_can_be_shown(lab, propagation):
    """As monitoring agents want it: with the directory of the guest itself, which root cannot enter there."""
    wish = mount("/", "/host", readonly=True, propagation=pb.MountPropagation.Value(propagation))
    container = lab.run(**wish)
    assert "etc" in lab.sh(container, "ls /host").split()
    lab.cri.stop(container)
    lab.cri.remove(container)
    assert lab.node.vmids() == []
    assert lab.files() == []


WISHES = {
    "a name on the way that is too long": (
        "INVALID_ARGUMENT",
        "container_path",
        mount("/tmp", "/" + "n" * 300),
    ),
    "a target that no path on the host leads to": (
        "INVALID_ARGUMENT",
        "container_path",
        mount("/tmp", "/d" * 2000),
    ),
    "a source below a file": ("INVALID_ARGUMENT", "config.mounts[0].host_path", mount("/etc/passwd/x", "/d")),
    "the endpoint's own directory, said otherwise": (
        "FAILED_PRECONDITION",
        "config.mounts[0].container_path",
        mount("/tmp", "//dev/x/../.pvecri"),
    ),
    "a device in /proc": (
        "FAILED_PRECONDITION",
        "config.devices[0].container_path",
        {"devices": [pb.Device(host_path="/dev/null", container_path="/dev/../proc/x", permissions="rw")]},
    ),
}


@pytest.mark.parametrize("what", list(WISHES))
def test_nonsense_is_refused_before_anything_is_asked_for(lab, what):
    code, field, wish = WISHES[what]
    pod = lab.pod()
    lab.node.forget_requests()
    with lab.refused(code, field):
        lab.create(pod, **wish)
    assert [request for request in lab.node.requests_seen() if request[0] != "GET"] == []


def test_least_share_of_a_processor_can_be_started(lab):
    lab.run(linux={"resources": pb.LinuxContainerResources(cpu_quota=1000, cpu_period=1_000_000)})
