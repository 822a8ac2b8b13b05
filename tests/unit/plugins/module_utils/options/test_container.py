# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the options of a container against the model, through Ansible's own validation."""

from __future__ import annotations

import base64

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    DirectoryMode,
    DirectorySource,
    ImageSource,
    Platform,
    PullPolicy,
    TarballSource,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Device,
    Hook,
    IdMap,
    IoLimit,
    Mount,
    MountKind,
    Namespaces,
    Resources,
    Rlimit,
    Security,
    to_plain,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.options.argument_spec import (
    SOURCE_MUTUALLY_EXCLUSIVE,
    container_argument_spec,
    source_argument_spec,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.options.container import (
    spec_from_options,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.options.source import source_from_options


def accepted(spec, parameters, exclusive=None):
    """Return parameters as a module gets them, or raise what Ansible says against them."""
    result = ArgumentSpecValidator(spec, exclusive).validate(parameters)
    if result.error_messages:
        raise ValueError("; ".join(result.error_messages))
    return result.validated_parameters


def made(**parameters) -> ContainerSpec:
    spec = {"name": {"type": "str"}, "network_namespace": {"type": "str"}, **container_argument_spec()}
    return spec_from_options(accepted(spec, {"name": "web", **parameters}))


def source(**parameters):
    return source_from_options(accepted(source_argument_spec(), parameters, SOURCE_MUTUALLY_EXCLUSIVE))


def test_nothing_asked_is_the_default():
    assert made() == ContainerSpec(name="web")
    assert to_plain(made()) == {"name": "web"}
    assert spec_from_options({"name": "web"}) == ContainerSpec(name="web")


def test_everything_asked():
    spec = made(
        entrypoint=["/app"],
        command="serve 'a b' 5",
        env={"A": "1", "B": 2},
        secret_env={"S": "hunter2"},
        cwd="/srv",
        user="web:audio",
        supplementary_groups=["video", 5],
        merge_image_groups=False,
        terminal=True,
        hostname="h",
        labels={"l": "1"},
        annotations={"a": "1"},
        namespaces={"pid": "host", "user": "private"},
        network_namespace="/run/netns/x",
        uid_maps=[{"container_id": 0, "host_id": 100, "size": 5}],
        gid_maps=[{"container_id": 0, "host_id": 200, "size": 5}],
        devices=[{"source": "/dev/fuse"}, {"source": "/dev/a", "destination": "/dev/b", "permissions": "r"}],
        resources={
            "cpus": "1.5",
            "memory": "64MiB",
            "memory_swap": "unlimited",
            "memory_reservation": "32m",
            "pids_limit": 5,
            "cpu_shares": 100,
            "cpuset_cpus": "0-1",
            "cpuset_mems": "0",
            "io_weight": 100,
            "io_limits": [{"device": "/dev/sda", "read_bps": "1MB", "write_iops": 5}],
            "hugepages": {"2MB": "4MiB"},
            "unified": {"memory.high": 5},
        },
        security={
            "privileged": True,
            "capabilities_add": ["net_admin"],
            "capabilities_drop": ["all"],
            "no_new_privileges": True,
            "seccomp": "unconfined",
            "apparmor": "mine",
            "selinux_process_label": "a:b:c:d",
            "selinux_mount_label": "e:f:g:h",
            "masked_paths": [],
            "read_only_paths": ["/proc/sys"],
            "read_only_rootfs": True,
        },
        rlimits=[{"type": "nofile", "soft": 100, "hard": "unlimited"}, {"type": "RLIMIT_CORE", "soft": 0}],
        sysctls={"net.ipv4.ip_forward": 1},
        hooks=[{"stage": "poststop", "path": "/a", "args": ["x"], "env": {"A": "1"}, "timeout": 5}],
        oom_score_adj=100,
        cgroups_path="/x",
        stop_signal="quit",
        shm_size="128m",
    )
    assert spec == ContainerSpec(
        name="web",
        entrypoint=("/app",),
        command=("serve", "a b", "5"),
        env=(("A", "1"), ("B", "2"), ("S", "hunter2")),
        secret_env=frozenset({"S"}),
        cwd="/srv",
        user="web:audio",
        supplementary_groups=("video", "5"),
        merge_image_groups=False,
        terminal=True,
        hostname="h",
        labels=(("l", "1"),),
        annotations=(("a", "1"),),
        namespaces=Namespaces(pid="host", user="private", network="/run/netns/x"),
        uid_maps=(IdMap(container_id=0, host_id=100, size=5),),
        gid_maps=(IdMap(container_id=0, host_id=200, size=5),),
        devices=(
            Device(source="/dev/fuse", destination="/dev/fuse"),
            Device(source="/dev/a", destination="/dev/b", permissions="r"),
        ),
        resources=Resources(
            cpu_quota_us=150000,
            cpu_period_us=100000,
            cpu_shares=100,
            cpuset_cpus="0-1",
            cpuset_mems="0",
            memory_bytes=64 << 20,
            memory_swap_bytes=-1,
            memory_reservation_bytes=32 << 20,
            pids_limit=5,
            io_weight=100,
            io_limits=(IoLimit(device="/dev/sda", read_bps=1_000_000, write_iops=5),),
            hugepages=(("2MB", 4 << 20),),
            unified=(("memory.high", "5"),),
        ),
        security=Security(
            privileged=True,
            capabilities_add=("CAP_NET_ADMIN",),
            capabilities_drop=("ALL",),
            no_new_privileges=True,
            seccomp="unconfined",
            apparmor="mine",
            selinux_process_label="a:b:c:d",
            selinux_mount_label="e:f:g:h",
            masked_paths=(),
            read_only_paths=("/proc/sys",),
            read_only_rootfs=True,
        ),
        rlimits=(
            Rlimit(kind="RLIMIT_NOFILE", soft=100, hard=-1),
            Rlimit(kind="RLIMIT_CORE", soft=0, hard=0),
        ),
        sysctls=(("net.ipv4.ip_forward", "1"),),
        hooks=(Hook(stage="poststop", path="/a", args=("x",), env=("A=1",), timeout_s=5),),
        oom_score_adj=100,
        cgroups_path="/x",
        stop_signal="SIGQUIT",
        shm_size_bytes=128 << 20,
    )
    assert "hunter2" not in str(to_plain(spec))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"resources": {"memory": "64m"}}, {"resources": {"memory": 67108864}}),
        ({"resources": {"cpus": 1}}, {"resources": {"cpu_quota": 100000, "cpu_period": 100000}}),
        ({"security": {"capabilities_add": ["KILL"]}}, {"security": {"capabilities_add": ["cap_kill"]}}),
        ({"command": "a b"}, {"command": ["a", "b"]}),
        ({"stop_signal": "TERM"}, {"stop_signal": "SIGTERM"}),
        ({"namespaces": {}}, {"namespaces": {"pid": "private"}}),
        ({"security": {}}, {}),
        ({"rlimits": [{"type": "core", "soft": "-1"}]}, {"rlimits": [{"type": "CORE", "soft": "unlimited"}]}),
        (
            {"mounts": [{"destination": "/d/", "source": "/s"}]},
            {"mounts": [{"type": "bind", "destination": "/d", "source": "/s", "read_only": False}]},
        ),
    ],
)
def test_what_means_the_same_is_the_same(one, other):
    assert made(**one) == made(**other)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"type": "bind", "source": "/s"}, {"kind": MountKind.BIND, "source": "/s"}),
        (
            {"source": "/s", "recursive_read_only": True},
            {"kind": MountKind.BIND, "source": "/s", "read_only": True, "recursive_read_only": True},
        ),
        (
            {"source": "/s", "options": ["noexec"], "propagation": "rslave", "create_source": True},
            {
                "kind": MountKind.BIND,
                "source": "/s",
                "options": ("noexec",),
                "propagation": "rslave",
                "create_source": True,
            },
        ),
        (
            {"type": "tmpfs", "size": "1MiB", "mode": "0700", "uid": 5, "gid": 6},
            {"kind": MountKind.TMPFS, "size_bytes": 1 << 20, "mode": 0o700, "uid": 5, "gid": 6},
        ),
        (
            {"type": "volume", "source": "data", "sub_path": "a//b/"},
            {"kind": MountKind.VOLUME, "source": "data", "sub_path": "a/b"},
        ),
        (
            {"type": "image", "source": "busybox"},
            {"kind": MountKind.IMAGE, "source": "busybox", "read_only": True},
        ),
        ({"type": "file", "content": "hé"}, {"kind": MountKind.FILE, "content": "hé".encode()}),
        (
            {"type": "file", "content": "", "mode": 420},
            {"kind": MountKind.FILE, "content": b"", "mode": 0o644},
        ),
        (
            {"type": "secret", "secret": base64.encodebytes(bytes(range(99))).decode(), "encoding": "base64"},
            {"kind": MountKind.SECRET, "content": bytes(range(99)), "read_only": True},
        ),
        (
            {
                "source": "/s",
                "uid_maps": [{"container_id": 0, "host_id": 1, "size": 2}],
                "gid_maps": [{"container_id": 0, "host_id": 3, "size": 4}],
            },
            {
                "kind": MountKind.BIND,
                "source": "/s",
                "uid_maps": (IdMap(container_id=0, host_id=1, size=2),),
                "gid_maps": (IdMap(container_id=0, host_id=3, size=4),),
            },
        ),
    ],
)
def test_mounts(asked, expected):
    assert made(mounts=[{"destination": "/d", **asked}]).mounts == (Mount(destination="/d", **expected),)


@pytest.mark.parametrize(
    ("asked", "option", "message"),
    [
        ({"source": "data"}, "source", "Named volumes have type 'volume'"),
        ({}, "source", "is required for type 'bind'"),
        ({"type": "volume"}, "source", "is required for type 'volume'"),
        ({"type": "file"}, "content", "is required for type 'file'"),
        ({"type": "secret"}, "secret", "is required for type 'secret'"),
        ({"type": "secret", "content": "x"}, "content", "does not go with type 'secret'.*It is for file"),
        ({"type": "file", "secret": "x"}, "secret", "does not go with type 'file'"),
        ({"source": "/s", "size": "1m"}, "size", "It is for tmpfs"),
        ({"source": "/s", "mode": "0600"}, "mode", "does not go with type 'bind'"),
        ({"source": "/s", "uid": 0}, "uid", "does not go with type 'bind'"),
        ({"source": "/s", "sub_path": "x"}, "sub_path", "does not go with"),
        ({"type": "tmpfs", "source": "/s"}, "source", "does not go with type 'tmpfs'"),
        ({"type": "tmpfs", "create_source": True}, "create_source", "does not go with"),
        ({"type": "volume", "source": "v", "sub_path": "/x"}, "sub_path", "not a relative path"),
        ({"type": "volume", "source": "v", "sub_path": "a/../../x"}, "sub_path", "not a relative path"),
        ({"type": "volume", "source": "v", "sub_path": "."}, "sub_path", "not a relative path"),
        ({"type": "tmpfs", "size": "big"}, "size", "not a size"),
        ({"type": "tmpfs", "mode": "rwx"}, "mode", "not octal"),
        ({"type": "tmpfs", "uid": -1}, "uid", "-1 is not an id"),
        ({"type": "file", "content": "!", "encoding": "base64"}, "content", "is not base64"),
        ({"source": "/s", "destination": "d"}, "destination", "not an absolute path"),
        ({"source": "/s", "destination": "/"}, "destination", "rootfs itself"),
        ({"source": "/s", "destination": "/a/../b"}, "destination", "Write '/b'"),
    ],
)
def test_mounts_refused(asked, option, message):
    good = {"type": "tmpfs", "destination": "/good"}
    with pytest.raises(InvalidSpec, match=message) as caught:
        made(mounts=[good, {"destination": "/d", **asked}])
    assert caught.value.field == f"mounts[1].{option}"


def test_mounts_refused_twice():
    with pytest.raises(InvalidSpec, match=r"destination of mounts\[0\] as well") as caught:
        made(mounts=[{"type": "tmpfs", "destination": "/d"}, {"type": "tmpfs", "destination": "/d/"}])
    assert caught.value.field == "mounts[1].destination"


def test_secrets_stay_out_of_errors():
    with pytest.raises(InvalidSpec) as caught:
        made(mounts=[{"type": "secret", "destination": "/d", "secret": "hunter2!", "encoding": "base64"}])
    assert "hunter2" not in str(caught.value)
    with pytest.raises(InvalidSpec) as caught:
        made(secret_env={"A": 3.14159})
    assert caught.value.field == "secret_env.A"
    assert "3.14159" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "field", "message"),
    [
        ({"name": "-x"}, "name", "not a name of a container"),
        ({"name": "a/b"}, "name", "not a name of a container"),
        ({"name": ""}, "name", "not a name of a container"),
        ({"name": "a" * 129}, "name", "At most 128"),
        ({"env": {"A": True}}, "env.A", "in quotes"),
        ({"env": {"A": 1.5}}, "env.A", "1.5 is not a text"),
        ({"env": {"A": None}}, "env.A", "None is not a text"),
        ({"env": {"A": "\0"}}, "env.A", "NUL"),
        ({"env": {"": "x"}}, "env", "a name is empty"),
        ({"env": {"A=B": "x"}}, "env", "'A=B' is not a name"),
        ({"env": {"A": "1"}, "secret_env": {"A": "2"}}, "secret_env.A", "is also in env"),
        ({"command": "'unbalanced"}, "command", "cannot be split"),
        ({"command": ["a", True]}, "command[1]", "True is not a text"),
        ({"command": {"a": 1}}, "command", "neither a list nor a text"),
        ({"labels": {"a": ["x"]}}, "labels.a", "not a text"),
        ({"namespaces": {"pid": "shared"}}, "namespaces.pid", "'shared' is no mode"),
        ({"network_namespace": "none"}, "network_namespace", "'none' is no mode"),
        ({"resources": {"memory": "lots"}}, "resources.memory", "not a size"),
        ({"resources": {"cpus": "0"}}, "resources.cpus", "at least 0.01"),
        ({"resources": {"hugepages": {"2MB": "x"}}}, "resources.hugepages.2MB", "not a size"),
        ({"resources": {"unified": {"a.b": True}}}, "resources.unified.a.b", "not a text"),
        (
            {"resources": {"io_limits": [{"device": "/d", "read_bps": "fast"}]}},
            "resources.io_limits[0].read_bps",
            "not a size",
        ),
        ({"security": {"capabilities_add": ["FLY"]}}, "security.capabilities_add[0]", "unknown capability"),
        ({"rlimits": [{"type": "nofiles", "soft": "1"}]}, "rlimits[0].type", "unknown resource limit"),
        ({"rlimits": [{"type": "core", "soft": "much"}]}, "rlimits[0].soft", "not a limit"),
        ({"rlimits": [{"type": "core", "soft": "1", "hard": "-5"}]}, "rlimits[0].hard", "not a limit"),
        ({"hooks": [{"stage": "poststop", "path": "/a", "env": {"A": 1.5}}]}, "hooks[0].env.A", "not a text"),
        ({"stop_signal": "SIGNOPE"}, "stop_signal", "is no signal"),
        ({"stop_signal": "0"}, "stop_signal", "is no signal"),
        ({"stop_signal": "65"}, "stop_signal", "is no signal"),
        ({"stop_signal": "RTMIN+99"}, "stop_signal", "is no signal"),
        ({"shm_size": "x"}, "shm_size", "not a size"),
    ],
)
def test_refused(asked, field, message):
    with pytest.raises(InvalidSpec, match=message) as caught:
        made(**asked)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "asked",
    [
        {"nonsense": 1},
        {"mounts": [{"source": "/s"}]},
        {"mounts": [{"destination": "/d", "type": "nfs"}]},
        {"mounts": [{"destination": "/d", "destinaton": "/d"}]},
        {"resources": {"cpus": "1", "cpu_quota": 1000}},
        {"resources": {"memoryy": "1"}},
        {"uid_maps": [{"container_id": 0}]},
        {"hooks": [{"stage": "prestop", "path": "/x"}]},
        {"oom_score_adj": "high"},
        {"env": "A"},
    ],
)
def test_refused_by_ansible(asked):
    with pytest.raises(ValueError, match=r"\w"):
        made(**asked)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("term", "SIGTERM"),
        ("15", "15"),
        ("SIGRTMIN+3", "SIGRTMIN+3"),
        ("rtmax-1", "SIGRTMAX-1"),
        (" HUP ", "SIGHUP"),
    ],
)
def test_stop_signal(text, expected):
    assert made(stop_signal=text).stop_signal == expected


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "0", "a" * 128])
def test_name(name):
    assert made(name=name).name == name


# ---- where the root file system comes from ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, None),
        ({"image": "nginx:1"}, ImageSource(reference="nginx:1")),
        (
            {
                "image": "oci:/srv/layout:x",
                "pull": {
                    "policy": "always",
                    "platform": "linux/arm64/v8",
                    "username": "me",
                    "password": "hunter2",
                    "tls_verify": False,
                    "ca_file": "/ca.pem",
                    "signature_policy": "/policy.json",
                    "retries": 0,
                    "timeout": "1m30s",
                },
            },
            ImageSource(
                reference="oci:/srv/layout:x",
                policy=PullPolicy.ALWAYS,
                platform=Platform(architecture="arm64", variant="v8"),
                username="me",
                password="hunter2",
                tls_verify=False,
                ca_file="/ca.pem",
                signature_policy="/policy.json",
                retries=0,
                timeout_s=90.0,
            ),
        ),
        ({"tarball": "/r.tar"}, TarballSource(path="/r.tar")),
        ({"directory": "/r"}, DirectorySource(path="/r")),
        (
            {"directory": "/r", "directory_mode": "direct"},
            DirectorySource(path="/r", mode=DirectoryMode.DIRECT),
        ),
    ],
)
def test_source(asked, expected):
    found = source(**asked)
    assert found == expected
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"image": "UPPER case"}, "image"),
        ({"image": "x", "pull": {"platform": "no such platform"}}, "pull.platform"),
        ({"image": "x", "pull": {"timeout": "soon"}}, "pull.timeout"),
        ({"image": "x", "pull": {"timeout": "0"}}, "pull.timeout"),
        ({"image": "x", "pull": {"retries": -1}}, "pull.retries"),
        (
            {"image": "x", "pull": {"username": "a", "password": "b", "authfile": "/f"}},
            "pull.authfile",
        ),
        ({"tarball": "/r.tar", "pull": {"policy": "always"}}, "pull"),
        ({"tarball": "r.tar"}, "tarball"),
        ({"directory": "/"}, "directory"),
    ],
)
def test_source_refused(asked, field):
    with pytest.raises(InvalidSpec) as caught:
        source(**asked)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "asked",
    [
        {"image": "x", "tarball": "/t"},
        {"directory": "/d", "tarball": "/t"},
        {"image": "x", "pull": {"username": "me"}},
        {"image": "x", "pull": {"policy": "sometimes"}},
    ],
)
def test_source_refused_by_ansible(asked):
    with pytest.raises(ValueError, match=r"\w"):
        source(**asked)
