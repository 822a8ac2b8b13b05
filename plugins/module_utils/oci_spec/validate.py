# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say whether a ``config.json`` is valid, and where and by which rule it is not."""

from __future__ import annotations

import itertools
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.problem import Problem
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.rules import check_rules
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.schema import SCHEMA
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.schema_check import check_schema

#: A file that is wrong everywhere would fill the screen; the first findings tell enough.
MAX_PROBLEMS: t.Final = 50


def validate(config: t.Any) -> list[Problem]:
    """Return what is wrong with a configuration; nothing when it is valid.

    Schema first: the rules between fields are only asked when every value has its type.
    """
    problems = list(itertools.islice(check_schema(config, SCHEMA), MAX_PROBLEMS))
    return problems or list(itertools.islice(check_rules(config), MAX_PROBLEMS))


def check(config: t.Any, *, what: str = "config.json") -> None:
    """Raise InvalidSpec with JSON path and rule for a configuration that is not valid."""
    problems = validate(config)
    if not problems:
        return
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise InvalidSpec(first.path, f"{first.message} [{first.rule}]{more}", hint=f"{what} was refused")
