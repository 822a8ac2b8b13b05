# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read checkpoint archives that anybody may have made: bounded, by known names, regular files only."""

from __future__ import annotations

import contextlib
import gzip
import os
import tarfile
import typing as t
import zlib

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.files import open_regular
from pvecri.checkpoints import layout

#: A document is not larger; CRIU's images and rootfs-diff.tar are bounded by the size of all.
DOCUMENT_MAX: t.Final = 16 << 20
#: Files in an archive.
_ENTRIES_MAX: t.Final = 1_000_000
#: tarfile reads headers in one piece: one that claims to be longer is not read.
_HEADER_MAX: t.Final = 1 << 20
_CHUNK: t.Final = 1 << 20
_GZIP: t.Final = b"\x1f\x8b"
#: Keywords that hold for all files that follow; nobody has any.
_GLOBAL_MAX: t.Final = 100
_DAMAGE: t.Final = (
    tarfile.TarError,
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
    ValueError,
    OverflowError,
    # A header may stand before a header, which stands before a header, …
    RecursionError,
)
_ZSTD: t.Final = b"\x28\xb5\x2f\xfd"


class Entry(t.NamedTuple):
    """A regular file of a source: its path in it, size, and what is in it."""

    path: str
    size: int
    stream: t.BinaryIO


class Source(t.Protocol):
    """Something that holds a checkpoint."""

    @property
    def what(self) -> str:
        """What messages call it."""

    def entries(self) -> t.Iterator[Entry]:
        """Yield its regular files, each stream readable until the next one; raises InvalidSpec."""


class _Member(tarfile.TarInfo):
    """A member whose map of holes is not read: it may be as long as the archive."""

    def _refuse(self, *_arguments: t.Any) -> t.NoReturn:
        raise tarfile.ReadError("there is a sparse file in it, which has to be packed plainly")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse


class Guarded:
    """A file for tarfile that is read in bounded pieces, and not beyond a bound."""

    def __init__(self, stream: t.BinaryIO, limit: int, what: str) -> None:
        self._stream = stream
        self._limit = limit
        self._what = what

    def read(self, size: int = -1) -> bytes:
        """Read as a file does; raises InvalidSpec for more than a header or a chunk at once."""
        if size < 0 or size > _HEADER_MAX:
            raise InvalidSpec("", f"{self._what}: a header in it claims to have {size} bytes")
        if self._stream.tell() + size > self._limit + _HEADER_MAX:
            raise InvalidSpec("", f"{self._what}: it is larger than {self._limit} bytes", hint=_TOO_LARGE)
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek as a file does, within the bound."""
        if whence == 0 and offset > self._limit + _HEADER_MAX:
            raise InvalidSpec("", f"{self._what}: it is larger than {self._limit} bytes", hint=_TOO_LARGE)
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._stream.tell()


_TOO_LARGE = "Raise checkpoints.max_size_mib of the endpoint's configuration if it is to be trusted"


@contextlib.contextmanager
def open_tar(
    stream: t.BinaryIO, limit: int, what: str
) -> t.Iterator[t.Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]]:
    """Give the members of a tar file, plain or by gzip, that is at most ``limit`` bytes long unpacked."""
    begin = stream.read(4)
    stream.seek(0)
    if begin == _ZSTD:
        raise InvalidSpec("", f"{what}: it is compressed by zstd", hint="Decompress it first: unzstd")
    inner = t.cast("t.BinaryIO", gzip.GzipFile(fileobj=stream)) if begin[:2] == _GZIP else stream
    guarded = t.cast("t.IO[bytes]", Guarded(inner, limit, what))
    try:
        with tarfile.open(fileobj=guarded, mode="r:", errors="surrogateescape", tarinfo=_Member) as tar:
            yield _members(tar, what)
    except _DAMAGE as exc:
        raise InvalidSpec("", f"{what}: it is no tar file that can be read: {exc}") from exc


def _members(tar: tarfile.TarFile, what: str) -> t.Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    count = 0
    while (member := tar.next()) is not None:
        count += 1
        if count > _ENTRIES_MAX:
            raise InvalidSpec("", f"{what}: it has more than {_ENTRIES_MAX} entries")
        if member.size < 0:
            raise InvalidSpec("", f"{what}: '{shown(member.name)}' in it has {member.size} bytes")
        if len(tar.pax_headers) > _GLOBAL_MAX:
            raise InvalidSpec("", f"{what}: it has more than {_GLOBAL_MAX} keywords that hold for all files")
        # tarfile remembers all that it has seen, which an archive of many small files makes large.
        vars(tar)["members"] = []
        yield member, tar


def shown(path: str) -> str:
    """Return a path for messages: whoever made the archive chose it."""
    return path.encode("utf-8", "replace").decode()[:200]


def inside(path: str, what: str) -> str:
    """Return a path below the top of an archive in its shortest form; raises InvalidSpec for others."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise InvalidSpec("", f"{what}: '{shown(path)}' in it leads out of it")
    return "/".join(parts)


class TarSource:
    """A checkpoint archive in a file."""

    def __init__(self, path: str, *, limit: int) -> None:
        self.path = path
        self._limit = limit

    @property
    def what(self) -> str:
        """What messages call it."""
        return f"checkpoint archive {self.path}"

    def entries(self) -> t.Iterator[Entry]:
        """Yield the archive's regular files; raises InvalidSpec and OSError."""
        try:
            stream = open_regular(self.path)
        except OSError as exc:
            raise InvalidSpec("", f"{self.what} cannot be read: {exc.strerror}") from exc
        with stream, open_tar(stream, self._limit, self.what) as members:
            for member, tar in members:
                path = inside(member.name, self.what)
                if not member.isreg():
                    if _is_wanted(path) and not member.isdir():
                        raise InvalidSpec("", f"{self.what}: '{shown(path)}' in it is no regular file")
                    continue
                content = tar.extractfile(member)
                if content is not None:
                    yield Entry(path, member.size, t.cast("t.BinaryIO", content))


class LayersSource:
    """A checkpoint in an image: its layers' directories, the topmost first."""

    def __init__(self, name: str, directories: t.Sequence[str], *, limit: int) -> None:
        self._name = name
        self._directories = directories
        self._limit = limit

    @property
    def what(self) -> str:
        """What messages call it."""
        return f"checkpoint image {self._name}"

    def entries(self) -> t.Iterator[Entry]:
        """Yield the files of the layers, a higher layer's before those that it hides."""
        seen: set[str] = set()
        total = 0
        for directory in self._directories:
            for path in sorted(_files_of(directory)):
                if path in seen:
                    continue
                seen.add(path)
                try:
                    handle = syscalls.open_regular_beneath(directory, path)
                except (CoreError, OSError) as exc:
                    raise InvalidSpec("", f"{self.what}: '{shown(path)}' cannot be read: {exc}") from exc
                with os.fdopen(handle, "rb") as stream:
                    size = os.fstat(handle).st_size
                    total += size
                    if total > self._limit:
                        raise InvalidSpec(
                            "", f"{self.what}: it is larger than {self._limit} bytes", hint=_TOO_LARGE
                        )
                    yield Entry(path, size, stream)


def _files_of(directory: str) -> t.Iterator[str]:
    """Yield the paths of the wanted files of a layer: in its top and in CRIU's directory, no deeper."""
    for entry in os.scandir(directory):
        if _is_wanted(entry.name):
            yield entry.name
        elif entry.name == layout.IMAGES and entry.is_dir(follow_symlinks=False):
            yield from (f"{layout.IMAGES}/{inner.name}" for inner in os.scandir(entry.path))


def _is_wanted(path: str) -> bool:
    return path in layout.FILES or path.startswith(f"{layout.IMAGES}/")


class Part:
    """One container's part of a pod's archive."""

    def __init__(self, source: Source, directory: str) -> None:
        self._source = source
        self._prefix = f"{directory}/"

    @property
    def what(self) -> str:
        """What messages call it."""
        return f"{self._source.what}, {self._prefix}"

    def entries(self) -> t.Iterator[Entry]:
        """Yield the files below the directory, by their paths there."""
        for entry in self._source.entries():
            if entry.path.startswith(self._prefix):
                yield entry._replace(path=entry.path.removeprefix(self._prefix))


def documents(source: Source, names: t.Collection[str]) -> dict[str, bytes]:
    """Return the documents of these names that a source has; raises InvalidSpec for one that is too large."""
    found: dict[str, bytes] = {}
    for entry in source.entries():
        if entry.path in names and entry.path not in found:
            found[entry.path] = read_document(entry, source.what)
            if len(found) == len(names):
                break
    return found


def read_document(entry: Entry, what: str) -> bytes:
    """Return what is in a small file; raises InvalidSpec for a large one."""
    if entry.size > DOCUMENT_MAX:
        raise InvalidSpec("", f"{what}: {entry.path} has {entry.size} bytes, more than any such file has")
    return b"".join(chunks(entry.stream, what))


def read_container(source: Source) -> layout.Dumped:
    """Return what a source says of its container; raises InvalidSpec when it is no checkpoint."""
    found = documents(source, {layout.CONFIG_DUMP, layout.SPEC_DUMP})
    for name in (layout.CONFIG_DUMP, layout.SPEC_DUMP):
        if name not in found:
            raise InvalidSpec("", f"{source.what} is no checkpoint of a container: it has no {name}")
    return layout.read_dumped(found[layout.CONFIG_DUMP], found[layout.SPEC_DUMP], source.what)


def unpack(source: Source, directory: str) -> None:
    """Write CRIU's images and the file system's changes of a container into an empty directory.

    Raises InvalidSpec for what no checkpoint has, and OSError.
    """
    images = os.path.join(directory, layout.IMAGES)
    os.mkdir(images, mode=0o700)
    kept = {layout.ROOTFS_DIFF, layout.DELETED_FILES, layout.DEV_SHM}
    count = 0
    for entry in source.entries():
        folder, _slash, name = entry.path.rpartition("/")
        if folder == layout.IMAGES and layout.is_image_name(name):
            count += 1
        elif entry.path not in kept:
            continue
        target = os.path.join(directory, entry.path)
        try:
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as exc:
            raise InvalidSpec("", f"{source.what}: '{entry.path}' is in it twice") from exc
        with os.fdopen(handle, "wb") as output:
            for chunk in chunks(entry.stream, source.what):
                output.write(chunk)
    if not count:
        raise InvalidSpec("", f"{source.what} has no processes: its directory {layout.IMAGES} is empty")


def chunks(stream: t.BinaryIO, what: str) -> t.Iterator[bytes]:
    """Yield what is in an entry's stream piece by piece; raises InvalidSpec when its source is damaged."""
    while True:
        try:
            chunk = stream.read(_CHUNK)
        except _DAMAGE as exc:
            raise InvalidSpec("", f"{what}: it cannot be read to its end: {exc}") from exc
        if not chunk:
            return
        yield chunk
