# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at images that lie in files: what tells one content of a path from another.

An archive is told by its inode and times, a layout by its index, so that
nothing big is read to learn that nothing has changed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner, last_line
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CoreError,
    InvalidSpec,
    NotFound,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import open_regular
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    IMPORT_TIMEOUT_S,
    Location,
    Transport,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store_files import find_in_host_store

_ZSTD = b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 20


def local_state(location: Location) -> str:
    """Return a text that changes with the content behind a local location; raises NotFound."""
    if location.transport is Transport.CONTAINERS_STORAGE:
        return find_in_host_store(location.path).id
    if location.transport is Transport.OCI:
        return _file_hash(os.path.join(location.path, "index.json"), str(location), "an OCI image layout")
    if location.transport is Transport.DIR:
        return _file_hash(os.path.join(location.path, "manifest.json"), str(location), "an image directory")
    return file_state(location.path, str(location))


def tarball_state(path: str) -> str:
    """Return a text that changes with the archive at ``path``; raises NotFound."""
    return file_state(path, path)


def file_state(path: str, what: str) -> str:
    """Return a text of a regular file's identity, size and times."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise NotFound(f"{what} does not exist", hint=f"Check the path {path} on the target host") from exc
    if not stat.S_ISREG(status.st_mode):
        raise InvalidSpec("image", f"{what} is no regular file")
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def _file_hash(path: str, what: str, kind: str) -> str:
    try:
        with open_regular(path) as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise NotFound(
            f"{what} does not exist: there is no {path}", hint=f"The path must be that of {kind}"
        ) from exc
    except OSError as exc:
        raise InvalidSpec("image", f"{what}: {path} cannot be read: {exc.strerror}") from exc


def readable_tarball(path: str, temporary: str, runner: Runner) -> str:
    """Return the path of an archive that skopeo can read: ``path``, or an unpacked copy.

    skopeo reads plain tar and gzip.  It also unpacks what bzip2, xz and zstd packed,
    but takes the packed file's digest for the content's, which newer versions refuse;
    so these are unpacked below ``temporary``.  Raises InvalidSpec for a damaged file
    and MissingDependency without the program zstd.
    """
    with open(path, "rb") as stream:
        magic = stream.read(6)
    target = os.path.join(temporary, "rootfs.tar")
    if magic.startswith(_ZSTD):
        _unpack_zstd(path, target, runner)
        return target
    opener = _decompressor(magic)
    if opener is None:
        return path
    try:
        with opener(path) as source, open(target, "wb") as unpacked:
            while block := source.read(_BLOCK):
                unpacked.write(block)
    except (EOFError, ValueError, _lzma_error()) as exc:
        raise InvalidSpec("tarball", f"{path} is damaged: {exc}", hint="Make or fetch it again") from exc
    except OSError as exc:
        if exc.errno is None:
            raise InvalidSpec("tarball", f"{path} is damaged: {exc}", hint="Make or fetch it again") from exc
        raise CoreError(
            f"{path} cannot be unpacked to {target}: {exc.strerror}", hint="Make room in the state directory"
        ) from exc
    return target


def _unpack_zstd(path: str, target: str, runner: Runner) -> None:
    """Unpack by the program zstd: Python has no reader for it before 3.14."""
    argv = ["zstd", "--decompress", "--quiet", "--force", "-o", target, "--", path]
    done = runner.run(argv, timeout_s=IMPORT_TIMEOUT_S, check=False)
    if done.rc:
        raise CommandError(
            f"{path} cannot be unpacked: {last_line(done.stderr) or 'zstd failed'}",
            argv=argv,
            rc=done.rc,
            stdout=done.stdout,
            stderr=done.stderr,
            hint="Make or fetch the archive again, or make room in the state directory",
        )


def _decompressor(magic: bytes) -> t.Callable[[str], t.Any] | None:
    if magic.startswith(b"BZh"):
        import bz2  # noqa: PLC0415 - rarely needed

        return bz2.open
    if magic.startswith(b"\xfd7zXZ\0"):
        import lzma  # noqa: PLC0415 - rarely needed

        return lzma.open
    return None


def _lzma_error() -> type[Exception]:
    import lzma  # noqa: PLC0415 - rarely needed

    return lzma.LZMAError
