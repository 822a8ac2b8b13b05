# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What scripts/conformance makes of critest's report."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.tests.conformance.report import Outcome, read_junit, read_known

JUNIT = """\
<?xml version="1.0" encoding="UTF-8"?>
<testsuites><testsuite>
 <testcase name="[It] [k8s.io] Pods   run" status="passed" time="1.5"/>
 <testcase name="[It] [k8s.io] Pods fail" status="failed" time="0.5">
  <failure message="it broke&#10;  here&#10;Unexpected error: dump" type="failed">trace</failure></testcase>
 <testcase name="[It] [k8s.io] Pods panic" status="panicked" time="0">
  <error message="oh" type="panicked">trace</error></testcase>
 <testcase name="[It] [k8s.io] Pods skip" status="skipped" time="0">
  <skipped message="skipped - no AppArmor"></skipped></testcase>
 <testcase name="[It] benchmark" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
 <testcase name="[BeforeSuite]" status="passed" time="0"/>
 <testcase name="[AfterSuite]" status="failed" time="0"><failure message="late"/></testcase>
</testsuite></testsuites>
"""


@pytest.fixture
def specs(tmp_path):
    path = tmp_path / "junit.xml"
    path.write_text(JUNIT)
    return read_junit(path)


def known(tmp_path, text):
    path = tmp_path / "known.txt"
    path.write_text(text)
    return read_known(path)


def test_junit_is_read_with_names_states_and_reasons(specs):
    assert [(spec.name, spec.status, spec.reason) for spec in specs if spec.status != "passed"] == [
        ("[k8s.io] Pods fail", "failed", "it broke here"),
        ("[k8s.io] Pods panic", "failed", "oh"),
        ("[k8s.io] Pods skip", "skipped", "no AppArmor"),
        ("benchmark", "skipped", "left out by a filter"),
        ("[AfterSuite]", "failed", "late"),
    ]
    passed = [spec for spec in specs if spec.status == "passed"]
    assert [(spec.name, spec.seconds) for spec in passed] == [("[k8s.io] Pods run", 1.5)]


def test_junit_leaves_out_what_a_choice_left_out(tmp_path):
    path = tmp_path / "junit.xml"
    path.write_text(JUNIT)
    names = [spec.name for spec in read_junit(path, selected=True)]
    assert "benchmark" not in names
    assert "[k8s.io] Pods skip" in names


def test_outcome_tells_of_everything_that_did_not_pass(specs, tmp_path):
    listed = known(tmp_path, "# comment\n\nPods fail # cannot work here\nPods run # was broken\n")
    outcome = Outcome(specs, listed)
    assert outcome.lines() == [
        "skipped: [k8s.io] Pods skip: no AppArmor",
        "skipped: benchmark: left out by a filter",
        "FAILED: [AfterSuite]: late",
        "known failure: [k8s.io] Pods fail: cannot work here",
        "FAILED: [k8s.io] Pods panic: oh",
        "now passes: [k8s.io] Pods run: remove it from known.txt",
    ]
    assert outcome.summary() == "1 passed, 3 failed, 2 skipped"
    assert [spec.name for spec in outcome.unexpected] == ["[AfterSuite]", "[k8s.io] Pods panic"]


def test_outcome_with_known_failures_only_has_nothing_unexpected(specs, tmp_path):
    assert Outcome(specs, known(tmp_path, ". # everything is broken\n")).unexpected == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Pods fail\n", "known.txt:1: a reason is missing"),
        ("ok # fine\nPods fail # \n", "known.txt:2: a reason is missing"),
        ("Pods ( # reason\n", "known.txt:1: not a regular expression"),
    ],
)
def test_known_failures_need_a_pattern_and_a_reason(tmp_path, text, problem):
    with pytest.raises(SystemExit, match=problem.replace("(", r"\(")):
        known(tmp_path, text)


def test_list_of_the_repository_is_well_formed(request):
    path = request.config.rootpath / "tests/conformance/known.txt"
    assert all(entry.reason for entry in read_known(path))
