# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Want calls of the CRI to be refused."""

from __future__ import annotations

import contextlib
import typing as t

import grpc
import pytest

from ansible_collections.pvecri.runtime.tests.support.cri_client import status_of


@contextlib.contextmanager
def refused(code: str, *words: str) -> t.Iterator[None]:
    """Want a call to be answered with a code and an explanation that has these words."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert status_of(caught.value) == code, caught.value
    for word in words:
        assert word in caught.value.details(), caught.value.details()
