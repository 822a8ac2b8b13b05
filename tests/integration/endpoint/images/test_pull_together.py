# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pulls at once: shared, limited, stalled, given up, and ended with the daemon."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandTimeout,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.tests.support.image_service import listed, spec
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb
from pvecri.images import progress
from pvecri.images.errors import RegistryUnavailable

LONG_S = 60


def test_one_pull_for_all(images, serve):
    registry = serve()
    images.trust(registry.address)
    registry.hold()
    service = images.service()
    name = f"{registry.address}/app:v1"
    first = service.begin_pull(spec(name))
    eventually(lambda: registry.count("/blobs/"))
    others = [service.begin_pull(spec(name)) for _unused in range(10)]
    assert not first.cancel(), "who goes away cancels nothing"
    assert service.pulls().running == 1
    registry.release()
    results = {future.result(LONG_S) for future in [first, *others]}
    assert len(results) == 1
    assert len(images.logged.of("pull begins")) == 1
    assert registry.count("/manifests/v1") == 1


def test_one_error_for_all(images, serve):
    registry = serve()
    images.trust(registry.address)
    registry.hold()
    service = images.service()
    futures = [service.begin_pull(spec(f"{registry.address}/app:none")) for _unused in range(5)]
    registry.release()
    errors = {str(future.exception(LONG_S)) for future in futures}
    assert len(errors) == 1
    assert isinstance(futures[0].exception(), NotFound)
    assert len(images.logged.of("pull begins")) == 1
    # The next one asks anew.
    with pytest.raises(NotFound):
        service.pull(spec(f"{registry.address}/app:none"))
    assert len(images.logged.of("pull begins")) == 2


def test_other_credentials_do_not_share_an_error(images, serve):
    registry = serve()
    registry.token = "right"
    images.trust(registry.address)
    service = images.service()
    name = spec(f"{registry.address}/app:v1")
    wrong = service.begin_pull(name, pb.AuthConfig(identity_token="wrong"))
    right = service.begin_pull(name, pb.AuthConfig(identity_token="right"))
    assert right.result(LONG_S).startswith("sha256:")
    assert wrong.exception(LONG_S) is not None


@pytest.mark.parametrize("auth", [None, pb.AuthConfig(identity_token="wrong")], ids=["none", "wrong"])
def test_who_may_not_pull_gets_nothing_from_one_who_may(images, serve, auth):
    registry = serve()
    registry.token = "right"
    images.trust(registry.address)
    registry.hold()
    service = images.service()
    name = spec(f"{registry.address}/app:v1")
    right = service.begin_pull(name, pb.AuthConfig(identity_token="right"))
    eventually(lambda: registry.count("/blobs/"))
    other = service.begin_pull(name, auth)
    registry.release()
    assert right.result(LONG_S).startswith("sha256:")
    assert other.exception(LONG_S) is not None


def test_limit(images, serve):
    registry, other = serve(), serve()
    images.trust(registry.address)
    images.trust(other.address)
    # Held pulls move nothing; here they shall count as at work all the same.
    service = images.service(max_parallel_pulls=1)
    service._queue.set_idle = lambda *_unused: None
    registry.hold()
    first = service.begin_pull(spec(f"{registry.address}/app:v1"))
    second = service.begin_pull(spec(f"{other.address}/app:v2"))
    eventually(lambda: registry.count("/blobs/"))
    assert (service.pulls().running, service.pulls().waiting) == (1, 1)
    assert other.requests == []
    registry.release()
    assert first.result(LONG_S) != second.result(LONG_S)


def test_stalled_registry_harms_nobody(images, serve):
    stalled, good = serve(), serve()
    images.trust(stalled.address)
    images.trust(good.address)
    stalled.stall_after = 1000
    service = images.service(max_parallel_pulls=1)
    hanging = [service.begin_pull(spec(f"{stalled.address}/app:v{number}")) for number in (1, 2)]
    eventually(lambda: stalled.count("/blobs/"))
    service.pull(spec(f"{good.address}/app:v3"))
    assert not hanging[0].done(), "the other one had its turn while this one hung"
    assert service.pulls().running == 1, "one registry never has more places than the limit"
    stalled.release()
    assert hanging[1].result(LONG_S), "the next from the same registry, which works again"
    # What was cut off may or may not be asked for again, as skopeo likes.
    hanging[0].exception(LONG_S)


def test_stalled_registry_is_given_up(images, serve):
    registry = serve()
    images.trust(registry.address)
    registry.stall_after = 1000
    service = images.service(no_progress_timeout_s=2)
    with pytest.raises(RegistryUnavailable) as caught:
        service.pull(spec(f"{registry.address}/app:v1"))
    assert str(caught.value).startswith("RegistryUnavailable: the pull of")
    assert "has sent nothing for 2 s" in str(caught.value)
    assert listed(service) == []
    assert not list(pathlib.Path(images.paths.state_dir, "tmp").iterdir())
    registry.release()
    assert service.pull(spec(f"{registry.address}/app:v1"))


def test_slow_registry_is_not_stalled(images, serve, monkeypatch):
    """Bytes that come count, whatever time they take."""
    registry = serve()
    images.trust(registry.address)
    monkeypatch.setattr(progress, "MOVED_BYTES", 1)
    monkeypatch.setattr(progress, "_FIRST_NOTE_S", 0.5)
    registry.hold()
    service = images.service(no_progress_timeout_s=1.5)
    moved = iter(range(10, 10_000_000, 10))
    monkeypatch.setattr(progress, "_moved_bytes", lambda _pid: next(moved))
    future = service.begin_pull(spec(f"{registry.address}/app:v1"))
    with pytest.raises(TimeoutError):
        future.result(4)
    registry.release()
    assert future.result(LONG_S)
    notes = images.logged.of("still pulling")
    assert notes
    assert notes[0]["bytes_moved"] > 0


def test_waiting_for_another_pulls_lock_is_no_stall(images, serve):
    """A pull that cannot go on since another one unpacks a layer is not the registry's fault."""
    registry = serve()
    images.trust(registry.address)
    service = images.service(no_progress_timeout_s=2)
    lock = pathlib.Path(images.paths.storage, "overlay-layers", "layers.lock")
    lock.parent.mkdir(parents=True)
    script = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline()
        future = service.begin_pull(spec(f"{registry.address}/app:v1"))
        with pytest.raises(TimeoutError):
            future.result(5)
        holder.stdin.close()
        assert future.result(LONG_S)


def test_pull_takes_no_longer_than_it_may(images, serve):
    registry = serve()
    images.trust(registry.address)
    registry.hold()
    service = images.service(pull_timeout_s=1.0)
    with pytest.raises(CommandTimeout, match="was not fetched in time"):
        service.pull(spec(f"{registry.address}/app:v1"))


def test_close_ends_pulls(images, serve):
    registry = serve()
    images.trust(registry.address)
    registry.hold()
    service = images.service(max_parallel_pulls=1)
    running = service.begin_pull(spec(f"{registry.address}/app:v1"))
    waiting = service.begin_pull(spec(f"{registry.address}/app:v2"))
    eventually(lambda: registry.count("/blobs/"))
    service.close()
    for future in (running, waiting):
        error = future.exception(LONG_S)
        assert isinstance(error, WrongState)
        assert "endpoint stops" in str(error)
    with pytest.raises(WrongState, match="endpoint stops"):
        service.begin_pull(spec(f"{registry.address}/app:v3"))


def test_killed_daemon_leaves_no_skopeo_and_the_next_pull_works(images, serve):
    registry = serve()
    images.trust(registry.address)
    registry.hold()
    script = textwrap.dedent(
        """
        import sys
        from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
        from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
        from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
        from pvecri.config.model import ImagesConfig
        from pvecri.images.pull import Puller
        from pvecri.images.names import parse_pull
        import logging, threading

        state, run, conf, name = sys.argv[1:]
        runner = SubprocessRunner()
        store = ImageStore(Paths(state, run), runner)
        config = ImagesConfig(registries_conf=conf)
        Puller(store, runner, config, logging.getLogger(), threading.Event()).pull(parse_pull(name), None)
        """
    )
    argv = [sys.executable, "-c", script, images.paths.state_dir, images.paths.run_dir]
    name = f"{registry.address}/app:v1"
    with subprocess.Popen(
        [*argv, str(images.registries_conf), name],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as daemon:
        eventually(lambda: registry.count("/blobs/"))
        found = subprocess.run(
            ["pgrep", "-f", f"skopeo.*docker://{name}"], capture_output=True, text=True, check=True
        )
        (skopeo,) = found.stdout.split()
        daemon.send_signal(signal.SIGKILL)
    eventually(lambda: not _is_alive(skopeo))
    registry.release()
    service = images.service()
    assert service.pull(spec(name))
    assert not list(pathlib.Path(images.paths.state_dir, "tmp").iterdir())


def _is_alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
