# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the command line."""

from __future__ import annotations

import json
import pathlib
import tarfile
import typing as t

import pytest

import pvecri
from pvecri import cli


@pytest.fixture
def config(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "c.toml"
    path.write_text(
        f'[paths]\nstate_dir = "{tmp_path}/s"\nrun_dir = "{tmp_path}/r"\n'
        '[runtime]\ncrun = "/bin/true"\nconmon = "/bin/true"\n[network]\nplugin_dirs = []\n'
    )
    return str(path)


def test_check_of_a_good_configuration(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "check", "--config", config]) == 0
    assert capsys.readouterr().out == f"{config}: nothing is wrong with it\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[log]\nlevle = 1\n", "2: log.levle: there is no such key; did you mean 'level'?"),
        ('[runtime]\ncrun = "/none"\n', "2: runtime.crun: there is no program '/none'"),
    ],
)
def test_check_of_a_bad_configuration(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], text: str, problem: str
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    assert cli.main(["config", "check", "--config", str(path)]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"{path}:{problem}")
    assert printed.out == ""


def test_show_reads_back(config: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "show", "--config", config]) == 0
    shown = capsys.readouterr().out
    again = tmp_path / "again.toml"
    again.write_text(shown)
    assert cli.main(["config", "show", "--docs", "--config", str(again)]) == 0
    assert f'state_dir = "{tmp_path}/s"' in capsys.readouterr().out


def test_version(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version", "--config", config]) == 0
    assert f"pvecri    {pvecri.__version__}\n" in capsys.readouterr().out
    assert cli.main(["version", "--json", "--config", config]) == 0
    assert json.loads(capsys.readouterr().out)["CRI"] == "v1"


def test_support_bundle(config: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "b.tar.gz")
    assert cli.main(["support-bundle", "--config", config, "--output", path]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{path}\n"
    assert "left out: records.json: " in printed.err
    assert tarfile.is_tarfile(path)
    assert cli.main(["support-bundle", "--config", config, "--output", path]) == 1
    assert capsys.readouterr().err == f"error: {path} cannot be written: File exists\n"


def test_support_bundle_names_itself_by_the_time(
    config: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["support-bundle", "--config", config]) == 0
    path = pathlib.Path(capsys.readouterr().out.strip())
    assert path.parent == tmp_path
    assert path.name.startswith("pvecri-support-2")


def test_errors_of_the_core_are_one_line(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict
    from pvecri.daemon import daemon

    def refuse(*_unused: t.Any, **__: t.Any) -> int:
        raise Conflict("process 7 already serves", hint="Stop it")

    monkeypatch.setattr(daemon, "run", refuse)
    assert cli.main(["serve", "--config", config]) == 1
    assert capsys.readouterr().err == "error: process 7 already serves. Stop it\n"


def test_serve_passes_on_its_options(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pvecri.daemon import daemon

    seen: dict[str, t.Any] = {}
    monkeypatch.setattr(daemon, "run", lambda loaded, **options: seen.update(options, path=loaded.path) or 0)
    assert cli.main(["serve", "--config", config, "--log-level", "debug"]) == 0
    assert seen == {"log_level": "debug", "path": config}


@pytest.mark.parametrize("argv", [[], ["config"], ["serve", "--log-level", "loud"], ["nonsense"]])
def test_wrong_calls_are_told_from_failures(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "argv",
    [[], ["serve"], ["config"], ["config", "check"], ["config", "show"], ["version"], ["support-bundle"]],
)
def test_everything_has_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([*argv, "--help"])
    assert caught.value.code == 0
    assert "usage: pvecri" in capsys.readouterr().out
