# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the directory of a storage's templates."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound, Unsupported, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.storage_config import (
    parse_storages,
    template_directory,
)

WHOLE = """
dir: local
\tpath /srv/vz
\tcontent iso,vztmpl,backup
\tshared 0

# A comment.
lvmthin: local-lvm
\tthinpool data
\tvgname pve
\tcontent rootdir,images

strange line
\tpath /nowhere

nfs: share
\tpath /mnt/pve/share
\tserver 192.0.2.1
\texport /export
\tcontent vztmpl
"""


def test_parse_storages_reads_sections_and_passes_over_what_is_none():
    found = parse_storages(WHOLE)
    assert sorted(found) == ["local", "local-lvm", "share"]
    assert found["local"].options["path"] == "/srv/vz"
    assert found["share"].type == "nfs"
    assert found["local-lvm"].options == {"thinpool": "data", "vgname": "pve", "content": "rootdir,images"}


def test_parse_storages_has_local_where_the_file_has_none():
    assert parse_storages("")["local"].options["path"] == "/var/lib/vz"


def directory(tmp_path, text, storage="s"):
    (tmp_path / "storage.cfg").write_text(text.replace("TMP", str(tmp_path)))
    return template_directory(str(tmp_path), "pve1", storage)


def test_template_directory_is_made_where_proxmox_has_it(tmp_path):
    found = directory(tmp_path, "dir: s\n\tpath TMP\n\tcontent vztmpl\n")
    assert found == f"{tmp_path}/template/cache"
    assert (tmp_path / "template/cache").is_dir()


@pytest.mark.parametrize(
    ("more", "below"),
    [
        ("content-dirs iso=a,vztmpl=/my/templates", "my/templates"),
        ("content-dirs iso=a", "template/cache"),
        ("nodes pve2,pve1", "template/cache"),
        ("disable 0", "template/cache"),
        ("is_mountpoint no", "template/cache"),
        ("is_mountpoint /proc", "template/cache"),
    ],
)
def test_template_directory_with_further_options(tmp_path, more, below):
    found = directory(tmp_path, f"dir: s\n\tpath TMP\n\tcontent vztmpl\n\t{more}\n")
    assert found == f"{tmp_path}/{below}"


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("dir: other\n\tpath TMP\n", NotFound, "'s' does not exist; there are local, other"),
        ("dir: s\n\tpath TMP\n\tcontent vztmpl\n\tdisable\n", Unsupported, "is disabled"),
        ("dir: s\n\tpath TMP\n\tcontent vztmpl\n\tnodes pve2\n", Unsupported, "not for node 'pve1'"),
        ("lvm: s\n\tvgname v\n\tcontent vztmpl\n", Unsupported, "of the type lvm"),
        ("dir: s\n\tpath TMP\n\tcontent iso\n", Unsupported, "does not take content vztmpl"),
        ("dir: s\n\tpath TMP/gone\n\tcontent vztmpl\n", WrongState, "there is no"),
        ("nfs: s\n\tpath TMP\n\tcontent vztmpl\n", WrongState, "is not mounted at"),
        ("dir: s\n\tpath TMP\n\tcontent vztmpl\n\tis_mountpoint 1\n", WrongState, "is not mounted"),
    ],
)
def test_template_directory_refuses_what_holds_no_templates_here(tmp_path, text, error, words):
    with pytest.raises(error, match=words):
        directory(tmp_path, text)
    assert not (tmp_path / "template").exists()


def test_template_directory_without_the_cluster_file_system(tmp_path):
    with pytest.raises(WrongState, match="pve-cluster"):
        template_directory(str(tmp_path), "pve1", "local")
