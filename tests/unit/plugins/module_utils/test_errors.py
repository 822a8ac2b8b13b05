# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors


@pytest.mark.parametrize(
    ("error", "text", "details"),
    [
        (errors.CoreError("it broke"), "it broke", {"error": "core_error"}),
        (errors.NotFound("no such image", hint="Pull it"), "no such image. Pull it", {"error": "not_found"}),
        (
            errors.InvalidSpec("mounts[2].destination", "is not absolute"),
            "mounts[2].destination: is not absolute",
            {"error": "invalid_spec", "field": "mounts[2].destination"},
        ),
        (errors.InvalidSpec("", "is empty"), "is empty", {"error": "invalid_spec", "field": ""}),
        (
            errors.CommandError("crun failed", argv=["crun", "run", "a b"], rc=1, stdout="o", stderr="e"),
            "crun failed",
            {"error": "command_failed", "cmd": "crun run 'a b'", "rc": 1, "stdout": "o", "stderr": "e"},
        ),
        (
            errors.CommandTimeout("too slow", argv=["x"]),
            "too slow",
            {"error": "timeout", "cmd": "x", "rc": None, "stdout": "", "stderr": ""},
        ),
        (
            errors.TaskFailed("start failed", upid="UPID:n:1", exitstatus="no space", log_tail=["a", "b"]),
            "start failed",
            {"error": "task_failed", "upid": "UPID:n:1", "exitstatus": "no space", "task_log": ["a", "b"]},
        ),
    ],
)
def test_errors_text_and_details(error: errors.CoreError, text: str, details: dict[str, object]) -> None:
    assert str(error) == text
    assert error.details() == details


def test_errors_a_code_is_shared_only_with_a_parent() -> None:
    seen: dict[str, type[errors.CoreError]] = {}
    for cls in vars(errors).values():
        if isinstance(cls, type) and issubclass(cls, errors.CoreError):
            assert issubclass(cls, seen.setdefault(cls.code, cls)), f"{cls.__name__} reuses {cls.code}"
    assert len(seen) >= 10


def test_errors_long_output_keeps_its_end() -> None:
    error = errors.CommandError("x", stderr="a" * 10000 + "the cause")
    assert error.details()["stderr"].endswith("the cause")
    assert len(error.details()["stderr"]) == 2000
