# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile each source of a zip archive once when it is imported.

On a host a module and all that it imports come as sources in one zip archive.
Python's ``zipimport`` compiles every file of it twice, first to learn its file
name and then to run it, which would be a fifth of a module's whole time.
"""

from __future__ import annotations

import os
import sys
import typing as t
import zipimport


class SourceImporter(zipimport.zipimporter):
    """Import from an archive that holds sources only; file names are told without compiling."""

    def get_filename(self, fullname: str) -> str:
        """Return what ``__file__`` of the module will be; raises ZipImportError for an unknown one."""
        path = os.path.join(self.archive, self.prefix + fullname.rpartition(".")[2])
        return os.path.join(path, "__init__.py") if self.is_package(fullname) else f"{path}.py"


def compile_once(loader: object) -> None:
    """Import from the archive of ``loader`` by `SourceImporter` from now on.

    ``loader`` is a module's ``__loader__``; nothing happens unless it is Python's own
    for zip archives, as it is not in a checkout or in a test.
    """
    if loader.__class__ is not zipimport.zipimporter:
        return
    archive = loader.archive

    def importer_of(path: str) -> SourceImporter:
        if path != archive and not path.startswith(archive + os.sep):
            raise ImportError("another archive", path=path)
        return SourceImporter(path)

    sys.path_hooks.insert(0, t.cast("t.Any", importer_of))
    for path, importer in list(sys.path_importer_cache.items()):
        if isinstance(importer, zipimport.zipimporter) and importer.archive == archive:
            del sys.path_importer_cache[path]
