# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Go back to a version that cannot read what a newer one made of the records."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.rollback import records
from ansible_collections.pvecri.runtime.tests.support.node import Node
from pvecri.daemon.assembly import database_path
from pvecri.state.database import SCHEMA
from pvecri.state.records import Phase


def make_newer(path: str) -> None:
    """Do to the database what a version does that is two steps ahead."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE of_the_future (id TEXT)")
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('readable_by', ?)", (SCHEMA + 1,))
        connection.execute(f"PRAGMA user_version = {SCHEMA + 2}")


def test_nothing_is_lost_on_the_way_back(node: Node, tmp_path: pathlib.Path) -> None:
    path, copy = database_path(node.paths.state_dir), str(tmp_path / "copy")
    before = node.run_pod("before")
    lives = node.run_container(before, "lives")
    ended = node.run_container(before, "ended", ("sh", "-c", "exit 5"))
    node.context.crun.wait(ended, 20)
    node.restart()
    kept = {name: node.container(name) for name in (lives, ended)}
    removed = node.run_container(before, "removed")

    # The daemon has the database open, as during an upgrade.
    assert records.copy(path, copy) == records.Tables(SCHEMA, max(1, SCHEMA - 1))
    after = node.run_pod("after")
    since = node.run_container(after, "since")
    address = node.sandbox(after).ips
    node.services.containers.remove(removed)

    node.context.registry.close()
    make_newer(path)
    with pytest.raises(Unsupported, match="newer version"):
        node.begin()
    aside = records.give_back(copy, path)
    assert aside
    assert pathlib.Path(aside).exists()

    node.restart()
    assert {name: node.container(name) for name in (lives, ended)} == kept
    assert node.container(ended).exit_code == 5
    assert (node.sandbox(before).phase, node.sandbox(after).phase) == (Phase.READY, Phase.READY)
    assert node.sandbox(after).ips == address
    assert node.container(since).phase is Phase.RUNNING
    assert node.services.containers.exec_sync(since, ["echo", "hi"], 20)[0] == b"hi\n"
    # What was removed meanwhile is known to have ended, and can be removed again.
    assert node.container(removed).phase is Phase.EXITED
    node.services.containers.remove(removed)
