# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold which files get a label; the kernel here need not know SELinux."""

from __future__ import annotations

import errno
import os

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState
from pvecri.api import cri_pb2 as pb
from pvecri.containers.relabel import relabel

LABEL = "system_u:object_r:container_file_t:s0"


@pytest.fixture
def labelled(monkeypatch):
    """What was labelled, by real path."""
    found = {}

    def setxattr(path, name, value, *, follow_symlinks):
        assert (name, follow_symlinks) == ("security.selinux", False)
        os.lstat(path)
        folder, base = os.path.split(path)
        found[os.path.join(os.path.realpath(folder), base)] = value.decode()

    monkeypatch.setattr(os, "setxattr", setxattr)
    return found


def mount(path, **fields):
    return pb.Mount(host_path=str(path), container_path="/x", **{"selinux_relabel": True, **fields})


def test_relabel_tree_without_following_links(tmp_path, labelled):
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "below").mkdir(parents=True)
    (volume / "below" / "file").touch()
    outside.mkdir()
    (outside / "file").touch()
    (volume / "link").symlink_to(outside)
    relabel([mount(volume), mount(outside, selinux_relabel=False), mount(tmp_path / "missing")], LABEL)
    below = {str(volume / name) for name in ("below", "below/file", "link")}
    assert labelled == dict.fromkeys({str(volume), *below}, LABEL)


def test_relabel_of_one_file_by_a_link(tmp_path, labelled):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    relabel([mount(tmp_path / "link")], LABEL)
    assert list(labelled) == [str(tmp_path / "file")]


@pytest.mark.parametrize("path", ["/", "/usr", "/etc/", "/usr/../var"])
def test_relabel_refuses_the_hosts_own(path, labelled):
    with pytest.raises(InvalidSpec, match=r"config.mounts\[0\].selinux_relabel"):
        relabel([mount(path)], LABEL)
    assert labelled == {}


@pytest.mark.parametrize(("number", "is_fatal"), [(errno.ENOTSUP, False), (errno.EPERM, True)])
def test_relabel_where_there_are_no_labels(tmp_path, monkeypatch, number, is_fatal):
    def refuse(*_args, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "setxattr", refuse)
    if not is_fatal:
        relabel([mount(tmp_path)], LABEL)
        return
    with pytest.raises(WrongState, match="cannot be labelled"):
        relabel([mount(tmp_path)], LABEL)
