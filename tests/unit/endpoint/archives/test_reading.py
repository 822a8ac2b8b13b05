# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what archives hold and what they call it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pathlib
import tarfile
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import Transport, host_platform
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from pvecri import cli
from pvecri.archives import loading
from pvecri.archives.loading import Loader
from pvecri.archives.reading import Held, read_archive

_REF = "org.opencontainers.image.ref.name"
_FULL = "io.containerd.image.name"
_CONFIG = b'{"os": "linux"}'
_ID = hashlib.sha256(_CONFIG).hexdigest()


def _tar(path: pathlib.Path, files: t.Mapping[str, t.Any]) -> str:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return str(path)


def _read(tmp_path: pathlib.Path, files: t.Mapping[str, t.Any]) -> t.Any:
    return read_archive(_tar(tmp_path / "a.tar", files), "a.tar")


def _blob(document: t.Any) -> tuple[str, bytes]:
    data = json.dumps(document).encode()
    return hashlib.sha256(data).hexdigest(), data


def _oci(*entries: t.Any, blobs: t.Mapping[str, bytes] | None = None) -> dict[str, t.Any]:
    files: dict[str, t.Any] = {"oci-layout": {}, "index.json": {"manifests": list(entries)}}
    return files | {f"blobs/sha256/{digest}": data for digest, data in (blobs or {}).items()}


@pytest.mark.parametrize(
    ("entries", "held"),
    [
        ([{"Config": "c", "RepoTags": ["a:1", "b:2"]}], [Held(("a:1", "b:2"), "", _ID)]),
        ([{"Config": "c", "RepoTags": None}], [Held((), "", _ID)]),
        ([{"Config": "c"}, {"Config": "c", "RepoTags": []}], [Held((), "@0", _ID), Held((), "@1", _ID)]),
        ([], []),
    ],
)
def test_docker_archives(tmp_path: pathlib.Path, entries: t.Any, held: list[Held]) -> None:
    found = _read(tmp_path, {"manifest.json": entries, "c": _CONFIG})
    assert (found.transport, list(found.images)) == (Transport.DOCKER_ARCHIVE, held)


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        ({}, ()),
        (None, ()),
        ([], ()),
        ({_REF: "latest"}, ()),
        ({_REF: "quay.io/a/b:1"}, ("quay.io/a/b:1",)),
        ({_REF: "busybox:1"}, ("busybox:1",)),
        ({_REF: "1", _FULL: "docker.io/library/x:1"}, ("docker.io/library/x:1",)),
        ({_REF: 7}, ()),
    ],
)
def test_names_of_oci_archives(tmp_path: pathlib.Path, annotations: t.Any, names: tuple[str, ...]) -> None:
    found = _read(tmp_path, _oci({"digest": "sha256:00", "annotations": annotations}))
    assert (found.transport, found.images[0].names, found.images[0].inner) == (
        Transport.OCI_ARCHIVE,
        names,
        "",
    )


def test_several_images_of_an_oci_archive(tmp_path: pathlib.Path) -> None:
    entries = [{"annotations": {_REF: name}} for name in ("q.io/a:1", "q.io/a:2")]
    assert [held.inner for held in _read(tmp_path, _oci(*entries)).images] == ["q.io/a:1", "q.io/a:2"]
    for others in ([{}], [{"annotations": {_REF: "q.io/a:1"}}]):
        with pytest.raises(InvalidSpec, match="holds 3 images, and not each has a name of its own"):
            _read(tmp_path, _oci(*entries, *others))


def test_identity_of_an_oci_archive(tmp_path: pathlib.Path) -> None:
    host = host_platform()
    manifest, manifest_data = _blob({"config": {"digest": "sha256:c0ffee"}})
    index, index_data = _blob(
        {
            "manifests": [
                "odd",
                {"digest": "sha256:99", "platform": {"os": "plan9", "architecture": host.architecture}},
                {
                    "digest": f"sha256:{manifest}",
                    "platform": {"os": "linux", "architecture": host.architecture},
                },
            ]
        }
    )
    nothing, nothing_data = _blob({})
    blobs = {manifest: manifest_data, index: index_data, nothing: nothing_data}
    for digest, image_id in ((manifest, "c0ffee"), (index, "c0ffee"), (nothing, ""), ("77", "")):
        found = _read(tmp_path, _oci({"digest": f"sha256:{digest}"}, blobs=blobs))
        assert found.images[0].image_id == image_id


def test_index_within_itself_ends(tmp_path: pathlib.Path) -> None:
    entry = {
        "digest": "sha256:aa",
        "platform": {"os": "linux", "architecture": host_platform().architecture},
    }
    found = _read(tmp_path, _oci(entry, blobs={"aa": json.dumps({"manifests": [entry]}).encode()}))
    assert found.images[0].image_id == ""


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"x": b""}, "holds no image"),
        ({"oci-layout": {}}, "holds no image"),
        ({"manifest.json": b"{"}, "manifest.json is missing or damaged"),
        ({"manifest.json": b"[" * 100_000}, "manifest.json is missing or damaged"),
        ({"manifest.json": {}}, "manifest.json is missing or damaged"),
        ({"manifest.json": ["x"]}, "manifest.json is missing or damaged"),
        ({"manifest.json": [{"Config": "c", "RepoTags": [1]}]}, "manifest.json is missing or damaged"),
        ({"manifest.json": [{"Config": "c", "RepoTags": "x"}]}, "manifest.json is missing or damaged"),
        ({"manifest.json": [{"Config": "none"}]}, "none is missing or damaged"),
        ({"manifest.json": b" " * ((8 << 20) + 1)}, "manifest.json is missing or damaged"),
        ({"oci-layout": {}, "index.json": {}}, "index.json is missing or damaged"),
        ({"oci-layout": {}, "index.json": {"manifests": ["x"]}}, "index.json is missing or damaged"),
    ],
)
def test_archives_that_are_none(tmp_path: pathlib.Path, files: t.Any, match: str) -> None:
    with pytest.raises(InvalidSpec, match=match):
        _read(tmp_path, files)


def _header(kind: bytes, size: int = 0) -> bytes:
    member = tarfile.TarInfo("manifest.json")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(_header(tarfile.XHDTYPE) * 5000, id="extended headers without end"),
        pytest.param(_header(tarfile.GNUTYPE_LONGNAME) * 5000, id="long names without end"),
        pytest.param(_header(tarfile.REGTYPE, 1 << 63) + bytes(1024), id="size beyond a file's"),
        pytest.param(
            _header(tarfile.XHDTYPE, 21) + b"21 GNU.sparse.map=qq\n".ljust(512, b"\0") + bytes(1536), id="map"
        ),
    ],
)
def test_made_up_headers(tmp_path: pathlib.Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(InvalidSpec, match=r"is no tar archive, or damaged|missing or damaged|holds no image"):
        read_archive(str(tmp_path / "a.tar"), "a.tar")


def test_index_with_made_up_manifests(tmp_path: pathlib.Path) -> None:
    found = _read(tmp_path, _oci({"digest": "sha256:aa"}, blobs={"aa": b'{"manifests": 5}'}))
    assert found.images[0].image_id == ""


def test_manifest_that_is_a_device(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("manifest.json")
        member.type = tarfile.CHRTYPE
        tar.addfile(member)
    with pytest.raises(InvalidSpec, match="missing or damaged"):
        read_archive(str(path), "a.tar")


# ------------------------------------------------------------------------------------------- loading


@pytest.fixture
def store(tmp_path: pathlib.Path) -> ImageStore:
    return ImageStore(Paths(f"{tmp_path}/s", f"{tmp_path}/r", owner=Owner.CRI), SubprocessRunner())


@pytest.mark.parametrize(
    ("content", "error", "match"),
    [
        (None, NotFound, "there is no file"),
        (b"\x1f\x8bnot gzip at all", InvalidSpec, "is damaged"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xff", InvalidSpec, "is damaged"),
        (b"BZh9 nothing", InvalidSpec, "is damaged"),
        (b"\x28\xb5\x2f\xfd nothing", CoreError, "cannot be unpacked"),
        (b"", InvalidSpec, "is no tar archive, or damaged"),
    ],
)
def test_files_that_are_no_archives(
    tmp_path: pathlib.Path, store: ImageStore, content: bytes | None, error: type[Exception], match: str
) -> None:
    path = tmp_path / "a"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=match):
        list(Loader(store).load(str(path)))
    assert os.listdir(f"{tmp_path}/s/tmp") == []
    assert os.stat(f"{tmp_path}/r").st_mode & 0o777 == 0o711


def test_directory_is_no_archive(tmp_path: pathlib.Path, store: ImageStore) -> None:
    with pytest.raises(InvalidSpec, match="cannot be read"):
        list(Loader(store).load(str(tmp_path)))


@pytest.mark.parametrize(
    ("tags", "name", "match"),
    [
        (["UPPER/x:1"], None, "lower case"),
        (["localhost/pvecri/x:1"], None, "keeps for itself"),
        ([], None, "Give --name"),
        (["a:1"], "x@sha256:" + "0" * 64, "only a registry can vouch for"),
    ],
)
def test_names_that_are_none(
    tmp_path: pathlib.Path, store: ImageStore, tags: list[str], name: str | None, match: str
) -> None:
    path = _tar(tmp_path / "a.tar", {"manifest.json": [{"Config": "c", "RepoTags": tags}], "c": _CONFIG})
    with pytest.raises(InvalidSpec, match=match):
        list(Loader(store).load(path, name))


def test_archive_without_images(tmp_path: pathlib.Path, store: ImageStore) -> None:
    with pytest.raises(InvalidSpec, match="holds no image"):
        list(Loader(store).load(_tar(tmp_path / "a.tar", {"manifest.json": []})))


def test_no_room_to_unpack(
    tmp_path: pathlib.Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_file: str) -> t.NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loading.gzip, "open", refuse)
    (tmp_path / "a").write_bytes(b"\x1f\x8b")
    with pytest.raises(CoreError, match=r"No space left on device\. Make room"):
        list(Loader(store).load(str(tmp_path / "a")))


def test_one_name_is_for_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["images", "load", "a", "b", "--name", "x"]) == 1
    assert "2 files cannot all have one name" in capsys.readouterr().err


def test_commands_with_an_empty_store(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'[paths]\nstate_dir = "{tmp_path}/s"\nrun_dir = "{tmp_path}/r"\n')
    assert cli.main(["images", "list", "--config", str(config)]) == 0
    assert capsys.readouterr().out == ""
    assert cli.main(["images", "load", str(tmp_path / "none"), "--json", "--config", str(config)]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {
        "changed": False,
        "images": [],
        "problems": [f"there is no file {tmp_path}/none. Check the path on this host"],
    }
