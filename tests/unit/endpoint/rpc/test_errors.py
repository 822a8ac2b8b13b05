# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say errors as gRPC statuses."""

from __future__ import annotations

import errno

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from pvecri.errors import TooBusy, Unavailable
from pvecri.rpc.errors import DETAILS_MAX, details_of, is_foreseen, status_of
from pvecri.rpc.gate import Gate
from pvecri.rpc.status import Code
from pvecri.state.table import AmbiguousError


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, "No space left on device")
TABLE: list[tuple[BaseException, Code, bool]] = [
    (errors.InvalidSpec("field", "problem"), Code.INVALID_ARGUMENT, True),
    (errors.NotFound("x"), Code.NOT_FOUND, True),
    (AmbiguousError("x"), Code.NOT_FOUND, True),
    (errors.Conflict("x"), Code.ALREADY_EXISTS, True),
    (errors.WrongState("x"), Code.FAILED_PRECONDITION, True),
    (errors.Unsupported("x"), Code.FAILED_PRECONDITION, True),
    (errors.MissingDependency("x"), Code.FAILED_PRECONDITION, True),
    (errors.CommandTimeout("x"), Code.DEADLINE_EXCEEDED, True),
    (errors.CommandError("x"), Code.INTERNAL, True),
    (TooBusy("x"), Code.RESOURCE_EXHAUSTED, True),
    (Unavailable("x"), Code.UNAVAILABLE, True),
    (TimeoutError(), Code.DEADLINE_EXCEEDED, True),
    (FULL, Code.RESOURCE_EXHAUSTED, True),
    (OSError(errno.EDQUOT, "quota"), Code.RESOURCE_EXHAUSTED, True),
    (caused(errors.WrongState("x"), FULL), Code.RESOURCE_EXHAUSTED, True),
    (OSError(errno.EACCES, "no"), Code.INTERNAL, False),
    (ValueError("x"), Code.INTERNAL, False),
]


@pytest.mark.parametrize(("error", "code", "foreseen"), TABLE, ids=lambda value: repr(value)[:30])
def test_status_of_every_kind(error: BaseException, code: Code, foreseen: bool) -> None:
    assert status_of(error) is code
    assert is_foreseen(error) is foreseen


def test_status_of_errors_that_cause_each_other_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert status_of(first) is Code.INTERNAL


@pytest.mark.parametrize("char", ["a", "ä", "\n", "\U0001f600"])
def test_details_fit_a_header(char: str) -> None:
    details = details_of(char * DETAILS_MAX * 2)
    assert details.endswith("…")
    sent = sum(1 if 0x20 <= byte < 0x7F else 3 for byte in details.encode())
    assert DETAILS_MAX - 20 < sent <= DETAILS_MAX + 9


def test_details_of_short_texts_are_whole() -> None:
    assert details_of("field 'ä': problem") == "field 'ä': problem"
    assert details_of("\udcff") == "?"


def test_gate_lets_in_after_it_was_opened() -> None:
    gate = Gate(5)
    assert not gate.is_open
    with pytest.raises(Unavailable, match="is starting"):
        gate.check("RunPodSandbox", 1)
    gate.check("Version", 9)
    gate.check("Status", 9)
    gate.open()
    assert gate.is_open
    gate.check("RunPodSandbox", 5)
    with pytest.raises(TooBusy, match="more than 5 requests"):
        gate.check("RunPodSandbox", 6)
    assert gate.reason is None
    gate.check("RunPodSandbox", 1)
    gate.close("the endpoint is stopping")
    assert gate.reason == "the endpoint is stopping"
    with pytest.raises(Unavailable, match=r"is stopping\. Try again"):
        gate.check("RunPodSandbox", 1)
