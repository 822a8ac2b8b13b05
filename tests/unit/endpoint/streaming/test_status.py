# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the error stream carries."""

from __future__ import annotations

import json

import pytest

from pvecri.streaming import status


@pytest.mark.parametrize("protocol", ["v4", "v5"])
def test_status_in_json(protocol: str) -> None:
    assert json.loads(status.SUCCESS.encode(protocol)) == {"metadata": {}, "status": "Success"}
    assert status.exited(0) is status.SUCCESS
    assert json.loads(status.exited(42).encode(protocol)) == {
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code: 42",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "42"}]},
    }
    assert json.loads(status.failed("no", OSError("disk")).encode(protocol)) == {
        "metadata": {},
        "status": "Failure",
        "message": "no: disk",
        "reason": "InternalError",
        "code": 500,
    }


@pytest.mark.parametrize("protocol", ["v1", "v2", "v3"])
def test_status_as_text(protocol: str) -> None:
    assert status.SUCCESS.encode(protocol) == b""
    assert status.STOPPING.encode(protocol) == b"the endpoint is stopping"
