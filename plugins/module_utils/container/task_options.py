# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the options of ``crun_container`` that are not those of a bundle, and make a `Task` of all."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container import request as requests
from ansible_collections.pvecri.runtime.plugins.module_utils.container.argument_spec import (
    COLLECTIONS,
    WITH_BUNDLE,
    comparable_keys,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.container.compare import (
    Plain,
    parse_rules,
    shape,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import (
    ContainerRequest,
    HealthRequest,
    LogRequest,
    NetworkRequest,
    RestartPolicy,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.container.task import WAIT_TIMEOUT_S, Task
from ansible_collections.pvecri.runtime.plugins.module_utils.container.terms import State
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import to_plain
from ansible_collections.pvecri.runtime.plugins.module_utils.options.argument_spec import (
    container_argument_spec,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.options.container import spec_from_options
from ansible_collections.pvecri.runtime.plugins.module_utils.options.source import source_from_options
from ansible_collections.pvecri.runtime.plugins.module_utils.options.values import pairs_of
from ansible_collections.pvecri.runtime.plugins.module_utils.units import parse_duration, parse_size

Params = t.Mapping[str, t.Any]

_ATTACHED_STATES = frozenset({State.STARTED, State.RESTARTED})


def task_from_options(params: Params) -> Task:
    """Return the task that a module's parameters describe; raises InvalidSpec with the option's path."""
    state = State(params["state"])
    rules = parse_rules(params.get("comparisons"), comparable_keys(), COLLECTIONS)
    task = Task(
        name=params["name"],
        state=state,
        request=_request(params),
        rules=rules,
        source=source_from_options(params),
        recreate=params["recreate"],
        rerun=_rerun(params),
        is_attached=not params["detach"],
        timeout_s=_timeout(params),
        wait_timeout_s=_duration(params, "wait_timeout", WAIT_TIMEOUT_S),
        signal=_signal(params),
        stop_signal=params.get("stop_signal"),
        stop_timeout_s=_duration(params, "stop_timeout", None),
    )
    if params.get("bundle") is not None:
        _check_bundle(params)
        task = _with_bundle(task, params["bundle"])
    _check_attached(task)
    _check_restarts(task)
    return _with_plain(task, params)


def _request(params: Params) -> ContainerRequest:
    name = params["name"]
    network = None
    if params.get("bundle") is None or params.get("network") is not None:
        network = requests.check_network(_network(params), name)
    else:
        for option in ("published_ports", "dns_servers", "dns_search", "dns_options", "etc_hosts"):
            if params.get(option):
                raise InvalidSpec(option, "needs 'network', since the bundle decides its network otherwise")
    policy = params.get("restart_policy")
    return ContainerRequest(
        spec=spec_from_options(params),
        network=network,
        log=_log(params.get("log")),
        health_check=_health(params.get("health_check")),
        restart=RestartPolicy() if policy is None else requests.parse_restart_policy(policy),
        stop_timeout_s=_duration(params, "stop_timeout", requests.STOP_TIMEOUT_S),
    )


def _network(params: Params) -> NetworkRequest:
    return NetworkRequest(
        mode=params["network"] if params.get("network") is not None else requests.NONE,
        ports=requests.parse_ports(params.get("published_ports") or ()),
        dns_servers=tuple(params.get("dns_servers") or ()),
        dns_search=tuple(params.get("dns_search") or ()),
        dns_options=tuple(params.get("dns_options") or ()),
        hosts=pairs_of(params.get("etc_hosts"), "etc_hosts"),
    )


def _log(given: Params | None) -> LogRequest:
    if not given:
        return LogRequest()
    size = given.get("max_size")
    # conmon starts a new file after at least one whole record.
    from ansible_collections.pvecri.runtime.plugins.module_utils.crun import conmon, rotation  # noqa: PLC0415

    log = LogRequest(
        path=given.get("path"),
        max_size_bytes=None if size is None else parse_size(size, "log.max_size"),
        max_files=given.get("max_files") or 1,
    )
    if log.path is not None:
        try:
            conmon.check_log_path(log.path)
        except InvalidSpec as exc:
            raise InvalidSpec("log.path", exc.problem, hint=exc.hint) from exc
    if log.max_size_bytes is not None and log.max_size_bytes < rotation.SIZE_MIN:
        raise InvalidSpec(
            "log.max_size",
            f"{log.max_size_bytes} bytes are too few",
            hint=f"Give at least {rotation.SIZE_MIN >> 10}KiB",
        )
    if log.max_files < 1:
        raise InvalidSpec("log.max_files", "at least the file that is being written is kept")
    if log.max_files > 1 and log.max_size_bytes is None:
        raise InvalidSpec("log.max_files", "needs log.max_size, which says when a new file is begun")
    return log


def _health(given: Params | None) -> HealthRequest:
    if not given:
        return HealthRequest()
    command = given.get("command")
    retries = given.get("retries")
    if command is not None and not command:
        raise InvalidSpec(
            "health_check.command", "is empty", hint="Use health_check.disabled=true for no check"
        )
    if retries is not None and retries < 1:
        raise InvalidSpec("health_check.retries", "must be at least 1")
    durations = {
        f"{option}_s": _duration(given, option, None, "health_check.")
        for option in ("interval", "timeout", "start_period")
    }
    for option in ("interval", "timeout"):
        if durations[f"{option}_s"] == 0:
            raise InvalidSpec(f"health_check.{option}", "must be more than 0")
    return HealthRequest(
        disabled=given.get("disabled") or False,
        command=None if command is None else tuple(command),
        retries=retries,
        **durations,
    )


@t.overload
def _duration(params: Params, option: str, default: float, prefix: str = "") -> float: ...


@t.overload
def _duration(params: Params, option: str, default: None, prefix: str = "") -> float | None: ...


def _duration(params: Params, option: str, default: float | None, prefix: str = "") -> float | None:
    value = params.get(option)
    return default if value is None else parse_duration(value, prefix + option)


def _timeout(params: Params) -> float | None:
    timeout_s = _duration(params, "timeout", None)
    if timeout_s is None:
        return None
    if params["detach"]:
        raise InvalidSpec("timeout", "is for detach=false, which waits for the container's end")
    if timeout_s == 0:
        raise InvalidSpec("timeout", "must be more than 0")
    return timeout_s


def _rerun(params: Params) -> t.Any:
    return params.get("rerun") or ("always" if params["detach"] else "failed")


def _signal(params: Params) -> str | None:
    if params.get("signal") is None:
        return None
    from ansible_collections.pvecri.runtime.plugins.module_utils.crun.signals import (  # noqa: PLC0415
        signal_number,
    )

    signal_number(params["signal"])
    return str(params["signal"]).strip().upper()


def _check_bundle(params: Params) -> None:
    for option, spec in container_argument_spec().items():
        if option in WITH_BUNDLE:
            continue
        if params.get(option) not in (None, spec.get("default")):
            raise InvalidSpec(
                option,
                "does not go with 'bundle', whose own configuration says it",
                hint="Change the bundle, or say what the container is made from by image or directory",
            )


def _with_bundle(task: Task, path: str) -> Task:
    import dataclasses  # noqa: PLC0415

    from ansible_collections.pvecri.runtime.plugins.module_utils.container.wrapper import (  # noqa: PLC0415
        read_given,
    )

    if task.state is State.ABSENT:
        return task
    return dataclasses.replace(task, bundle=read_given(path))


def _check_attached(task: Task) -> None:
    if not task.is_attached:
        return
    if task.state not in _ATTACHED_STATES:
        raise InvalidSpec(
            "detach",
            f"state={task.state} waits for no end",
            hint="Use detach=false with state=started or restarted",
        )
    if task.request.restart.name != "no":
        raise InvalidSpec(
            "restart_policy", "does not go with detach=false: what systemd starts again has no end"
        )


def _check_restarts(task: Task) -> None:
    if task.request.restart.name == "no" or task.state is State.ABSENT:
        return
    from ansible_collections.pvecri.runtime.plugins.module_utils.container import systemd  # noqa: PLC0415

    systemd.require_booted("restart_policy", task.request.restart)


def _with_plain(task: Task, params: Params) -> Task:
    """Add the request to compare: the whole one, or what was given where there is no source."""
    import dataclasses  # noqa: PLC0415

    plain = requests.plain_request(task.request)
    if task.bundle is not None and task.request.network is not None:
        # Even the usual one is said on purpose: otherwise the bundle decides.
        plain["network"] = task.request.network.mode
    if not task.has_source:
        # Said on purpose, though it is the default.
        for option, value in (
            ("restart_policy", to_plain(task.request.restart) or {"name": "no"}),
            ("stop_timeout", task.request.stop_timeout_s),
            ("resources", plain.get("resources", {})),
            ("log", to_plain(task.request.log)),
            ("health_check", to_plain(task.request.health_check)),
            ("network", task.request.network.mode if task.request.network else None),
        ):
            if params.get(option) is not None:
                plain[option] = value
    has_anything = task.has_source or bool(plain)
    return dataclasses.replace(task, plain=_as_json(shape(plain)) if has_anything else None)


def _as_json(plain: Plain) -> Plain:
    """Return ``plain`` as it will be read back from a record."""
    import json  # noqa: PLC0415

    return t.cast("Plain", json.loads(json.dumps(plain)))
