# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold together what is written in more than one file of the collection."""

from __future__ import annotations

import importlib.util
import pathlib
import re
import tomllib
import typing as t

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
MODULES = sorted((ROOT / "plugins/modules").glob("*.py"))
FRAGMENTS = sorted((ROOT / "plugins/doc_fragments").glob("*.py"))
PYTHON = sorted(
    path for folder in ("plugins", "scripts", "tests", "roles") for path in (ROOT / folder).rglob("*.py")
)
HEADER = (
    "# Copyright (c) 2026, The pvecri authors\n"
    "# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)\n"
    "# SPDX-License-Identifier: GPL-3.0-or-later\n"
)


def load(path: pathlib.Path) -> t.Any:
    """Import a file by its path alone."""
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documentation(path: pathlib.Path) -> dict[str, t.Any]:
    """Return a module's DOCUMENTATION without running the module."""
    found = re.search(r'^DOCUMENTATION = r?"""(.*?)^"""', path.read_text(), re.DOTALL | re.MULTILINE)
    assert found, f"{path} has no DOCUMENTATION"
    return t.cast("dict[str, t.Any]", yaml.safe_load(found[1]))


def test_action_groups_name_every_module_once() -> None:
    groups = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]
    grouped = sorted(name for names in groups.values() for name in names)
    assert grouped == sorted(path.stem for path in MODULES)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_module_is_documented_under_its_own_name(path: pathlib.Path) -> None:
    docs = documentation(path)
    assert docs["module"] == path.stem
    assert path.read_text().startswith("#!/usr/bin/python\n" + HEADER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_module_uses_fragments_that_exist(path: pathlib.Path) -> None:
    for name in documentation(path).get("extends_documentation_fragment", []):
        parts = name.removeprefix("pvecri.runtime.").split(".")
        fragment = load(ROOT / f"plugins/doc_fragments/{parts[0]}.py").ModuleDocFragment
        attribute = (parts[1] if len(parts) > 1 else "DOCUMENTATION").upper()
        assert isinstance(yaml.safe_load(getattr(fragment, attribute)), dict), name


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.stem)
def test_fragments_are_yaml(path: pathlib.Path) -> None:
    texts = {name: text for name, text in vars(load(path).ModuleDocFragment).items() if name.isupper()}
    assert texts
    assert all(isinstance(yaml.safe_load(text), dict) for text in texts.values())


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_file_has_the_header(path: pathlib.Path) -> None:
    text = path.read_text()
    if text.startswith("#!"):
        text = text.partition("\n")[2]
    assert not text or text.startswith(HEADER)


def test_tools_are_pinned_to_one_version() -> None:
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*( ; .+)?", line) for line in pins), pins
    wanted = [
        re.split(r"[~=<>\[ ]", line)[0].lower()
        for line in (ROOT / "requirements-dev.in").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert set(wanted) <= {line.partition("==")[0] for line in pins}


def test_every_python_that_is_supported_is_named_alike() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    least = yaml.safe_load((ROOT / "tests/config.yml").read_text())["modules"]["python_requires"]
    assert least == ">=" + settings["tool"]["mypy"]["python_version"] == ">=3.11"
    assert settings["tool"]["ruff"]["target-version"] == "py311"


@pytest.mark.parametrize(
    "name", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_links_between_documents_lead_somewhere(name: str) -> None:
    page = ROOT / name
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize(
    "name", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_modules_that_documents_name_exist(name: str) -> None:
    named = set(re.findall(r"pvecri\.runtime\.([a-z_]+)(?=[:`\s])", (ROOT / name).read_text()))
    plugins = [
        path for kind in ("connection", "inventory") for path in (ROOT / "plugins" / kind).glob("*.py")
    ]
    others = [*(ROOT / "playbooks").glob("*.yml"), *(ROOT / "roles").glob("*")]
    known = {path.stem for path in [*MODULES, *plugins, *others]}
    known |= set(yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"])
    assert named - known == set()


def test_index_of_the_guides_names_every_guide() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs/README.md").read_text()))
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").iterdir()), ids=lambda path: path.name)
def test_commands_can_be_executed(path: pathlib.Path) -> None:
    if path.is_file():
        assert path.stat().st_mode & 0o111
        assert path.read_text().startswith("#!/usr/bin/env ")
