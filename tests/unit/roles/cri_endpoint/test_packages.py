# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove the packages that the role brought, and none that something else needs."""

from __future__ import annotations

import importlib.util
import json
import pathlib

import pytest

PATH = pathlib.Path(__file__).parents[4] / "roles/cri_endpoint/files/packages.py"
spec = importlib.util.spec_from_file_location("role_packages", PATH)
packages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(packages)

TEXT = """installed\tcrun\tno\t, libc6 (>= 2.3), libyajl2:amd64\t
installed\tlibyajl2:amd64\tno\t, libc6\t
installed\tlibc6:amd64\tno\t, libgcc-s1\t
installed\tconmon\tno\t, libc6\t
installed\tpodman\tno\t, crun | runc, conmon (>= 2)\t
installed\tgawk\tno\t, libc6\tawk
installed\tscript\tno\t, awk\t
config-files\told\tno\t, \t
installed\tdpkg\tyes\t, tar\t
"""


def needs(**packages_):
    return {
        name: packages.Package(False, tuple(map(frozenset, need)), frozenset())
        for name, need in packages_.items()
    }


def test_parse_reads_what_dpkg_says():
    found = packages.parse(TEXT)
    assert "old" not in found
    assert found["crun"].needs == (frozenset({"libc6"}), frozenset({"libyajl2"}))
    assert found["podman"].needs == (frozenset({"crun", "runc"}), frozenset({"conmon"}))
    assert found["gawk"].provides == {"awk"}
    assert found["dpkg"].is_essential


@pytest.mark.parametrize(
    ("brought", "expected"),
    [
        (["crun", "libyajl2"], []),  # podman came from elsewhere
        (["crun", "libyajl2", "podman", "conmon"], ["conmon", "crun", "libyajl2", "podman"]),
        (["podman"], ["podman"]),
        (["gawk"], []),
        (["gawk", "script"], ["gawk", "script"]),
        (["dpkg"], []),
        (["not-there-any-more"], []),
    ],
)
def test_removable_keeps_what_others_need(brought, expected):
    assert packages.removable(brought, packages.parse(TEXT)) == expected


def test_one_alternative_that_stays_is_enough():
    there = needs(user=[{"a", "b"}], a=[], b=[])
    assert packages.removable(["a"], there) == ["a"]
    assert packages.removable(["a", "b"], there) == []


def test_chain_that_somebody_needs_stays_whole():
    there = needs(user=[{"a"}], a=[{"b"}], b=[{"c"}], c=[], d=[])
    assert packages.removable(["a", "b", "c", "d"], there) == ["d"]


def test_record_survives_a_run_that_is_cut_short(tmp_path, monkeypatch, capsys):
    path = tmp_path / "lib/packages.json"
    there = needs(a=[])
    monkeypatch.setattr(packages, "installed", lambda: there)
    assert packages.main(["note", str(path)]) == 0
    there.update(needs(b=[]))
    # The run ended here; the next one notes again, before it installs the rest.
    packages.main(["note", str(path)])
    there.update(needs(c=[]))
    packages.main(["came", str(path)])
    assert json.loads(path.read_text()) == {"brought": ["b", "c"]}
    packages.main(["note", str(path)])
    there.update(needs(d=[]))
    packages.main(["came", str(path)])
    packages.main(["came", str(path)])
    assert json.loads(path.read_text()) == {"brought": ["b", "c", "d"]}
    capsys.readouterr()
    packages.main(["removable", str(path)])
    assert json.loads(capsys.readouterr().out) == ["b", "c", "d"]


def test_host_without_record_has_nothing_to_remove(tmp_path, capsys):
    assert packages.main(["removable", str(tmp_path / "none")]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert packages.main(["other", str(tmp_path / "none")]) == 2


def test_installed_reads_this_host():
    found = packages.installed()
    assert found["dpkg"].is_essential
    assert packages.removable(["libc6"], found) == []
