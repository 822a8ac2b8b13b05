# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop and remove all pods, going on past those that resist."""

from __future__ import annotations

import pytest

from pvecri import cli
from pvecri.api import cri_pb2 as pb
from pvecri.client import client as client_module
from pvecri.client.errors import CallFailed
from pvecri.drain import drain
from pvecri.rpc.status import Code


class Client:
    """Stand for an endpoint with pods; ``resists`` names requests that fail."""

    def __init__(self, *pods, resists=()):
        self.pods = pods
        self.resists = resists
        self.called: list[tuple[str, str]] = []

    def __enter__(self):
        return self

    def __exit__(self, *_unused):
        pass

    def call(self, request, *, timeout_s=None):
        if isinstance(request, pb.ListPodSandboxRequest):
            metadata = [pb.PodSandboxMetadata(name=f"n{pod}", namespace="ns") for pod in self.pods]
            items = [
                pb.PodSandbox(id=pod, metadata=about) for pod, about in zip(self.pods, metadata, strict=True)
            ]
            return pb.ListPodSandboxResponse(items=items)
        kind = type(request).__name__.removesuffix("PodSandboxRequest")
        self.called.append((kind, request.pod_sandbox_id))
        assert timeout_s > 0
        if (kind, request.pod_sandbox_id) in self.resists:
            raise CallFailed(kind, Code.INTERNAL, "it resists")
        return None


def test_drain_stops_and_removes_each():
    client = Client("a", "b")
    assert drain(client, timeout_s=5) == (["a", "b"], [])
    assert client.called == [("Stop", "a"), ("Remove", "a"), ("Stop", "b"), ("Remove", "b")]


def test_drain_goes_on_past_a_pod_that_resists():
    client = Client("a", "b", "c", resists=[("Stop", "a"), ("Remove", "b")])
    removed, problems = drain(client, timeout_s=5)
    assert removed == ["c"]
    assert [problem.partition(":")[0] for problem in problems] == ["ns/na (a)", "ns/nb (b)"]
    assert ("Remove", "a") not in client.called


def test_drain_has_an_end():
    client = Client("a")
    assert drain(client, timeout_s=0) == ([], ["ns/na (a): no time was left for it"])
    assert client.called == []


@pytest.mark.parametrize(("resists", "code"), [([], 0), ([("Stop", "a")], 1)])
def test_drain_command(monkeypatch, capsys, resists, code):
    client = Client("a", "b", resists=resists)
    monkeypatch.setattr(client_module, "Client", lambda _path: client)
    assert cli.main(["drain", "--socket", "/x"]) == code
    printed = capsys.readouterr()
    assert printed.out.split() == (["b"] if resists else ["a", "b"])
    assert printed.err.startswith("error: ns/na (a): ") is bool(resists)


def test_config_check_of_a_file_or_a_policy_alone(tmp_path, capsys):
    config, policy = tmp_path / "config.toml", tmp_path / "policy.json"
    config.write_text('[runtime]\ncrun = "/no/such/crun"\n')
    assert cli.main(["config", "check", "--config", str(config)]) == 1
    assert cli.main(["config", "check", "--file-only", "--config", str(config)]) == 0
    policy.write_text('{"default": "crun"}')
    assert cli.main(["config", "check", "--policy", str(policy)]) == 0
    policy.write_text('{"default": "docker"}')
    assert cli.main(["config", "check", "--policy", str(policy)]) == 1
    assert str(policy) in capsys.readouterr().err
