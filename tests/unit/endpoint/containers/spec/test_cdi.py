# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what descriptions of devices add to a container, and that a bad one is refused and hides no other."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Device,
    Hook,
    Mount,
    MountKind,
)
from pvecri.api import cri_pb2 as pb
from pvecri.containers.spec import cdi

YAML = """
cdiVersion: "0.6.0"
kind: vendor.com/gpu
devices:
  - name: "0"
    containerEdits:
      deviceNodes: [{path: /dev/gpu0, hostPath: /dev/null, permissions: rw, fileMode: 384, uid: 1, gid: 2}]
  - name: all
    containerEdits: {env: [GPU=all]}
containerEdits:
  env: ["COMMON=a=b"]
  mounts:
    - {hostPath: /lib/gpu, containerPath: /lib/gpu, options: [ro, nosuid, rbind, rslave]}
  hooks:
    - {hookName: createContainer, path: /bin/hook, args: [hook, "-x"], env: [A=1], timeout: 5}
  additionalGids: [44]
"""
COMMON_MOUNT = Mount(
    kind=MountKind.BIND,
    destination="/lib/gpu",
    source="/lib/gpu",
    read_only=True,
    propagation="rslave",
    options=("nosuid",),
)
GPU = Device(source="/dev/null", destination="/dev/gpu0", permissions="rw", mode=0o600, uid=1, gid=2)


@pytest.fixture
def folders(tmp_path):
    for name in ("etc", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "etc" / "gpu.yaml").write_text(YAML)
    return tmp_path


@pytest.fixture
def catalogue(folders):
    return cdi.Catalogue([str(folders / "etc"), str(folders / "run"), str(folders / "none")])


def describe(path, *names, kind="vendor.com/gpu", **edits):
    devices = [{"name": name, "containerEdits": edits} for name in names]
    path.write_text(json.dumps({"cdiVersion": "0.5.0", "kind": kind, "devices": devices}))


def test_edits(catalogue):
    found = catalogue.edits([("a", "vendor.com/gpu=0"), ("b", "vendor.com/gpu=all")])
    assert found == cdi.Edits(
        env=(("COMMON", "a=b"), ("GPU", "all")),
        devices=(GPU,),
        mounts=(COMMON_MOUNT,),
        hooks=(Hook(stage="createContainer", path="/bin/hook", args=("-x",), env=("A=1",), timeout_s=5),),
        groups=("44",),
    )
    assert catalogue.edits([]) == cdi.Edits()


def test_edits_applied_after_what_the_request_says(catalogue):
    spec = ContainerSpec(
        name="x",
        env=(("GPU", "mine"), ("B", "2")),
        supplementary_groups=("44", "7"),
        devices=(Device(source="/dev/zero", destination="/dev/gpu0"),),
        mounts=(Mount(kind=MountKind.TMPFS, destination="/lib/gpu"),),
    )
    made = catalogue.edits([("a", "vendor.com/gpu=0"), ("b", "vendor.com/gpu=all")]).applied(spec)
    assert made.env == (("COMMON", "a=b"), ("GPU", "mine"), ("B", "2"))
    assert made.supplementary_groups == ("44", "7")
    assert (made.devices, made.mounts) == (spec.devices, spec.mounts)
    plain = catalogue.edits([("a", "vendor.com/gpu=0")]).applied(ContainerSpec(name="x"))
    assert (plain.devices, plain.mounts, len(plain.hooks)) == ((GPU,), (COMMON_MOUNT,), 1)


def test_later_directory_counts_first_and_changes_are_seen(catalogue, folders):
    override = folders / "run" / "a.json"
    describe(override, "0", env=["FROM=run"])
    assert catalogue.edits([("a", "vendor.com/gpu=0")]).env == (("FROM", "run"),)
    describe(override, "0", env=["FROM=changed"])
    assert catalogue.edits([("a", "vendor.com/gpu=0")]).env == (("FROM", "changed"),)
    override.unlink()
    assert catalogue.edits([("a", "vendor.com/gpu=0")]).devices == (GPU,)


def test_unchanged_files_are_read_once(catalogue, monkeypatch):
    read = []
    real = cdi.load_document
    monkeypatch.setattr(cdi, "load_document", lambda path, field: read.append(path) or real(path, field))
    for _time in range(3):
        catalogue.edits([("a", "vendor.com/gpu=0")])
    assert len(read) == 1


def test_unknown_and_double_devices(catalogue, folders):
    with pytest.raises(InvalidSpec, match=r"field: no device 'vendor.com/gpu=9'"):
        catalogue.edits([("field", "vendor.com/gpu=9")])
    describe(folders / "etc" / "again.json", "0")
    with pytest.raises(InvalidSpec, match="described twice"):
        catalogue.edits([("field", "vendor.com/gpu=0")])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"kind": 5, "devices": []}\x00',
        '{"kind": "vendor.com/x", "devices": [{"name": "bad name"}]}',
        '{"kind": "novendor", "devices": [{"name": "a"}]}',
        '{"kind": "vendor.com/x", "devices": [{"name": "a", "containerEdits": {"env": ["=x"]}}]}',
        '{"kind": "vendor.com/x", "devices": [{"name": "a", "containerEdits": {"deviceNodes": [{}]}}]}',
        '{"kind": "vendor.com/x", "devices": [{"name": "a", "containerEdits": {"additionalGids": ["a"]}}]}',
        '{"kind": "vendor.com/x", "devices": [{"name": "a", "containerEdits": {"intelRdt": {}}}]}',
        '{"kind": "vendor.com/x", "devices": [{"name": "a"}], "containerEdits": {"mounts": [{"type": "x"}]}}',
    ],
)
def test_bad_file_hides_no_other(catalogue, folders, text):
    (folders / "etc" / "bad.json").write_text(text)
    assert catalogue.edits([("a", "vendor.com/gpu=0")]).devices == (GPU,)
    with pytest.raises(CoreError, match=r"bad\.json"):
        catalogue.edits([("a", "vendor.com/x=a")])


def test_what_cannot_be_done_is_said():
    document = {"kind": "a.b/c", "devices": [{"name": "d", "containerEdits": {"netDevices": []}}]}
    with pytest.raises(Unsupported, match="netDevices"):
        cdi.parse("/f", document)


def test_files_that_vanish_or_are_none(catalogue, folders):
    os.symlink("nowhere", folders / "etc" / "link.json")
    (folders / "etc" / "README").write_text("text")
    assert catalogue.edits([("a", "vendor.com/gpu=0")]).devices == (GPU,)


def test_wanted_devices():
    config = pb.ContainerConfig(
        CDI_devices=[pb.CDIDevice(name="a.b/c=1")],
        annotations={"cdi.k8s.io/plugin": "a.b/c=1,a.b/c=2", "other": "x"},
    )
    assert cdi.wanted_devices(config) == [
        ("config.CDI_devices[0].name", "a.b/c=1"),
        ("config.annotations[cdi.k8s.io/plugin]", "a.b/c=2"),
    ]
    with pytest.raises(InvalidSpec, match="annotations"):
        cdi.wanted_devices(pb.ContainerConfig(annotations={"cdi.k8s.io/x": "nonsense"}))
