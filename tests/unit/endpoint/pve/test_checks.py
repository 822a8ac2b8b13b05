# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Proxmox LXC cannot do is refused by the field's name, with a remedy; what kubelet sends is not."""

from __future__ import annotations

import re
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import include
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.include import IncludeFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Device, Hook, Mount, MountKind
from pvecri.api import cri_pb2 as pb
from pvecri.containers.request import Request
from pvecri.containers.spec.cdi import Edits
from pvecri.pve import checks
from pvecri.pve.checks import PveFacts
from pvecri.pve.fields import CONFIG, SANDBOX
from pvecri.rpc.errors import status_of
from pvecri.rpc.status import Code
from pvecri.runtimes.protocol import Wish

MIB = 1 << 20
CONTEXT = "config.linux.security_context"
OPTIONS = f"{CONTEXT}.namespace_options"
OF_POD = "sandbox_config.linux.security_context.namespace_options"
KINDS = pb.SecurityProfile


def pod(*, privileged=False, **options):
    options.setdefault("pid", pb.CONTAINER)
    context = pb.LinuxSandboxSecurityContext(
        privileged=privileged, namespace_options=pb.NamespaceOption(**options)
    )
    return pb.PodSandboxConfig(linux=pb.LinuxPodSandboxConfig(security_context=context))


def wish(config, of=None):
    config.metadata.name, config.image.image = "app", "docker.io/library/db-main:1"
    # As they come: what contradicts itself is refused before.
    of = of or pod(privileged=config.linux.security_context.privileged)
    sandbox = types.SimpleNamespace(id="5" * 64, config=of.SerializeToString())
    chosen = types.SimpleNamespace(reason="rule 'lxc-images' matches")
    return Wish(request=Request.checked(sandbox, config), image=None, selection=chosen)


def secured(**fields):
    context = pb.LinuxContainerSecurityContext(**fields)
    return pb.ContainerConfig(linux=pb.LinuxContainerConfig(security_context=context))


def options(**fields):
    return secured(namespace_options=pb.NamespaceOption(**fields))


def mount(**fields):
    fields = {"container_path": "/data", "host_path": "/srv", **fields}
    return pb.ContainerConfig(
        mounts=[pb.Mount(container_path="/first", host_path="/srv"), pb.Mount(**fields)]
    )


def device(path):
    return pb.ContainerConfig(
        devices=[pb.Device(container_path=path, host_path="/dev/null", permissions="r")]
    )


def vendor():
    return pb.ContainerConfig(CDI_devices=[pb.CDIDevice(name="vendor.com/gpu=0")])


def limits(**fields):
    resources = pb.LinuxContainerResources(**fields)
    return pb.ContainerConfig(linux=pb.LinuxContainerConfig(resources=resources))


def profile(kind, ref=""):
    return KINDS(profile_type=kind, localhost_ref=ref)


def bind(**fields):
    return Mount(kind=MountKind.BIND, source="/opt", **{"destination": "/opt", **fields})


ID_MAP = [pb.IDMapping(host_id=100000, container_id=0, length=65536)]
LABEL = pb.SELinuxOption(type="container_t")
OWN_USERS = pb.UserNamespace(mode=pb.POD, uids=ID_MAP, gids=ID_MAP)
VENDOR = "config.CDI_devices[0].name"

#: field, request, pod, facts
REFUSED = [
    (f"{CONTEXT}.privileged", secured(privileged=True), None, {}),
    (f"{CONTEXT}.run_as_user", secured(run_as_user=pb.Int64Value(value=65536)), None, {}),
    (
        f"{CONTEXT}.run_as_group",
        secured(run_as_user=pb.Int64Value(value=1), run_as_group=pb.Int64Value(value=70000)),
        None,
        {},
    ),
    (f"{CONTEXT}.supplemental_groups[1]", secured(supplemental_groups=[1, 1 << 20]), None, {}),
    (f"{OF_POD}.network", options(), pod(network=pb.NODE), {}),
    (f"{OF_POD}.ipc", options(), pod(ipc=pb.NODE), {}),
    (f"{OPTIONS}.pid", options(pid=pb.POD), pod(pid=pb.POD), {}),
    (f"{OPTIONS}.pid", options(pid=pb.NODE), pod(pid=pb.NODE), {}),
    (f"{OPTIONS}.pid", options(), pod(pid=pb.NODE), {}),
    (f"{OPTIONS}.pid", options(pid=pb.TARGET, target_id="6" * 64), pod(), {}),
    (f"{OF_POD}.userns_options.mode", options(), pod(userns_options=OWN_USERS), {}),
    (
        f"{OPTIONS}.userns_options.mode",
        options(userns_options=OWN_USERS),
        pod(userns_options=OWN_USERS),
        {},
    ),
    (f"{CONTEXT}.seccomp", secured(seccomp=profile(KINDS.Localhost, "/x.json")), None, {}),
    (f"{CONTEXT}.seccomp_profile_path", secured(seccomp_profile_path="localhost//x.json"), None, {}),
    (f"{CONTEXT}.apparmor", secured(apparmor=profile(KINDS.Localhost, "mine")), None, {}),
    (f"{CONTEXT}.apparmor", secured(apparmor=profile(KINDS.Unconfined)), None, {}),
    (f"{CONTEXT}.apparmor_profile", secured(apparmor_profile="localhost/mine"), None, {}),
    (f"{CONTEXT}.apparmor_profile", secured(apparmor_profile="unconfined"), None, {}),
    (f"{CONTEXT}.selinux_options", secured(selinux_options=LABEL), None, {"has_selinux": True}),
    *(
        (
            f"{CONTEXT}.capabilities.add_capabilities[1]",
            secured(capabilities=pb.Capability(add_capabilities=["CHOWN", name])),
            None,
            {},
        )
        for name in ("NET_ADMIN", "CAP_NET_RAW", "sys_module", "ALL", "SYS_TIME", "MKNOD", "BPF", "IPC_LOCK")
    ),
    (
        f"{CONTEXT}.capabilities.add_ambient_capabilities",
        secured(capabilities=pb.Capability(add_ambient_capabilities=["CHOWN"])),
        None,
        {},
    ),
    *(
        ("config.mounts[1].container_path", mount(container_path=path), None, {})
        for path in (
            "/dev",
            "/proc/",
            "/sys",
            "/dev/pts",
            "/sys/fs/cgroup",
            "/dev/.pvecri",
            "/dev/.pvecri/run",
            "//dev/./x/../.pvecri",
            "/proc/sys/kernel",
        )
    ),
    ("config.mounts[1].host_path", mount(), None, {"unmapped": {1: "NFS"}}),
    ("config.mounts[1].propagation", mount(propagation=pb.PROPAGATION_BIDIRECTIONAL), None, {}),
    ("config.mounts[1].recursive_read_only", mount(readonly=True, recursive_read_only=True), None, {}),
    ("config.mounts[1].uidMappings", mount(uidMappings=ID_MAP, gidMappings=ID_MAP), None, {}),
    *(
        ("config.mounts[1].mount_options[1]", mount(mount_options=["noexec", option]), None, {})
        for option in ("nosymfollow", "sync")
    ),
    *(
        ("config.devices[0].container_path", device(path), None, {})
        for path in ("/dev/.pvecri/x", "/proc/x", "/dev/../sys/x")
    ),
    ("config.linux.resources.memory_limit_in_bytes", limits(memory_limit_in_bytes=16 * MIB - 1), None, {}),
    (VENDOR, vendor(), None, {"edits": Edits(hooks=(Hook(stage="createRuntime", path="/bin/x"),))}),
    (VENDOR, vendor(), None, {"edits": Edits(mounts=(bind(propagation="rshared"),))}),
    (VENDOR, vendor(), None, {"edits": Edits(mounts=(bind(destination="/dev/.pvecri"),))}),
    (VENDOR, vendor(), None, {"edits": Edits(groups=("65536",))}),
    (VENDOR, vendor(), None, {"edits": Edits(devices=(Device(source="/dev/x", destination="/dev"),))}),
]


@pytest.mark.parametrize(
    ("field", "config", "of", "facts"), REFUSED, ids=[f"{i}-{case[0]}" for i, case in enumerate(REFUSED)]
)
def test_what_guests_cannot_have_is_refused_by_name(field, config, of, facts):
    with pytest.raises(Unsupported) as caught:
        checks.check(wish(config, of), PveFacts(**facts))
    assert caught.value.message.startswith(f"{field}: ")
    assert caught.value.hint
    assert status_of(caught.value) is Code.FAILED_PRECONDITION


#: Of these the request itself contradicts something, which is refused whatever runs it.
BY_VALIDATE = {"windows", "linux.security_context.namespace_options.target_id"}
#: Said by a field beside them, without which they cannot be.
BESIDE = {
    "mounts[].gidMappings": "mounts[].uidMappings",
    "linux.security_context.namespace_options.network": f"{OF_POD}.network".partition(".")[2],
    "linux.security_context.namespace_options.ipc": f"{OF_POD}.ipc".partition(".")[2],
    "CDI_devices": "CDI_devices[].name",
    "linux.security_context.namespace_options.userns_options": "linux.security_context.namespace_options"
    ".userns_options.mode",
}


def plain(field):
    """Return a field's path without numbers, as the tables have it."""
    return re.sub(r"\[[0-9]+\]", "[]", field.partition(".")[2]).removesuffix("[]")


def test_every_refusal_of_the_tables_is_tried_and_no_other():
    tried = {plain(case[0]) for case in REFUSED}
    said = {field.path for field in (*CONFIG, *SANDBOX) if field.refused} - BY_VALIDATE
    assert {path for path in said if path not in tried and BESIDE.get(path) not in tried} == set()
    assert tried - said - set(BESIDE.values()) == set()


KUBELET = pb.ContainerConfig(
    command=["/bin/app"],
    args=["-v"],
    envs=[pb.KeyValue(key="A", value=b"two\nlines")],
    working_dir="/srv",
    mounts=[
        pb.Mount(container_path="/etc/hosts", host_path="/var/lib/kubelet/h", selinux_relabel=True),
        pb.Mount(
            container_path="/var/run/secrets/kubernetes.io/serviceaccount",
            host_path="/var/lib/kubelet/s",
            readonly=True,
            selinux_relabel=True,
        ),
        pb.Mount(container_path="/host", host_path="/", propagation=pb.PROPAGATION_HOST_TO_CONTAINER),
    ],
    devices=[pb.Device(container_path="/dev/fuse", host_path="/dev/fuse", permissions="rw")],
    log_path="app/0.log",
    linux=pb.LinuxContainerConfig(
        resources=pb.LinuxContainerResources(
            cpu_period=100000,
            cpu_quota=50000,
            cpu_shares=512,
            memory_limit_in_bytes=64 * MIB,
            memory_swap_limit_in_bytes=64 * MIB,
            oom_score_adj=999,
            hugepage_limits=[pb.HugepageLimit(page_size="2MB", limit=0)],
            unified={"memory.oom.group": "1"},
        ),
        security_context=pb.LinuxContainerSecurityContext(
            capabilities=pb.Capability(drop_capabilities=["ALL"], add_capabilities=["NET_BIND_SERVICE"]),
            namespace_options=pb.NamespaceOption(
                pid=pb.CONTAINER, userns_options=pb.UserNamespace(mode=pb.NODE)
            ),
            run_as_user=pb.Int64Value(value=65535),
            supplemental_groups=[65535],
            no_new_privs=True,
            readonly_rootfs=True,
            masked_paths=["/proc/kcore"],
            readonly_paths=["/proc/sys"],
            seccomp=profile(KINDS.Unconfined),
            apparmor=profile(KINDS.RuntimeDefault),
            selinux_options=LABEL,
        ),
    ),
)


@pytest.mark.parametrize(
    ("config", "facts"),
    [
        (KUBELET, {}),
        (options(pid=pb.CONTAINER), {}),
        (limits(memory_limit_in_bytes=16 * MIB), {}),
        (limits(memory_limit_in_bytes=-1), {}),
        (secured(run_as_username="web"), {}),
        (mount(host_path="", image=pb.ImageSpec(image="a"), image_sub_path="b"), {}),
        (secured(run_as_username="root"), {"is_native": True}),
        (secured(privileged=True), {"is_native": True}),
        # Of a privileged container nothing is mapped, filtered or confined.
        (
            secured(
                privileged=True,
                run_as_user=pb.Int64Value(value=70000),
                capabilities=pb.Capability(add_capabilities=["NET_ADMIN"]),
                apparmor=profile(KINDS.Unconfined),
                selinux_options=LABEL,
            ),
            {"is_native": True, "has_selinux": True},
        ),
        (vendor(), {"edits": Edits(groups=("44",), mounts=(bind(),), env=(("A", "b"),))}),
    ],
    ids=range(10),
)
def test_what_guests_can_have_is_let_pass(config, facts):
    checks.check(wish(config), PveFacts(**facts))


def test_container_of_its_own_process_ids_goes_in_a_pod_that_shares_them():
    checks.check(wish(options(pid=pb.CONTAINER), pod(pid=pb.POD)), PveFacts())


def test_second_guest_of_a_pod_is_refused_with_the_first_ones_name():
    with pytest.raises(Unsupported, match=r"'db' runs under Proxmox LXC already.*lxc-images") as caught:
        checks.check(wish(options()), PveFacts(other="db"))
    assert "crun" in caught.value.hint


def test_mount_options_are_those_that_the_included_file_takes():
    for option in checks.MOUNT_OPTIONS:
        mount_ = {"destination": "/data", "source": "/srv", "type": "bind", "options": ["rbind", option]}
        facts = IncludeFacts(netns="/ns", io_dir="/io")
        assert any("/srv data none" in line for line in include.lines({"mounts": [mount_]}, facts))


def bundle(**user):
    return {"process": {"user": {"uid": 0, "gid": 0, **user}}}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (bundle(uid=100000), "config.image.image: it runs as uid 100000"),
        (bundle(gid=65536), "config.image.image: it runs as gid 65536"),
        (bundle(additionalGids=[0, 65536]), "config.image.image: the image's user is in group 65536"),
        ({**bundle(), "hooks": {"poststop": []}}, "config.CDI_devices: hooks"),
    ],
    ids=["uid", "gid", "group", "hooks"],
)
def test_what_only_the_image_says_is_refused_as_well(config, problem):
    with pytest.raises(Unsupported, match=problem):
        checks.check_spec(config, unprivileged=True)


def test_privileged_guest_has_all_ids():
    checks.check_spec(bundle(uid=100000, additionalGids=[1 << 20]), unprivileged=False)
    checks.check_spec(bundle(uid=65535, additionalGids=[1000]), unprivileged=True)
