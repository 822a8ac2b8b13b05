# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack the endpoint and the collection's core as a release: what a host gets below /usr/lib/pvecri/releases.

The name of a release says the collection's version and what is in it, so that the same sources have the same
name everywhere and a host that has the name has the files.  Nothing but the standard library is used, and
nothing of the archive depends on who packs it, where, or when.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import pathlib
import re
import sys
import tarfile
import typing as t

#: Where this file lies: the role's folder for files, in a checkout or an installed collection.
FILES = pathlib.Path(__file__).resolve().parent

#: The file that a release has last, and that says what it is.
MARK = "RELEASE"

_CORE = "ansible_collections/pvecri/runtime/plugins/module_utils"
_DIGITS = 12

#: Isolated: neither the environment nor the working directory says what is imported.
_SHEBANG = b"#!/usr/bin/python3 -I\n"


class Packed(t.NamedTuple):
    """The content of a release."""

    #: Mode and bytes by path.
    files: dict[str, tuple[int, bytes]]
    version: str
    release: str


def collect(files: pathlib.Path = FILES) -> Packed:
    """Read all that belongs to a release; ``files`` is the role's folder for files."""
    found = dict(_programs(files / "bin"))
    found |= {f"pvecri/{path}": (0o644, data) for path, data in _sources(files / "pvecri")}
    core = files.parents[2] / "plugins/module_utils"
    found |= {f"{_CORE}/{path}": (0o644, data) for path, data in _sources(core)}
    version = _version(found["pvecri/__init__.py"][1].decode())
    return Packed(found, version, f"{version}-{_digest(found)[:_DIGITS]}")


def archive(packed: Packed) -> bytes:
    """Return a release as a compressed tar archive, the same bytes for the same content."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        folders = {str(above) for path in packed.files for above in pathlib.PurePosixPath(path).parents}
        for path in sorted(folders - {"."}):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for path, (mode, data) in sorted(packed.files.items()):
            entry = tarfile.TarInfo(path)
            entry.mode, entry.size = mode, len(data)
            tar.addfile(entry, io.BytesIO(data))
    squeezed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=squeezed, mode="wb", compresslevel=6, mtime=0) as stream:
        stream.write(raw.getvalue())
    return squeezed.getvalue()


def _sources(folder: pathlib.Path) -> t.Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(folder).as_posix(), path.read_bytes()


def _programs(folder: pathlib.Path) -> t.Iterator[tuple[str, tuple[int, bytes]]]:
    for path in sorted(folder.glob("*.py")):
        yield f"bin/{path.stem}", (0o755, _SHEBANG + path.read_bytes())
    for path in sorted(folder.glob("*.sh")):
        yield f"bin/{path.stem}", (0o755, path.read_bytes())


def _version(text: str) -> str:
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if not found:
        raise ValueError("pvecri/__init__.py does not say its version")
    return found[1]


def _digest(files: dict[str, tuple[int, bytes]]) -> str:
    lines = [
        f"{path}\0{mode:o}\0{hashlib.sha256(data).hexdigest()}\n" for path, (mode, data) in files.items()
    ]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def main(argv: t.Sequence[str] | None = None) -> int:
    """Print what the release is, as JSON; write the archive if that is asked for."""
    parser = argparse.ArgumentParser(description="Pack the endpoint as a release.")
    parser.add_argument("--output", metavar="FILE", type=pathlib.Path, help="write the archive there")
    options = parser.parse_args(argv)
    packed = collect()
    if options.output:
        options.output.write_bytes(archive(packed))
    print(json.dumps({"version": packed.version, "release": packed.release, "files": len(packed.files)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
