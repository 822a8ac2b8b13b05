# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold whole configurations: one by hand, and many that hypothesis makes up."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings

from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Hook,
    IdMap,
    ImageConfig,
    Namespaces,
    Resources,
    Security,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.build import build_config
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.users import ResolvedUser
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.validate import validate
from ansible_collections.pvecri.runtime.tests.support import specs

HOST = HostFacts(seccomp_default={"defaultAction": "SCMP_ACT_ALLOW"})


def test_build_config_whole():
    spec = ContainerSpec(
        name="web",
        command=("serve", "--port=80"),
        env=(("MODE", "prod"),),
        cwd="/srv",
        labels=(("tier", "front"),),
        resources=Resources(memory_bytes=64 << 20, pids_limit=100),
        security=Security(capabilities_drop=("ALL",), no_new_privileges=True, read_only_rootfs=True),
        hooks=(Hook(stage="poststop", path="/usr/bin/clean", args=("web",), timeout_s=5),),
    )
    image = ImageConfig(entrypoint=("/app",), command=("ignored",), env=(("MODE", "dev"), ("LANG", "C")))
    config = build_config(spec, image, ResolvedUser(uid=1000, gid=1000, home="/home/web"), HOST)
    mounts = {mount["destination"]: mount["type"] for mount in config.pop("mounts")}
    assert mounts == {
        "/proc": "proc",
        "/dev": "tmpfs",
        "/dev/pts": "devpts",
        "/dev/shm": "tmpfs",
        "/dev/mqueue": "mqueue",
        "/sys": "sysfs",
        "/sys/fs/cgroup": "cgroup",
    }
    rules = config["linux"]["resources"].pop("devices")
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"} in rules
    assert "/proc/kcore" in config["linux"].pop("maskedPaths")
    assert "/proc/sys" in config["linux"].pop("readonlyPaths")
    assert config == {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 1000, "gid": 1000, "additionalGids": []},
            "args": ["/app", "serve", "--port=80"],
            "env": [
                "MODE=prod",
                "LANG=C",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOSTNAME=web",
                "HOME=/home/web",
            ],
            "cwd": "/srv",
            "capabilities": {
                "bounding": [],
                "effective": [],
                "permitted": [],
                "inheritable": [],
                "ambient": [],
            },
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "web",
        "hooks": {
            "poststop": [{"path": "/usr/bin/clean", "args": ["/usr/bin/clean", "web"], "timeout": 5}],
        },
        "annotations": {"tier": "front"},
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "cgroupsPath": "/pvecri/web",
            "resources": {"memory": {"limit": 64 << 20}, "pids": {"limit": 100}},
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
        },
    }


def test_build_config_writes_the_hosts_version_and_rootfs():
    host = HostFacts(oci_version="1.2.0", seccomp_default={"defaultAction": "SCMP_ACT_ALLOW"})
    spec = ContainerSpec(name="web", command=("x",))
    config = build_config(spec, ImageConfig(), ResolvedUser(), host, "/srv/root")
    assert (config["ociVersion"], config["root"]["path"]) == ("1.2.0", "/srv/root")


def test_build_config_with_a_user_namespace():
    maps = (IdMap(container_id=0, host_id=100000, size=1000),)
    spec = ContainerSpec(
        name="x", command=("x",), namespaces=Namespaces(user="private"), uid_maps=maps, gid_maps=maps
    )
    linux = build_config(spec, ImageConfig(), ResolvedUser(), HOST)["linux"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 100000, "size": 1000}]
    assert {"type": "user"} in linux["namespaces"]


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(request=specs.requests(), host=specs.hosts(), image=specs.images())
def test_build_config_is_valid_pure_and_json(request, host, image):
    spec, mounts = request
    warnings: list[str] = []
    config = build_config(spec, image, ResolvedUser(), host, "rootfs", mounts, warnings=warnings)
    assert [str(problem) for problem in validate(config)] == []
    assert config == build_config(spec, image, ResolvedUser(), host, "rootfs", mounts)
    assert json.loads(json.dumps(config)) == config
    assert all(isinstance(warning, str) for warning in warnings)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(request=specs.requests(), host=specs.hosts())
def test_build_config_mounts_parents_first(request, host):
    spec, mounts = request
    config = build_config(spec, ImageConfig(), ResolvedUser(), host, "rootfs", mounts)
    destinations = [mount["destination"] for mount in config["mounts"]]
    assert len(set(destinations)) == len(destinations)
    for i, path in enumerate(destinations):
        assert not any(path.startswith(later + "/") for later in destinations[i + 1 :])
    assert {item.mount.destination for item in mounts} <= set(destinations)
