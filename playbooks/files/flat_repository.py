# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a folder of Debian packages one that apt can use: flat_repository.py FOLDER

Writes Packages and Release beside them.  Prints "changed" if they were not so before.
"""

from __future__ import annotations

import email.utils
import hashlib
import pathlib
import subprocess
import sys


def stanza(package: pathlib.Path) -> str:
    """Return a package's entry of the index (Debian Repository Format, "Packages" Indices)."""
    shown = subprocess.run(
        ["/usr/bin/dpkg-deb", "--field", str(package)], check=True, capture_output=True, text=True
    )
    with package.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    size = package.stat().st_size
    return f"{shown.stdout.rstrip()}\nFilename: ./{package.name}\nSize: {size}\nSHA256: {digest}\n"


def write(path: pathlib.Path, text: str) -> None:
    """Replace a file in one step."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def main() -> None:
    """Write the index of the folder, and what says how it must be."""
    folder = pathlib.Path(sys.argv[1])
    index = "\n".join(stanza(package) for package in sorted(folder.glob("*.deb")))
    packages, release = folder / "Packages", folder / "Release"
    if release.exists() and packages.exists() and packages.read_text() == index:
        return
    release.unlink(missing_ok=True)
    write(packages, index)
    data = index.encode()
    write(
        release,
        f"Date: {email.utils.formatdate(usegmt=True)}\n"
        f"SHA256:\n {hashlib.sha256(data).hexdigest()} {len(data)} Packages\n",
    )
    print("changed")


if __name__ == "__main__":
    main()
