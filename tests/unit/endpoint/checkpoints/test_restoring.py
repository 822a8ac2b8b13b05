# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which checkpoint a container is made of, and of which image that one was."""

from __future__ import annotations

import io
import json
import pathlib
import tarfile
import types
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CoreError,
    InvalidSpec,
    NotFound,
    Unsupported,
    WrongState,
)
from pvecri.api import cri_pb2
from pvecri.checkpoints import restoring
from pvecri.checkpoints.restoring import Restorer
from pvecri.state.records import RESTORED

BASE = {"rootfsImage": "busybox", "rootfsImageName": "r/busybox:1", "rootfsImageRef": "r/busybox@sha256:0"}


class Images:
    """Images that are here, those that a registry has, and what was pulled."""

    def __init__(self) -> None:
        self.here: dict[str, dict[str, str]] = {}
        self.remote: set[str] = set()
        self.pulled: list[str] = []

    def resolve(self, text: str, *, field: str) -> t.Any:
        if text not in self.here:
            raise NotFound(f"{field}: there is no image {text}")
        return types.SimpleNamespace(names=(text,), layer_dirs=(), id=text)

    def annotations(self, image: t.Any) -> dict[str, str]:
        return self.here[image.id]

    def pull(self, spec: cri_pb2.ImageSpec) -> str:
        self.pulled.append(spec.image)
        if spec.image not in self.remote:
            raise CoreError(f"no registry has {spec.image}")
        self.here[spec.image] = {}
        return "id"


@pytest.fixture
def images() -> Images:
    return Images()


@pytest.fixture
def restorer(images: Images) -> Restorer:
    config = types.SimpleNamespace(
        checkpoints=types.SimpleNamespace(max_size_mib=1, trusted_images=("r/trusted*",), timeout_s=1)
    )
    crun = types.SimpleNamespace(checkpoints=types.SimpleNamespace(check_host=lambda: None))
    return Restorer(t.cast("t.Any", types.SimpleNamespace(config=config, crun=crun)), t.cast("t.Any", images))


def request(image: str, *, userns: str = "", tty: bool = False) -> t.Any:
    config = cri_pb2.ContainerConfig(image=cri_pb2.ImageSpec(image=image), tty=tty)
    return types.SimpleNamespace(config=config, sandbox=types.SimpleNamespace(userns=userns))


def archive(path: pathlib.Path, **config: str) -> str:
    with tarfile.open(path, "w") as tar:
        for name, value in (("config.dump", config), ("spec.dump", {})):
            content = json.dumps(value).encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return str(path)


def test_an_image_of_the_usual_kind(restorer: Restorer, images: Images) -> None:
    images.here["r/plain"] = {"a": "b"}
    assert restorer.find(request("r/plain")) is None
    assert restorer.find(request("r/none")) is None


@pytest.mark.parametrize("reference", sorted(BASE.values()))
def test_the_base_is_here(restorer: Restorer, images: Images, tmp_path: pathlib.Path, reference: str) -> None:
    images.here[reference] = {}
    found = restorer.find(request(archive(tmp_path / "a", **BASE, id="old", checkpointedTime="then")))
    assert found is not None
    assert (found.base, images.pulled) == (reference, [])
    assert found.noted() == {"from": f"{tmp_path}/a", "container": "old", "checkpointed_at": "then"}


def test_the_base_is_pulled(restorer: Restorer, images: Images, tmp_path: pathlib.Path) -> None:
    images.remote.add("r/busybox:1")
    found = restorer.find(request(archive(tmp_path / "a", **BASE)))
    assert found is not None
    assert found.base == "r/busybox:1"
    assert images.pulled == ["r/busybox@sha256:0", "r/busybox:1"]


def test_the_base_cannot_be_had(restorer: Restorer, images: Images, tmp_path: pathlib.Path) -> None:
    with pytest.raises(WrongState, match=r"r/busybox@sha256:0, .* cannot be pulled: no registry has"):
        restorer.find(request(archive(tmp_path / "a", **BASE)))
    with pytest.raises(WrongState, match="cannot be pulled: it has no name"):
        restorer.find(request(archive(tmp_path / "b", rootfsImageRef="sha256:0")))
    with pytest.raises(InvalidSpec, match="does not say which image"):
        restorer.find(request(archive(tmp_path / "c")))
    assert "sha256:0" not in images.pulled


def test_what_cannot_be_restored(restorer: Restorer, tmp_path: pathlib.Path) -> None:
    path = archive(tmp_path / "a", **BASE)
    with pytest.raises(Unsupported, match="user namespace"):
        restorer.find(request(path, userns="/ns"))
    with pytest.raises(InvalidSpec, match=r"config\.tty: the checkpointed container had no terminal"):
        restorer.find(request(path, tty=True))


def test_an_image_has_to_be_trusted(restorer: Restorer, images: Images) -> None:
    annotations = {"org.criu.checkpoint.container.name": "x"}
    images.here |= {"r/trusted:1": annotations, "r/other:1": annotations}
    with pytest.raises(WrongState, match="none that this host trusts"):
        restorer.find(request("r/other:1"))
    with pytest.raises(InvalidSpec, match=r"checkpoint image r/trusted:1 is no checkpoint of a container"):
        restorer.find(request("r/trusted:1"))


def test_restore_of_a_damaged_bundle() -> None:
    for bundle in (None, types.SimpleNamespace(problems=["it is gone"])):
        bundles = types.SimpleNamespace(load=lambda _name, bundle=bundle: bundle)
        context, record = types.SimpleNamespace(bundles=bundles), types.SimpleNamespace(id="c")
        with pytest.raises(WrongState, match="bundle of container c is damaged"):
            restoring.restore(t.cast("t.Any", context), t.cast("t.Any", record))


def test_is_restored_from() -> None:
    for extra, is_so in (
        ({}, False),
        ({RESTORED: {"from": "/a"}}, True),
        ({RESTORED: {"from": "/b"}}, False),
    ):
        record = t.cast("t.Any", types.SimpleNamespace(extra=extra))
        assert restoring.is_restored_from(record, "/a") is is_so
