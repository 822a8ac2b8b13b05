# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load modules and set sysctls, with what was before on record."""

from __future__ import annotations

import pathlib
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.host import kernel


@pytest.fixture
def system(tmp_path, monkeypatch):
    sys_, modules = tmp_path / "proc/sys", tmp_path / "sys/module"
    (sys_ / "net/ipv4").mkdir(parents=True)
    (sys_ / "net/ipv4/ip_forward").write_text("0\n")
    (sys_ / "net/ipv4/ip_local_port_range").write_text("32768\t60999\n")
    (modules / "br_netfilter").mkdir(parents=True)
    monkeypatch.setattr(kernel, "PROC_SYS", str(sys_))
    monkeypatch.setattr(kernel, "SYS_MODULE", str(modules))
    return sys_


class Runner:
    """Note what is run; a module of the name 'missing' cannot be loaded."""

    def __init__(self):
        self.ran = []

    def run(self, argv, **_more):
        self.ran.append(list(argv))
        bad = argv[-1] == "missing"
        return types.SimpleNamespace(rc=int(bad), stdout="", stderr="not found\n" if bad else "")


def test_plan_finds_what_differs(system):
    wanted = kernel.check(["br-netfilter", "nf_x"], {"net.ipv4.ip_forward": True, "net/ipv4/none": 5})
    found = kernel.plan(["br-netfilter", "nf_x"], wanted)
    assert found.load == ["nf_x"]
    assert found.values == {"net.ipv4.ip_forward": "1", "net/ipv4/none": "5"}
    assert found.before == {"net.ipv4.ip_forward": "0", "net/ipv4/none": None}
    same = kernel.check([], {"net.ipv4.ip_local_port_range": "32768 60999"})
    assert kernel.plan([], same).values == {}


def test_apply_loads_sets_and_warns(system):
    runner = Runner()
    plan = kernel.Plan(["nf_x", "missing"], {"net.ipv4.ip_forward": "1", "a.b": "2"})
    warnings = kernel.apply(plan, runner)
    assert runner.ran == [["modprobe", "--", "nf_x"], ["modprobe", "--", "missing"]]
    assert (system / "net/ipv4/ip_forward").read_text() == "1"
    assert warnings == [
        "kernel module missing cannot be loaded: not found",
        "sysctl a.b cannot be set to 2: No such file or directory",
    ]


def test_what_is_impossible_is_no_change(system):
    plan = kernel.Plan(["missing"], {"net.ipv4.ip_forward": "1", "a.b": "2"})
    plan.before = {"net.ipv4.ip_forward": "0", "a.b": None}
    warnings = kernel.drop_impossible(plan, Runner())
    assert (plan.load, plan.values) == ([], {"net.ipv4.ip_forward": "1"})
    assert warnings == ["kernel module missing cannot be loaded", "sysctl a.b cannot be set here"]
    with_module = kernel.Plan(["nf_x"], {"a.b": "2"}, {"a.b": None})
    assert kernel.drop_impossible(with_module, Runner()) == []
    assert with_module.values == {"a.b": "2"}


def test_record_keeps_the_first_value(system, tmp_path):
    path = str(tmp_path / "lib/sysctl.json")
    assert kernel.load_record(path) == {}
    wanted = {"net.ipv4.ip_forward": "1"}
    record = kernel.noted({}, kernel.plan([], wanted), wanted)
    assert record == {"net.ipv4.ip_forward": {"before": "0", "set": "1"}}
    kernel.save_record(path, record)
    (system / "net/ipv4/ip_forward").write_text("1\n")
    again = {"net.ipv4.ip_forward": "2"}
    assert kernel.noted(kernel.load_record(path), kernel.plan([], again), again) == {
        "net.ipv4.ip_forward": {"before": "0", "set": "2"}
    }


def test_former_values_come_back_unless_others_changed_them(system):
    record = {
        "net.ipv4.ip_forward": {"before": "1", "set": "0"},
        "net.ipv4.ip_local_port_range": {"before": "1 2", "set": "3 4"},
        "gone": {"before": None, "set": "1"},
    }
    assert kernel.to_restore(record, {}) == {"net.ipv4.ip_forward": "1"}
    assert kernel.to_restore(record, {"net.ipv4.ip_forward": "0"}) == {}


def test_record_that_cannot_be_read_is_told(tmp_path):
    path = tmp_path / "sysctl.json"
    path.write_text("{")
    with pytest.raises(CoreError, match="cannot be read"):
        kernel.load_record(str(path))


@pytest.mark.parametrize(
    ("modules", "sysctl", "field"),
    [
        (["a b"], {}, "modules"),
        (["../x"], {}, "modules"),
        ([], {"ip_forward": 1}, "sysctl"),
        ([], {"net/../../etc": 1}, "sysctl"),
        ([], {"a.b c": 1}, "sysctl"),
    ],
)
def test_check_refuses_names_that_are_none(modules, sysctl, field):
    with pytest.raises(InvalidSpec, match=field):
        kernel.check(modules, sysctl)


def test_interfaces_with_dots_are_written_with_slashes(system):
    path = system / "net/ipv4/conf/eth0.1"
    path.mkdir(parents=True)
    (path / "forwarding").write_text("1\n")
    assert kernel.read("net/ipv4/conf/eth0.1/forwarding") == "1"
    assert kernel.read("net.ipv4.conf.eth0/1.forwarding") == "1"


def test_built_in_modules_are_loaded(monkeypatch, tmp_path):
    monkeypatch.setattr(kernel, "SYS_MODULE", str(tmp_path))
    listing = tmp_path / "modules.builtin"
    listing.write_text("kernel/fs/overlayfs/overlay.ko\n")
    real_open = open

    def opened(path, *args, **more):
        is_listing = str(path).endswith("/modules.builtin")
        return real_open(listing if is_listing else path, *args, **more)

    monkeypatch.setattr("builtins.open", opened)
    assert kernel.is_loaded("overlay")
    assert not kernel.is_loaded("over")
    pathlib.Path(listing).unlink()
    assert not kernel.is_loaded("overlay")
