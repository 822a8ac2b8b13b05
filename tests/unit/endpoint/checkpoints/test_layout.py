# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents of archives: what is written is what the tools of the field read, and nonsense is refused."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.api import cri_pb2
from pvecri.checkpoints import layout, messages

_BIND = {"destination": "/data/", "type": "bind", "source": "/x"}


def test_config_dump_is_read_back() -> None:
    dumped = layout.Dumped(id="i", name="n", image_asked="b:1", image_name="r/b:1", image_ref="r/b@sha256:0")
    text = layout.config_dump(
        dumped, runtime="crun", created_ns=1_700_000_000_123_456_789, checkpointed_ns=0, is_restored=False
    )
    assert json.loads(text)["createdTime"] == "2023-11-14T22:13:20.123457Z"
    spec = layout.spec_dump({"mounts": [_BIND], "process": {"terminal": True}}, {"a": "b"}, {}, "n")
    read = layout.read_dumped(text, spec, "it")
    assert read.base_images == ("r/b@sha256:0", "r/b:1", "b:1")
    assert (read.id, read.name, read.has_terminal, read.bind_mounts) == ("i", "n", True, frozenset({"/data"}))
    assert read.checkpointed_at == "1970-01-01T00:00:00.000000Z"


def test_spec_dump_keeps_annotations() -> None:
    spec = json.loads(layout.spec_dump({"annotations": {"x": "y"}, "root": {}}, {"a": "b"}, {"l": "m"}, "n"))
    assert spec["root"] == {}
    assert spec["annotations"]["x"] == "y"
    assert json.loads(spec["annotations"]["io.kubernetes.cri-o.Annotations"]) == {"a": "b"}
    assert json.loads(spec["annotations"]["io.kubernetes.cri-o.Labels"]) == {"l": "m"}


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        (None, set()),
        ("no list", set()),
        (["no mount", {"type": "bind"}, {"type": "bind", "destination": 3}], set()),
        ([_BIND, {"destination": "/proc", "type": "proc"}], {"/data"}),
        ([{"destination": "/y", "type": "none", "options": ["rbind", 3]}], {"/y"}),
        (
            [{"destination": name, "type": "bind"} for name in ("/etc/hosts", "/dev/shm/", "/etc/x")],
            {"/etc/x"},
        ),
    ],
)
def test_bind_destinations(mounts: t.Any, found: set[str]) -> None:
    assert layout.bind_destinations({"mounts": mounts}) == found


def test_compare_mounts() -> None:
    dumped = layout.Dumped(id="", name="", bind_mounts=frozenset({"/data"}))
    layout.compare_mounts(dumped, {"mounts": [_BIND]})
    with pytest.raises(InvalidSpec, match=r"config\.mounts: the checkpointed container had mounts at /data"):
        layout.compare_mounts(dumped, {})
    with pytest.raises(InvalidSpec, match="had no mounts at /data"):
        layout.compare_mounts(layout.Dumped(id="", name=""), {"mounts": [_BIND]})


@pytest.mark.parametrize(
    ("config", "spec", "message"),
    [
        (b"{", b"{}", "config.dump is no JSON"),
        (b"[]", b"{}", "config.dump is no JSON object"),
        (b"{}", b"3", "spec.dump is no JSON object"),
        (b"[" * 100_000, b"{}", "config.dump is no JSON"),
        (b"\xff", b"{}", "config.dump is no JSON"),
    ],
)
def test_read_dumped_refuses(config: bytes, spec: bytes, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        layout.read_dumped(config, spec, "it")


def test_read_dumped_passes_over_what_is_odd() -> None:
    read = layout.read_dumped(b'{"id": 3, "name": null}', b'{"process": 7, "mounts": {}}', "it")
    assert read == layout.Dumped(id="", name="")
    assert read.base_images == ()


def test_read_deleted() -> None:
    assert layout.read_deleted(b'["/a"]', "it") == ["/a"]
    for text in (b"{}", b"[3]"):
        with pytest.raises(InvalidSpec, match="no list of paths"):
            layout.read_deleted(text, "it")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": 2, "containers": {"a": "b"}}, "version 2"),
        ({"version": 1}, "names no containers"),
        ({"version": 1, "containers": ["a"]}, "names no containers"),
        ({"version": 1, "containers": {"a": "../b"}}, "none of the archive"),
        ({"version": 1, "containers": {"a": ".."}}, "none of the archive"),
        ({"version": 1, "containers": {"a": 1}}, "none of the archive"),
    ],
)
def test_read_pod_options_refuses(options: t.Any, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        layout.read_pod_options(json.dumps(options).encode(), "it")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("pages-1.img", True), ("tmpfs-dev-48.tar.gz.img", True), ("", False), (".x", False), ("a/b", False)],
)
def test_is_image_name(name: str, is_one: bool) -> None:
    assert layout.is_image_name(name) is is_one


def test_messages_are_as_go_programs_write_them() -> None:
    config = cri_pb2.ContainerConfig(
        metadata=cri_pb2.ContainerMetadata(name="c", attempt=2),
        envs=[cri_pb2.KeyValue(key="k", value=b"\x00v")],
        labels={"b": "2", "a": "1"},
        mounts=[cri_pb2.Mount(host_path="/h", propagation=cri_pb2.PROPAGATION_BIDIRECTIONAL)],
        linux=cri_pb2.LinuxContainerConfig(
            resources=cri_pb2.LinuxContainerResources(memory_limit_in_bytes=1 << 40)
        ),
        tty=True,
    )
    plain = messages.plain(config)
    assert plain["linux"]["resources"] == {"memory_limit_in_bytes": 1 << 40}
    assert plain["mounts"] == [{"host_path": "/h", "propagation": 2}]
    assert list(plain["labels"]) == ["a", "b"]
    text = layout.document({**plain, "of_a_later_version": 1})
    assert messages.read(cri_pb2.ContainerConfig, text, "c", "it") == config


@pytest.mark.parametrize(
    "text", [b"[]", b"{", b'{"metadata": 3}', b'{"tty": "perhaps"}', b'{"envs": {"a": 1}}']
)
def test_messages_refuse(text: bytes) -> None:
    with pytest.raises(InvalidSpec, match="it: c is no "):
        messages.read(cri_pb2.ContainerConfig, text, "c", "it")
