# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that somebody else has made, perhaps to do harm."""

from __future__ import annotations

import gzip
import io
import os
import pathlib
import tarfile
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.checkpoints import reading

LIMIT = 1 << 20
DUMPS = {"config.dump": b"{}", "spec.dump": b"{}"}


def member(name: str, kind: bytes = tarfile.REGTYPE, **more: t.Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for key, value in more.items():
        setattr(made, key, value)
    return made


def archive(path: pathlib.Path, *members: tuple[tarfile.TarInfo, bytes], **files: bytes) -> reading.TarSource:
    with tarfile.open(path, "w") as tar:
        for made, content in [*members, *((member(name), content) for name, content in files.items())]:
            made.size = len(content) or made.size
            tar.addfile(made, io.BytesIO(content) if content else None)
    return reading.TarSource(str(path), limit=LIMIT)


def test_entries(tmp_path: pathlib.Path) -> None:
    source = archive(
        tmp_path / "a", (member("./checkpoint", tarfile.DIRTYPE), b""), **{"./config.dump": b"x", "o": b"y"}
    )
    assert [(entry.path, entry.stream.read()) for entry in source.entries()] == [
        ("config.dump", b"x"),
        ("o", b"y"),
    ]


def test_entries_of_a_compressed_archive(tmp_path: pathlib.Path) -> None:
    archive(tmp_path / "a", **DUMPS)
    (tmp_path / "b").write_bytes(gzip.compress((tmp_path / "a").read_bytes()))
    assert reading.read_container(reading.TarSource(f"{tmp_path}/b", limit=LIMIT)).id == ""


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../b", "checkpoint/../../x"])
def test_paths_that_lead_out(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(InvalidSpec, match="leads out of it"):
        list(archive(tmp_path / "a", **{name: b"x"}).entries())


@pytest.mark.parametrize("name", ["config.dump", "checkpoint/pages-1.img", "rootfs-diff.tar"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_file(tmp_path: pathlib.Path, name: str, kind: bytes) -> None:
    source = archive(tmp_path / "a", (member(name, kind, linkname="/etc/shadow"), b""))
    with pytest.raises(InvalidSpec, match="no regular file"):
        list(source.entries())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no tar file"),
        (b"x" * 2000, "no tar file"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 600, "compressed by zstd"),
        (b"\x1f\x8b" + b"x" * 600, "no tar file"),
        (gzip.compress(b"x" * 2000, mtime=0)[:20], "no tar file"),
    ],
)
def test_what_is_no_archive(tmp_path: pathlib.Path, content: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InvalidSpec, match=message):
        reading.read_container(reading.TarSource(f"{tmp_path}/a", limit=LIMIT))


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_at_all(tmp_path: pathlib.Path, make: t.Callable[[str], None]) -> None:
    make(f"{tmp_path}/a")
    for path in (f"{tmp_path}/a", f"{tmp_path}/none", "/dev/zero"):
        with pytest.raises(InvalidSpec, match="cannot be read"):
            list(reading.TarSource(path, limit=LIMIT).entries())


def test_an_archive_that_is_cut_off(tmp_path: pathlib.Path) -> None:
    archive(tmp_path / "a", **{"config.dump": b"x" * 5000})
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:3000])
    source = reading.TarSource(f"{tmp_path}/a", limit=LIMIT)
    with pytest.raises(InvalidSpec, match="cannot be read to its end"):
        reading.documents(source, {"config.dump", "spec.dump"})


def test_a_bomb_is_not_unpacked(tmp_path: pathlib.Path) -> None:
    with (
        gzip.open(tmp_path / "a", "wb", compresslevel=1) as stream,
        tarfile.open(fileobj=stream, mode="w|") as tar,
    ):
        big = member("checkpoint/pages-1.img", size=64 << 20)
        tar.addfile(big, t.cast("t.Any", open("/dev/zero", "rb")))  # noqa: SIM115 (closed with the process)
        tar.addfile(member("config.dump"))
    source = reading.TarSource(f"{tmp_path}/a", limit=LIMIT)
    for act in (lambda: reading.read_container(source), lambda: reading.unpack(source, str(tmp_path))):
        with pytest.raises(InvalidSpec, match="larger than"):
            act()
    assert sum(path.stat().st_size for path in tmp_path.rglob("pages*")) <= 4 * LIMIT


def test_a_header_that_claims_to_be_huge(tmp_path: pathlib.Path) -> None:
    header = member("x", tarfile.XHDTYPE, size=1 << 40).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a").write_bytes(header + b"\0" * 1024)
    with pytest.raises(InvalidSpec, match="claims to have"):
        list(reading.TarSource(f"{tmp_path}/a", limit=LIMIT).entries())


def test_a_document_that_is_huge(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "DOCUMENT_MAX", 3)
    with pytest.raises(InvalidSpec, match="more than any such file"):
        reading.read_container(archive(tmp_path / "a", **{"config.dump": b"{   }"}))


def test_more_entries_than_any(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_ENTRIES_MAX", 1)
    with pytest.raises(InvalidSpec, match="more than 1 entries"):
        list(archive(tmp_path / "a", **DUMPS).entries())


def test_a_sparse_file(tmp_path: pathlib.Path) -> None:
    made = member(
        "config.dump", pax_headers={"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1"}
    )
    with tarfile.open(tmp_path / "a", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(made)
    with pytest.raises(InvalidSpec, match="sparse"):
        list(reading.TarSource(f"{tmp_path}/a", limit=LIMIT).entries())


class Counting(io.FileIO):
    """A file that knows how much of it was read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(-1 if size is None else size)
        Counting.count += len(found)
        return found


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE])
def test_a_map_of_holes_is_not_read(tmp_path: pathlib.Path, kind: bytes) -> None:
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1"}
    made = member("config.dump", pax_headers=headers, size=LIMIT // 2)
    if kind == tarfile.GNUTYPE_SPARSE:
        # It says that another block of the map follows.
        made = member("config.dump", kind)
        block = bytearray(made.tobuf(tarfile.GNU_FORMAT))
        block[482:483] = b"\1"
        block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:512]))
        text = bytes(block) + (b"\0" * 504 + b"\1" + b"\0" * 7) * (LIMIT // 1024)
    else:
        text = made.tobuf(tarfile.PAX_FORMAT) + b"%d\n" % LIMIT + b"0\n" * (LIMIT // 4)
    (tmp_path / "a").write_bytes(text)
    Counting.count = 0
    with (
        pytest.raises(InvalidSpec, match="sparse"),
        Counting(tmp_path / "a") as stream,
        reading.open_tar(t.cast("t.BinaryIO", stream), LIMIT, "it") as members,
    ):
        list(members)
    assert Counting.count < 10_000


def test_headers_without_end(tmp_path: pathlib.Path) -> None:
    chain = member("x", tarfile.XHDTYPE, size=512).tobuf() + b"8 a=bcd\n".ljust(512, b"\0")
    (tmp_path / "a").write_bytes(chain * 1000)
    with pytest.raises(InvalidSpec, match="no tar file"):
        list(reading.TarSource(f"{tmp_path}/a", limit=LIMIT).entries())


def test_keywords_without_end(tmp_path: pathlib.Path) -> None:
    with open(tmp_path / "a", "wb") as stream:
        for number in range(200):
            stream.write(tarfile.TarInfo.create_pax_global_header({f"k{number}": "v"}))
            stream.write(member(f"f{number}").tobuf())
    with pytest.raises(InvalidSpec, match="more than 100 keywords"):
        list(reading.TarSource(f"{tmp_path}/a", limit=LIMIT).entries())


def test_read_container_wants_both_dumps(tmp_path: pathlib.Path) -> None:
    for missing in DUMPS:
        source = archive(tmp_path / "a", **{name: text for name, text in DUMPS.items() if name != missing})
        with pytest.raises(InvalidSpec, match=f"no checkpoint of a container: it has no {missing}"):
            reading.read_container(source)


def test_unpack_takes_what_is_needed(tmp_path: pathlib.Path) -> None:
    files = {
        "checkpoint/a.img": b"1",
        "checkpoint/deep/b": b"2",
        "checkpoint/.c": b"3",
        "rootfs-diff.tar": b"4",
        "x": b"5",
    }
    target = tmp_path / "t"
    target.mkdir()
    reading.unpack(archive(tmp_path / "a", **files), str(target))
    found = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert found == {"checkpoint/a.img": b"1", "rootfs-diff.tar": b"4"}
    assert (target / "checkpoint/a.img").stat().st_mode & 0o777 == 0o600


def test_unpack_refuses(tmp_path: pathlib.Path) -> None:
    twice = [(member("checkpoint/a.img"), b"1"), (member("checkpoint/a.img"), b"2")]
    for number, (source, message) in enumerate(
        (
            (archive(tmp_path / "a", *twice), "in it twice"),
            (archive(tmp_path / "b", **DUMPS), "has no processes"),
        )
    ):
        target = tmp_path / str(number)
        target.mkdir()
        with pytest.raises(InvalidSpec, match=message):
            reading.unpack(source, str(target))


def test_a_part_of_a_pod(tmp_path: pathlib.Path) -> None:
    source = archive(tmp_path / "a", **{"pod.dump": b"", "one/config.dump": b"1", "onetwo/config.dump": b"2"})
    part = reading.Part(source, "one")
    assert [(entry.path, entry.stream.read()) for entry in part.entries()] == [("config.dump", b"1")]
    assert part.what.endswith("/a, one/")


def layer(path: pathlib.Path, **files: bytes) -> str:
    for name, content in files.items():
        target = path / name.replace("__", "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return str(path)


def test_layers(tmp_path: pathlib.Path) -> None:
    top = layer(tmp_path / "top", **{"config.dump": b"top", "other": b"x"})
    low = layer(tmp_path / "low", **{"config.dump": b"low", "checkpoint__a.img": b"y"})
    source = reading.LayersSource("img", [top, low], limit=LIMIT)
    assert [(entry.path, entry.stream.read()) for entry in source.entries()] == [
        ("config.dump", b"top"),
        ("checkpoint/a.img", b"y"),
    ]
    with pytest.raises(InvalidSpec, match="checkpoint image img: it is larger than 3 bytes"):
        list(reading.LayersSource("img", [top, low], limit=3).entries())


def test_a_layer_with_a_link(tmp_path: pathlib.Path) -> None:
    (tmp_path / "l").mkdir()
    os.symlink("/dev/zero", tmp_path / "l" / "config.dump")
    with pytest.raises(InvalidSpec, match="cannot be read"):
        list(reading.LayersSource("img", [f"{tmp_path}/l"], limit=LIMIT).entries())
