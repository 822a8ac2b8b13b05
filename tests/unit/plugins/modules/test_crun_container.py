# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold crun_container to what a task asks, with a host that only takes the verbs down."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import Bundle
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import BundleRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed
from ansible_collections.pvecri.runtime.plugins.module_utils.container import systemd
from ansible_collections.pvecri.runtime.plugins.module_utils.container.engine import Engine
from ansible_collections.pvecri.runtime.plugins.module_utils.container.intent import Intent
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Problem,
    Status,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError, CommandTimeout
from ansible_collections.pvecri.runtime.plugins.module_utils.model import HealthCheck, Image, ImageConfig
from ansible_collections.pvecri.runtime.plugins.modules import crun_container


class Host:
    """Everything that containers are on this host, in memory; ``verbs`` is what was done to it."""

    def __init__(self):
        self.verbs = []
        self.bundles = {}
        self.states = {}
        self.image = Image(
            id="1d", digest="sha256:d1", config=ImageConfig(labels=(("from", "image"),), stop_signal="SIGINT")
        )
        self.is_fetched = True
        self.fetches = 0
        self.ends_with = None
        self.failure = {}
        self.problems = ()
        self.probes = []

    def did(self):
        """Return the verbs since the last look."""
        verbs, self.verbs = self.verbs, []
        return verbs

    def do(self, verb):
        self.verbs.append(verb)
        if verb in self.failure:
            raise self.failure[verb]


class FakeEngine(Engine):
    """The real engine with pretended drivers."""

    host: Host

    def __init__(self, paths, _runner):
        super().__init__(paths, FakeRunner())
        host = self.host
        self.__dict__.update(
            bundles=FakeBundles(host, paths),
            wrappers=FakeBundles(Host(), paths),
            runtime=FakeRuntime(host),
            network=FakeNetwork(host),
            store=FakeStore(host),
            units=FakeUnits(host),
        )

    def state(self, name):
        return self.host.states.get(name)

    def _find(self, name):
        bundle = self.host.bundles.get(name)
        if bundle is not None and bundle.record and Intent.load(bundle.record.extra) is None:
            return None, True
        return bundle, False

    def manager_of(self, bundle):
        return self.bundles

    def delete(self, name):
        self.host.do("delete")
        self.host.states.pop(name, None)

    def create(self, name):
        self.host.do("create")
        self.host.states[name] = ContainerState(name=name, status=Status.CREATED, pid=7, created_at=1e9)


class FakeRunner:
    def run(self, argv, **_options):
        return Completed(list(argv), 0, "crun version 1.8.1\n", "")


class FakeStore:
    def __init__(self, host):
        self.host = host

    def find(self, _source):
        return self.host.image if self.host.is_fetched else None

    def ensure(self, _source):
        self.host.fetches += 1
        self.host.is_fetched = True
        return self.host.image, True


class FakeBundles:
    def __init__(self, host, paths):
        self.host = host
        self.paths = paths

    def path_of(self, name):
        return os.path.join(self.paths.bundles, name)

    def load(self, name):
        return self.host.bundles.get(name)

    def stage(self, spec, source, *, network_namespace, extra):
        self.host.do("stage")
        record = BundleRecord(
            name=spec.name,
            instance="i",
            created=1.0,
            spec_hash="h",
            request={},
            source=source.as_plain(),
            identity={"image": self.host.image.id, "digest": self.host.image.digest},
            network_namespace=network_namespace,
            # As it will be read back.
            extra=json.loads(json.dumps(extra)),
        )
        return types.SimpleNamespace(record=record, warnings=["clamped"])

    def commit(self, staged):
        self.host.do("commit")
        name = staged.record.name
        self.host.bundles[name] = Bundle(
            name=name, path=self.path_of(name), record=staged.record, _config={"linux": {}}
        )

    def discard(self, _staged):
        self.host.do("discard")

    def update(self, bundle, *, config=None, request=None, extra=None):
        self.host.do("update config" if config else "update")
        record = bundle.record
        if extra is not None:
            record = dataclasses.replace(record, extra=json.loads(json.dumps(extra)))
        self.host.bundles[bundle.name] = Bundle(
            name=bundle.name, path=bundle.path, record=record, _config=config or bundle.config
        )

    def remove(self, name):
        self.host.do("remove")
        self.host.bundles.pop(name, None)


class FakeRuntime:
    def __init__(self, host):
        self.host = host

    def _become(self, name, **changes):
        self.host.states[name] = dataclasses.replace(self.host.states[name], **changes)

    def start(self, name):
        self.host.do("start")
        self._become(name, status=Status.RUNNING, started_at=1e9, problems=self.host.problems)
        if self.host.ends_with is not None:
            self._become(name, status=Status.STOPPED, pid=None, exit_code=self.host.ends_with)

    def stop(self, name, number, *, timeout_s):
        self.host.do(f"stop {number} {timeout_s:g}")
        self._become(name, status=Status.STOPPED, pid=None, exit_code=143)

    def pause(self, name):
        self.host.do("pause")
        self._become(name, status=Status.PAUSED)

    def resume(self, name):
        self.host.do("resume")
        self._become(name, status=Status.RUNNING)

    def kill(self, _name, number):
        self.host.do(f"kill {number}")

    def update(self, _name, changes):
        self.host.do(f"limit {changes}")

    def wait(self, _name, _timeout_s):
        self.host.do("wait")

    def exec(self, _name, args, *, timeout_s, limit_bytes):
        return self.host.probes.pop(0)


class FakeNetwork:
    def __init__(self, host):
        self.host = host

    def require(self, _request):
        pass

    def namespace(self, name, request):
        return "host" if request.mode == "host" else f"/netns/{name}"

    def files(self, _name, _request):
        return {"/etc/hosts": "/files/hosts"}

    def down(self, _name):
        self.host.do("network down")

    def forget(self, _name):
        pass


class FakeUnits:
    def __init__(self, host):
        self.host = host
        self.texts = {}

    def text(self, name):
        return self.texts.get(name)


@pytest.fixture
def host(monkeypatch):
    made = Host()
    monkeypatch.setattr(FakeEngine, "host", made, raising=False)
    monkeypatch.setattr(crun_container, "Engine", FakeEngine)
    return made


@pytest.fixture
def run(run_module, host, tmp_path):
    def task(*, check=False, **params):
        places = {"state_dir": str(tmp_path / "s"), "run_dir": str(tmp_path / "r")}
        given = {key: value for key, value in params.items() if value is not None}
        return run_module("crun_container", {"name": "c", **places, **given}, check=check, diff=True)

    return task


IMAGE = {"image": "registry.example.com/app:1"}


@pytest.mark.parametrize(
    ("state", "verbs", "status"),
    [
        ("created", ["stage", "commit", "create"], "created"),
        ("started", ["stage", "commit", "create", "start"], "running"),
        ("paused", ["stage", "commit", "create", "start", "pause"], "paused"),
        ("restarted", ["stage", "commit", "create", "start"], "running"),
        ("stopped", ["stage", "commit"], "stopped"),
        ("absent", [], None),
    ],
)
def test_from_nothing(run, host, state, verbs, status):
    planned = run(state=state, **IMAGE, check=True)
    assert (planned["changed"], planned["container"].get("state")) == (bool(verbs), status)
    assert host.did() == []
    done = run(state=state, **IMAGE)
    assert done["changed"] is bool(verbs)
    assert done["diff"] == planned["diff"]
    assert host.did() == verbs
    assert done["container"].get("state") == status
    if state != "restarted":
        again = run(state=state, **IMAGE)
        assert (again["changed"], again["diff"]) == (False, {"before": {}, "after": {}})
        assert host.did() == []


@pytest.mark.parametrize(
    ("state", "verbs"),
    [
        ("started", []),
        ("created", []),
        ("paused", ["pause"]),
        ("stopped", ["update", "stop SIGINT 10"]),
        ("restarted", ["stop SIGINT 10", "delete", "create", "start"]),
        ("absent", ["stop SIGINT 10", "delete", "remove"]),
    ],
)
@pytest.mark.parametrize("is_named_only", [False, True])
def test_from_running(run, host, state, verbs, is_named_only):
    run(**IMAGE)
    host.did()
    done = run(state=state, **({} if is_named_only else IMAGE))
    assert done["changed"] is bool(verbs)
    # The note that it was a task that ended it is taken off when it starts again.
    assert [verb for verb in host.did() if verb != "update" or state == "stopped"] == verbs


def test_warnings_of_the_bundle_and_of_a_lost_monitor(run, host):
    host.problems = (Problem.MONITOR_LOST,)
    warnings = run(**IMAGE)["warnings"]
    assert warnings[0] == "clamped"
    assert "no longer logged" in warnings[1]
    assert len(run(**IMAGE)["warnings"]) == 1
    assert len(run(**IMAGE, check=True)["warnings"]) == 1


def test_change_that_needs_a_new_container(run, host):
    run(**IMAGE)
    host.did()
    done = run(**IMAGE, env={"A": "1"})
    assert host.did() == ["stage", "stop SIGINT 10", "delete", "commit", "create", "start"]
    assert done["diff"] == {"before": {}, "after": {"env.A": "1"}}


def test_failure_before_the_old_container_is_touched(run, host):
    run(**IMAGE)
    host.failure["stage"] = CommandError("no space", rc=1)
    failed = run(**IMAGE, env={"A": "1"})
    assert (failed["failed"], failed["error"]) == (True, "command_failed")
    assert host.states["c"].status is Status.RUNNING


def test_failure_between_stage_and_commit_discards_the_new_bundle(run, host):
    run(**IMAGE)
    host.failure["stop SIGINT 10"] = CommandError("it does not end", rc=1)
    host.did()
    assert run(**IMAGE, env={"A": "1"})["failed"]
    assert host.did() == ["stage", "stop SIGINT 10", "discard"]


@pytest.mark.parametrize(
    ("number", "is_told"), [(errno.ENOSPC, True), (errno.EROFS, True), (errno.ENOTEMPTY, False)]
)
def test_trouble_of_the_host_is_told_and_a_defect_is_not_hidden(run, host, number, is_told):
    host.failure["create"] = OSError(number, os.strerror(number), "/somewhere")
    if is_told:
        assert f"{os.strerror(number)}: /somewhere" in run(**IMAGE)["msg"]
    else:
        with pytest.raises(OSError, match="somewhere"):
            run(**IMAGE)


def test_limits(run, host):
    run(**IMAGE, resources={"memory": "64MiB"})
    host.did()
    done = run(**IMAGE, resources={"memory": "32MiB"})
    verbs = host.did()
    # Marked first, recorded last.
    assert verbs[0] == "update"
    assert verbs[1] == "update config"
    assert str(32 << 20) in verbs[2]
    assert verbs[3:] == ["update"]
    assert done["diff"] == {"before": {"resources.memory": 64 << 20}, "after": {"resources.memory": 32 << 20}}


def test_limits_after_an_update_that_was_cut_short(run, host):
    run(**IMAGE, resources={"memory": "64MiB"})
    host.failure["update config"] = CommandError("killed", rc=1)
    assert run(**IMAGE, resources={"memory": "32MiB"})["failed"]
    host.failure.clear()
    host.did()
    done = run(**IMAGE, resources={"memory": "64MiB"})
    assert done["diff"]["before"] == {"update": "unfinished"}
    assert any(str(64 << 20) in verb for verb in host.did())
    assert run(**IMAGE, resources={"memory": "64MiB"})["changed"] is False


def test_labels_change_in_the_record(run, host):
    run(**IMAGE, labels={"from": "task"})
    host.did()
    done = run(**IMAGE, labels={"to": "task"})
    assert host.did() == ["update config"]
    assert done["container"]["labels"] == {"from": "image", "to": "task"}
    assert host.bundles["c"].config["annotations"] == {"from": "image", "to": "task"}


def test_image_is_fetched_when_it_is_missing(run, host):
    host.is_fetched = False
    planned = run(**IMAGE, check=True)
    assert planned["changed"] is True
    assert "not in the image store" in planned["diff"]["after"]["image"]
    assert host.fetches == 0
    done = run(**IMAGE)
    assert done["diff"]["after"]["image"] == "registry.example.com/app:1@sha256:d1"
    assert done["container"]["image"] == {
        "reference": "registry.example.com/app:1",
        "digest": "sha256:d1",
        "id": "1d",
    }
    # Its absence from the store later is no reason to fetch it.
    host.is_fetched, host.fetches = False, 0
    assert run(**IMAGE)["changed"] is False
    assert host.fetches == 0


@pytest.mark.parametrize("policy", ["always", "newer"])
def test_image_is_asked_for_every_time(run, host, policy):
    task = {**IMAGE, "pull": {"policy": policy}}
    run(**task)
    host.fetches = 0
    assert run(**task, check=True)["changed"] is False
    assert host.fetches == 0
    assert run(**task)["changed"] is False
    assert host.fetches == 1
    host.image = dataclasses.replace(host.image, id="2d", digest="sha256:d2")
    assert run(**task)["diff"]["after"] == {"image": "registry.example.com/app:1@sha256:d2"}


def test_same_image_by_another_name_or_digest_is_no_change(run, host):
    run(**IMAGE)
    host.image = dataclasses.replace(host.image, digest="sha256:other")
    assert run(image="mirror.example.com/app:1")["changed"] is False


def test_bundle_of_another_task(run, host):
    run(**IMAGE)
    bundle = host.bundles["c"]
    host.states.clear()
    record = dataclasses.replace(bundle.record, extra={})
    host.bundles["c"] = Bundle(name="c", path=bundle.path, record=record)
    assert run(**IMAGE)["error"] == "conflict"
    assert run(state="absent")["changed"] is False


def test_job(run, host):
    host.ends_with = 0
    task = {**IMAGE, "detach": False}
    done = run(**task)
    assert (done["changed"], done["rc"]) == (True, 0)
    assert host.did()[-1] == "wait"
    again = run(**task)
    assert (again["changed"], again["rc"]) == (False, 0)
    assert host.did() == []


def test_job_that_fails(run, host):
    host.ends_with = 3
    failed = run(**IMAGE, detach=False)
    assert (failed["error"], failed["rc"], failed["changed"]) == ("container_failed", 3, True)
    assert failed["container"]["exit_code"] == 3
    assert run(**IMAGE, detach=False, rerun="never")["changed"] is False


def test_job_that_nobody_saw_end(run, host, monkeypatch):
    def wait(runtime, name, _timeout_s):
        runtime._become(name, status=Status.STOPPED, pid=None, exit_code=None)

    monkeypatch.setattr(FakeRuntime, "wait", wait)
    failed = run(**IMAGE, detach=False)
    assert (failed["error"], failed["rc"]) == ("container_failed", None)
    assert "nobody saw its exit code" in failed["msg"]


def test_job_out_of_time(run, host):
    host.failure["wait"] = CommandTimeout("late")
    failed = run(**IMAGE, detach=False, timeout="2s")
    assert (failed["error"], failed["rc"]) == ("timeout", 143)
    assert "did not end within 2 s" in failed["msg"]


CHECK = HealthCheck(command=("check",), interval_s=0.01, retries=1)


def test_healthy(run, host):
    host.image = dataclasses.replace(host.image, config=ImageConfig(health_check=CHECK))
    host.probes = [Completed([], 1, "", ""), Completed([], 0, "ok", "")]
    done = run(**IMAGE, state="healthy")
    assert done["health"] == {"status": "healthy", "rc": 0, "output": "ok"}


def test_healthy_without_a_check(run, host):
    failed = run(**IMAGE, state="healthy")
    assert (failed["error"], failed["field"]) == ("invalid_spec", "health_check")
    assert host.did() == []
    run(**IMAGE)
    assert run(state="healthy")["field"] == "health_check"
    # Without the image nobody knows before it is fetched.
    host.is_fetched = False
    host.bundles.clear()
    host.states.clear()
    assert run(**IMAGE, state="healthy", check=True)["changed"] is True


def test_unhealthy(run, host):
    host.image = dataclasses.replace(host.image, config=ImageConfig(health_check=CHECK))
    host.probes = [Completed([], 1, "no", "")] * 99
    failed = run(**IMAGE, state="healthy")
    assert failed["error"] == "unhealthy"
    assert failed["health_log"] == {"rc": 1, "output": "no"}


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (None, "was removed while"),
        (ContainerState(name="c", status=Status.PAUSED, pid=7), "it is paused"),
        (ContainerState(name="c", status=Status.STOPPED, exit_code=9), "it ended with exit code 9"),
        (ContainerState(name="c", status=Status.STOPPED), "nobody saw its exit code"),
    ],
)
def test_container_that_is_not_there_to_be_healthy(run, host, monkeypatch, state, text):
    host.image = dataclasses.replace(host.image, config=ImageConfig(health_check=CHECK))
    run(**IMAGE)

    def look(engine, name):
        # Found running when the plan is made, and not any more afterwards.
        return host.states[name] if looks.pop() else state

    looks = [False] * 9 + [True] * 2
    monkeypatch.setattr(FakeEngine, "state", look)
    assert text in run(**IMAGE, state="healthy")["msg"]


def test_signal(run, host):
    run(**IMAGE)
    host.did()
    assert run(signal="hup")["diff"] == {"before": {}, "after": {"signal": "HUP"}}
    assert host.did() == ["kill HUP"]


def test_restart_policy_without_systemd(run, host, monkeypatch, tmp_path):
    monkeypatch.setattr(systemd, "BOOTED", str(tmp_path / "no"))
    assert run(**IMAGE, restart_policy="always")["error"] == "unsupported"
    assert run(**IMAGE, restart_policy="always", state="absent")["changed"] is False


def test_host_network_and_given_files(run, host):
    mounts = [{"type": "file", "destination": "/etc/hosts", "content": "x"}]
    run(**IMAGE, network="host", mounts=mounts)
    assert host.bundles["c"].record.network_namespace is None
    run(name="d", **IMAGE)
    assert host.bundles["d"].record.network_namespace == "/netns/d"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"restart_policy": "never"}, "restart_policy"),
        ({"published_ports": ["http"]}, "published_ports[0]"),
        ({"timeout": "1s"}, "timeout"),
        ({"timeout": "0", "detach": False}, "timeout"),
        ({"detach": False, "state": "healthy"}, "detach"),
        ({"detach": False, "restart_policy": "always"}, "restart_policy"),
        ({"signal": "NOPE"}, "signal"),
        ({"comparisons": {"x": "strict"}}, "comparisons.x"),
        ({"log": {"path": "x"}}, "log.path"),
        ({"log": {"path": "/a:b"}}, "log.path"),
        ({"log": {"max_size": "1KiB"}}, "log.max_size"),
        ({"log": {"max_files": 3}}, "log.max_files"),
        ({"log": {"max_files": -3}}, "log.max_files"),
        ({"health_check": {"command": []}}, "health_check.command"),
        ({"health_check": {"timeout": "0"}}, "health_check.timeout"),
        ({"health_check": {"retries": -1}}, "health_check.retries"),
        ({"network": "container:c"}, "network"),
        ({"bundle": "/x", "image": None, "published_ports": ["1:1"]}, "published_ports"),
        ({"bundle": "/x", "image": None, "cwd": "/"}, "cwd"),
    ],
)
def test_bad_options(run, host, params, field):
    failed = run(**{**IMAGE, **params})
    assert (failed["failed"], failed["error"], failed["field"]) == (True, "invalid_spec", field)
    assert host.did() == []


def test_options_of_a_container_that_is_only_named(run, host):
    run(**IMAGE)
    host.did()
    for params, key in (
        ({"stop_timeout": "10"}, None),
        ({"restart_policy": "no"}, None),
        ({"network": "none"}, None),
        ({"stop_timeout": "3"}, "stop_timeout"),
        ({"health_check": {"command": ["x"]}}, "health_check.command"),
        ({"resources": {"pids_limit": 9}}, "resources.pids_limit"),
        ({"labels": {"a": "b"}}, "labels.a"),
    ):
        done = run(**params)
        assert done["diff"]["after"].keys() == ({key} if key else set())
        assert done["changed"] is (key is not None)
    failed = run(env={"A": "1"})
    assert (failed["error"], failed["field"]) == ("invalid_spec", "env.A")
    assert "image" in failed["msg"]


def test_half_made_container_is_made_again(run, host):
    run(**IMAGE)
    host.states["c"] = dataclasses.replace(
        host.states["c"], status=Status.CREATED, problems=(Problem.HALF_CREATED,)
    )
    host.did()
    done = run(**IMAGE)
    assert host.did() == ["delete", "create", "start"]
    assert done["diff"] == {"before": {"state": "stopped"}, "after": {"state": "running"}}


def test_bundle_without_an_intent_is_broken(run, host):
    run(**IMAGE)
    bundle = host.bundles["c"]
    host.bundles["c"] = Bundle(name="c", path=bundle.path, record=None, problems=["its record is damaged"])
    failed = run(state="stopped")
    assert (failed["error"], "its record is damaged" in failed["msg"]) == ("wrong_state", True)
    done = run(**IMAGE)
    assert done["diff"]["before"] == {"bundle": "its record is damaged"}
