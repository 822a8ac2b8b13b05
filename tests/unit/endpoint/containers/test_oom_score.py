# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scores of the processes of a container."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from pvecri.containers import oom_score


@pytest.fixture
def tree(tmp_path):
    """A group with one process, and another in a group below."""
    for path, pids in (("pod/one", "12\n"), ("pod/one/below", "13\n0\n")):
        group = tmp_path / "memory" / path
        group.mkdir(parents=True)
        (group / "cgroup.procs").write_text(pids)
    for pid in ("12", "13"):
        (tmp_path / "proc" / pid).mkdir(parents=True)
    return tmp_path


def scores(tree):
    return {path.parent.name: path.read_text() for path in tree.glob("proc/*/oom_score_adj")}


def apply(tree, score):
    oom_score.apply("/pod/one", score, CgroupTree(str(tree)), str(tree / "proc"))


def test_all_processes_get_the_score(tree):
    apply(tree, -5)
    assert scores(tree) == {"12": "-5", "13": "-5"}


def test_process_that_is_made_meanwhile_gets_it_too(tree, monkeypatch):
    real = oom_score._set

    def forks(path, score):
        real(path, score)
        (tree / "proc" / "14").mkdir(exist_ok=True)
        (tree / "memory" / "pod" / "one" / "cgroup.procs").write_text("12\n14\n")

    monkeypatch.setattr(oom_score, "_set", forks)
    apply(tree, 9)
    assert scores(tree) == {"12": "9", "13": "9", "14": "9"}


def test_process_that_has_ended_needs_none(tree):
    (tree / "proc" / "12").rmdir()
    apply(tree, 7)
    assert scores(tree) == {"13": "7"}


def test_refusal_of_the_kernel_names_the_field(tree, monkeypatch):
    def refuse(*_arguments, **_options):
        raise PermissionError

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(InvalidSpec, match=r"linux\.oom_score_adj"):
        apply(tree, 7)


def test_group_that_is_gone_has_no_processes(tmp_path):
    apply(tmp_path, 7)


@pytest.mark.parametrize(
    ("capabilities", "asked", "got"),
    [(("CAP_SYS_RESOURCE",), -900, -900), ((), -900, -10), ((), -10, -10), ((), 5, 5)],
)
def test_score_is_what_the_host_allows(capabilities, asked, got):
    host = dataclasses.replace(HostFacts(), oom_score_adj=-10, capabilities=capabilities)
    told = []
    assert oom_score.for_host(asked, host, told) == got
    assert bool(told) == (got != asked)
