# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What requests ask for is what guests have: mounts, images as volumes, devices, hidden paths, rights."""

from __future__ import annotations

import os

import pytest

from ansible_collections.pvecri.runtime.tests.support.images import (
    File,
    OciLayout,
    busybox_layer,
    directory,
    symlink,
    tar_layer,
)
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb

DEBIAN = "registry.test/debian:1"
DATA = "registry.test/data:1"
FLAT = "registry.test/flat:1"


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """Return images: one with the links of a Debian, one of data in two layers, one of data in one."""
    layout = OciLayout(tmp_path_factory.mktemp("fields"))
    links = [
        directory("run"),
        directory("var"),
        symlink("var/run", "/run"),
        symlink("etc/resolv.conf", "../run/resolve/stub.conf"),
    ]
    config = {"Cmd": ["sleep", "1000"], "Env": ["PATH=/bin"]}
    layout.add_image("debian", [busybox_layer(), tar_layer(links)], config)
    files = [File("data/own", b"private\n", mode=0o600), File("data/user", b"user\n", mode=0o600, uid=1000)]
    more = [File("data/below/other", b"deeper\n", mode=0o600)]
    layout.add_image("data", [tar_layer(files), tar_layer(more)], {})
    layout.add_image("flat", [tar_layer([*files, *more])], {})
    return {name: f"oci:{layout.path}:{name.split('/')[1].split(':')[0]}" for name in (DEBIAN, DATA, FLAT)}


@pytest.fixture
def with_images(lab, layouts):
    for name, source in layouts.items():
        if not lab.cri.list_images(name):
            lab.endpoint.load_image(name, source)
    return lab


def secured(**fields):
    return {"security_context": {"namespace_options": {"pid": pb.CONTAINER}, **fields}}


def test_mounts_are_where_the_links_of_the_image_lead(with_images, tmp_path):
    lab = with_images
    os.chmod(tmp_path, 0o700)
    (tmp_path / "token").write_text("s3cret")
    os.chmod(tmp_path / "token", 0o600)
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    mounts = [pb.Mount(host_path=str(tmp_path), container_path=path, readonly=True, selinux_relabel=True)]
    container = lab.run(image=DEBIAN, mounts=mounts)
    assert lab.sh(container, f"cat {path}/token; echo; cat /run{path[8:]}/token") == "s3cret\ns3cret"
    assert "nameserver" in lab.sh(container, "cat /etc/resolv.conf /run/resolve/stub.conf")
    assert not os.path.exists("/run/secrets")


@pytest.mark.parametrize("image", [DATA, FLAT])
def test_images_are_volumes_whose_files_are_the_guests_own(with_images, image):
    lab = with_images
    mounts = [
        pb.Mount(container_path="/whole", image=pb.ImageSpec(image=image), readonly=True),
        pb.Mount(container_path="/part", image=pb.ImageSpec(image=image), image_sub_path="data/below"),
    ]
    container = lab.run(mounts=mounts)
    seen = lab.sh(container, "cat /whole/data/own /part/other; stat -c %u /whole/data/user /part/other")
    assert seen == "private\ndeeper\n1000\n0"
    assert lab.cri.exec_sync(container, ["touch", "/whole/x"]).exit_code == 1
    with lab.refused("FAILED_PRECONDITION", "in use"):
        lab.cri.remove_image(image)


def test_paths_of_the_kernel_are_hidden_and_read_only(lab):
    hidden = ["/proc/timer_list", "/proc/acpi", "/proc/no-such", "/proc/scsi", "/sys/firmware"]
    container = lab.run(linux=secured(masked_paths=hidden, readonly_paths=["/proc/sys", "/proc/irq"]))
    for path in ("/proc/acpi", "/proc/scsi", "/sys/firmware"):
        assert lab.sh(container, f"ls -A {path} 2>/dev/null || true") == ""
    assert lab.sh(container, "cat /proc/timer_list") == ""
    for path in ("/proc/sys/kernel/domainname", "/proc/irq/default_smp_affinity"):
        done = lab.cri.exec_sync(container, ["sh", "-c", f"echo x > {path}"])
        assert done.exit_code != 0, path


def test_devices_can_be_used(lab):
    devices = [
        pb.Device(host_path="/dev/zero", container_path="/dev/mine", permissions="r"),
        pb.Device(host_path="/dev/full", container_path="/dev/below/full", permissions="rwm"),
    ]
    container = lab.run(devices=devices)
    assert lab.sh(container, "head -c 4 /dev/mine | wc -c; test -c /dev/below/full && echo node") == "4\nnode"


def test_capabilities_and_groups(lab):
    linux = secured(
        capabilities={"drop_capabilities": ["ALL"], "add_capabilities": ["CHOWN", "NET_BIND_SERVICE"]},
        supplemental_groups=[4000, 65535],
        run_as_user={"value": 0},
    )
    container = lab.run(linux=linux)
    status = lab.sh(container, "grep -E '^(CapBnd|Groups)' /proc/1/status; grep CapBnd /proc/self/status")
    words = status.split()
    # Bits 0 and 10.
    assert words.count("0000000000000401") == 2
    assert {"4000", "65535"} <= set(words)


def test_unprivileged_guest_serves_a_low_port_and_has_the_pods_name(lab):
    pod = lab.pod()
    container = lab.run(pod, "nc -l -p 80 & echo up; sleep 1000", linux=secured(run_as_user={"value": 1000}))
    lab.printed(container, "up")
    eventually(lambda: ":0050 " in lab.sh(container, "cat /proc/net/tcp /proc/net/tcp6"))
    assert lab.sh(container, "hostname; echo $HOSTNAME").split() == [lab.config_of(pod).hostname] * 2


def test_seccomp_unconfined_keeps_the_filter(lab):
    unconfined = pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined)
    container = lab.run(linux=secured(seccomp=unconfined))
    assert lab.sh(container, "echo fine") == "fine"


def test_annotation_names_the_one_guest_and_sidecars_share_its_network(lab):
    pod = lab.pod(guest="app")
    guest = lab.run(pod, name="app")
    sidecar = lab.run(pod, name="side")
    assert lab.node.vmids() == [lab.vmid(guest)]
    assert lab.vmids(sidecar) == []
    show = "ip -4 address show dev eth0 | grep -o 'inet [0-9.]*'"
    assert lab.sh(guest, show) == lab.sh(sidecar, show) == f"inet {lab.address(pod)}"


def test_sidecar_of_crun_can_see_the_guests_processes(lab):
    pod = lab.pod(guest="app")
    guest = lab.run(pod, "exec sleep 4711", name="app")
    options = {"pid": pb.TARGET, "target_id": guest}
    debug = lab.run(pod, name="debug", linux={"security_context": {"namespace_options": options}})
    assert "sleep 4711" in lab.sh(debug, "ps -o args")


def test_metrics_count_the_guests_processes(lab):
    container = lab.run(script="sleep 1000 & sleep 1000 & wait")
    request = pb.ListPodSandboxMetricsRequest()

    def processes():
        pods = lab.cri.call("ListPodSandboxMetrics", request).pod_metrics
        (found,) = [each for pod in pods for each in pod.container_metrics if each.container_id == container]
        return {metric.name: metric.value.value for metric in found.metrics}["container_processes"]

    eventually(lambda: processes() == 3)


def test_status_offers_the_handler_and_says_how_proxmox_stands(lab):
    answer = lab.cri.status(verbose=True)
    handlers = {handler.name: handler.features for handler in answer.runtime_handlers}
    assert {"", "crun", "pve-lxc"} <= handlers.keys()
    assert not handlers["pve-lxc"].user_namespaces
    ready = {each.type: (each.status, each.message) for each in answer.status.conditions}
    assert ready["LxcReady"] == (True, "")
    assert '"pve1"' in answer.info["lxc"]


def test_guests_are_not_checkpointed(lab, tmp_path):
    container = lab.run(name="app")
    target = tmp_path / "guest.tar"
    with lab.refused("FAILED_PRECONDITION", "(app) runs under Proxmox LXC"):
        lab.cri.call(
            "CheckpointContainer", pb.CheckpointContainerRequest(container_id=container, location=str(target))
        )
    assert not target.exists()
