# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a container to its end and give back what it wrote.

It runs under conmon like any other, so that nothing is lost or left without a
parent when the caller is killed; output and exit code come from log and exit file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container import logs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import attach, procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandTimeout, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.streams import Output

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime

#: Output kept of a run unless told otherwise.
LIMIT_BYTES = 16 << 20

#: A log has time, stream and tag on each line: as much as this of it is kept for each byte of output.
_LOG_FACTOR = 8


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunResult(Output):
    """How a container ended; ``rc`` is None when nobody saw its exit code."""

    rc: int | None
    oom_killed: bool


def run(
    runtime: CrunRuntime,
    layout: Layout,
    bundle_path: str,
    *,
    timeout_s: float | None,
    stdin: bytes,
    limit_bytes: int,
    options: dict[str, t.Any],
) -> RunResult:
    """Run a container to its end; see `CrunRuntime.run`."""
    name = layout.name
    for key in ("log_size_max", "log_max_files", "stdin", "stdin_once"):
        if options.get(key):
            raise InvalidSpec(key, "has no meaning for a container that is run to its end")
    log_path = options.pop("log_path", None) or layout.default_log
    with contextlib.suppress(FileNotFoundError):
        # What is read back must be this run's.
        os.unlink(log_path)
    runtime.create(
        bundle_path,
        name,
        log_path=log_path,
        log_total_max=limit_bytes * _LOG_FACTOR,
        stdin=bool(stdin),
        stdin_once=bool(stdin),
        **options,
    )
    time_left = procfs.monotonic_deadline(timeout_s)
    try:
        if stdin:
            with runtime.attach(name) as connection:
                runtime.start(name)
                attach.feed(connection, stdin, timeout_s=time_left())
        else:
            runtime.start(name)
        rc = runtime.wait(name, time_left())
    except CommandTimeout as exc:
        runtime.stop(name, signal.SIGKILL)
        out, err, _more = _output(log_path, limit_bytes)
        raise CommandTimeout(
            f"container '{name}' did not end within {timeout_s:g} s and was killed",
            stdout=out.decode("utf-8", "replace"),
            stderr=err.decode("utf-8", "replace"),
            hint="Raise the time-out, or look at what it waits for",
        ) from exc
    except BaseException:
        runtime.stop(name, signal.SIGKILL)
        raise
    state = runtime.state(name)
    out, err, is_truncated = _output(log_path, limit_bytes)
    return RunResult(
        rc=rc,
        stdout_bytes=out,
        stderr_bytes=err,
        is_truncated=is_truncated,
        oom_killed=state is not None and state.oom_killed,
    )


def _output(log_path: str, limit_bytes: int) -> tuple[bytes, bytes, bool]:
    written = logs.join_streams(logs.read_records(log_path))
    out, err = written["stdout"], written["stderr"]
    is_full = os.path.getsize(log_path) >= limit_bytes * _LOG_FACTOR
    is_truncated = is_full or max(len(out), len(err)) > limit_bytes
    return out[:limit_bytes], err[:limit_bytes], is_truncated
