# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold that the default AppArmor profile is loaded once, and that others are looked for when asked for."""

from __future__ import annotations

import logging
import os
import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, MissingDependency
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from pvecri.containers import apparmor

LOG = logging.getLogger("apparmor")
PARSER = "/sbin/apparmor_parser"


class Recorder:
    def __init__(self, fault=None):
        self.calls = []
        self.fault = fault

    def run(self, argv, **options):
        self.calls.append((list(argv), options))
        if self.fault:
            raise self.fault
        return Completed(list(argv), 0, "", "")


def test_nothing_without_apparmor():
    runner = Recorder()
    host = HostFacts()
    assert apparmor.with_default_profile(runner, host, LOG) is host
    assert runner.calls == []


def test_profile_is_loaded_from_memory():
    runner = Recorder()
    host = HostFacts(has_apparmor=True, apparmor_profiles=frozenset({"other"}))
    found = apparmor.with_default_profile(runner, host, LOG)
    assert found.apparmor_default == apparmor.DEFAULT_PROFILE
    assert runner.calls == [([PARSER, "--replace"], {"stdin": apparmor.PROFILE.encode()})]
    assert f"profile {apparmor.DEFAULT_PROFILE} " in apparmor.PROFILE


def test_profile_that_is_loaded_stays():
    runner = Recorder()
    host = HostFacts(has_apparmor=True, apparmor_profiles=frozenset({apparmor.DEFAULT_PROFILE}))
    assert apparmor.with_default_profile(runner, host, LOG).apparmor_default == apparmor.DEFAULT_PROFILE
    assert runner.calls == []


def test_host_that_cannot_load_it_says_so(caplog):
    host = HostFacts(has_apparmor=True)
    found = apparmor.with_default_profile(Recorder(MissingDependency("no parser")), host, LOG)
    assert found.apparmor_default is None
    assert caplog.records[0].error == "no parser"


@pytest.mark.parametrize(
    ("text", "is_refused"), [("mine (enforce)\n", False), ("other (complain)\n", True), (None, False)]
)
def test_check_loaded(tmp_path, text, is_refused):
    if text is not None:
        folder = tmp_path / "sys/kernel/security/apparmor"
        folder.mkdir(parents=True)
        (folder / "profiles").write_text(text)
    if not is_refused:
        apparmor.check_loaded("mine", str(tmp_path))
        return
    with pytest.raises(InvalidSpec, match="no profile 'mine' is loaded"):
        apparmor.check_loaded("mine", str(tmp_path))


@pytest.mark.skipif(not os.path.exists(PARSER), reason=f"needs {PARSER}")
def test_profile_can_be_compiled():
    argv = [PARSER, "--skip-kernel-load", "--skip-cache", "--features-file", "/etc/apparmor.d/abi/3.0"]
    subprocess.run(argv, input=apparmor.PROFILE.encode(), check=True)
