# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what a request, its pod, its image and the host make of a container."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.signals import signal_number
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Unsupported, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    Device,
    IdMap,
    ImageConfig,
    Mount,
    MountKind,
    Namespaces,
    Resources,
    Rlimit,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from pvecri.api import cri_pb2 as pb
from pvecri.containers.spec import resources, security
from pvecri.containers.spec.build import Surroundings, container_spec, stop_signal
from pvecri.containers.spec.mounts import PodFiles
from pvecri.state.records import SandboxRecord
from pvecri.state.views import signal_value

HOST = HostFacts(crun_version=(1, 8, 1))
FILES = PodFiles(hosts="/f/hosts", hostname="/f/hostname", resolv_conf="/f/resolv.conf", shm="/r/shm")
ALL = set(security.CAPABILITIES)
# CapEff of a container of any other runtime is 00000000a80425fb: these bits.
DEFAULT = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
}
KINDS = pb.SecurityProfile


def sandbox(**fields):
    fields = {
        "netns": "/ns/net",
        "ipcns": "/ns/ipc",
        "utsns": "/ns/uts",
        "cgroup_parent": "/pods/p",
        **fields,
    }
    return SandboxRecord(id="s" * 64, name="p", config=b"", created_at_ns=1, **fields)


def around(**fields):
    made = Surroundings(
        **{
            "id": "c" * 64,
            "sandbox": sandbox(),
            "pod": pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name="p", namespace="n", uid="u")),
            "image": ImageConfig(),
            "host": HOST,
            "files": FILES,
            **fields,
        }
    )
    if made.pod.linux.security_context.namespace_options.pid == pb.POD and not made.pid_path:
        return dataclasses.replace(made, pid_path="/proc/7/ns/pid")
    return made


def built(config=None, notes=None, **fields):
    config = config or pb.ContainerConfig()
    config.metadata.name = "app"
    config.image.image = config.image.image or "nginx"
    return container_spec(config, around(**fields), notes)


def context(**fields):
    return pb.ContainerConfig(
        linux=pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(**fields))
    )


def test_defaults():
    spec = built()
    assert (spec.entrypoint, spec.command, spec.cwd, spec.user) == (None, None, None, None)
    assert spec.pod_groups
    assert spec.merge_image_groups
    assert spec.oom_score_adj == 0
    assert spec.rlimits == ()
    assert spec.cgroups_path == f"/pods/p/{'c' * 64}"
    assert spec.stop_signal == "SIGTERM"
    assert spec.namespaces == Namespaces(
        pid="/proc/7/ns/pid", network="/ns/net", ipc="/ns/ipc", uts="/ns/uts", user="host", cgroup="private"
    )
    assert spec.security.seccomp == "unconfined"
    assert spec.security.masked_paths == spec.security.read_only_paths == ()
    assert set(spec.security.capabilities_exact) == DEFAULT
    assert [(mount.destination, mount.source) for mount in spec.mounts] == [
        ("/etc/hosts", "/f/hosts"),
        ("/etc/hostname", "/f/hostname"),
        ("/etc/resolv.conf", "/f/resolv.conf"),
        ("/dev/shm", "/r/shm"),
    ]
    assert dict(spec.annotations)["io.kubernetes.cri.sandbox-id"] == "s" * 64


def test_open_files_are_limited_as_the_daemon_was_when_it_was_started():
    assert built(open_files=(1024, -1)).rlimits == (Rlimit(kind="RLIMIT_NOFILE", soft=1024, hard=-1),)


def test_process():
    config = pb.ContainerConfig(
        command=["a"],
        args=["b"],
        working_dir="/x/../y/",
        envs=[pb.KeyValue(key="A", value=b"1"), pb.KeyValue(key="A", value=b"2")],
        tty=True,
    )
    spec = built(config, hostname="named")
    assert (spec.entrypoint, spec.command, spec.cwd, spec.terminal) == (("a",), ("b",), "/y", True)
    assert dict(spec.env) == {"HOSTNAME": "named", "A": "2"}


@pytest.mark.parametrize(
    ("image", "asked", "expected"),
    [
        ((), {}, {"HOSTNAME": "h"}),
        ((("HOSTNAME", "image"),), {}, {}),
        ((("HOSTNAME", "image"),), {"HOSTNAME": b"asked"}, {"HOSTNAME": "asked"}),
    ],
)
def test_hostname_variable(image, asked, expected):
    config = pb.ContainerConfig(envs=[pb.KeyValue(key=key, value=value) for key, value in asked.items()])
    assert dict(built(config, hostname="h", image=ImageConfig(env=image)).env) == expected


@pytest.mark.parametrize(
    ("asked", "user"),
    [
        ({}, None),
        ({"run_as_user": pb.Int64Value(value=0)}, "0"),
        ({"run_as_user": pb.Int64Value(value=5), "run_as_group": pb.Int64Value(value=0)}, "5:0"),
        ({"run_as_username": "web", "run_as_group": pb.Int64Value(value=7)}, "web:7"),
    ],
)
def test_user(asked, user):
    assert built(context(**asked)).user == user


def test_groups():
    spec = built(context(supplemental_groups=[5, 3], supplemental_groups_policy=pb.Strict))
    assert (spec.supplementary_groups, spec.merge_image_groups) == (("5", "3"), False)


@pytest.mark.parametrize(
    ("asked", "image", "expected"),
    [
        (pb.SIGNAL_RUNTIME_DEFAULT, None, "SIGTERM"),
        (pb.SIGNAL_RUNTIME_DEFAULT, "usr1", "SIGUSR1"),
        (pb.SIGNAL_RUNTIME_DEFAULT, "SIGRTMIN+3", "SIGRTMIN+3"),
        (pb.SIGNAL_RUNTIME_DEFAULT, "15", "SIGTERM"),
        (pb.SIGNAL_RUNTIME_DEFAULT, "37", "SIGRTMIN+3"),
        (pb.SIGNAL_RUNTIME_DEFAULT, "nonsense", "SIGTERM"),
        (pb.SIGNAL_SIGINT, "USR1", "SIGINT"),
        (pb.SIGNAL_SIGRTMINPLUS5, None, "SIGRTMIN+5"),
        (pb.SIGNAL_SIGRTMAXMINUS2, None, "SIGRTMAX-2"),
    ],
)
def test_stop_signal(asked, image, expected):
    assert stop_signal(pb.ContainerConfig(stop_signal=asked), ImageConfig(stop_signal=image)) == expected


@pytest.mark.parametrize("number", pb.Signal.values())
def test_stop_signal_every_one_is_known(number):
    name = stop_signal(pb.ContainerConfig(stop_signal=number), ImageConfig())
    if number != pb.SIGNAL_RUNTIME_DEFAULT:
        assert signal_value(name) == number
    assert signal_number(name) > 0


# ---- security ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("add", "drop", "ambient", "expected", "kept"),
    [
        ((), (), (), DEFAULT, set()),
        (("net_admin",), ("CAP_CHOWN",), (), DEFAULT | {"CAP_NET_ADMIN"} - {"CAP_CHOWN"}, set()),
        (("KILL",), ("KILL",), (), DEFAULT - {"CAP_KILL"}, set()),
        (("ALL",), (), (), ALL, set()),
        (("ALL",), ("KILL",), (), ALL - {"CAP_KILL"}, set()),
        ((), ("ALL",), (), set(), set()),
        (("KILL",), ("ALL",), (), {"CAP_KILL"}, set()),
        (("ALL",), ("ALL",), (), set(), set()),
        ((), ("ALL",), ("KILL",), {"CAP_KILL"}, {"CAP_KILL"}),
        ((), ("KILL",), ("KILL",), DEFAULT - {"CAP_KILL"}, set()),
        ((), (), ("ALL",), ALL, ALL),
    ],
)
def test_capabilities(add, drop, ambient, expected, kept):
    asked = pb.Capability(add_capabilities=add, drop_capabilities=drop, add_ambient_capabilities=ambient)
    if "CAP_CHOWN" in drop:
        expected = expected - {"CAP_CHOWN"}
    exact, found = security.capabilities(asked, HOST, privileged=False)
    assert set(exact) == expected
    assert set(found) == kept
    assert list(exact) == [name for name in security.CAPABILITIES if name in exact]


def test_capabilities_all_is_what_the_host_has():
    host = HostFacts(capabilities=frozenset({"CAP_CHOWN", "CAP_BPF"}))
    every = pb.Capability(add_capabilities=["ALL"])
    assert set(security.capabilities(every, host, privileged=False)[0]) == {"CAP_CHOWN", "CAP_BPF"}
    assert set(security.capabilities(pb.Capability(), host, privileged=True)[0]) == {"CAP_CHOWN", "CAP_BPF"}


def profile(kind, ref=""):
    return pb.SecurityProfile(profile_type=kind, localhost_ref=ref)


@pytest.mark.parametrize(
    ("asked", "seccomp", "apparmor"),
    [
        ({}, "unconfined", None),
        (
            {"seccomp": profile(KINDS.RuntimeDefault), "apparmor": profile(KINDS.RuntimeDefault)},
            "default",
            None,
        ),
        (
            {"seccomp": profile(KINDS.Unconfined), "apparmor": profile(KINDS.Unconfined)},
            "unconfined",
            "unconfined",
        ),
        (
            {
                "seccomp": profile(KINDS.Localhost, "/a//b.json"),
                "apparmor": profile(KINDS.Localhost, "localhost/mine"),
            },
            "/a/b.json",
            "mine",
        ),
        ({"seccomp_profile_path": "runtime/default", "apparmor_profile": "runtime/default"}, "default", None),
        ({"seccomp_profile_path": "docker/default"}, "default", None),
        (
            {"seccomp_profile_path": "unconfined", "apparmor_profile": "unconfined"},
            "unconfined",
            "unconfined",
        ),
        ({"seccomp_profile_path": "localhost//x.json", "apparmor_profile": "localhost/y"}, "/x.json", "y"),
        (
            {
                "seccomp": profile(KINDS.Localhost, "/a.json"),
                "apparmor": profile(KINDS.Localhost, "mine"),
                "privileged": True,
            },
            "unconfined",
            "unconfined",
        ),
    ],
)
def test_profiles(asked, seccomp, apparmor):
    found = built(context(**asked)).security
    assert (found.seccomp, found.apparmor) == (seccomp, apparmor)


def test_privileged():
    spec = built(
        context(
            privileged=True,
            masked_paths=["/x"],
            readonly_paths=["/y"],
            readonly_rootfs=True,
            no_new_privs=True,
            selinux_options=pb.SELinuxOption(level="s0"),
        ),
        host=dataclasses.replace(HOST, has_selinux=True),
    )
    found = spec.security
    assert set(found.capabilities_exact) == ALL
    assert (found.masked_paths, found.read_only_paths) == ((), ())
    assert (found.read_only_rootfs, found.no_new_privileges) == (True, True)
    assert found.selinux_process_label is None
    assert spec.namespaces.cgroup == "host"


def test_hidden_paths_are_as_given():
    asked = {"masked_paths": ["/proc/x/", "/proc/x"], "readonly_paths": ["/proc/../proc/y"]}
    found = built(context(**asked)).security
    assert (found.masked_paths, found.read_only_paths) == (("/proc/x",), ("/proc/y",))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"level": "s0:c1,c2"}, ("system_u:system_r:container_t:s0:c1,c2", "s0:c1,c2")),
        ({"type": "x_t", "role": "r", "user": "u"}, ("u:r:x_t:s0", "s0")),
    ],
)
def test_selinux(asked, expected):
    host = dataclasses.replace(HOST, has_selinux=True)
    found = built(context(selinux_options=pb.SELinuxOption(**asked)), host=host).security
    assert found.selinux_process_label == expected[0]
    assert found.selinux_mount_label.endswith(f":object_r:container_file_t:{expected[1]}")


def test_selinux_without_it_is_noted():
    notes = []
    found = built(context(selinux_options=pb.SELinuxOption(level="s0")), notes).security
    assert found.selinux_process_label is None
    assert ["SELinux" in note for note in notes] == [True]


# ---- namespaces ----------------------------------------------------------------------------------------


def pod_with(**modes):
    options = pb.NamespaceOption(**modes)
    linux = pb.LinuxPodSandboxConfig(
        security_context=pb.LinuxSandboxSecurityContext(namespace_options=options)
    )
    return pb.PodSandboxConfig(linux=linux)


@pytest.mark.parametrize(
    ("pod_mode", "asked", "path", "expected"),
    [
        (pb.POD, pb.POD, "/proc/7/ns/pid", "/proc/7/ns/pid"),
        (pb.POD, pb.CONTAINER, "", "private"),
        (pb.CONTAINER, pb.POD, "", "private"),
        (pb.CONTAINER, pb.CONTAINER, "", "private"),
        (pb.NODE, pb.POD, "", "host"),
        (pb.NODE, pb.NODE, "", "host"),
        (pb.CONTAINER, pb.TARGET, "/proc/9/ns/pid", "/proc/9/ns/pid"),
    ],
)
def test_pid_namespace(pod_mode, asked, path, expected):
    config = context(namespace_options=pb.NamespaceOption(pid=asked))
    assert built(config, pod=pod_with(pid=pod_mode), pid_path=path).namespaces.pid == expected


def test_pid_namespace_of_one_that_is_gone():
    config = context(namespace_options=pb.NamespaceOption(pid=pb.TARGET, target_id="x"))
    config.image.image = "x"
    made = dataclasses.replace(around(pod=pod_with(pid=pb.CONTAINER)), pid_path="")
    with pytest.raises(WrongState, match="gone"):
        container_spec(config, made)


def test_namespaces_of_the_host():
    found = built(sandbox=sandbox(netns="", ipcns="", utsns="")).namespaces
    assert (found.network, found.ipc, found.uts) == ("host", "host", "host")


def test_user_namespace():
    line = pb.IDMapping(container_id=0, host_id=1000, length=10)
    pod = pod_with(pid=pb.CONTAINER, userns_options=pb.UserNamespace(uids=[line], gids=[line]))
    spec = built(pod=pod, sandbox=sandbox(userns="/ns/user"))
    assert spec.namespaces.user == "/ns/user"
    assert spec.uid_maps == spec.gid_maps == (IdMap(container_id=0, host_id=1000, size=10),)
    assert built(pod=pod).uid_maps == ()


@pytest.mark.parametrize(
    ("parent", "expected"),
    [("/a/b", f"/a/b/{'c' * 64}"), ("kube-a.slice", f"kube-a.slice:pvecri:{'c' * 64}"), ("", None)],
)
def test_cgroup(parent, expected):
    assert built(sandbox=sandbox(cgroup_parent=parent)).cgroups_path == expected


# ---- mounts and devices --------------------------------------------------------------------------------


def test_mounts():
    line = pb.IDMapping(container_id=0, host_id=9, length=1)
    asked = [
        pb.Mount(container_path="/etc/../etc/hosts/", host_path="/srv//x", readonly=True),
        pb.Mount(container_path="/a", host_path="/b", propagation=pb.PROPAGATION_BIDIRECTIONAL),
        pb.Mount(
            container_path="/c",
            host_path="/d",
            readonly=True,
            recursive_read_only=True,
            uidMappings=[line],
            gidMappings=[line],
            mount_options=["noexec"],
        ),
        pb.Mount(container_path="/i", image=pb.ImageSpec(image="x"), image_sub_path="./a//b"),
        pb.Mount(container_path="/dev/shm", host_path="/m", propagation=pb.PROPAGATION_HOST_TO_CONTAINER),
    ]
    spec = built(pb.ContainerConfig(mounts=asked), images={3: "1" * 64})
    maps = (IdMap(container_id=0, host_id=9, size=1),)
    bind = {"kind": MountKind.BIND, "create_source": True}
    assert spec.mounts[:5] == (
        Mount(destination="/etc/hosts", source="/srv/x", read_only=True, **bind),
        Mount(destination="/a", source="/b", propagation="rshared", **bind),
        Mount(
            destination="/c",
            source="/d",
            read_only=True,
            recursive_read_only=True,
            options=("noexec",),
            uid_maps=maps,
            gid_maps=maps,
            **bind,
        ),
        Mount(
            kind=MountKind.IMAGE,
            destination="/i",
            source="1" * 64,
            sub_path="a/b",
            read_only=True,
            options=("noexec",),
        ),
        Mount(destination="/dev/shm", source="/m", propagation="rslave", **bind),
    )
    assert [mount.destination for mount in spec.mounts[5:]] == ["/etc/hostname", "/etc/resolv.conf"]


def test_image_mount_may_be_executable_when_asked():
    mount = pb.Mount(container_path="/i", image=pb.ImageSpec(image="x"), mount_options=["exec"])
    spec = built(pb.ContainerConfig(mounts=[mount]), images={0: "1" * 64})
    assert (spec.mounts[0].options, spec.mounts[0].sub_path) == (("exec",), None)


def test_pod_files_are_read_only_with_the_rootfs():
    spec = built(context(readonly_rootfs=True))
    assert [mount.read_only for mount in spec.mounts] == [True, True, True, False]
    assert built(files=PodFiles()).mounts == ()


def test_recursive_read_only_needs_a_crun_that_can():
    config = pb.ContainerConfig(
        mounts=[pb.Mount(container_path="/a", host_path="/b", readonly=True, recursive_read_only=True)]
    )
    with pytest.raises(Unsupported, match=r"config.mounts\[0\].recursive_read_only: crun 1.3"):
        built(config, host=dataclasses.replace(HOST, crun_version=(1, 3)))


def test_devices_each_once():
    null = pb.Device(container_path="/dev/x", host_path="/dev/null", permissions="r")
    spec = built(pb.ContainerConfig(devices=[null, null]))
    assert spec.devices == (Device(source="/dev/null", destination="/dev/x", permissions="r"),)


def test_annotations_do_not_steer_the_runtime():
    config = pb.ContainerConfig(
        annotations={
            "run.oci.hooks.stdout": "/etc/shadow",
            "org.systemd.property.X": "1",
            "mine": "2",
            "io.kubernetes.cri.sandbox-id": "forged",
        }
    )
    found = dict(built(config).annotations)
    assert found["mine"] == "2"
    assert found["io.kubernetes.cri.sandbox-id"] == "s" * 64
    assert not [key for key in found if key.startswith(("run.oci", "org.systemd"))]


@pytest.mark.parametrize(
    ("grace_period", "seconds"),
    [
        (None, 10),
        ("30", 30),
        ("0", 1),  # to systemd, 0 is without end
        ("3600", 90),
        ("-1", 10),
        ("", 10),
        ("5 'x'", 10),
        ("٣", 10),
        ("9" * 5000, 10),
    ],
)
def test_systemd_does_not_wait_longer_at_shutdown_than_the_container_was_promised(grace_period, seconds):
    config = pb.ContainerConfig(annotations={"org.systemd.property.TimeoutStopUSec": "uint64 1"})
    if grace_period is not None:
        config.annotations["io.kubernetes.pod.terminationGracePeriod"] = grace_period
    found = dict(built(config, sandbox=sandbox(cgroup_parent="pods-p.slice")).annotations)
    assert found["org.systemd.property.TimeoutStopUSec"] == f"uint64 {seconds * 10**6}"


# ---- limits --------------------------------------------------------------------------------------------


def test_limits():
    config = pb.ContainerConfig()
    config.linux.resources.CopyFrom(
        pb.LinuxContainerResources(
            cpu_period=1000,
            cpu_quota=2000,
            cpu_shares=3,
            memory_limit_in_bytes=1 << 20,
            cpuset_cpus="0",
            cpuset_mems="0",
            oom_score_adj=7,
            unified={"b": "2", "a": "1"},
            hugepage_limits=[pb.HugepageLimit(page_size="2MB", limit=5)],
        )
    )
    spec = built(config, pids_limit=100)
    assert spec.oom_score_adj == 7
    assert spec.resources == Resources(
        cpu_period_us=1000,
        cpu_quota_us=2000,
        cpu_shares=3,
        memory_bytes=1 << 20,
        memory_swap_bytes=1 << 20,
        cpuset_cpus="0",
        cpuset_mems="0",
        pids_limit=100,
        hugepages=(("2MB", 5),),
        unified=(("a", "1"), ("b", "2")),
    )


def test_limits_that_a_host_cannot_have():
    host = dataclasses.replace(
        HOST, has_swap_accounting=False, hugepage_sizes=frozenset({"2MB"}), controllers=frozenset({"hugetlb"})
    )
    asked = Resources(memory_bytes=10, memory_swap_bytes=10, hugepages=(("2MB", 0), ("1GB", 0), ("64KB", 1)))
    notes = []
    found = resources.for_host(asked, host, notes)
    assert (found.memory_swap_bytes, found.hugepages) == (None, (("2MB", 0), ("64KB", 1)))
    assert notes == []
    resources.for_host(dataclasses.replace(asked, memory_swap_bytes=20), host, notes)
    assert len(notes) == 1
    bare = dataclasses.replace(host, controllers=frozenset())
    assert resources.for_host(asked, bare, []).hugepages == (("64KB", 1),)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"cpu_shares": 5}, {}, {"cpu_shares": 5}),
        ({"cpu_shares": 5}, {"cpu_quota": -1}, {"cpu_shares": 5, "cpu_quota": -1}),
        (
            {"memory_limit_in_bytes": 5, "memory_swap_limit_in_bytes": 5},
            {"memory_limit_in_bytes": 9},
            {"memory_limit_in_bytes": 9},
        ),
        ({"unified": {"a": "1"}}, {"unified": {"a": "2", "b": "3"}}, {"unified": {"a": "2", "b": "3"}}),
        (
            {"hugepage_limits": [pb.HugepageLimit(page_size="a", limit=1)]},
            {"hugepage_limits": [pb.HugepageLimit(page_size="a", limit=2)]},
            {"hugepage_limits": [pb.HugepageLimit(page_size="a", limit=2)]},
        ),
    ],
)
def test_merged(old, new, expected):
    kind = pb.LinuxContainerResources
    assert resources.merged(kind(**old), kind(**new)) == kind(**expected)
