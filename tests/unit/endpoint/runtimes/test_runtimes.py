# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each verb reaches the runtime that the container is one of."""

from __future__ import annotations

import inspect
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.rules import Runtime as Name
from pvecri.api import cri_pb2 as pb
from pvecri.runtimes.protocol import Creation, Runtime, Wish
from pvecri.runtimes.runtimes import Runtimes
from pvecri.stages import Stages


class Double:
    """A runtime that notes what it is asked."""

    def __init__(self, *names):
        self.own = names
        self.calls = []

    def knows(self, name):
        return name in self.own

    def names(self):
        return sorted(self.own)

    def __getattr__(self, verb):
        def call(*args, **keywords):
            self.calls.append((verb, args, keywords))
            return verb

        return call


ARGUMENTS = {
    "stop": (("SIGTERM",), {"timeout_s": 3.0}),
    "kill": ((9,), {"everyone": True}),
    "wait": ((2.0,), {}),
    "delete": ((), {"force": True}),
    "update": (({"cpu": {}},), {}),
    "exec": ((["true"],), {"timeout_s": 1.0, "limit_bytes": 5, "stop": 7}),
    "exec_session": (("request",), {"stdin": 1}),
    "resize_terminal": ((80, 24), {}),
}
VERBS = [
    name
    for name, member in inspect.getmembers(Runtime)
    if not name.startswith("_") and callable(member) and name not in {"names", "anticipate"}
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ["guest", "other"])
def test_verb_reaches_the_runtime_of_the_container(verb, name):
    crun, guests = Double("other"), Double("guest")
    args, keywords = ARGUMENTS.get(verb, ((), {}))
    getattr(Runtimes(crun, guests), verb)(name, *args, **keywords)
    asked, spared = (guests, crun) if name == "guest" else (crun, guests)
    assert [call[0] for call in asked.calls] == [verb]
    assert asked.calls[0][1][:1] == (name,)
    assert {**dict(enumerate(asked.calls[0][1][1:])), **asked.calls[0][2]} == {
        **dict(enumerate(args)),
        **keywords,
    }
    assert spared.calls == []


def test_without_guests_everything_is_of_crun():
    crun = Double("a")
    runtimes = Runtimes(crun)
    assert runtimes.of("guest") is crun
    assert runtimes.names() == ["a"]
    assert runtimes.describe("a") == {}
    assert runtimes.watch_exits() == "watch_exits"


def test_names_are_those_of_both():
    assert Runtimes(Double("c", "b"), Double("a", "b")).names() == ["a", "b", "c"]


def wish(runtime):
    chosen = types.SimpleNamespace(runtime=runtime, reason="the handler says so")
    request = types.SimpleNamespace(config=pb.ContainerConfig(tty=True, stdin=True))
    return Wish(request=request, image=None, selection=chosen)


def creation(runtime):
    return Creation(
        wish=wish(runtime),
        record=types.SimpleNamespace(id="x"),
        spec=types.SimpleNamespace(cgroups_path="a.slice:p:n"),
        bundle=types.SimpleNamespace(path="/b"),
        log_path="/l",
        stages=Stages(),
    )


def test_create_follows_the_selection():
    crun, guests = Double(), Double()
    Runtimes(crun, guests).create(creation(Name.CRUN))
    assert crun.calls == [
        (
            "create",
            ("/b", "x"),
            {
                "log_path": "/l",
                "terminal": True,
                "stdin": True,
                "stdin_once": False,
                "systemd_cgroup": True,
            },
        )
    ]
    made = creation(Name.PVE_LXC)
    Runtimes(crun, guests).create(made)
    assert guests.calls == [("create", (made,), {})]
    assert len(crun.calls) == 1


def test_check_asks_the_runtime_that_was_selected():
    guests = Double()
    Runtimes(Double(), guests).check(wish(Name.CRUN))
    assert guests.calls == []
    asked = wish(Name.PVE_LXC)
    Runtimes(Double(), guests).check(asked)
    assert guests.calls == [("check", (asked,), {})]


@pytest.mark.parametrize("act", ["check", "create"])
def test_runtime_that_is_not_configured_is_refused(act):
    argument = wish(Name.PVE_LXC) if act == "check" else creation(Name.PVE_LXC)
    with pytest.raises(Unsupported, match=r"'pve-lxc'.*the handler says so.*\[pve\]"):
        getattr(Runtimes(Double()), act)(argument)
