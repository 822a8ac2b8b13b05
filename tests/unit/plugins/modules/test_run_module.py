# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the fixture ``run_module`` and the edge to what all module tests rely on."""

from __future__ import annotations

import errno
import os
import sys
import types
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import ansible_edge, errors

MODULES = "ansible_collections.pvecri.runtime.plugins.modules"
SPEC = {"do": {"type": "str", "default": "work"}, "secret": {"type": "str", "no_log": True}}


class HalfWay(errors.CoreError):
    def details(self):
        return {**super().details(), "changed": True, "warnings": ["careful"]}


def perform(params: dict[str, t.Any], context: ansible_edge.Context) -> ansible_edge.Outcome:
    if params["do"] == "refuse":
        raise errors.InvalidSpec("do", "no", hint="Ask for something else")
    if params["do"] == "refuse half-way":
        raise HalfWay("no")
    if params["do"] == "crash":
        raise ZeroDivisionError
    if params["do"] == "write":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/state/x")
    if params["do"] == "forget":
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/srv/state/x")
    return ansible_edge.Outcome(
        changed=not context.check_mode,
        diff={"before": {"n": 1}, "after": {"n": 2}},
        values={"echo": params["secret"]},
        warnings=["careful"],
    )


@pytest.fixture
def example(monkeypatch):
    """Put a module into the collection that exists only for these tests."""
    module = types.ModuleType(f"{MODULES}.example")
    module.main = lambda: ansible_edge.run_module(SPEC, perform)
    monkeypatch.setitem(sys.modules, f"{MODULES}.example", module)


@pytest.mark.usefixtures("example")
class TestRunModule:
    @pytest.mark.parametrize("check", [False, True])
    def test_run_module_hands_over_check_mode(self, run_module, check):
        assert run_module("example", check=check)["changed"] is not check

    @pytest.mark.parametrize(
        ("diff", "expected"), [(True, {"before": {"n": 1}, "after": {"n": 2}}), (False, None)]
    )
    def test_run_module_shows_a_diff_only_when_asked(self, run_module, diff, expected):
        assert run_module("example", diff=diff).get("diff") == expected

    def test_run_module_collects_warnings_of_this_run_alone(self, run_module):
        run_module("example")
        assert run_module("example")["warnings"] == ["careful"]

    def test_run_module_hides_what_is_no_log(self, run_module):
        assert "hunter2" not in str(run_module("example", {"secret": "hunter2"}))

    def test_run_module_returns_a_foreseen_failure(self, run_module):
        result = run_module("example", {"do": "refuse"})
        assert result["failed"] is True
        assert result["msg"] == "do: no. Ask for something else"
        assert (result["error"], result["field"]) == ("invalid_spec", "do")

    def test_run_module_keeps_the_warnings_of_a_failure(self, run_module):
        result = run_module("example", {"do": "refuse half-way"})
        assert (result["failed"], result["changed"], result["warnings"]) == (True, True, ["careful"])

    def test_run_module_returns_a_refused_option(self, run_module):
        result = run_module("example", {"dont": 1})
        assert result["failed"] is True
        assert "dont" in result["msg"]

    def test_run_module_raises_what_nobody_foresaw(self, run_module):
        with pytest.raises(ZeroDivisionError):
            run_module("example", {"do": "crash"})
        with pytest.raises(FileNotFoundError):
            run_module("example", {"do": "forget"})

    def test_run_module_returns_the_trouble_of_the_host(self, run_module):
        result = run_module("example", {"do": "write"})
        assert result["failed"] is True
        assert result["msg"].startswith("No space left on device: /srv/state/x. Mend that")
        assert result["error"] == "core_error"
