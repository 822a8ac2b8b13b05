# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The request that makes a container says what Proxmox VE has to know, and no more."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import resources
from pvecri.api import cri_pb2 as pb
from pvecri.config.model import PveConfig
from pvecri.pve import params
from pvecri.pve.identity import Identity

GIB, MIB = 1 << 30, 1 << 20
WHOSE = Identity(endpoint="e", container="c", sandbox="s")


def config(**annotations: str) -> pb.ContainerConfig:
    made = pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name="app"),
        image=pb.ImageSpec(image="sha256:1", user_specified_image="registry.test/db:1"),
        envs=[pb.KeyValue(key="PASSWORD", value=b"secret")],
        command=["/bin/db", "--password=secret"],
        annotations=annotations,
    )
    made.mounts.add(container_path="/data", host_path="/srv/secret")
    return made


def pod(**annotations: str) -> pb.PodSandboxConfig:
    return pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(name="web-0", namespace="shop"), annotations=annotations
    )


def asked(made=None, of=None, *, limits=None, settings=None, template="local:vztmpl/x.tar"):
    return params.create_params(
        900_001,
        WHOSE,
        made or config(),
        of or pod(),
        oci_resources=limits or {},
        rootfs_bytes=4 * GIB,
        template=template,
        storage="local-lvm",
        settings=settings or PveConfig(),
    )


def test_create_params_are_exactly_these() -> None:
    values = asked()
    notes = values.pop("description")
    assert values == {
        "vmid": 900_001,
        "ostemplate": "local:vztmpl/x.tar",
        "unprivileged": True,
        "rootfs": "local-lvm:4",
        "storage": "local-lvm",
        "tags": "pvecri;pvecri-cri",
        "hostname": "web-0-app",
        "onboot": 0,
        "console": 0,
        "tty": 0,
        "memory": resources.host_memory_mib(),
        "swap": 0,
    }
    assert "pod shop/web-0, image registry.test/db:1" in notes


def test_create_params_have_nothing_that_may_be_secret() -> None:
    assert "secret" not in repr(asked())


def test_create_params_have_the_limits_in_whole_mib_and_cores() -> None:
    limits = {
        "cpu": {"quota": 150_000, "period": 100_000, "shares": 1024},
        "memory": {"limit": 100 * MIB + 1, "swap": 100 * MIB + 1},
    }
    values = asked(limits=limits)
    assert {key: values[key] for key in ("cores", "cpulimit", "cpuunits", "memory", "swap")} == {
        "cores": 2,
        "cpulimit": "1.5",
        "cpuunits": 39,
        "memory": 101,
        "swap": 0,
    }


def test_create_params_of_a_privileged_container_in_a_pool_with_nesting() -> None:
    made = config(**{params.FEATURES: "nesting"})
    made.linux.security_context.privileged = True
    values = asked(made, settings=PveConfig(pool="k8s"), template="local:vztmpl/debian-13.tar.zst")
    assert (values["unprivileged"], values["pool"], values["features"]) == (False, "k8s", "nesting=1")


@pytest.mark.parametrize(
    ("of_container", "of_pod", "image_bytes", "size"),
    [
        ({}, {}, 0, 4 * GIB),
        ({}, {}, 3 * GIB, 4 * GIB),
        ({}, {}, 5 * GIB, 7 * GIB),
        ({}, {params.ROOTFS_SIZE: "10Gi"}, 0, 10 * GIB),
        ({params.ROOTFS_SIZE: "512Mi"}, {params.ROOTFS_SIZE: "10Gi"}, 0, GIB // 2),
    ],
)
def test_size_of_rootfs(of_container: dict, of_pod: dict, image_bytes: int, size: int) -> None:
    found = params.size_of_rootfs(config(**of_container), pod(**of_pod), image_bytes, PveConfig())
    assert found == size


@pytest.mark.parametrize("text", ["127Mi", "x", "-1Gi", "0", "65537Gi", "1e30"])
def test_size_of_rootfs_refuses(text: str) -> None:
    with pytest.raises(InvalidSpec, match=r"^sandbox_config.annotations\[pvecri.runtime/lxc-rootfs-size\]: "):
        params.size_of_rootfs(config(), pod(**{params.ROOTFS_SIZE: text}), 0, PveConfig())


def test_features_that_only_root_may_give_are_refused() -> None:
    with pytest.raises(InvalidSpec, match=r"^config.annotations\[pvecri.runtime/lxc-features\]: 'keyctl' "):
        params.features(config(**{params.FEATURES: "nesting, keyctl"}), pod())
