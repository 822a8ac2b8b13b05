# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write values that read back as the same."""

from __future__ import annotations

import datetime
import tomllib
import typing as t

import pytest
from hypothesis import given

from ansible_collections.pvecri.runtime.plugins.module_utils import toml
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.tests.support.toml_values import VALUES


@given(VALUES)
def test_value_reads_back_as_the_same(value: t.Any) -> None:
    assert tomllib.loads(f"value = {toml.value(value)}")["value"] == value


def test_value_refuses_what_toml_has_not() -> None:
    with pytest.raises(InvalidSpec, match=r"log\.level: TOML has no null"):
        toml.value(None, "log.level")


def test_value_keeps_time_zones() -> None:
    moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    assert tomllib.loads(f"value = {toml.value(moment)}")["value"] == moment
