# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What containers have written, counted by the real du(1)."""

from __future__ import annotations

import logging

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from pvecri.containers.layers import WritableLayers

LOG = logging.getLogger("test")


def write(tmp_path, name, size):
    upper = tmp_path / name / "upper"
    upper.mkdir(parents=True, exist_ok=True)
    (upper / "file").write_bytes(b"x" * size)


def test_first_question_waits_for_the_first_count(tmp_path):
    write(tmp_path, "one", 100_000)
    (tmp_path / "two").mkdir()
    layers = WritableLayers(str(tmp_path), SubprocessRunner(), LOG)
    found = layers.figures(["one", "two", "three"])
    assert list(found) == ["one"]
    assert found["one"].usage.size_bytes >= 100_000
    assert found["one"].usage.inodes == 2
    assert found["one"].time_ns > 0


def test_new_container_is_counted_at_once_and_an_old_one_is_not(tmp_path):
    layers = WritableLayers(str(tmp_path), SubprocessRunner(), LOG)
    write(tmp_path, "one", 1)
    before = layers.figures(["one"])["one"]
    write(tmp_path, "one", 1_000_000)
    assert layers.figures(["one"])["one"] == before
    write(tmp_path, "two", 1)
    assert set(layers.figures(["two"])) == {"two"}
    assert layers.figures(["one"])["one"].usage.size_bytes >= 1_000_000


def test_no_bundles_are_no_layers(tmp_path):
    assert WritableLayers(str(tmp_path / "none"), SubprocessRunner(), LOG).figures(["one"]) == {}


def test_failing_count_is_said_and_not_raised(tmp_path, caplog):
    class Runner(SubprocessRunner):
        def run(self, argv, **_options):
            raise CoreError("no du")

    write(tmp_path, "one", 1)
    layers = WritableLayers(str(tmp_path), Runner(), LOG)
    assert layers.figures(["one"]) == {}
    assert "writable layers not counted" in caplog.text
