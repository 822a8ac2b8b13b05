# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have Ansible evaluate the variables of the role cri_endpoint, as its tasks do."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

ROLE = pathlib.Path(__file__).parents[2] / "roles/cri_endpoint"

#: What the role finds on a host that has the endpoint.
HOST: dict[str, t.Any] = {
    "problems": [],
    "packages": {},
    "releases": {"all": [], "current": "0.1.0-000000000000"},
    "installed": True,
    "daemon": {},
    "facts": {"distribution_release": "bookworm", "units": {}},
}

# One host for each case and one task that runs a module: those are what takes time.
_PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact:
        evaluated: "{{{{ dict(wanted | zip(query('ansible.builtin.vars', *wanted))) }}}}"
    - ansible.builtin.copy:
        dest: "{result}"
        content: >-
          {{{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'evaluated')))
               | to_json }}}}
        mode: "0600"
      run_once: true
"""


def evaluate(
    folder: pathlib.Path, cases: dict[str, dict[str, t.Any]], wanted: t.Sequence[str]
) -> dict[str, dict[str, t.Any]]:
    """Return the values of the variables ``wanted`` by case and name.

    A case is what a play sets; it may have a ``wanted`` of its own.
    """
    hosts = {name: {"__cri_endpoint_host": HOST, "wanted": wanted, **case} for name, case in cases.items()}
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "role_path": str(ROLE),
    }
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))
    # Templates are looked for beside the play; what a host of the inventory sets counts before its groups.
    (folder / "templates").symlink_to(ROLE / "templates")
    groups = folder / "group_vars/all"
    groups.mkdir(parents=True)
    for kind in ("defaults", "vars"):
        (groups / f"{kind}.yml").symlink_to(ROLE / kind / "main.yml")
    result = folder / "result.json"
    (folder / "play.yml").write_text(_PLAY.format(result=result))
    done = subprocess.run(
        [pathlib.Path(sys.executable).parent / "ansible-playbook", "-i", "inventory.json", "play.yml"],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(sys.path),
            "ANSIBLE_HOME": str(folder),
            # What is said to a host may not depend on where the controller is.
            "TZ": "Asia/Tokyo",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return t.cast("dict[str, dict[str, t.Any]]", json.loads(result.read_text()))
