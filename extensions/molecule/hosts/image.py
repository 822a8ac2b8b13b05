# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a small image as an OCI archive: image.py FILE.  It needs Debian's package busybox-static."""

from __future__ import annotations

import pathlib
import sys
import tarfile
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

from tests.support import images


def _without_time(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Let the same contents give the same archive."""
    entry.mtime = 0
    return entry


def main() -> None:
    """Make a layout and pack it."""
    with tempfile.TemporaryDirectory() as folder:
        layout = images.OciLayout(pathlib.Path(folder, "layout"))
        layout.add_image("1", [images.busybox_layer()], {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]})
        with tarfile.open(sys.argv[1], "w") as archive:
            archive.add(layout.path, arcname=".", filter=_without_time)


if __name__ == "__main__":
    main()
