# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold that whatever is wrong with a request is refused by its field, and nothing else is."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.api import cri_pb2 as pb
from pvecri.containers.validate import validate

CONTEXT = "config.linux.security_context"
LIMITS = "config.linux.resources"


def request(**fields):
    fields.setdefault("metadata", pb.ContainerMetadata(name="app"))
    fields.setdefault("image", pb.ImageSpec(image="docker.io/library/nginx:1"))
    return pb.ContainerConfig(**fields)


def pod(**context):
    return pb.PodSandboxConfig(
        linux=pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(**context))
    )


def limits(**fields):
    return request(linux=pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(**fields)))


def secured(**fields):
    return request(linux=pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(**fields)))


def options(**fields):
    return secured(namespace_options=pb.NamespaceOption(**fields))


def mount(**fields):
    fields = {"container_path": "/data", "host_path": "/srv", **fields}
    return request(mounts=[pb.Mount(**fields)])


def device(**fields):
    fields = {"container_path": "/dev/x", "host_path": "/dev/null", "permissions": "rwm", **fields}
    return request(devices=[pb.Device(**fields)])


def env(key, value=b"x"):
    return request(envs=[pb.KeyValue(key="A", value=b"1"), pb.KeyValue(key=key, value=value)])


def localhost(ref):
    return pb.SecurityProfile(profile_type=pb.SecurityProfile.Localhost, localhost_ref=ref)


def id_map(container_id=0, host_id=100000, length=65536):
    return pb.IDMapping(container_id=container_id, host_id=host_id, length=length)


def number(value):
    return pb.Int64Value(value=value)


MAPS = {"uids": [id_map()], "gids": [id_map()]}
OWN = pb.UserNamespace(mode=pb.POD, **MAPS)
IMAGE = pb.ImageSpec(image="x")

REFUSED = [
    # what it is called, and what it is made of
    (request(metadata=pb.ContainerMetadata()), "config.metadata.name"),
    (request(metadata=pb.ContainerMetadata(name="../x")), "config.metadata.name"),
    (request(metadata=pb.ContainerMetadata(name="a" * 254)), "config.metadata.name"),
    (request(metadata=pb.ContainerMetadata(name="a\n")), "config.metadata.name"),
    (request(image=pb.ImageSpec()), "config.image.image"),
    (request(image=pb.ImageSpec(image="a\nb")), "config.image.image"),
    (request(image=pb.ImageSpec(image="a" * 5000)), "config.image.image"),
    (request(windows=pb.WindowsContainerConfig()), "config.windows"),
    # the process
    (request(command=["sh", "a\0b"]), "config.command[1]"),
    (request(command=[""]), "config.command[0]"),
    (request(args=["a\0"]), "config.args[0]"),
    (request(args=["x" * (128 << 10)]), "config.args[0]"),
    (env(""), "config.envs[1].key"),
    (env("A=B"), "config.envs[1].key"),
    (env("A\0"), "config.envs[1].key"),
    (env("A", b"\0"), "config.envs[1].value"),
    (env("A", b"\xff"), "config.envs[1].value"),
    (env("A", b"x" * (128 << 10)), "config.envs[1].value"),
    (request(working_dir="tmp"), "config.working_dir"),
    (request(working_dir="/a\0"), "config.working_dir"),
    (request(stop_signal=999), "config.stop_signal"),
    # labels, annotations, log
    (request(labels={"": "x"}), "config.labels"),
    (request(labels={"a\nb": "x"}), "config.labels"),
    (request(labels={"k" * 400: "x"}), "config.labels"),
    (request(annotations={"a": "x\0"}), "config.annotations[a]"),
    (request(annotations={"a": "x" * (256 << 10)}), "config.annotations"),
    (request(log_path="/var/log/x"), "config.log_path"),
    (request(log_path="a/../../x"), "config.log_path"),
    (request(log_path="a/"), "config.log_path"),
    (request(log_path="."), "config.log_path"),
    (request(log_path="a:b"), "config.log_path"),
    (request(log_path="a\n"), "config.log_path"),
    (request(log_path="x" * 5000), "config.log_path"),
    # devices
    (device(container_path="dev/x"), "config.devices[0].container_path"),
    (device(container_path=""), "config.devices[0].container_path"),
    (device(container_path="/.."), "config.devices[0].container_path"),
    (device(host_path="null"), "config.devices[0].host_path"),
    (device(host_path="/dev/../etc"), "config.devices[0].host_path"),
    (device(permissions=""), "config.devices[0].permissions"),
    (device(permissions="rx"), "config.devices[0].permissions"),
    (device(permissions="rr"), "config.devices[0].permissions"),
    (request(CDI_devices=[pb.CDIDevice(name="gpu")]), "config.CDI_devices[0].name"),
    (request(CDI_devices=[pb.CDIDevice(name="x.org/gpu=")]), "config.CDI_devices[0].name"),
    # mounts
    (mount(container_path="data"), "config.mounts[0].container_path"),
    (mount(container_path="/a/.."), "config.mounts[0].container_path"),
    (mount(container_path="/" + "a" * 5000), "config.mounts[0].container_path"),
    (mount(host_path=""), "config.mounts[0].host_path"),
    (mount(host_path="srv"), "config.mounts[0].host_path"),
    (mount(host_path="/srv/../etc"), "config.mounts[0].host_path"),
    (mount(propagation=7), "config.mounts[0].propagation"),
    (mount(recursive_read_only=True), "config.mounts[0].recursive_read_only"),
    (
        mount(recursive_read_only=True, readonly=True, propagation=pb.PROPAGATION_HOST_TO_CONTAINER),
        "config.mounts[0].recursive_read_only",
    ),
    (
        mount(recursive_read_only=True, readonly=True, propagation=pb.PROPAGATION_BIDIRECTIONAL),
        "config.mounts[0].recursive_read_only",
    ),
    (mount(uidMappings=[id_map()]), "config.mounts[0].uidMappings"),
    (mount(gidMappings=[id_map()]), "config.mounts[0].uidMappings"),
    (mount(uidMappings=[id_map(length=0)], gidMappings=[id_map()]), "config.mounts[0].uidMappings[0].size"),
    (mount(mount_options=["nonsense"]), "config.mounts[0].mount_options[0]"),
    (mount(mount_options=["ro"]), "config.mounts[0].mount_options[0]"),
    (mount(image_sub_path="a"), "config.mounts[0].image_sub_path"),
    (mount(image=IMAGE), "config.mounts[0].host_path"),
    (mount(image=pb.ImageSpec(image="\n"), host_path=""), "config.mounts[0].image.image"),
    (mount(image=IMAGE, host_path="", image_sub_path="../x"), "config.mounts[0].image_sub_path"),
    (mount(image=IMAGE, host_path="", image_sub_path="/x"), "config.mounts[0].image_sub_path"),
    (
        mount(image=IMAGE, host_path="", propagation=pb.PROPAGATION_BIDIRECTIONAL),
        "config.mounts[0].propagation",
    ),
    (
        mount(image=IMAGE, host_path="", uidMappings=[id_map()], gidMappings=[id_map()]),
        "config.mounts[0].uidMappings",
    ),
    (
        request(mounts=[pb.Mount(container_path=path, host_path="/x") for path in ("/a", "/b/../a/")]),
        "config.mounts[1].container_path",
    ),
    # limits
    (limits(cpu_period=-1), f"{LIMITS}.cpu_period"),
    (limits(cpu_period=10), f"{LIMITS}.cpu_period"),
    (limits(cpu_quota=-2), f"{LIMITS}.cpu_quota"),
    (limits(cpu_quota=10), f"{LIMITS}.cpu_quota"),
    (limits(cpu_shares=1), f"{LIMITS}.cpu_shares"),
    (limits(cpu_shares=-1), f"{LIMITS}.cpu_shares"),
    (limits(memory_limit_in_bytes=-2), f"{LIMITS}.memory_limit_in_bytes"),
    (limits(memory_limit_in_bytes=1), f"{LIMITS}.memory_limit_in_bytes"),
    (limits(memory_swap_limit_in_bytes=-5), f"{LIMITS}.memory_swap_limit_in_bytes"),
    (limits(memory_swap_limit_in_bytes=1 << 30), f"{LIMITS}.memory_swap_limit_in_bytes"),
    (
        limits(memory_limit_in_bytes=2 << 20, memory_swap_limit_in_bytes=1 << 20),
        f"{LIMITS}.memory_swap_limit_in_bytes",
    ),
    (limits(oom_score_adj=1001), f"{LIMITS}.oom_score_adj"),
    (limits(oom_score_adj=-1001), f"{LIMITS}.oom_score_adj"),
    (limits(cpuset_cpus="a"), f"{LIMITS}.cpuset_cpus"),
    (limits(cpuset_mems="1-0"), f"{LIMITS}.cpuset_mems"),
    (limits(unified={"memory": "1"}), f"{LIMITS}.unified[memory]"),
    (limits(unified={"cgroup.procs": "1"}), f"{LIMITS}.unified[cgroup.procs]"),
    (limits(unified={"memory.high": "1\n2"}), f"{LIMITS}.unified[memory.high]"),
    (limits(unified={f"memory.a{n}": "1" for n in range(300)}), f"{LIMITS}.unified"),
    (
        limits(hugepage_limits=[pb.HugepageLimit(page_size="2 MB", limit=1)]),
        f"{LIMITS}.hugepage_limits[2 MB]",
    ),
    (
        limits(hugepage_limits=[pb.HugepageLimit(page_size="2MB")] * 2),
        f"{LIMITS}.hugepage_limits[1].page_size",
    ),
    (
        limits(hugepage_limits=[pb.HugepageLimit(page_size=f"{n}MB") for n in range(1, 70)]),
        f"{LIMITS}.hugepage_limits",
    ),
    # who it is, and what it may
    (secured(privileged=True), f"{CONTEXT}.privileged"),
    (
        secured(capabilities=pb.Capability(add_capabilities=["A"])),
        f"{CONTEXT}.capabilities.add_capabilities[0]",
    ),
    (
        secured(capabilities=pb.Capability(drop_capabilities=["ALL", ""])),
        f"{CONTEXT}.capabilities.drop_capabilities[1]",
    ),
    (
        secured(capabilities=pb.Capability(add_ambient_capabilities=["X"])),
        f"{CONTEXT}.capabilities.add_ambient_capabilities[0]",
    ),
    (secured(run_as_user=number(-1)), f"{CONTEXT}.run_as_user"),
    (secured(run_as_user=number((1 << 32) - 1)), f"{CONTEXT}.run_as_user"),
    (secured(run_as_user=number(1), run_as_username="web"), f"{CONTEXT}.run_as_username"),
    (secured(run_as_username="a:b"), f"{CONTEXT}.run_as_username"),
    (secured(run_as_username="a\n"), f"{CONTEXT}.run_as_username"),
    (secured(run_as_group=number(1)), f"{CONTEXT}.run_as_group"),
    (secured(run_as_user=number(1), run_as_group=number(-1)), f"{CONTEXT}.run_as_group"),
    (secured(supplemental_groups=[1, -1]), f"{CONTEXT}.supplemental_groups[1]"),
    (secured(supplemental_groups=range(65537)), f"{CONTEXT}.supplemental_groups"),
    (secured(supplemental_groups_policy=9), f"{CONTEXT}.supplemental_groups_policy"),
    (secured(masked_paths=["/a", "b"]), f"{CONTEXT}.masked_paths[1]"),
    (secured(readonly_paths=[""]), f"{CONTEXT}.readonly_paths[0]"),
    (secured(selinux_options=pb.SELinuxOption(level="s0\n")), f"{CONTEXT}.selinux_options.level"),
    (secured(selinux_options=pb.SELinuxOption(type="a b")), f"{CONTEXT}.selinux_options.type"),
    (secured(seccomp=pb.SecurityProfile(profile_type=8)), f"{CONTEXT}.seccomp.profile_type"),
    (secured(seccomp=pb.SecurityProfile(localhost_ref="/x")), f"{CONTEXT}.seccomp.localhost_ref"),
    (secured(seccomp=localhost("")), f"{CONTEXT}.seccomp.localhost_ref"),
    (secured(seccomp=localhost("x.json")), f"{CONTEXT}.seccomp.localhost_ref"),
    (secured(seccomp=localhost("/a/../x.json")), f"{CONTEXT}.seccomp.localhost_ref"),
    (secured(apparmor=pb.SecurityProfile(profile_type=8)), f"{CONTEXT}.apparmor.profile_type"),
    (secured(apparmor=localhost("")), f"{CONTEXT}.apparmor.localhost_ref"),
    (secured(apparmor=localhost("a\n")), f"{CONTEXT}.apparmor.localhost_ref"),
    (secured(seccomp_profile_path="x"), f"{CONTEXT}.seccomp_profile_path"),
    (secured(seccomp_profile_path="localhost/x"), f"{CONTEXT}.seccomp_profile_path"),
    (secured(apparmor_profile="mine"), f"{CONTEXT}.apparmor_profile"),
    (secured(apparmor_profile="localhost/"), f"{CONTEXT}.apparmor_profile"),
    # namespaces
    (options(network=9), f"{CONTEXT}.namespace_options.network"),
    (options(network=pb.NODE), f"{CONTEXT}.namespace_options.network"),
    (options(network=pb.CONTAINER), f"{CONTEXT}.namespace_options.network"),
    (options(ipc=pb.TARGET), f"{CONTEXT}.namespace_options.ipc"),
    (options(pid=pb.NODE), f"{CONTEXT}.namespace_options.pid"),
    (options(pid=-1), f"{CONTEXT}.namespace_options.pid"),
    (options(pid=pb.TARGET), f"{CONTEXT}.namespace_options.target_id"),
    (options(target_id="a"), f"{CONTEXT}.namespace_options.target_id"),
    (options(userns_options=OWN), f"{CONTEXT}.namespace_options.userns_options.uids"),
    (
        options(userns_options=pb.UserNamespace(mode=pb.TARGET)),
        f"{CONTEXT}.namespace_options.userns_options.mode",
    ),
    (options(userns_options=pb.UserNamespace(mode=77)), f"{CONTEXT}.namespace_options.userns_options.mode"),
]


@pytest.mark.parametrize(("config", "field"), REFUSED)
def test_validate_refuses(config, field):
    with pytest.raises(InvalidSpec) as caught:
        validate(config, pod())
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (pb.UserNamespace(mode=pb.NODE), "mode"),
        (pb.UserNamespace(mode=pb.POD, uids=[id_map(host_id=5)], gids=[id_map()]), "uids"),
        (pb.UserNamespace(mode=pb.POD, uids=[id_map()], gids=[id_map(length=5)]), "gids"),
    ],
)
def test_validate_refuses_a_user_namespace_other_than_the_pods(asked, field):
    with pytest.raises(InvalidSpec) as caught:
        validate(options(userns_options=asked), pod(namespace_options=pb.NamespaceOption(userns_options=OWN)))
    assert caught.value.field == f"{CONTEXT}.namespace_options.userns_options.{field}"


@pytest.mark.parametrize(
    "config",
    [
        request(),
        request(metadata=pb.ContainerMetadata(name="a_b.c-d", attempt=4), log_path="app/0.log"),
        request(command=["sh"], args=["", "x"], working_dir="/a/../b/"),
        env("with.dots and blanks", "ü=\n".encode()),
        request(labels={"a/b": ""}, annotations={"x": "many\nlines"}),
        request(stop_signal=pb.SIGNAL_SIGRTMINPLUS3),
        device(permissions="mr"),
        request(CDI_devices=[pb.CDIDevice(name="vendor.com/gpu=0:1")]),
        mount(readonly=True, recursive_read_only=True),
        mount(uidMappings=[id_map()], gidMappings=[id_map()], mount_options=["noexec", "nosuid"]),
        mount(host_path="", image=IMAGE, image_sub_path="a/b"),
        mount(image=pb.ImageSpec()),
        limits(cpu_quota=-1, memory_limit_in_bytes=-1, memory_swap_limit_in_bytes=-1),
        limits(
            cpu_period=100000,
            cpu_quota=50000,
            cpu_shares=2,
            memory_limit_in_bytes=1 << 30,
            memory_swap_limit_in_bytes=1 << 30,
            cpuset_cpus="0-1,3",
            oom_score_adj=-1000,
            hugepage_limits=[pb.HugepageLimit(page_size="2MB"), pb.HugepageLimit(page_size="1GB", limit=1)],
            unified={"memory.high": "max"},
        ),
        secured(run_as_user=number(0), run_as_group=number(0), supplemental_groups=[0]),
        secured(run_as_username="web", run_as_group=number(5)),
        secured(
            capabilities=pb.Capability(add_capabilities=["ALL"], drop_capabilities=["CAP_KILL", "chown"])
        ),
        secured(seccomp=localhost("/a/b.json"), apparmor=localhost("localhost/mine")),
        secured(seccomp_profile_path="localhost//a.json", apparmor_profile="runtime/default"),
        secured(masked_paths=["/proc/../proc/x/"], selinux_options=pb.SELinuxOption(level="s0:c1,c2")),
        options(pid=pb.TARGET, target_id="abc"),
        options(pid=pb.CONTAINER, userns_options=pb.UserNamespace(mode=pb.NODE)),
    ],
)
def test_validate_accepts(config):
    validate(config, pod())


def test_validate_accepts_what_the_pod_has():
    modes = pb.NamespaceOption(network=pb.NODE, ipc=pb.NODE, pid=pb.NODE)
    config = secured(privileged=True, namespace_options=modes)
    validate(config, pod(privileged=True, namespace_options=modes))
    own = pb.NamespaceOption(userns_options=OWN)
    validate(options(userns_options=OWN), pod(namespace_options=own))
    validate(options(userns_options=pb.UserNamespace(mode=pb.POD)), pod(namespace_options=own))
    validate(request(), pod(namespace_options=own))
