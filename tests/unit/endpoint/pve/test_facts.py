# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What decides on a guest besides its request is looked up: file systems, vendors, the pod's other guest."""

from __future__ import annotations

import json
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.api import cri_pb2 as pb
from pvecri.pve.facts import Lookup
from pvecri.state.records import Phase

POD = "5" * 64


@pytest.fixture
def look(tmp_path):
    """Return what is found for a config in a pod with some containers."""
    vendor = {
        "cdiVersion": "0.6.0",
        "kind": "vendor.com/gpu",
        "devices": [{"name": "0", "containerEdits": {"env": ["GPU=0"], "additionalGids": [44]}}],
    }
    (tmp_path / "vendor.json").write_text(json.dumps(vendor))

    def facts(config, *of_pod, has_selinux=False, is_native=False):
        registry = types.SimpleNamespace(containers_of=lambda pod: of_pod if pod == POD else ())
        lookup = Lookup(registry, HostFacts(has_selinux=has_selinux), [str(tmp_path)])
        config.metadata.name = "app"
        request = types.SimpleNamespace(config=config, sandbox=types.SimpleNamespace(id=POD))
        return lookup.facts_of(types.SimpleNamespace(request=request), is_native=is_native)

    return facts


def test_plain_container_of_an_empty_pod(look):
    found = look(pb.ContainerConfig())
    assert (found.other, found.unmapped, found.has_selinux, found.is_native) == ("", {}, False, False)
    assert found.edits.env == ()
    assert look(pb.ContainerConfig(), has_selinux=True, is_native=True).is_native


def test_sources_whose_owners_cannot_be_mapped_are_named(look, tmp_path):
    mounts = [
        pb.Mount(host_path=str(tmp_path), container_path="/a"),
        pb.Mount(host_path="/proc/sys", container_path="/b"),
        pb.Mount(image=pb.ImageSpec(image="x"), container_path="/c"),
    ]
    config = pb.ContainerConfig(mounts=mounts)
    assert list(look(config).unmapped) == [1]
    # Nothing is mapped for a privileged one.
    config.linux.security_context.privileged = True
    assert look(config).unmapped == {}


def test_vendors_edits_are_found(look):
    config = pb.ContainerConfig(CDI_devices=[pb.CDIDevice(name="vendor.com/gpu=0")])
    edits = look(config).edits
    assert (edits.env, edits.groups) == ((("GPU", "0"),), ("44",))
    config.CDI_devices[0].name = "vendor.com/gpu=1"
    with pytest.raises(InvalidSpec, match=r"CDI_devices\[0\]"):
        look(config)


@pytest.mark.parametrize(
    ("name", "phase", "runtime", "other"),
    [
        ("db", Phase.RUNNING, "pve-lxc", "db"),
        ("db", Phase.EXITED, "pve-lxc", ""),
        ("db", Phase.RUNNING, "crun", ""),
        ("app", Phase.CREATED, "pve-lxc", ""),
    ],
)
def test_other_guest_of_the_pod(look, name, phase, runtime, other):
    record = records.container(POD, name, phase=phase, selection={"runtime": runtime})
    assert look(pb.ContainerConfig(), record).other == other
