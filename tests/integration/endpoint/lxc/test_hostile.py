# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What asks for too much or for nonsense is answered by its field, and never leaves anything behind."""

from __future__ import annotations

import contextlib

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


@contextlib.contextmanager
def answering(lab, method, path, value):
    """Have one request of Proxmox VE's API answered with a value of any kind, and nothing done."""
    truthful = lab.node.pve.answer

    async def answer(request, match, *rest, **more):
        if match is not None and (request.method, match.template) == (method, path):
            return value
        return await truthful(request, match, *rest, **more)

    lab.node.pve.answer = answer
    try:
        yield
    finally:
        lab.node.pve.answer = truthful


@pytest.mark.parametrize("value", [None, 5, "text", [None], [{}]], ids=str)
def test_list_of_templates_that_is_none_is_told(lab, value):
    with (
        answering(lab, "GET", "/nodes/{node}/aplinfo", value),
        lab.refused("INTERNAL", "not like one of Proxmox"),
    ):
        lab.cri.pull("lxc/any")


@pytest.mark.parametrize("value", [5, "UPID:", {}], ids=str)
def test_removal_goes_on_after_an_answer_that_is_none(lab, value):
    container = lab.create(lab.pod())
    with (
        answering(lab, "DELETE", "/nodes/{node}/lxc/{vmid}", value),
        pytest.raises(Exception, match=r"UPID|task"),
    ):
        lab.cri.remove(container)
    lab.cri.remove(container)
    assert lab.node.vmids() == []
    assert lab.files() == []
