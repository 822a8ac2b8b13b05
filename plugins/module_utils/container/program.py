# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leave the core on the host as one file, so that systemd can start containers without a playbook.

Ansible removes its own files when a task ends.  A unit needs something that stays:
a zip file of this package that Python runs (``python3 pvecri.pyz start NAME``),
made from the very files that the task runs from.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pkgutil
import sys
import typing as t
import zipfile

from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.model import RUN_DIR, STATE_DIR, Paths

PACKAGE = "ansible_collections.pvecri.runtime.plugins.module_utils"
_ENTRY = f"{PACKAGE}.container.supervised"

#: Variables by which a unit tells the program of unusual places.
STATE_VARIABLE = "PVECRI_STATE_DIR"
RUN_VARIABLE = "PVECRI_RUN_DIR"

#: Only this file knows Ansible, which the host need not have.
_LEFT_OUT = frozenset({f"{PACKAGE}.ansible_edge"})

#: Zip files know no earlier time; a constant one makes equal content equal bytes.
_TIME = (1980, 1, 1, 0, 0, 0)


def program_path(paths: Paths) -> str:
    """Return where the program lies."""
    return os.path.join(paths.state_dir, "lib", "pvecri.pyz")


def program_command(paths: Paths) -> list[str]:
    """Return the command that runs the program, by the interpreter that runs now."""
    return [sys.executable or "/usr/bin/python3", program_path(paths)]


def environment(paths: Paths) -> dict[str, str]:
    """Return the variables that tell the program where everything is kept, if not in the usual places."""
    places = {STATE_VARIABLE: (paths.state_dir, STATE_DIR), RUN_VARIABLE: (paths.run_dir, RUN_DIR)}
    return {name: path for name, (path, usual) in places.items() if path != usual}


def failure_path(paths: Paths, name: str) -> str:
    """Return the file in which a start that failed leaves its reason."""
    return os.path.join(paths.run_dir, "failures", paths.owner.value, name)


def last_failure(paths: Paths, name: str) -> str | None:
    """Return why the last start of a container by its unit failed, if it did."""
    with contextlib.suppress(FileNotFoundError), open(failure_path(paths, name), encoding="utf-8") as stream:
        return stream.read()
    return None


def install(paths: Paths) -> bool:
    """Write the program if it is missing or another version; return whether it was written."""
    content = build()
    path = program_path(paths)
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as stream:
        if stream.read() == content:
            return False
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    write_atomic(path, content, durable=True)
    return True


def build() -> bytes:
    """Return the zip file: the sources of this package as far as they are importable here."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        main = f"from {_ENTRY} import main\n\nmain()\n"
        _add(archive, "__main__.py", main)
        parts = PACKAGE.split(".")
        for depth in range(1, len(parts)):
            _add(archive, "/".join(parts[:depth]) + "/__init__.py", "")
        for name, source, is_package in sorted(_sources()):
            path = name.replace(".", "/")
            _add(archive, f"{path}/__init__.py" if is_package else f"{path}.py", source)
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    archive.writestr(zipfile.ZipInfo(name, _TIME), text, zipfile.ZIP_DEFLATED)


def _sources() -> t.Iterator[tuple[str, str, bool]]:
    """Yield name, text and kind of every file of the package, from a directory or from Ansible's zip."""
    package = importlib.import_module(PACKAGE)
    yield PACKAGE, "", True
    for folder, prefix in _folders(package.__path__, PACKAGE + "."):
        for found in pkgutil.iter_modules(folder, prefix):
            if found.name in _LEFT_OUT:
                continue
            finder = t.cast("t.Any", found.module_finder)
            loader = finder.find_spec(found.name).loader
            yield found.name, loader.get_source(found.name), found.ispkg


def _folders(path: t.Any, prefix: str) -> t.Iterator[tuple[list[str], str]]:
    folder = list(path)
    yield folder, prefix
    for found in pkgutil.iter_modules(folder, prefix):
        if found.ispkg:
            name = found.name.rpartition(".")[2]
            yield from _folders([os.path.join(part, name) for part in folder], found.name + ".")
