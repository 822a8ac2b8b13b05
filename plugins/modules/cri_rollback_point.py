#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cri_rollback_point
short_description: Keep what an upgrade of the CRI endpoint replaces, and put it back
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - Keeps files, links and directories with owner, group and mode, and a copy of the endpoint's database of
    records, in a directory of the host, and makes them again what they were.
  - The C(pvecri.runtime.upgrade) playbook uses it; by itself it goes back where an upgrade could not.
  - Neither stops nor starts anything. Stop C(pvecri.service) before O(state=restored), and start it
    afterwards.
requirements:
  - root privileges
extends_documentation_fragment:
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.node
attributes:
  idempotent:
    support: partial
    details:
      - O(state=saved) keeps anew what it kept when nothing has changed in between, and reports that as
        changed.
options:
  state:
    description:
      - V(saved) keeps what is there now. A point that is there already stays when something it holds has
        changed since, because then a change of the endpoint was interrupted and what is there now is neither
        old nor new.
      - V(restored) makes everything what it was, removes what O(paths) matched in addition since, and puts
        the copy of the database back if the version that used it cannot read what is there now. The point
        stays.
      - V(absent) drops the point.
    type: str
    choices: [saved, restored, absent]
    default: saved
  directory:
    description:
      - Absolute path of the directory for the point, made by this module and owned by root with mode 0700.
    type: path
    default: /usr/lib/pvecri/rollback
  paths:
    description:
      - Absolute paths and patterns of what to keep; C(**) is any number of directories. Files are at most
        16 MiB each.
      - Needed with O(state=saved). The point remembers them.
    type: list
    elements: path
    default: []
  database:
    description:
      - Absolute path of the endpoint's database. It is copied while it is in use.
      - If not set, no database is kept.
    type: path
  facts:
    description:
      - What to remember with the point, for instance which version it is of. Must hold no secrets.
    type: dict
    default: {}
  before:
    description:
      - What C(pvecri probe --json) said, kept as the file RV(before) for C(pvecri probe --expect). It
        replaces what a point that stays has kept.
      - If not set, a point that stays keeps what it has.
    type: str
seealso:
  - name: Installing, upgrading and removing the endpoint
    description: How upgrades work and what to do when one fails.
    link: https://github.com/pvecri/runtime/blob/main/docs/role.md
"""

EXAMPLES = r"""
- name: Keep the configuration
  pvecri.runtime.cri_rollback_point:
    paths:
      - /etc/pvecri
      - /etc/pvecri/**
      - /usr/lib/pvecri/current
    database: /var/lib/pvecri/endpoint.sqlite

- name: Stop the endpoint; containers run on
  ansible.builtin.systemd_service:
    name: pvecri.service
    state: stopped

- name: Make everything what it was
  pvecri.runtime.cri_rollback_point:
    state: restored

- name: Start what was there before
  ansible.builtin.systemd_service:
    name: pvecri.service
    state: started
    daemon_reload: true
"""

RETURN = r"""
point:
  description: The rollback point; null without one.
  returned: always
  type: dict
  contains:
    directory:
      description: Where it is.
      type: str
      returned: when there is one
      sample: /usr/lib/pvecri/rollback
    saved_at:
      description: When it was kept, in UTC.
      type: str
      returned: when there is one
      sample: "2026-11-22T11:07:31Z"
    same_boot:
      description: Whether the host has not been restarted since.
      type: bool
      returned: when there is one
      sample: true
    facts:
      description: What was to be remembered.
      type: dict
      returned: when there is one
      sample: {"from": "0.1.0-3f2c1ab09d77"}
    paths:
      description: What is kept.
      type: list
      elements: str
      returned: when there is one
      sample: ["/etc/pvecri", "/etc/pvecri/config.toml", "/usr/lib/pvecri/current"]
    database:
      description: Path of the database that is kept, empty without one.
      type: str
      returned: when there is one
      sample: /var/lib/pvecri/endpoint.sqlite
interrupted:
  description: Whether an earlier point stayed, because what it holds has changed since.
  returned: when O(state=saved)
  type: bool
  sample: false
before:
  description: Path of the file with the text of O(before), empty without one.
  returned: when O(state=saved)
  type: str
  sample: /usr/lib/pvecri/rollback/before.json
changed_paths:
  description: What had changed since the point was kept, and was put back.
  returned: when O(state=restored)
  type: list
  elements: str
  sample: ["/usr/lib/pvecri/current"]
newer_database:
  description: >-
    Where a database is now that the former version could not have read; empty if it stayed in its place.
  returned: when O(state=restored)
  type: str
  sample: ""
"""

import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import (
    Context,
    Outcome,
    run_module,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.rollback import point as points

_BEFORE = "before.json"


def saved(params: dict[str, t.Any], directory: str, context: Context) -> Outcome:
    """Keep what is there now, unless a change was interrupted."""
    if not params["paths"]:
        raise InvalidSpec("paths", "is empty, so that there is nothing to keep")
    there = points.load(directory)
    interrupted = there is not None and bool(there.changed())
    if not context.check_mode and not interrupted:
        there = points.save(
            directory, params["paths"], facts=params["facts"], database=params["database"] or ""
        )
    before = os.path.join(directory, _BEFORE)
    if params["before"] and there is not None and not context.check_mode:
        points.attach(there, _BEFORE, params["before"])
    values = {
        "point": None if there is None else there.as_dict(),
        "interrupted": interrupted,
        "before": before if os.path.exists(before) else "",
    }
    return Outcome(changed=not interrupted, values=values)


def restored(directory: str, context: Context) -> Outcome:
    """Make everything what it was."""
    there = points.load(directory)
    if there is None:
        raise NotFound(f"there is no rollback point in {directory}", hint="Nothing was put back")
    aside: str | None = None
    if context.check_mode:
        changed = there.changed()
    else:
        changed, aside = points.restore(there)
    return Outcome(
        changed=bool(changed) or aside is not None,
        diff=[
            {"before": "changed", "after": "as it was", "before_header": path, "after_header": path}
            for path in changed
        ],
        values={"point": there.as_dict(), "changed_paths": changed, "newer_database": aside or ""},
    )


def absent(directory: str, context: Context) -> Outcome:
    """Drop the point, and what a killed process has left of making one."""
    was_there = os.path.isdir(directory)
    if not context.check_mode:
        points.remove_leftovers(directory)
        points.remove(directory)
    return Outcome(changed=was_there, values={"point": None})


def run(params: dict[str, t.Any], context: Context) -> Outcome:
    """Do what the state says."""
    directory = os.path.normpath(params["directory"])
    if not directory.startswith("/") or directory.count("/") < 2:
        raise InvalidSpec("directory", f"'{directory}' is no absolute path below a directory")
    if params["state"] == "saved":
        return saved(params, directory, context)
    return restored(directory, context) if params["state"] == "restored" else absent(directory, context)


def main() -> t.NoReturn:
    """Run the module."""
    run_module(
        {
            "state": {"choices": ["saved", "restored", "absent"], "default": "saved"},
            "directory": {"type": "path", "default": "/usr/lib/pvecri/rollback"},
            "paths": {"type": "list", "elements": "path", "default": []},
            "database": {"type": "path"},
            "facts": {"type": "dict", "default": {}},
            "before": {"type": "str"},
        },
        run,
    )


if __name__ == "__main__":
    main()
