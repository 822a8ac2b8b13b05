# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold that an API that hangs takes no more threads than it may."""

from __future__ import annotations

import threading
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import ApiError
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.session import Connection
from pvecri.daemon.operations import SIZES, Pool
from pvecri.pve import bounded


@pytest.fixture
def client() -> bounded.BoundedClient:
    """A client of nobody who takes two requests at a time."""
    connection = Connection(host="127.0.0.1", user="a@pve", token_id="b", token_secret="c")
    return bounded.BoundedClient(connection, most=2)


def test_request_that_gets_no_turn_is_not_sent(
    client: bounded.BoundedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, sent = threading.Event(), threading.Semaphore(0)
    paths: list[t.Any] = []

    def hangs(_self: PveClient, _method: str, path: t.Any, _params: t.Any = None) -> str:
        paths.append(path)
        sent.release()
        assert answered.wait(30)
        return "done"

    monkeypatch.setattr(PveClient, "request", hangs)
    monkeypatch.setattr(bounded, "_WAIT_S", 0.01)
    results: list[t.Any] = []
    threads = [threading.Thread(target=lambda: results.append(client.get("/version"))) for _each in range(2)]
    for thread in threads:
        thread.start()
        assert sent.acquire(timeout=30)
    with pytest.raises(ApiError, match="has not answered any of 2 requests") as caught:
        client.post("/nodes/pve1/lxc", vmid=1)
    assert caught.value.is_unreachable
    assert not caught.value.maybe_done
    assert paths == ["/version"] * 2
    answered.set()
    for thread in threads:
        thread.join()
    assert results == ["done"] * 2
    assert client.post("/nodes/pve1/lxc", vmid=1) == "done"


def test_turn_is_given_back_after_a_failure(
    client: bounded.BoundedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_args: t.Any) -> t.NoReturn:
        raise ApiError("no", status=500)

    monkeypatch.setattr(PveClient, "request", fails)
    for _try in range(5):
        with pytest.raises(ApiError, match="no"):
            client.get("/version")


@pytest.mark.parametrize("pool", [Pool.SANDBOX, Pool.CONTAINER])
def test_threads_are_left_to_containers_under_crun(pool: Pool) -> None:
    assert SIZES[pool] / 2 >= bounded.MOST
