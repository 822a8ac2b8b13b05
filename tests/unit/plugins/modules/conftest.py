# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module's ``main()`` in this process, as Ansible would, and return what it answered.

    def test_runtime_select_default(run_module):
        result = run_module("runtime_select", {"image": "nginx"})
        assert result["changed"] is False

A run that fails returns its result too, with ``failed: true``; a run that ends
in a traceback raises it.  Only what the module printed is looked at, so
arguments and result go through Ansible's own validation and serialization.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import typing as t

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

MODULES = "ansible_collections.pvecri.runtime.plugins.modules"

Result = dict[str, t.Any]


class RunModule(t.Protocol):
    """The type of the fixture ``run_module``, for annotations in tests."""

    def __call__(
        self,
        name: str,
        params: t.Mapping[str, t.Any] | None = None,
        *,
        check: bool = False,
        diff: bool = False,
    ) -> Result:
        """Run module ``name`` with ``params`` and return its result."""


@pytest.fixture
def run_module(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> RunModule:
    """Return a function that runs a module of this collection and returns its result.

    ``warnings`` and ``deprecations`` are lists of texts, absent when there were none.
    """

    def run(
        name: str,
        params: t.Mapping[str, t.Any] | None = None,
        *,
        check: bool = False,
        diff: bool = False,
    ) -> Result:
        arguments = {
            **(params or {}),
            "_ansible_check_mode": check,
            "_ansible_diff": diff,
            "_ansible_module_name": f"pvecri.runtime.{name}",
            "_ansible_remote_tmp": str(tmp_path_factory.mktemp("remote")),
            "_ansible_keep_remote_files": False,
        }
        module = importlib.import_module(f"{MODULES}.{name}")
        printed = io.StringIO()
        with (
            _collected_messages(monkeypatch) as messages,
            patch_module_args(arguments),
            contextlib.redirect_stdout(printed),
            pytest.raises(SystemExit) as ended,
        ):
            module.main()
        result: Result = json.loads(printed.getvalue())
        result.setdefault("failed", False)
        assert ended.value.code == int(result["failed"]), "the exit code contradicts the result"
        if not result["failed"]:
            assert isinstance(result.get("changed"), bool), "every result says whether something changed"
        result.update({kind: texts for kind, texts in messages.items() if texts})
        return result

    return run


@contextlib.contextmanager
def _collected_messages(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[dict[str, list[str]]]:
    """Catch warnings: Ansible keeps them in globals, or prints them once a controller module was imported."""
    messages: dict[str, list[str]] = {"warnings": [], "deprecations": []}

    def warn(warning: str, **_more: t.Any) -> None:
        messages["warnings"].append(warning)

    def deprecate(msg: str, *_version: t.Any, **_more: t.Any) -> None:
        messages["deprecations"].append(msg)

    with monkeypatch.context() as patch:
        patch.setattr(basic, "warn", warn)
        patch.setattr(basic, "deprecate", deprecate)
        for kind in ("warning", "deprecation"):
            patch.setattr(basic, f"get_{kind}s", list, raising=False)
            patch.setattr(basic, f"get_{kind}_messages", list, raising=False)
        yield messages
