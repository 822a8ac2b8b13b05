#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cri_release
short_description: Install a release of the CRI endpoint, or switch to another one
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - Brings the endpoint and the collection's core to a host, as a directory of its own below
    C(LIB_DIR/releases), and makes C(LIB_DIR/current) lead to it.
  - The release is packed on the controller from this collection, and only if the host lacks it. Its name is
    the collection's version with a hash of its content.
  - A release is whole or absent, whatever interrupts the task. The daemon is not restarted.
extends_documentation_fragment:
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.node
attributes:
  action:
    description:
      - Has a part that runs on the controller.
    support: full
options:
  state:
    description:
      - Whether the release is there, or C(LIB_DIR) with all releases and the program's link are gone.
    type: str
    choices: [present, absent]
    default: present
  release:
    description:
      - Name of a release that the host has, to switch back to it for example.
      - By default it is the release of this collection.
    type: str
  activate:
    description:
      - Whether C(LIB_DIR/current) is to lead to the release.
    type: bool
    default: true
  keep:
    description:
      - How many other releases stay on the host, beside the one that C(LIB_DIR/current) leads to. The one
        that it led to before is kept first, then younger ones.
      - A release of which a process runs is never removed, nor the one that an unfinished upgrade would go
        back to.
    type: int
    default: 2
  lib_dir:
    description:
      - Directory of the releases.
    type: path
    default: /usr/lib/pvecri
  program_link:
    description:
      - Link that leads to the program of the current release.
    type: path
    default: /usr/local/sbin/pvecri
  src:
    description:
      - Path on the target host of the packed release. By default the part on the controller sets it.
    type: path
"""

EXAMPLES = r"""
- name: Have the release of this collection
  pvecri.runtime.cri_release:
  register: installed

- name: Go back to the release before
  pvecri.runtime.cri_release:
    release: "{{ installed.former }}"
  when: installed.former is not none
"""

RETURN = r"""
release:
  description: The release that was asked for, null with O(state=absent).
  returned: success
  type: str
  sample: 0.1.0-0123456789ab
former:
  description: The release that C(LIB_DIR/current) led to before, or null.
  returned: success
  type: str
  sample: 0.1.0-ba9876543210
current:
  description: The release that C(LIB_DIR/current) leads to now, in check mode the one that it would lead to.
  returned: success
  type: str
  sample: 0.1.0-0123456789ab
releases:
  description: All releases that the host has now, in check mode those that it would have, sorted by name.
  returned: success
  type: list
  elements: str
  sample: [0.1.0-0123456789ab, 0.1.0-ba9876543210]
removed:
  description: Releases that were removed.
  returned: success
  type: list
  elements: str
  sample: []
wanted:
  description:
    - Whether the host lacks the release, and nothing was done since O(src) is missing. The part on the
      controller then brings it; who calls the module through Ansible never sees V(true).
  returned: success
  type: bool
  sample: false
"""

import contextlib
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.host import releases

ARGUMENT_SPEC: dict[str, t.Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "release": {"type": "str"},
    "activate": {"type": "bool", "default": True},
    "keep": {"type": "int", "default": 2},
    "lib_dir": {"type": "path", "default": releases.LIB_DIR},
    "program_link": {"type": "path", "default": releases.PROGRAM_LINK},
    "src": {"type": "path"},
}


def outcome(actual: releases.Actual, plan: releases.Plan, release: str, *, wanted: bool) -> Outcome:
    """Say what was, is and was done."""
    current = plan.activate or actual.current
    names = sorted({*actual.releases, release} - set(plan.remove))
    values = {
        "release": release,
        "former": actual.current,
        "current": current,
        "releases": names,
        "removed": list(plan.remove),
        "wanted": wanted,
    }
    before = {"current": actual.current, "releases": sorted(actual.releases)}
    return Outcome(bool(plan), {"before": before, "after": {"current": current, "releases": names}}, values)


def removed(lib_dir: str, program_link: str, *, check_mode: bool) -> Outcome:
    """Remove everything, unless a process runs it."""
    actual = releases.read(lib_dir, program_link)
    busy = releases.in_use(lib_dir, actual.releases)
    if busy and not check_mode:
        raise WrongState(
            f"a process runs release {', '.join(sorted(busy))}", hint="Stop pvecri.service before"
        )
    changed = os.path.isdir(lib_dir) or releases.is_own_link(lib_dir, program_link)
    if changed and not check_mode:
        releases.remove_all(lib_dir, program_link)
    names = sorted(actual.releases)
    values = {"release": None, "former": actual.current, "current": None, "releases": [], "removed": names}
    before = {"current": actual.current, "releases": names}
    return Outcome(
        changed,
        {"before": before, "after": {"current": None, "releases": []}},
        {**values, "wanted": False},
    )


def perform(params: dict[str, t.Any], context: Context) -> Outcome:
    """Compare what the host has with what it is to have, and bring it about."""
    release, lib_dir = params["release"], params["lib_dir"]
    if params["state"] == "absent":
        return removed(lib_dir, params["program_link"], check_mode=context.check_mode)
    if not release:
        raise InvalidSpec("release", "it is missing", hint="The part on the controller sets it")
    releases.check_name(release)
    if params["keep"] < 0:
        raise InvalidSpec("keep", "it must be at least 0")
    with contextlib.nullcontext() if context.check_mode else releases.guarded(lib_dir):
        actual = releases.read(lib_dir, params["program_link"])
        plan = releases.plan(
            actual,
            release,
            activate=params["activate"],
            keep=params["keep"],
            program=os.path.join(lib_dir, releases.CURRENT, releases.PROGRAM),
            in_use=releases.in_use(lib_dir, actual.releases) | releases.way_back(lib_dir),
        )
        wanted = bool(plan.unpack) and not params["src"] and not context.check_mode
        if not wanted and not context.check_mode:
            releases.apply(plan, lib_dir=lib_dir, program_link=params["program_link"], archive=params["src"])
    return outcome(actual, plan, release, wanted=wanted)


def main() -> t.NoReturn:
    run_module(ARGUMENT_SPEC, perform)


if __name__ == "__main__":
    main()
