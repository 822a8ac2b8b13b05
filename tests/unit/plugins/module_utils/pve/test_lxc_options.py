# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a container, and the page that compares them with the established module's."""

from __future__ import annotations

import pathlib
import re

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_options import container_options
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.options import connection_argument_spec

PAGE = pathlib.Path(__file__).parents[5] / "docs/coming-from-community-proxmox.md"


def names(spec):
    return {name for option, values in spec.items() for name in (option, *values.get("aliases", ()))}


def test_no_option_has_a_default():
    """An entry of ``containers`` could not tell a default from something named."""
    assert [name for name, values in container_options().items() if "default" in values] == []


@pytest.mark.parametrize("heading", ["Connection", "Options"])
def test_page_names_options_that_exist(heading):
    section = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 5
    known = names({**container_options(), **connection_argument_spec()})
    for theirs, ours, _note in rows:
        text = theirs if "the same" in ours else ours
        for code in re.findall(r"`([^`]+)`", text):
            option = re.match(r"\w+", code)
            assert option, code
            assert option.group() in known | {"user"}, code
