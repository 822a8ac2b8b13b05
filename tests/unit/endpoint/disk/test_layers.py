# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What containers have written, counted by the real du(1)."""

from __future__ import annotations

import logging
import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from pvecri.disk.layers import WritableLayers

LOG = logging.getLogger("test")
WAIT_S = 20.0


def write(tmp_path, name, size):
    upper = tmp_path / name / "upper"
    upper.mkdir(parents=True, exist_ok=True)
    (upper / "file").write_bytes(b"x" * size)


@pytest.fixture
def layers(tmp_path):
    return WritableLayers(str(tmp_path), SubprocessRunner(), LOG)


def test_question_waits_for_the_first_count_if_it_may(tmp_path, layers):
    write(tmp_path, "one", 100_000)
    (tmp_path / "two").mkdir()
    found = layers.figures(["one", "two", "three"], wait_s=WAIT_S)
    assert list(found) == ["one"]
    assert found["one"].usage.size_bytes >= 100_000
    assert found["one"].usage.inodes == 2
    assert found["one"].time_ns > 0


def test_question_of_a_list_has_it_counted_and_does_not_wait(tmp_path):
    begun, counted = threading.Event(), threading.Event()

    class Runner(SubprocessRunner):
        def run(self, argv, **options):
            begun.set()
            assert counted.wait(WAIT_S)
            return super().run(argv, **options)

    write(tmp_path, "one", 1)
    layers = WritableLayers(str(tmp_path), Runner(), LOG)
    assert layers.figures(["one"]) == {}
    assert begun.wait(WAIT_S)
    counted.set()
    layers.paced.wait(WAIT_S)
    assert set(layers.figures(["one"])) == {"one"}


def test_new_container_is_counted_at_once_and_an_old_one_is_not(tmp_path, layers):
    write(tmp_path, "one", 1)
    before = layers.figures(["one"], wait_s=WAIT_S)["one"]
    write(tmp_path, "one", 1_000_000)
    write(tmp_path, "two", 1)
    assert set(layers.figures(["two"], wait_s=WAIT_S)) == {"two"}
    assert layers.figures(["one"], wait_s=WAIT_S)["one"] == before
    layers.paced.count()
    assert layers.figures(["one"])["one"].usage.size_bytes >= 1_000_000


def test_container_without_a_layer_is_not_looked_for_again(tmp_path):
    class Runner(SubprocessRunner):
        calls = 0

        def run(self, argv, **options):
            self.calls += 1
            return super().run(argv, **options)

    runner = Runner()
    (tmp_path / "one").mkdir()
    layers = WritableLayers(str(tmp_path), runner, LOG)
    assert layers.figures(["one"], wait_s=WAIT_S) == {}
    before = runner.calls
    assert layers.figures(["one"], wait_s=WAIT_S) == {}
    assert runner.calls == before


def test_total_is_that_of_the_whole_directory_with_no_layer_twice(tmp_path, layers):
    assert layers.total().time_ns == 0
    write(tmp_path, "one", 300_000)
    (tmp_path / "one" / "config.json").write_bytes(b"x" * 100_000)
    layers.paced.count()
    total = layers.total()
    assert 400_000 <= total.usage.size_bytes < 500_000
    # Bundles, bundle, upper and two files.
    assert total.usage.inodes == 5
    assert total.time_ns > 0


def test_no_bundles_are_no_layers(tmp_path):
    layers = WritableLayers(str(tmp_path / "none"), SubprocessRunner(), LOG)
    assert layers.figures(["one"], wait_s=WAIT_S) == {}
    assert layers.total().usage.size_bytes == 0


def test_failing_count_is_said_and_not_raised(tmp_path, caplog):
    class Runner(SubprocessRunner):
        def run(self, argv, **_options):
            raise CoreError("no du")

    write(tmp_path, "one", 1)
    layers = WritableLayers(str(tmp_path), Runner(), LOG)
    assert layers.figures(["one"], wait_s=WAIT_S) == {}
    assert "writable layers not counted" in caplog.text


def test_host_without_threads_counts_later(tmp_path, caplog, layers, monkeypatch):
    def none_left(_thread):
        raise RuntimeError("can't start new thread")

    write(tmp_path, "one", 1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        assert layers.figures(["one"], wait_s=WAIT_S) == {}
    assert "writable layers not counted" in caplog.text
    assert set(layers.figures(["one"], wait_s=WAIT_S)) == {"one"}


def test_guests_are_counted_elsewhere_or_not_at_all(tmp_path):
    bundles, root = tmp_path / "bundles", tmp_path / "root"
    for name in ("one", "guest", "disk"):
        write(bundles, name, 100_000)
    (root / "etc").mkdir(parents=True)
    (root / "etc/file").write_bytes(bytes(300_000))
    (tmp_path / "link").symlink_to(root)
    layers = WritableLayers(
        str(bundles), SubprocessRunner(), LOG, guests=lambda: {"guest": f"{tmp_path}/link/.", "disk": ""}
    )
    found = layers.figures(["one", "guest", "disk"], wait_s=WAIT_S)
    assert set(found) == {"one", "guest"}
    assert found["one"].usage.size_bytes < 300_000 <= found["guest"].usage.size_bytes
    # What lies on another storage is nothing of this directory.
    assert 300_000 <= layers.total().usage.size_bytes < 500_000
