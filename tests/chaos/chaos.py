# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill the endpoint at random moments of random operations, and see whether anything is lost or left.

Several clients make, use and remove pods; the daemon is killed and started again and again.  Each
client knows what it was told and looks whether it still holds.  At the end the endpoint's view is
compared with crun's, the mounts, the namespaces, the addresses, the cgroups and the disk; then all
is removed, and nothing may be left.

Run it by ``scripts/chaos``, which installs what is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import random
import re
import sys
import threading
import time
import traceback
import typing as t

from ansible_collections.pvecri.runtime.tests.chaos.clients import Actor
from ansible_collections.pvecri.runtime.tests.chaos.inspection import differences
from ansible_collections.pvecri.runtime.tests.chaos.memory import History, Wrong
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint
from ansible_collections.pvecri.runtime.tests.support.private_host import PrivateHost
from ansible_collections.pvecri.runtime.tests.support.pve_node import FakePveNode

#: How long the endpoint may take, after the last start, to mend what was cut short.
_MEND_S = 30.0


@dataclasses.dataclass(slots=True)
class Outcome:
    """What came of it."""

    seed: int
    seconds: float
    kills: int = 0
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)
    history: list[str] = dataclasses.field(default_factory=list)
    #: Seconds from each start until the endpoint answered.
    starts: list[float] = dataclasses.field(default_factory=list)

    def report(self) -> str:
        """Return it as text for people."""
        done = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        lines = [f"seed {self.seed}: {self.kills} kills in {self.seconds:.0f} s; {done}"]
        if self.starts:
            lines.append(f"answering {max(self.starts):.2f} s after a start at the latest")
        lines += [f"WRONG: {problem}" for problem in self.problems]
        if self.problems:
            lines += ["the last operations:", *self.history]
        return "\n".join(lines)


class Chaos:
    """One run; `run` it once."""

    def __init__(
        self, endpoint: Endpoint, seed: int, clients: int, *, node: FakePveNode | None = None
    ) -> None:
        self._endpoint = endpoint
        self._node = node
        self._seed = seed
        self._random = random.Random(seed)
        self._history = History()
        self._stopping = threading.Event()
        self._problems: list[str] = []
        self._actors = [
            Actor(endpoint, f"client{number}", f"{seed}-{number}", self._history, self._stopping, node=node)
            for number in range(clients)
        ]
        self._kills = 0
        self._starts: list[float] = []

    def run(self, seconds: float) -> Outcome:
        """Do random things for some time, then compare and clean up."""
        begun = time.monotonic()
        threads = [
            threading.Thread(target=self._guarded, args=(actor,), daemon=True) for actor in self._actors
        ]
        for thread in threads:
            thread.start()
        try:
            while time.monotonic() - begun < seconds and not self._problems:
                self._stopping.wait(self._random.choice([0.05, 0.3, 0.7, 1.5, 3.0]))
                if not self._problems:
                    self._kill()
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join(120)
        if not self._problems:
            self._finish()
        for actor in self._actors:
            actor.close()
        return Outcome(
            seed=self._seed,
            seconds=time.monotonic() - begun,
            kills=self._kills,
            counts=dict(self._history.counts),
            problems=self._problems,
            history=self._history.lines(),
            starts=self._starts,
        )

    def _guarded(self, actor: Actor) -> None:
        try:
            while not self._stopping.is_set():
                actor.act()
        except Wrong as exc:
            self._fail(str(exc))
        except Exception:
            self._fail(traceback.format_exc())

    def _fail(self, problem: str) -> None:
        self._history.note("chaos", f"WRONG: {problem}")
        self._problems.append(problem)
        self._stopping.set()

    def _kill(self) -> None:
        if self._random.random() < 0.15:
            # As an upgrade does.
            self._history.note("chaos", "stop")
            self._endpoint.stop()
        else:
            self._history.note("chaos", "kill -9")
            self._endpoint.kill()
            self._kills += 1
        if self._random.random() < 0.3:
            # Let things happen while nobody looks.
            time.sleep(self._random.random())
        try:
            self._starts.append(self._endpoint.start())
        except RuntimeError as exc:
            self._fail(str(exc))
        self._history.note("chaos", "answers again")

    def _finish(self) -> None:
        """Compare all views, with the daemon as it is and after a restart; then remove everything."""
        for when in ("at the end", "after a last restart"):
            self._settled(when, differences)
            try:
                for actor in self._actors:
                    actor.check_all()
            except Wrong as exc:
                self._problems.append(f"{when}: {exc}")
            if self._problems:
                return
            self._starts.append(self._endpoint.restart())
        self._endpoint.remove_all()
        self._settled("with all pods removed", _leftovers)
        self._problems += [f"in the log: {text}" for text in self._endpoint.tracebacks()]

    def _settled(self, when: str, look: t.Callable[..., list[str]]) -> None:
        """Look until nothing is wrong, as long as the endpoint may mend things."""
        deadline = time.monotonic() + _MEND_S
        while (found := look(self._endpoint, self._node)) and time.monotonic() < deadline:
            time.sleep(0.2)
        self._problems += [f"{when}: {problem}" for problem in found]


def _leftovers(endpoint: Endpoint, node: FakePveNode | None) -> list[str]:
    left = [*node.leftovers(), *(f"guest {vmid}" for vmid in node.vmids())] if node else []
    return [*endpoint.leftovers(), *differences(endpoint, node), *left]


def chaos(seconds: float, seed: int, *, clients: int = 3, guests: bool = False) -> Outcome:
    """Run it in an endpoint of its own, with ``guests`` beside a Proxmox VE node that runs real LXC."""
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(PrivateHost())
        node = stack.enter_context(FakePveNode(host)) if guests else None
        settings = node.settings() if node else None
        endpoint = stack.enter_context(Endpoint(host=host, settings=settings))
        outcome = Chaos(endpoint, seed, clients, node=node).run(seconds)
        if outcome.problems:
            outcome.history += [
                "what the endpoint said of it:",
                *_said(endpoint.log_text(), outcome.problems),
            ]
        return outcome


def _said(log: str, problems: list[str]) -> list[str]:
    """Return the lines of the log that are about the objects of the problems, and its end."""
    ids = set(re.findall(r"[0-9a-f]{64}", "\n".join(problems)))
    lines = log.splitlines()
    about = [line for line in lines if any(name in line for name in ids) or " recovered " in line]
    return [*about[-300:], "the end of its log:", *lines[-40:]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long things are done (default 60)")
    parser.add_argument(
        "--seed", type=int, help="seed of what is done when (default: a new one, which is told)"
    )
    parser.add_argument("--clients", type=int, default=3, help="clients at once (default 3)")
    parser.add_argument(
        "--lxc", action="store_true", help="let some pods have a guest of a Proxmox VE that runs real LXC"
    )
    return parser


def main() -> int:
    """Run the command and return its exit code: 1 when anything was lost or left."""
    options = _parser().parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    outcome = chaos(options.seconds, seed, clients=options.clients, guests=options.lxc)
    print(outcome.report())
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
