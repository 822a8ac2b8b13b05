# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each verb goes to the driver, to Proxmox VE, or to both in the right order."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState, Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    InvalidSpec,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import layout as layouts
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import LxcLayout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image, ImageConfig, Owner, Paths
from pvecri.api import cri_pb2 as pb
from pvecri.config.model import PveConfig
from pvecri.pve import params, runtime
from pvecri.pve.checks import PveFacts
from pvecri.pve.native_image import NativeImage
from pvecri.pve.runtime import LxcRuntime

NAME = "c" * 64


class Driver:
    """Notes what it is asked; says what it is told to."""

    def __init__(self, paths, calls) -> None:
        self.paths, self.calls, self.now = paths, calls, None

    def __getattr__(self, verb):
        def noted(*args, **more):
            self.calls.append((f"driver.{verb}", *args, *more.items()))
            return f"{verb} done"

        return noted

    def state(self, name):
        return self.now

    def knows(self, name) -> bool:
        return records.exists(LxcLayout(self.paths, name))

    def amend(self, name, **changes):
        self.calls.append(("driver.amend", changes))
        return records.amend(LxcLayout(self.paths, name), **changes)


class Container:
    def __init__(self, calls) -> None:
        self.calls = calls

    def configure(self, put, delete) -> None:
        self.calls.append(("configure", put, delete))

    def read(self):
        return types.SimpleNamespace(digest="new")


@pytest.fixture
def calls():
    return []


@pytest.fixture
def lxc(tmp_path, calls, monkeypatch):
    paths = Paths(str(tmp_path / "s"), str(tmp_path / "r"), owner=Owner.CRI)
    layouts.prepare(paths)
    record = LxcRecord(
        name=NAME,
        vmid=900_001,
        node="pve1",
        sandbox_id="5" * 64,
        bundle="/b",
        log_path="",
        boot_id="x",
        created_at=1.0,
        lxc_path="/var/lib/lxc",
        stage=Stage.READY,
    )
    records.save(LxcLayout(paths, NAME), record)

    def told(what):
        def act(_node, _driver, record, *args):
            calls.append((what, record.vmid, *args))
            return 7

        return act

    monkeypatch.setattr(runtime, "power", types.SimpleNamespace(start=told("start")))
    monkeypatch.setattr(runtime, "stopping", types.SimpleNamespace(stop=told("stop")))
    monkeypatch.setattr(runtime, "remove", types.SimpleNamespace(destroy=told("destroy")))
    monkeypatch.setattr(
        runtime, "failures", types.SimpleNamespace(named=lambda *_a, **_m: contextlib.nullcontext())
    )
    monkeypatch.setattr(
        runtime,
        "at_work",
        types.SimpleNamespace(refuse_strangers=lambda _node, record: calls.append(record.vmid)),
    )
    node = types.SimpleNamespace(
        config=PveConfig(),
        container=lambda _vmid: Container(calls),
        check=lambda: calls.append(("node.check",)),
    )
    maker = types.SimpleNamespace(
        vmids=types.SimpleNamespace(release=lambda vmid: calls.append(("release", vmid))),
        create=lambda creation, config, facts: calls.append(("make", config, facts(record))),
    )
    lookup = types.SimpleNamespace(facts_of=lambda _wish, is_native: PveFacts(is_native=is_native))
    return LxcRuntime(node, Driver(paths, calls), maker, lookup, uses_v2=True)


def alive(status=Status.RUNNING):
    return ContainerState(name=NAME, status=status, pid=42)


def test_start_and_stop_go_through_proxmox(lxc, calls) -> None:
    lxc.start(NAME)
    assert lxc.stop(NAME, "SIGINT", timeout_s=3) == 7
    assert calls == [("start", 900_001, 60.0), ("stop", 900_001, "SIGINT", 3)]


def test_what_happens_within_the_host_is_the_drivers(lxc, calls) -> None:
    assert lxc.exec(NAME, ["a"], timeout_s=1, limit_bytes=2, stop=3) == "exec done"
    lxc.kill(NAME, 9, everyone=True)
    lxc.wait(NAME, 5)
    lxc.attach(NAME)
    lxc.reopen_log(NAME)
    lxc.resize_terminal(NAME, 80, 25)
    lxc.repair(NAME)
    lxc.exec_session(NAME, "request", stdin=1)
    lxc.anticipate()
    assert calls == [
        ("driver.exec", NAME, ["a"], ("timeout_s", 1), ("limit_bytes", 2), ("stop", 3)),
        ("driver.kill", NAME, 9, ("everyone", True)),
        ("driver.wait", NAME, 5),
        ("driver.attach", NAME),
        ("driver.reopen_log", NAME),
        ("driver.resize_terminal", NAME, 80, 25),
        ("driver.repair", NAME),
        ("driver.exec_session", NAME, "request", ("stdin", 1)),
    ]


def test_delete_of_one_that_has_ended_destroys_it_and_gives_the_number_back(lxc, calls) -> None:
    lxc.driver.now = dataclasses.replace(alive(Status.STOPPED), pid=None)
    lxc.delete(NAME)
    assert calls == [("destroy", 900_001), ("release", 900_001)]


def test_delete_by_force_kills_first(lxc, calls) -> None:
    lxc.driver.now = alive()
    lxc.delete(NAME, force=True)
    assert calls == [("stop", 900_001, signal.SIGKILL, 0.0), ("destroy", 900_001), ("release", 900_001)]


def test_delete_without_force_leaves_one_that_runs(lxc, calls) -> None:
    lxc.driver.now = alive()
    with pytest.raises(WrongState, match="Stop it first"):
        lxc.delete(NAME)
    assert calls == []


def test_delete_of_one_that_never_ran_needs_no_force(lxc, calls) -> None:
    lxc.driver.now = alive(Status.CREATED)
    lxc.delete(NAME)
    assert [call[0] for call in calls] == ["stop", "destroy", "release"]


def test_delete_of_one_that_is_gone_is_fine(lxc, calls) -> None:
    lxc.delete("d" * 64, force=True)
    assert calls == []


def test_a_number_is_kept_when_its_container_could_not_be_destroyed(lxc, calls, monkeypatch) -> None:
    def fails(*_args):
        raise WrongState("locked")

    monkeypatch.setattr(runtime.remove, "destroy", fails)
    with pytest.raises(WrongState, match="locked"):
        lxc.delete(NAME)
    assert calls == []


def test_a_record_that_cannot_be_read_is_left_alone(lxc, calls) -> None:
    path = LxcLayout(lxc.driver.paths, NAME).record
    with open(path, "w", encoding="ascii") as stream:
        stream.write("{")
    with pytest.raises(WrongState, match="cannot be read"):
        lxc.delete(NAME, force=True)
    with pytest.raises(NotFound):
        lxc.start("d" * 64)
    assert calls == []


def test_update_is_kept_by_proxmox_and_then_exact(lxc, calls) -> None:
    changes = {"cpu": {"quota": 50_000, "period": 100_000}, "memory": {"limit": 64 << 20}}
    lxc.update(NAME, changes)
    assert calls == [
        # Whose it is, is looked at before.
        900_001,
        ("configure", {"cpulimit": "0.5", "cores": 1, "memory": 64}, []),
        ("driver.amend", {"config_digest": "new"}),
        ("driver.update", NAME, changes),
    ]
    assert records.load(LxcLayout(lxc.driver.paths, NAME)).config_digest == "new"


def test_update_that_lifts_a_limit_deletes_the_option(lxc, calls) -> None:
    lxc.update(NAME, {"cpu": {"quota": -1}})
    assert calls[1] == ("configure", {}, ["cpulimit", "cores"])


def test_update_of_what_is_not_ours_changes_nothing(lxc, calls, monkeypatch) -> None:
    def refuses(*_args):
        raise WrongState("left alone")

    monkeypatch.setattr(runtime.at_work, "refuse_strangers", refuses)
    with pytest.raises(WrongState, match="left alone"):
        lxc.update(NAME, {"memory": {"limit": 64 << 20}})
    assert calls == []


def test_update_of_what_proxmox_does_not_keep_asks_it_nothing(lxc, calls) -> None:
    lxc.update(NAME, {"pids": {"limit": 5}})
    assert calls == [("driver.update", NAME, {"pids": {"limit": 5}})]


def test_update_below_the_least_memory_is_refused_before_anything(lxc, calls) -> None:
    with pytest.raises(Unsupported, match=r"^linux.memory_limit_in_bytes: .* 16 MiB"):
        lxc.update(NAME, {"memory": {"limit": 8 << 20}})
    assert calls == []


# ---- making -----------------------------------------------------------------------------------------------


def wish(*, image=None, annotations=None, **context):
    config = pb.ContainerConfig(metadata=pb.ContainerMetadata(name="app"), annotations=annotations or {})
    config.linux.security_context.apparmor.profile_type = pb.SecurityProfile.RuntimeDefault
    for key, value in context.items():
        setattr(config.linux.security_context, key, value)
    pod = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name="web"))
    pod.linux.sysctls["net.core.somaxconn"] = "5"
    pod.linux.security_context.namespace_options.pid = pb.CONTAINER
    config.linux.security_context.namespace_options.pid = pb.CONTAINER
    sandbox = types.SimpleNamespace(netns="/n", ipcns="/i", utsns="/u")
    request = types.SimpleNamespace(config=config, pod=pod, sandbox=sandbox)
    chosen = types.SimpleNamespace(reason="it is")
    return types.SimpleNamespace(
        request=request, image=image or Image(id="1" * 64, digest="sha256:2"), selection=chosen
    )


def creation(of, *, stop_signal="SIGTERM", config=None, rootfs="/none"):
    config = config or {"process": {"user": {"uid": 0, "gid": 0}}, "mounts": []}
    return types.SimpleNamespace(
        wish=of,
        bundle=types.SimpleNamespace(config=config, rootfs_path=rootfs, record=None),
        spec=types.SimpleNamespace(stop_signal=stop_signal),
    )


def native(**config):
    return NativeImage(
        id="1" * 64,
        digest="sha256:2",
        volid="local:vztmpl/x.tar.zst",
        path="/x",
        config=ImageConfig(**config),
    )


def test_check_asks_proxmox_last(lxc, calls) -> None:
    lxc.check(wish())
    assert calls == [("node.check",)]


@pytest.mark.parametrize(
    "asked",
    [
        wish(privileged=True),
        wish(annotations={params.ROOTFS_SIZE: "1"}),
        wish(annotations={params.FEATURES: "fuse"}),
    ],
    ids=["field", "size", "features"],
)
def test_check_refuses_before_proxmox_is_asked(lxc, calls, asked) -> None:
    with pytest.raises((Unsupported, InvalidSpec)):
        lxc.check(asked)
    assert calls == []


def test_create_joins_the_pods_namespaces_and_tells_proxmox_the_stop_signal(lxc, calls) -> None:
    lxc.create(creation(wish(), stop_signal="SIGQUIT"))
    ((verb, _config, facts),) = calls
    assert verb == "make"
    assert (facts.netns, facts.ipcns, facts.utsns) == ("/n", "/i", "/u")
    assert (facts.stop_signal, facts.uses_v2, facts.unprivileged) == (signal.SIGQUIT, True, True)
    assert facts.pod_sysctls == {"net.core.somaxconn"}


@pytest.mark.parametrize(("config", "number"), [({}, None), ({"stop_signal": "SIGPWR"}, signal.SIGPWR)])
def test_create_leaves_the_stop_signal_of_a_template_to_lxc(lxc, calls, config: dict, number) -> None:
    lxc.create(creation(wish(image=native(**config)), stop_signal=config.get("stop_signal", "SIGTERM")))
    assert calls[0][2].stop_signal == number


def test_create_follows_links_of_the_image(lxc, calls, tmp_path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var/spool").symlink_to("/other")
    mounts = [{"type": "bind", "source": "/x", "destination": "/var/spool/x"}]
    config = {"process": {"user": {"uid": 0, "gid": 0}}, "mounts": mounts}
    lxc.create(creation(wish(), config=config, rootfs=str(tmp_path)))
    assert calls[0][1]["mounts"][0]["destination"] == "/other/x"


def test_create_refuses_users_that_no_guest_has(lxc, calls) -> None:
    with pytest.raises(Unsupported, match="70000"):
        lxc.create(creation(wish(), config={"process": {"user": {"uid": 70_000, "gid": 0}}}))
    assert calls == []
