# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import importlib.util
import os
import pathlib
import sys
import traceback
import typing as t
import zipfile
import zipimport

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import zip_imports

FILES = {
    "zi_pack/__init__.py": "NAME = __name__\n",
    "zi_pack/sub/__init__.py": "",
    "zi_pack/sub/leaf.py": "def fail():\n    raise ValueError('leaf')\n",
    "zi_pack/broken.py": "this is no Python\n",
    "zi_other.py": "VALUE = 7\n",
    "zi_space/": "",
    "zi_space/inner.py": "VALUE = 8\n",
}


def archive_of(path: pathlib.Path, files: dict[str, str]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return str(path)


@pytest.fixture
def payload(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[str]:
    """Return an archive on Python's path; what was imported from it is forgotten at the end."""
    archive = archive_of(tmp_path / "payload.zip", FILES)
    monkeypatch.setattr(sys, "path", [archive, *sys.path])
    monkeypatch.setattr(sys, "path_hooks", list(sys.path_hooks))
    monkeypatch.setattr(sys, "path_importer_cache", dict(sys.path_importer_cache))
    yield archive
    for name in [name for name in sys.modules if name.startswith("zi_")]:
        del sys.modules[name]


def test_compile_once_imports_what_zipimport_would(payload: str) -> None:
    zip_imports.compile_once(zipimport.zipimporter(payload))
    names = ("zi_pack", "zi_pack.sub", "zi_pack.sub.leaf", "zi_other", "zi_space.inner")
    taken = {name: importlib.import_module(name) for name in names}
    plain = zipimport.zipimporter(payload)
    assert taken["zi_pack"].__file__ == plain.get_filename("zi_pack")
    assert (
        taken["zi_other"].__file__ == plain.get_filename("zi_other") == os.path.join(payload, "zi_other.py")
    )
    assert taken["zi_pack.sub"].__file__ == os.path.join(payload, "zi_pack", "sub", "__init__.py")
    assert taken["zi_pack.sub.leaf"].__file__ == os.path.join(payload, "zi_pack", "sub", "leaf.py")
    assert list(taken["zi_pack.sub"].__path__) == [os.path.join(payload, "zi_pack", "sub")]
    assert taken["zi_space.inner"].VALUE == 8
    assert all(isinstance(module.__loader__, zip_imports.SourceImporter) for module in taken.values())


def test_compile_once_finds_without_compiling(payload: str) -> None:
    importlib.import_module("zi_pack")
    # What was imported before keeps its place: only the importers of its folders are made anew.
    zip_imports.compile_once(sys.modules["zi_pack"].__loader__)
    spec = importlib.util.find_spec("zi_pack.broken")
    assert spec is not None
    assert spec.origin == os.path.join(payload, "zi_pack", "broken.py")
    with pytest.raises(SyntaxError):
        importlib.import_module("zi_pack.broken")


def test_compile_once_keeps_sources_in_tracebacks(payload: str) -> None:
    zip_imports.compile_once(zipimport.zipimporter(payload))
    leaf = importlib.import_module("zi_pack.sub.leaf")
    with pytest.raises(ValueError, match="leaf") as caught:
        leaf.fail()
    assert "raise ValueError('leaf')" in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ["zi_missing", "zi_pack.missing"])
def test_compile_once_missing_module(payload: str, name: str) -> None:
    zip_imports.compile_once(zipimport.zipimporter(payload))
    with pytest.raises(ModuleNotFoundError, match="missing"):
        importlib.import_module(name)
    with pytest.raises(zipimport.ZipImportError, match="missing"):
        zip_imports.SourceImporter(payload).get_filename("zi_missing")


def test_compile_once_leaves_other_archives(
    payload: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = archive_of(tmp_path / "payload.zip.other", {"zi_beside.py": ""})
    monkeypatch.setattr(sys, "path", [beside, *sys.path])
    zip_imports.compile_once(zipimport.zipimporter(payload))
    assert importlib.import_module("zi_beside").__loader__.__class__ is zipimport.zipimporter
    assert isinstance(importlib.import_module("zi_other").__loader__, zip_imports.SourceImporter)


@pytest.mark.parametrize("loader", [None, sys.__loader__, object()])
def test_compile_once_outside_of_archives(loader: object, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = list(sys.path_hooks)
    monkeypatch.setattr(sys, "path_hooks", hooks)
    before = list(hooks)
    zip_imports.compile_once(loader)
    assert hooks == before


def test_compile_once_twice_is_once(payload: str) -> None:
    zip_imports.compile_once(zipimport.zipimporter(payload))
    hooks = list(sys.path_hooks)
    zip_imports.compile_once(importlib.import_module("zi_other").__loader__)
    assert sys.path_hooks == hooks
