# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the measuring tool itself: order of runs, figures, reports, what a broken section costs."""

from __future__ import annotations

import json
import subprocess
import sys
import types

import pytest

from ansible_collections.pvecri.runtime.tests.performance import bench, context, measure, report
from ansible_collections.pvecri.runtime.tests.performance.measure import Case, Sample, Series
from ansible_collections.pvecri.runtime.tests.performance.report import Section, Table, Target, Unavailable


def test_interleaved_takes_the_cases_in_turn_and_does_not_count_warm_ups():
    calls = []
    cases = [
        Case("a", lambda: calls.append("a"), lambda: calls.append("before"), lambda: calls.append("after")),
        Case("b", lambda: calls.append("b")),
    ]
    series = measure.interleaved(cases, 2, warm_ups=1)
    assert calls == ["before", "a", "after", "b"] * 3
    assert [(item.name, len(item.samples)) for item in series] == [("a", 2), ("b", 2)]
    assert all(sample.wall >= 0 and sample.cpu >= 0 for item in series for sample in item.samples)


def test_sampled_counts_children_that_were_waited_for():
    busy = [sys.executable, "-c", "for _ in range(3_000_000): pass"]
    sample = measure.sampled(lambda: subprocess.run(busy, check=True))
    assert sample.wall > 0
    assert sample.cpu > 0.01


def test_interleaved_cleans_up_after_a_failure():
    calls = []
    case = Case("a", lambda: 1 / 0, after=lambda: calls.append("after"))
    with pytest.raises(ZeroDivisionError):
        measure.interleaved([case], 1)
    assert calls == ["after"]


def test_interleaved_refuses_two_cases_of_one_name():
    with pytest.raises(ValueError, match="same name"):
        measure.interleaved([Case("a", list), Case("a", list)], 1)


def test_in_turn_runs_whole_lives_one_after_the_other():
    calls = []
    lives = {
        who: [lambda who=who, step=step: calls.append(who + step) or who + step for step in "12"]
        for who in "ab"
    }
    assert measure.in_turn(lives, 2, warm_ups=1) == {
        "a": [["a1", "a1"], ["a2", "a2"]],
        "b": [["b1", "b1"], ["b2", "b2"]],
    }
    assert calls == ["a1", "a2", "b1", "b2"] * 3


def series_of(name, *seconds):
    return Series(name, tuple(Sample(wall, wall / 2) for wall in seconds))


def test_timing_table_has_medians_and_ratios():
    series = [series_of("slow", 0.2, 0.4, 0.3), series_of("fast", 0.1, 0.1, 0.2)]
    table = report.timing_table("T", series, baseline="fast")
    assert table.columns == ("case", "median ms", "min ms", "max ms", "cpu ms", "ratio to «fast»")
    assert table.rows == (
        ("slow", *map(pytest.approx, (300, 200, 400, 150, 3))),
        ("fast", *map(pytest.approx, (100, 100, 200, 50, 1))),
    )
    assert report.timing_table("T", series).columns == ("case", "median ms", "min ms", "max ms", "cpu ms")


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "–"),
        ("x", "x"),
        (7, "7"),
        (1234.5, "1234"),
        (12.345, "12.3"),
        (0.0123, "0.01"),
        (-250.0, "-250"),
    ],
)
def test_number_prints_digits_that_count(cell, text):
    assert report.number(cell) == text


SECTION = Section(
    "s",
    "Title",
    "Text.",
    (Table("Times", ("case", "ms"), (("a", 1.5), ("b", None)), (Series("a", (Sample(0.0015, 0.001),)),)),),
    (
        Target("fast enough", 40.0, 50, "ms"),
        Target("small enough", 60.0, 50, "ms"),
        Target("often enough", 1.4, 1.5, "×", is_minimum=True),
    ),
    "one part of it",
)


def test_markdown_shows_tables_targets_and_gaps():
    text = report.markdown([SECTION], {"cpus": 2}, 7)
    for part in (
        "- cpus: 2\n",
        "- counted runs per case: 7,",
        "## Title\n\nText.\n",
        "Not measured: one part of it\n",
        "**Times**\n\n| case | ms |\n|---|---:|\n| a | 1.50 |\n| b | – |\n",
        "- met: fast enough: 40.0 ms (at most 50 ms)\n",
        "- MISSED: small enough: 60.0 ms (at most 50 ms)\n",
        "- MISSED: often enough: 1.40 × (at least 1.50 ×)\n",
    ):
        assert part in text


def test_as_json_holds_every_single_time():
    data = json.loads(report.as_json([SECTION], {"cpus": 2}, 7))
    section = data["sections"][0]
    assert (data["machine"], data["runs"], section["unavailable"]) == ({"cpus": 2}, 7, "one part of it")
    assert section["tables"][0]["series"] == [
        {
            "name": "a",
            "median_s": 0.0015,
            "min_s": 0.0015,
            "max_s": 0.0015,
            "cpu_median_s": 0.001,
            "seconds": [0.0015],
            "cpu_seconds": [0.001],
        }
    ]
    assert [target["is_met"] for target in section["targets"]] == [True, False, False]


def test_machine_names_what_matters():
    facts = report.machine()
    assert {"system", "kernel", "processor", "cpus", "python", "load when started"} <= set(facts)
    assert all(facts.values()) or facts["load when started"] == 0


def unavailable(_context):
    raise Unavailable("no crun here")


def broken(_context):
    raise ZeroDivisionError("so far")


def measured(_context):
    return Section("fine", "Fine", tables=(Table("T", ("n",), ((1,),)),))


@pytest.fixture
def sections(monkeypatch):
    """Put three sections of the test's own in place of the real ones."""
    for name, function in (("fine", measured), ("absent", unavailable), ("broken", broken)):
        module = types.ModuleType(name)
        module.TITLE, module.measure = name.capitalize(), function
        monkeypatch.setitem(sys.modules, f"{bench._PACKAGE}.{name}", module)
    monkeypatch.setattr(bench, "SECTIONS", ("fine", "absent", "broken"))


@pytest.mark.usefixtures("sections")
class TestMain:
    def run(self, monkeypatch, *arguments):
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        monkeypatch.setattr(bench.signal, "signal", lambda *_: None)
        return bench.main()

    def test_main_reports_all_sections_although_some_failed(self, monkeypatch, capsys):
        assert self.run(monkeypatch, "--quiet") == 1
        out = capsys.readouterr().out
        assert "## Fine\n\n**T**" in out
        assert "## Absent\n\nNot measured: no crun here" in out
        assert "## Broken\n\nNot measured: it failed: ZeroDivisionError: so far" in out

    def test_main_writes_files_and_only_the_chosen_section(self, monkeypatch, capsys, tmp_path):
        text, data = tmp_path / "r.md", tmp_path / "r.json"
        assert self.run(monkeypatch, "--only", "fine", "--markdown", str(text), "--json", str(data)) == 0
        assert capsys.readouterr().out == ""
        assert "## Absent" not in text.read_text()
        assert [section["name"] for section in json.loads(data.read_text())["sections"]] == ["fine"]

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["--only", "nothing"], "invalid choice: 'nothing'"),
            (["--runs", "0"], "'0' is not a number of runs"),
            (["--runs", "x"], "'x' is not a number of runs"),
            (["--json", "/nonexistent/r.json"], "cannot be written"),
        ],
    )
    def test_main_refuses_bad_arguments(self, monkeypatch, capsys, arguments, text):
        with pytest.raises(SystemExit) as ended:
            self.run(monkeypatch, *arguments)
        assert ended.value.code == 2
        assert text in capsys.readouterr().err

    def test_help_names_the_sections(self, monkeypatch, capsys):
        with pytest.raises(SystemExit) as ended:
            self.run(monkeypatch, "--help")
        assert ended.value.code == 0
        assert "fine        Fine" in capsys.readouterr().out


def test_real_sections_have_what_the_tool_needs():
    for name in bench.SECTIONS:
        module = bench._section(name)
        assert module.TITLE
        assert callable(module.measure)


@pytest.fixture
def in_context(tmp_path):
    return context.Context(1, str(tmp_path), None, lambda _text: None)


def test_module_process_runs_a_module_and_holds_it_to_its_word(in_context, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    module = context.ModuleProcess(in_context, "pvecri.runtime.runtime_select")
    assert module.expect({"image": "nginx"}, changed=False)["selection"]["runtime"] == "crun"
    with pytest.raises(RuntimeError, match="changed=False instead of True"):
        module.expect({"image": "nginx"}, changed=True)
    with pytest.raises(RuntimeError, match="lower case"):
        module({"image": "Nginx"})


def test_module_process_of_a_peer_says_what_it_needs(in_context):
    with pytest.raises(Unavailable, match="virtual environment"):
        context.ModuleProcess(in_context, "community.proxmox.proxmox")


def test_need_programs_and_root_say_what_is_missing(monkeypatch):
    context.need_programs("sh")
    with pytest.raises(Unavailable, match="no-such-program"):
        context.need_programs("sh", "no-such-program")
    monkeypatch.setattr(context.os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match="root"):
        context.need_root()


def test_attempted_keeps_a_failure_as_text():
    def part():
        raise Unavailable("not here")

    assert report.attempted(part) == ([], "not here")
    assert report.attempted(lambda: 1 / 0)[1].startswith("ZeroDivisionError")
    table = Table("T", (), ())
    assert report.attempted(lambda: table) == ([table], "")
