# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give back the tar archive that a layer of the image store was unpacked from, byte for byte.

    overlay-layers/<layer>.tar-split.gz   one JSON object a line, in the order of the archive:
        {"type": 2, "payload": …}         bytes of the archive itself: headers and padding, base64
        {"type": 1, "name": …, "size": …} the content of a file, which lies in overlay/<layer>/diff;
                                          a name that is no UTF-8 stands as "name_raw", base64

The library containers/storage writes these files with every layer that it unpacks.  What
a file with holes looked like in the archive is lost there, and no tool brings it back.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import os
import stat
import typing as t
import zlib

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, WrongState

_FILE, _BYTES = 1, 2
_BLOCK = 1 << 20
#: Begins the names of the headers of files with holes (GNU tar, «Storing Sparse Files»).
_SPARSE = b"GNU.sparse."

Sink = t.Callable[[memoryview], t.Any]


class NoArchive(CoreError):
    """Report a layer whose archive cannot be given back, though nothing is wrong with its content."""


def tar_split_of(layer_dir: str) -> str:
    """Return where the list of the layer whose content is in ``layer_dir`` stands."""
    home, layer = os.path.split(os.path.dirname(layer_dir))
    return os.path.join(os.path.dirname(home), "overlay-layers", f"{layer}.tar-split.gz")


def copy_layer(layer_dir: str, sink: Sink) -> int:
    """Hand the layer's tar archive to ``sink`` in pieces, and return its size in bytes.

    A piece is good until ``sink`` returns.  Raises NoArchive when the store has no list of this
    layer or the list lacks something, and WrongState when list and content do not fit together.
    """
    path = tar_split_of(layer_dir)
    try:
        with gzip.open(path, "rb") as lines, _Layer(layer_dir, sink) as layer:
            for line in lines:
                layer.add(line)
            return layer.finish()
    except FileNotFoundError as exc:
        if exc.filename == path:
            raise NoArchive(f"the image store has no {path}") from exc
        raise _damaged(layer_dir, str(exc)) from exc
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise _damaged(layer_dir, f"{path}: {exc}") from exc


class _Layer:
    """One layer on its way out."""

    def __init__(self, layer_dir: str, sink: Sink) -> None:
        self._place = layer_dir
        self._sink = sink
        self._buffer = memoryview(bytearray(_BLOCK))
        self._filled = 0
        self._size = 0
        self._root = os.open(layer_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        #: The directory that the last file was in: archives go through one after the other.
        self._folder: tuple[str, int] | None = None

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._leave_folder()
        os.close(self._root)

    def add(self, line: bytes) -> None:
        """Append what one line of the list stands for."""
        entry = json.loads(line)
        kind = entry["type"]
        if kind == _BYTES:
            data = base64.b64decode(entry["payload"], validate=True)
            if _SPARSE in data:
                raise NoArchive(f"a file of the layer {self._place} came with holes")
            self._add_bytes(data)
        elif kind == _FILE:
            if entry.get("size"):
                self._add_file(_name_of(entry), int(entry["size"]))
        else:
            raise ValueError(f"an entry of the unknown type {kind!r}")

    def finish(self) -> int:
        """Hand over what is left, and return the size of the whole."""
        self._flush()
        return self._size

    def _add_bytes(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            count = min(len(view), _BLOCK - self._filled)
            self._buffer[self._filled : self._filled + count] = view[:count]
            self._filled += count
            view = view[count:]
            if self._filled == _BLOCK:
                self._flush()

    def _add_file(self, name: bytes, size: int) -> None:
        handle = self._open(name)
        try:
            left = size
            while left:
                count = os.readv(handle, [self._buffer[self._filled : min(_BLOCK, self._filled + left)]])
                if not count:
                    raise _damaged(self._place, f"{os.fsdecode(name)} has less than its {size} bytes")
                left -= count
                self._filled += count
                if self._filled == _BLOCK:
                    self._flush()
        finally:
            os.close(handle)

    def _flush(self) -> None:
        if self._filled:
            self._sink(self._buffer[: self._filled])
            self._size += self._filled
            self._filled = 0

    def _open(self, name: bytes) -> int:
        """Open a regular file of the layer; no link that a hostile layer holds leads out of it."""
        folder, _slash, base = os.fsdecode(name).rstrip("/").rpartition("/")
        if self._folder is None or self._folder[0] != folder:
            self._leave_folder()
            flags = os.O_PATH | os.O_DIRECTORY
            self._folder = (folder, syscalls.open_beneath(self._root, folder.lstrip("/") or ".", flags))
        where = self._folder[1]
        if not stat.S_ISREG(os.stat(base, dir_fd=where, follow_symlinks=False).st_mode):
            raise _damaged(self._place, f"{os.fsdecode(name)} is no regular file")
        return os.open(base, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=where)

    def _leave_folder(self) -> None:
        if self._folder is not None:
            os.close(self._folder[1])
            self._folder = None


def _name_of(entry: t.Mapping[str, t.Any]) -> bytes:
    if entry.get("name_raw"):
        try:
            return base64.b64decode(entry["name_raw"], validate=True)
        except binascii.Error as exc:
            raise ValueError(f"a name that is no base64: {exc}") from exc
    return t.cast("str", entry["name"]).encode()


def _damaged(layer_dir: str, what: str) -> CoreError:
    return WrongState(
        f"the layer {layer_dir} is not what was unpacked there: {what}",
        hint="Remove the image and pull it again",
    )
