# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run critest in namespaces of its own; called by scripts/conformance, which has made them."""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing as t

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import report
import runtimes
from place import Place

_TICK_S = 60.0
#: Specs that critest runs with one transport at a time: SPDY, unless it is told otherwise.
_STREAMING = re.compile(r"Streaming runtime should support streaming interfaces")
_WEBSOCKET = ("-websocket-exec", "-websocket-attach", "-websocket-portforward")
_HERE = pathlib.Path(__file__).resolve().parent


def arguments() -> argparse.Namespace:
    """Read the command line that scripts/conformance makes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", required=True, help="directory of crictl and critest")
    parser.add_argument("--logs", required=True, type=pathlib.Path)
    parser.add_argument("--registry", type=pathlib.Path, help="directory of the registry's data")
    parser.add_argument("--crun", default="/usr/bin/crun")
    parser.add_argument("--reference", default="", help="crun or runc: containerd runs it")
    parser.add_argument("--endpoint", default="", help="socket of a runtime that runs already")
    parser.add_argument("--focus", action="append", default=[])
    parser.add_argument("--skip", action="append", default=[])
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--list", action="store_true")
    return parser.parse_args()


class Critest:
    """One run of critest, serially, with its output in a log file.

    ``name`` tells its files from those of another run, ``more`` are further arguments, and with ``focus``
    it runs the specs of exactly these names.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        name: str = "",
        more: t.Sequence[str] = (),
        focus: t.Sequence[str] | None = None,
    ) -> None:
        self._options = options
        self._more = more
        self._focus = options.focus if focus is None else [exactly(spec) for spec in focus]
        self._skip = options.skip if focus is None else []
        self.log: pathlib.Path = options.logs / f"critest{name}.log"
        self.junit: pathlib.Path = options.logs / f"junit{name}.xml"

    def argv(self, socket: str = "", *more: str) -> list[str]:
        """Return the argument list; specs run in random order, the seed is in the log."""
        return [
            f"{self._options.tools}/critest",
            f"-ginkgo.junit-report={self.junit}",
            "-ginkgo.no-color",
            "-ginkgo.v",
            "-ginkgo.timeout=2h",
            *([f"-runtime-endpoint=unix://{socket}"] if socket else []),
            *(f"-ginkgo.focus={pattern}" for pattern in self._focus),
            *(f"-ginkgo.skip={pattern}" for pattern in self._skip),
            *self._more,
            *more,
        ]

    def run(self, socket: str) -> int:
        """Run the specs, saying once a minute how far they are, and return critest's exit code."""
        self.junit.unlink(missing_ok=True)
        started = told = time.monotonic()
        with self.log.open("wb") as log:
            # In its own directory: it looks for a configuration beside itself.
            process = subprocess.Popen(
                self.argv(socket), cwd=self._options.logs, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            while process.poll() is None:
                time.sleep(0.2)
                if time.monotonic() - told >= _TICK_S:
                    told = time.monotonic()
                    print(f"{told - started:5.0f} s: {self._progress()}", flush=True)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(30)
                process.kill()
                process.wait()
        return process.returncode

    def _progress(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        failed = sum("[FAILED] [" in line and line.startswith("• ") for line in lines)
        skipped = sum(line.startswith("S [SKIPPED]") for line in lines)
        done = sum(line.startswith("• ") for line in lines)
        return f"{done - failed} passed, {failed} failed, {skipped} skipped so far"

    def names(self) -> list[str]:
        """Return the names of all specs that would run."""
        argv = self.argv("", "-ginkgo.dry-run")
        subprocess.run(
            argv, cwd=self._options.logs, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        return sorted(spec.name for spec in report.read_junit(self.junit, selected=True))


def exactly(name: str) -> str:
    """Return Go's regular expression of one spec's name as the report has it."""
    # Ginkgo puts the suite's name before it, and blanks may be several.
    return re.escape(name).replace(r"\ ", r"\s+") + "$"


def again(critest: Critest, options: argparse.Namespace) -> Critest | None:
    """Return a run over WebSocket of the streaming specs that a run had; None if it had none."""
    if not critest.junit.is_file():
        return None
    specs = report.read_junit(critest.junit, selected=bool(options.focus or options.skip))
    names = [spec.name for spec in specs if spec.status != "skipped" and _STREAMING.search(spec.name)]
    return Critest(options, "-websocket", _WEBSOCKET, names) if names else None


def conclude_websocket(critest: Critest, options: argparse.Namespace, code: int) -> bool:
    """Print how the streaming specs went over WebSocket; return whether all of them passed, or may fail."""
    if not critest.junit.is_file():
        print(f"critest ended with {code} before it could report; see {critest.log}")
        return False
    specs = report.read_junit(critest.junit, selected=True)
    outcome = report.Outcome(specs, known_failures(options))
    for line in outcome.lines():
        print(f"over WebSocket: {line}")
    print(f"over WebSocket: {outcome.summary()}")
    return not outcome.unexpected and any(spec.status != "skipped" for spec in specs)


def known_failures(options: argparse.Namespace) -> tuple[report.Known, ...]:
    """Return the list of what may fail: nothing may where another runtime is looked at."""
    compared = not (options.reference or options.endpoint)
    return report.read_known(_HERE / "known.txt") if compared else ()


def conclude(critest: Critest, options: argparse.Namespace, code: int) -> int:
    """Print a line per spec that did not pass and the closing line; return the exit code."""
    if not critest.junit.is_file():
        tail = critest.log.read_text(errors="replace")[-3000:]
        print(f"critest ended with {code} before it could report; the end of its log:\n{tail}")
        print("0 passed, 1 failed, 0 skipped")
        return 1
    selected = bool(options.focus or options.skip)
    specs = report.read_junit(critest.junit, selected=selected)
    outcome = report.Outcome(specs, known_failures(options))
    table = sorted(f"{spec.name}\t{spec.status}\t{spec.reason}\n" for spec in specs)
    (options.logs / "specs.tsv").write_text("".join(table))
    for line in outcome.lines():
        print(line)
    print("slowest:", *report.slowest(specs), sep="\n  ")
    print(f"logs: {options.logs}")
    print(outcome.summary())
    ran = any(spec.status != "skipped" for spec in specs)
    return 1 if outcome.unexpected or not ran else 0


def runtime_of(options: argparse.Namespace, place: Place) -> runtimes.Runtime:
    """Return the runtime that the options name, not yet started."""
    crictl = f"{options.tools}/crictl"
    log = options.logs / "runtime.log"
    if options.reference:
        program = os.environ.get("CONTAINERD", "containerd")
        binary = options.crun if options.reference == "crun" else options.reference
        return runtimes.containerd(place, crictl, program, binary, log)
    return runtimes.endpoint(place, crictl, options.crun, log)


class Runs:
    """critest with SPDY, and its streaming specs again with WebSocket."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._first = Critest(options)
        self._second: Critest | None = None
        self._codes: list[int] = []

    def run(self, socket: str) -> None:
        """Run both."""
        self._codes.append(self._first.run(socket))
        self._second = again(self._first, self._options)
        if self._second is not None:
            self._codes.append(self._second.run(socket))

    def conclude(self) -> int:
        """Print what came of it, the closing line last; return the exit code."""
        is_fine = True
        if self._second is not None:
            is_fine = conclude_websocket(self._second, self._options, self._codes[1])
        return max(conclude(self._first, self._options, self._codes[0]), 0 if is_fine else 1)


def run_in_place(runs: Runs, options: argparse.Namespace) -> None:
    """Build the place, start the runtime, run critest, and leave nothing behind."""
    # Short: sockets lie below it.  Not only for root: containers with users of their own pass through it.
    top = pathlib.Path(tempfile.mkdtemp(prefix="pc-", dir="/tmp"))
    top.chmod(0o755)
    try:
        with Place(top, options.registry) as place, runtime_of(options, place) as runtime:
            runs.run(str(runtime.socket))
            if options.keep:
                wait_for_looker(options, runtime)
    finally:
        remove(top)


def wait_for_looker(options: argparse.Namespace, runtime: runtimes.Runtime) -> None:
    """Keep everything as it is until SIGTERM or Ctrl-C."""
    crictl = f"{options.tools}/crictl --runtime-endpoint unix://{runtime.socket}"
    print(
        "kept for a look until Ctrl-C; in another terminal:",
        f"  nsenter -t $(pgrep -nf {_HERE.name}/run.py) --mount --net --pid {crictl} pods",
        f"  less {runtime.log} {options.logs / 'critest.log'}",
        sep="\n",
        flush=True,
    )
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def remove(top: pathlib.Path) -> None:
    """Remove the directory and what is still mounted in it."""
    mounts = [line.split(" ")[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    for path in sorted((path for path in mounts if path.startswith(f"{top}/")), reverse=True):
        subprocess.run(["umount", "-l", path], check=False, capture_output=True)
    shutil.rmtree(top, ignore_errors=True)


def end(*_unused: t.Any) -> None:
    """End as Ctrl-C does, so that what was started is stopped."""
    raise KeyboardInterrupt


def main() -> int:
    options = arguments()
    options.logs.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    if options.list:
        print(*Critest(options).names(), sep="\n")
        return 0
    runs = Runs(options)
    if options.endpoint:
        runs.run(options.endpoint)
    else:
        run_in_place(runs, options)
    return runs.conclude()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
