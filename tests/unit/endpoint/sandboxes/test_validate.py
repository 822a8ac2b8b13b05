# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every refusal of a PodSandboxConfig names its field, and what is accepted is read right."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_ports import PortMapping
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import compile_policy
from pvecri.api import cri_pb2
from pvecri.sandboxes import resources, validate
from pvecri.sandboxes.pod import Dns, Pod

HOST = HostFacts(cgroup_version=2, cpus=frozenset(range(4)), hugepage_sizes=frozenset({"2MB"}))
POLICY = compile_policy({"default": "crun", "handlers": {"lxc": "pve-lxc"}})

CONTEXT = "linux { security_context { %s } }"
OPTIONS = CONTEXT % "namespace_options { %s }"
USERNS = OPTIONS % "userns_options { %s }"
MAPS = "uids { length: 65536 host_id: 100000 } gids { length: 65536 host_id: 100000 }"


def config(text: str = "") -> cri_pb2.PodSandboxConfig:
    """Return a config in protobuf's text format, with metadata if it gives none."""
    message = cri_pb2.PodSandboxConfig()
    text_format.Parse(text, message)
    if not message.HasField("metadata"):
        text_format.Parse('metadata { name: "web" namespace: "default" uid: "u1" }', message)
    return message


def checked(text: str = "", *, handler: str = "", is_systemd: bool = False) -> Pod:
    """Return the pod of a config."""
    return validate.validate(config(text), handler, POLICY, is_systemd=is_systemd)


LONG = "a" * 254
SEARCHES = "dns_config { searches: [%s] }"
HOST_IPC = "security_context { namespace_options { ipc: NODE } }"

REFUSED: dict[str, list[str]] = {
    "config.metadata.name": [
        'metadata { namespace: "a" uid: "a" }',
        'metadata { name: "a b" namespace: "a" uid: "a" }',
        'metadata { name: "../a" namespace: "a" uid: "a" }',
        'metadata { name: "a;K8S_POD_UID=x" namespace: "a" uid: "a" }',
        'metadata { name: "a\\n" namespace: "a" uid: "a" }',
        'metadata { name: "_a" namespace: "a" uid: "a" }',
        f'metadata {{ name: "{LONG}" namespace: "a" uid: "a" }}',
        "metadata { }",
    ],
    "config.metadata.namespace": [
        'metadata { name: "a" uid: "a" }',
        'metadata { name: "a" namespace: "a/b" uid: "a" }',
    ],
    "config.metadata.uid": [
        'metadata { name: "a" namespace: "a" }',
        'metadata { name: "a" namespace: "a" uid: "a-" }',
    ],
    "config.hostname": [
        'hostname: "a_b"',
        'hostname: "-a"',
        'hostname: "a-"',
        'hostname: "a..b"',
        'hostname: "a."',
        'hostname: "a\\n127.0.0.1 b"',
        f'hostname: "{"a" * 63}.b"',
        f'hostname: "{"a" * 64}"',
        'hostname: "ä"',
    ],
    "config.log_directory": [
        'log_directory: "var/log"',
        'log_directory: "/var/../etc"',
        'log_directory: "/var/log/.."',
        'log_directory: "/var\\000"',
        f'log_directory: "/{"a" * 4096}"',
    ],
    "config.windows": ["windows { }"],
    "config.dns_config.servers[0]": [
        'dns_config { servers: "dns.example" }',
        'dns_config { servers: "" }',
        'dns_config { servers: "1.1.1.1\\noptions debug" }',
        'dns_config { servers: "fe80::1%a\\nb" }',
    ],
    "config.dns_config.servers": ['dns_config { servers: ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"] }'],
    "config.dns_config.searches[1]": [
        'dns_config { searches: ["a", "b c"] }',
        'dns_config { searches: ["a", ""] }',
        'dns_config { searches: ["a", "b\\nnameserver 6.6.6.6"] }',
        f'dns_config {{ searches: ["a", "{"b" * 260}"] }}',
    ],
    "config.dns_config.searches": [
        SEARCHES % ", ".join(f'"{n}.example"' for n in range(33)),
        SEARCHES % ", ".join(f'"{"a" * 250}"' for n in range(9)),
    ],
    "config.dns_config.options[0]": ['dns_config { options: "" }', 'dns_config { options: "ndots: 5" }'],
    "config.port_mappings[0].protocol": ["port_mappings { protocol: 7 container_port: 80 }"],
    "config.port_mappings[0].container_port": [
        "port_mappings { host_port: 80 }",
        "port_mappings { container_port: 65536 }",
        "port_mappings { container_port: -1 }",
    ],
    "config.port_mappings[0].host_port": [
        "port_mappings { container_port: 80 host_port: 65536 }",
        "port_mappings { container_port: 80 host_port: -1 }",
    ],
    "config.port_mappings[0].host_ip": ['port_mappings { container_port: 80 host_port: 80 host_ip: "eth0" }'],
    "config.port_mappings[1].host_port": [
        "port_mappings { container_port: 80 host_port: 80 } "
        "port_mappings { container_port: 81 host_port: 80 }",
        'port_mappings { container_port: 80 host_port: 80 host_ip: "10.0.0.1" } '
        "port_mappings { container_port: 81 host_port: 80 }",
    ],
    "config.labels": [
        'labels { key: "" value: "a" }',
        'labels { key: "a\\nb" value: "a" }',
        f'labels {{ key: "{"a" * 318}" value: "a" }}',
        f'labels {{ key: "a" value: "{"a" * 262144}" }}',
    ],
    "config.labels[a]": ['labels { key: "a" value: "\\000" }'],
    "config.annotations": ['annotations { key: "" value: "a" }'],
    "config.annotations[kubernetes.io/ingress-bandwidth]": [
        f'annotations {{ key: "kubernetes.io/ingress-bandwidth" value: "{value}" }}'
        for value in ("", "fast", "999", "2P", "10Mi b", "-1M", "1e99", "1.M.", "10MM", "10x")
    ],
    "config.annotations[kubernetes.io/egress-bandwidth]": [
        'annotations { key: "kubernetes.io/egress-bandwidth" value: "0" }'
    ],
    "config.linux.security_context.namespace_options.network": [
        OPTIONS % "network: CONTAINER",
        OPTIONS % "network: TARGET",
        OPTIONS % "network: 9",
    ],
    "config.linux.security_context.namespace_options.pid": [
        OPTIONS % "pid: TARGET",
        OPTIONS % "pid: -1",
        OPTIONS % f"pid: NODE userns_options {{ {MAPS} }}",
    ],
    "config.linux.security_context.namespace_options.ipc": [
        OPTIONS % "ipc: CONTAINER",
        OPTIONS % "ipc: TARGET",
        OPTIONS % f"ipc: NODE userns_options {{ {MAPS} }}",
    ],
    "config.linux.security_context.namespace_options.target_id": [OPTIONS % 'target_id: "abc"'],
    "config.linux.security_context.namespace_options.userns_options": [USERNS % f"mode: NODE {MAPS}"],
    "config.linux.security_context.namespace_options.userns_options.mode": [
        USERNS % f"mode: CONTAINER {MAPS}",
        USERNS % f"mode: TARGET {MAPS}",
        USERNS % f"mode: 8 {MAPS}",
    ],
    "config.linux.security_context.namespace_options.userns_options.uids": [
        USERNS % "mode: POD",
        USERNS % "gids { length: 1 host_id: 1 }",
        USERNS % "uids { container_id: 1 length: 9 host_id: 1000 } gids { length: 1 host_id: 1 }",
        USERNS % ("uids { length: 1 host_id: 1 } " * 341),
    ],
    "config.linux.security_context.namespace_options.userns_options.gids": [
        USERNS % "uids { length: 1 host_id: 1 }",
        USERNS % "uids { length: 1 host_id: 1 } gids { container_id: 5 length: 1 host_id: 1 }",
    ],
    "config.linux.security_context.namespace_options.userns_options.uids[0].length": [
        USERNS % "uids { host_id: 1 }"
    ],
    "config.linux.security_context.namespace_options.userns_options.uids[0].host_id": [
        USERNS % "uids { host_id: 4294967290 length: 10 }"
    ],
    "config.linux.security_context.namespace_options.userns_options.uids[1].container_id": [
        USERNS % "uids { host_id: 1000 length: 10 } uids { host_id: 5000 length: 10 }"
    ],
    "config.linux.security_context.namespace_options.userns_options.uids[1].host_id": [
        USERNS % "uids { host_id: 1000 length: 10 } uids { container_id: 10 host_id: 1009 length: 10 }"
    ],
    "config.linux.security_context.run_as_user": [
        CONTEXT % "run_as_user { value: -1 }",
        CONTEXT % "run_as_user { value: 4294967295 }",
        CONTEXT % f"run_as_user {{ value: 70000 }} namespace_options {{ userns_options {{ {MAPS} }} }}",
    ],
    "config.linux.security_context.run_as_group": [
        CONTEXT % "run_as_group { value: 0 }",
        CONTEXT % "run_as_user { value: 0 } run_as_group { value: -1 }",
    ],
    "config.linux.security_context.supplemental_groups[1]": [CONTEXT % "supplemental_groups: [1, -1]"],
    "config.linux.security_context.supplemental_groups_policy": [CONTEXT % "supplemental_groups_policy: 5"],
    "config.linux.security_context.seccomp.profile_type": [CONTEXT % "seccomp { profile_type: 3 }"],
    "config.linux.security_context.seccomp.localhost_ref": [
        CONTEXT % "seccomp { profile_type: Localhost }",
        CONTEXT % 'seccomp { profile_type: Localhost localhost_ref: "a.json" }',
        CONTEXT % 'seccomp { profile_type: Localhost localhost_ref: "/a/../b.json" }',
        CONTEXT % 'seccomp { profile_type: Localhost localhost_ref: "/a\\000" }',
    ],
    "config.linux.security_context.apparmor.localhost_ref": [
        CONTEXT % "apparmor { profile_type: Localhost }"
    ],
    "config.linux.security_context.selinux_options.level": [CONTEXT % 'selinux_options { level: "s0 c1" }'],
    "config.linux.sysctls[kernel.shmmax]": [
        f"linux {{ sysctls {{ key: 'kernel.shmmax' value: '1' }} {HOST_IPC} }}",
        "linux { sysctls { key: 'kernel.shmmax' value: '1\\0002' } }",
    ],
    "config.linux.sysctls[net.core.somaxconn]": [
        "linux { sysctls { key: 'net.core.somaxconn' value: '1' } "
        "security_context { namespace_options { network: NODE } } }",
    ],
    "config.linux.sysctls[kernel.domainname]": [
        "linux { sysctls { key: 'kernel.domainname' value: 'a' } "
        "security_context { namespace_options { network: NODE } } }",
    ],
    "config.linux.sysctls[vm.swappiness]": ["linux { sysctls { key: 'vm.swappiness' value: '1' } }"],
    "config.linux.sysctls[kernel.hostname]": ["linux { sysctls { key: 'kernel.hostname' value: 'a' } }"],
    "config.linux.sysctls[kernel.core_pattern]": [
        "linux { sysctls { key: 'kernel.core_pattern' value: '|/x' } }"
    ],
    "config.linux.sysctls[net/../kernel/core_pattern]": [
        "linux { sysctls { key: 'net/../kernel/core_pattern' value: '|/x' } }"
    ],
    "config.linux.sysctls[net.//.kernel.core_pattern]": [
        "linux { sysctls { key: 'net.//.kernel.core_pattern' value: '|/x' } }"
    ],
    "config.linux.sysctls[net/core/somaxconn]": [
        "linux { sysctls { key: 'net.core.somaxconn' value: '1' } "
        "sysctls { key: 'net/core/somaxconn' value: '2' } }"
    ],
    "config.linux.cgroup_parent": [
        'linux { cgroup_parent: "kubepods/pod1" }',
        'linux { cgroup_parent: "/kubepods/../.." }',
        'linux { cgroup_parent: "/kubepods//pod1" }',
        'linux { cgroup_parent: "/kubepods/./pod1" }',
        'linux { cgroup_parent: "/" }',
        'linux { cgroup_parent: "/a b" }',
        'linux { cgroup_parent: "/a\\000" }',
        'linux { cgroup_parent: "kubepods.slice" }',
    ],
    "config.linux.resources.cpu_shares": ["linux { resources { cpu_shares: -1 } }"],
    "config.linux.resources.cpu_period": ["linux { resources { cpu_period: -1 } }"],
    "config.linux.overhead.memory_limit_in_bytes": ["linux { overhead { memory_limit_in_bytes: -1 } }"],
}


@pytest.mark.parametrize(
    ("field", "text"), [(field, text) for field, texts in REFUSED.items() for text in texts]
)
def test_validate_names_the_field_that_it_refuses(field: str, text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        checked(text)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "parent", ["/kubepods/pod1", "-.slice", "kubepods", "a b.slice", "/kubepods.slice/x.scope"]
)
def test_validate_wants_a_slice_of_systemd(parent: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        checked(f'linux {{ cgroup_parent: "{parent}" }}', is_systemd=True)
    assert caught.value.field == "config.linux.cgroup_parent"


def test_validate_knows_the_policys_handlers() -> None:
    assert checked(handler="lxc").name == "web"
    with pytest.raises(InvalidSpec) as caught:
        checked(handler="kata")
    assert caught.value.field == "runtime_handler"


def test_validate_of_the_least_config_is_a_pod_with_a_shared_pid_namespace() -> None:
    # Zero values of the definition: network, PID and IPC namespaces of the pod.
    assert checked() == Pod(
        key="web_default_u1_0", name="web", namespace="default", uid="u1", shares_pid=True
    )


def test_validate_reads_what_kubelet_sends() -> None:
    pod = checked(
        """
        metadata { name: "web-0" uid: "0f3b-1" namespace: "prod" attempt: 3 }
        hostname: "web-0" log_directory: "/var/log/pods/prod_web-0_0f3b-1"
        dns_config {
          servers: "10.96.0.10" searches: ["prod.svc.cluster.local", "."] options: ["ndots:5", "edns0"]
        }
        port_mappings { protocol: UDP container_port: 53 host_port: 5353 host_ip: "::1" }
        port_mappings { container_port: 80 }
        port_mappings { container_port: 80 }
        annotations { key: "kubernetes.io/ingress-bandwidth" value: "1.5M" }
        annotations { key: "kubernetes.io/egress-bandwidth" value: "1Gi" }
        linux {
          cgroup_parent: "/kubepods/burstable/pod0f3b/"
          security_context {
            namespace_options { pid: CONTAINER } run_as_user { value: 5 } run_as_group { value: 6 }
          }
          sysctls { key: "net/ipv4/conf/eth0.100/forwarding" value: "1" }
          sysctls { key: "kernel.shm_rmid_forced" value: "1" }
          overhead { cpu_shares: 10 cpu_quota: 1000 cpu_period: 50000 memory_limit_in_bytes: 1000 }
          resources { cpu_shares: 100 cpu_quota: 20000 cpu_period: 100000 memory_limit_in_bytes: 9000000 }
        }
        """
    )
    assert pod.key == "web-0_prod_0f3b-1_3"
    assert pod.dns == Dns(
        servers=("10.96.0.10",), searches=("prod.svc.cluster.local", "."), options=("ndots:5", "edns0")
    )
    assert pod.ports == (PortMapping(host_port=5353, container_port=53, protocol="udp", host_ip="::1"),)
    assert pod.bandwidth == {
        "ingressRate": 1500000,
        "ingressBurst": 4294967295,
        "egressRate": 1 << 30,
        "egressBurst": 4294967295,
    }
    assert (pod.shares_pid, pod.user, pod.group) == (False, 5, 6)
    assert pod.sysctls == {"net.ipv4.conf.eth0/100.forwarding": "1", "kernel.shm_rmid_forced": "1"}
    assert pod.cgroup_parent == "/kubepods/burstable/pod0f3b"
    found = pod.resources
    assert (found.cpu_shares, found.cpu_quota_us, found.cpu_period_us, found.memory_bytes) == (
        110,
        22000,
        100000,
        9001000,
    )


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (
            OPTIONS % "network: NODE pid: NODE ipc: NODE",
            {"has_host_network": True, "has_host_ipc": True, "shares_pid": False},
        ),
        (OPTIONS % "pid: CONTAINER", {"shares_pid": False}),
        (OPTIONS % "userns_options { mode: NODE }", {}),
        (
            USERNS % MAPS,
            {
                "uid_maps": (IdMap(container_id=0, host_id=100000, size=65536),),
                "gid_maps": (IdMap(container_id=0, host_id=100000, size=65536),),
            },
        ),
        (
            # One id only: nobody is not among them.
            OPTIONS
            % "network: NODE userns_options { uids { length: 1 host_id: 7 } gids { length: 1 host_id: 8 } }",
            {
                "has_host_network": True,
                "uid_maps": (IdMap(container_id=0, host_id=7, size=1),),
                "gid_maps": (IdMap(container_id=0, host_id=8, size=1),),
                "user": 0,
                "group": 0,
            },
        ),
        (CONTEXT % 'seccomp { profile_type: Localhost localhost_ref: "/a.json" } privileged: true', {}),
        (CONTEXT % 'apparmor { profile_type: Localhost localhost_ref: "a" } supplemental_groups: 4', {}),
        (CONTEXT % 'selinux_options { user: "u" role: "r" type: "t" level: "s0:c1,c2" }', {}),
        ("linux { resources { cpu_quota: -1 } overhead { cpu_quota: 5 } }", {}),
        (
            OPTIONS % "network: NODE" + " port_mappings { container_port: 80 host_port: 80 }",
            {"has_host_network": True},
        ),
        ('hostname: "A.b-1"', {"hostname": "A.b-1"}),
        ('dns_config { servers: "fe80::1%eth0" }', {"dns": Dns(servers=("fe80::1%eth0",))}),
    ],
)
def test_validate_accepts(text: str, changes: dict[str, t.Any]) -> None:
    assert dataclasses.asdict(checked(text)) == dataclasses.asdict(dataclasses.replace(checked(), **changes))


@pytest.mark.parametrize(
    ("asked", "parent"),
    [
        ("kubepods-burstable-pod1.slice", "kubepods-burstable-pod1.slice"),
        ("/kubepods.slice/kubepods-burstable.slice", "kubepods-burstable.slice"),
        ("", ""),
    ],
)
def test_validate_takes_a_slice_with_or_without_its_path(asked: str, parent: str) -> None:
    assert checked(f'linux {{ cgroup_parent: "{asked}" }}', is_systemd=True).cgroup_parent == parent


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("cpu_shares: 1", "cpu_shares"),
        ("memory_limit_in_bytes: 5", "memory_limit_in_bytes"),
        ("memory_limit_in_bytes: 9000000 memory_swap_limit_in_bytes: 5", "memory_swap_limit_in_bytes"),
        ("memory_swap_limit_in_bytes: 9000000", "memory_swap_limit_in_bytes"),
        ("cpu_period: 5", "cpu_period"),
        ("cpu_quota: 5", "cpu_quota"),
        ('cpuset_cpus: "a"', "cpuset_cpus"),
        ('cpuset_cpus: "9"', "cpuset_cpus"),
        ('hugepage_limits { page_size: "3MB" }', "hugepage_limits[3MB]"),
        ('unified { key: "a b" value: "1" }', "unified[a b]"),
    ],
)
def test_limits_are_checked_where_they_are_to_be_set(text: str, field: str) -> None:
    pod = checked(f"linux {{ resources {{ {text} }} }}")
    with pytest.raises(InvalidSpec) as caught:
        resources.check(pod.resources, HOST)
    assert caught.value.field == f"config.linux.resources.{field}"


def test_limits_that_a_host_can_set() -> None:
    text = "memory_limit_in_bytes: 9000000 memory_swap_limit_in_bytes: -1 cpu_quota: 5000"
    pod = checked(f"linux {{ resources {{ {text} }} overhead {{ memory_limit_in_bytes: 1000 }} }}")
    resources.check(pod.resources, HOST)
    assert (pod.resources.memory_bytes, pod.resources.memory_swap_bytes) == (9001000, -1)


def test_validate_bounds_shares_of_a_large_pod() -> None:
    pod = checked("linux { resources { cpu_shares: 262144 } overhead { cpu_shares: 512 } }")
    assert pod.resources.cpu_shares == 262144


_NAMES = st.from_regex(r"[a-z0-9]([a-z0-9_.-]{0,6}[a-z0-9])?", fullmatch=True)


@given(
    st.tuples(_NAMES, _NAMES, _NAMES, st.integers(0, 99)),
    st.tuples(_NAMES, _NAMES, _NAMES, st.integers(0, 99)),
)
def test_sandbox_key_tells_any_two_pods_apart(one: tuple[t.Any, ...], other: tuple[t.Any, ...]) -> None:
    keys = [
        validate.sandbox_key(cri_pb2.PodSandboxMetadata(name=n, namespace=s, uid=u, attempt=a))
        for n, s, u, a in (one, other)
    ]
    assert (keys[0] == keys[1]) == (one == other)


@given(st.tuples(*[st.sampled_from(["a", "a_", "_a", "a_a", "a__a", "_"])] * 3))
def test_sandbox_key_of_accepted_names_is_unambiguous(parts: tuple[str, str, str]) -> None:
    name, namespace, uid = parts
    metadata = cri_pb2.PodSandboxMetadata(name=name, namespace=namespace, uid=uid)
    try:
        pod = validate.validate(cri_pb2.PodSandboxConfig(metadata=metadata), "", POLICY, is_systemd=False)
    except InvalidSpec:
        assert any(part.startswith("_") or part.endswith("_") for part in parts)
        return
    read = [part.replace("\0", "_") for part in pod.key.replace("__", "\0").split("_")]
    assert read == [name, namespace, uid, "0"]


_TEXT = st.text(max_size=12) | st.sampled_from(
    ["/a", "a", "10.0.0.1", "net.core.somaxconn", "a.slice", "..", "1M"]
)
_SMALL = st.integers(-2, 70000)


@st.composite
def _configs(draw: t.Any) -> cri_pb2.PodSandboxConfig:
    message = cri_pb2.PodSandboxConfig(
        metadata=cri_pb2.PodSandboxMetadata(
            name=draw(_TEXT), namespace="a", uid="b", attempt=draw(st.integers(0, 9))
        ),
        hostname=draw(_TEXT),
        log_directory=draw(_TEXT),
        dns_config=cri_pb2.DNSConfig(
            servers=draw(st.lists(_TEXT, max_size=4)),
            searches=draw(st.lists(_TEXT, max_size=4)),
            options=draw(st.lists(_TEXT, max_size=4)),
        ),
        port_mappings=draw(
            st.lists(
                st.builds(
                    cri_pb2.PortMapping,
                    protocol=st.integers(-1, 4),
                    container_port=_SMALL,
                    host_port=_SMALL,
                    host_ip=_TEXT,
                ),
                max_size=3,
            )
        ),
        labels=draw(st.dictionaries(_TEXT, _TEXT, max_size=2)),
        annotations=draw(
            st.dictionaries(st.sampled_from(["kubernetes.io/ingress-bandwidth", "a", ""]), _TEXT, max_size=2)
        ),
    )
    message.linux.cgroup_parent = draw(_TEXT)
    message.linux.sysctls.update(draw(st.dictionaries(_TEXT, _TEXT, max_size=2)))
    options = message.linux.security_context.namespace_options
    options.network, options.pid, options.ipc = (draw(st.integers(-1, 4)) for _unused in range(3))
    for ids in draw(
        st.lists(st.tuples(_SMALL, _SMALL, _SMALL).map(lambda ids: [abs(i) for i in ids]), max_size=3)
    ):
        options.userns_options.uids.add(container_id=ids[0], host_id=ids[1], length=ids[2])
        options.userns_options.gids.add(container_id=ids[0], host_id=ids[1], length=ids[2])
    message.linux.resources.cpu_quota = draw(_SMALL)
    message.linux.resources.memory_limit_in_bytes = draw(_SMALL)
    return message


@given(_configs(), st.booleans())
def test_validate_refuses_by_field_or_returns_what_is_safe(
    message: cri_pb2.PodSandboxConfig, is_systemd: bool
) -> None:
    try:
        pod = validate.validate(message, "", POLICY, is_systemd=is_systemd)
    except InvalidSpec as exc:
        refused: str | None = exc.field
    else:
        refused = None
    if refused is not None:
        assert refused.startswith("config.")
        return
    for text in (
        pod.hostname,
        pod.name,
        *pod.dns.servers,
        *pod.dns.searches,
        *pod.dns.options,
        pod.cgroup_parent,
    ):
        assert not set(text) & set("\n\0 ;=/" if text != pod.cgroup_parent else "\n\0 ")
    assert ".." not in pod.cgroup_parent.split("/")
    assert all(name.startswith(("net.", "kernel.", "fs.mqueue.")) for name in pod.sysctls)
