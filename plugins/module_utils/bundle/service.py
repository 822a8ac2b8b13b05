# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a bundle to the state that is asked for: plan first, then do it or only say it."""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import Bundle
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.desired import Desired, shaped_request
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import BundleRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.container.compare import compare
from ansible_collections.pvecri.runtime.plugins.module_utils.diff import DifferenceTracker
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    DirectorySource,
    GivenSource,
    ImageSource,
    PullPolicy,
    RootfsSource,
    parse_location,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec

_ASKS_ALWAYS = (PullPolicy.ALWAYS, PullPolicy.NEWER)


class State(enum.StrEnum):
    """What a bundle can be asked to be."""

    PRESENT = "present"
    ABSENT = "absent"
    MOUNTED = "mounted"
    UNMOUNTED = "unmounted"


@dataclasses.dataclass(slots=True, kw_only=True)
class Plan:
    """What has to be done, and how the bundle differs from what is asked for."""

    create: bool = False
    remove: bool = False
    #: True to mount, False to unmount, None to leave as it is.
    mount: bool | None = None
    restore: bool = False
    differences: DifferenceTracker

    @property
    def changed(self) -> bool:
        """Whether anything has to be done."""
        return self.create or self.remove or self.restore or self.mount is not None


def plan_bundle(state: State, actual: Bundle | None, desired: Desired | None) -> Plan:
    """Return what brings ``actual`` to ``state``.  Pure, but for looking at mounts.

    ``desired`` is None when the request does not say what the bundle is made from: then
    an existing one is taken as it is.  Raises InvalidSpec when there is none, and
    WrongState when it is damaged.
    """
    tracker = DifferenceTracker()
    tracker.add("state", _shown_state(actual), _wanted_state(state, actual))
    if state is State.ABSENT:
        return Plan(remove=actual is not None, differences=tracker)
    if actual is None and desired is None:
        raise InvalidSpec("image", "a bundle that does not exist yet needs an image, tarball or directory")
    create = restore = False
    if desired is not None:
        create = _must_create(actual, desired, tracker)
    if actual is not None:
        tracker.add("problems", actual.problems, [])
        if actual.problems and not create:
            # Only what a reboot takes can be brought back without making the bundle anew.
            create, restore = _mend(actual, desired)
    return Plan(create=create, restore=restore, mount=_mount(state, actual, create), differences=tracker)


def _shown_state(bundle: Bundle | None) -> str:
    if bundle is None:
        return "absent"
    return "mounted" if bundle.is_mounted else "unmounted"


def _wanted_state(state: State, actual: Bundle | None) -> str:
    if state is State.PRESENT:
        return "mounted" if actual is None else _shown_state(actual)
    if state is State.UNMOUNTED and actual is not None and not actual.needs_mounts:
        return _shown_state(actual)
    return state.value


def _must_create(actual: Bundle | None, desired: Desired, tracker: DifferenceTracker) -> bool:
    record = actual.record if actual else None
    if record is not None and _is_same(record, desired):
        return False
    before = shaped_request(record.request) if record else {}
    compare(before, shaped_request(desired.request), {}, tracker)
    for key in _IDENTITY:
        old = (record.identity if record else {}).get(key)
        new = (desired.identity or {}).get(key)
        if key != "digest" or "image" in tracker:
            tracker.add(key, old, new)
    if desired.identity is None:
        tracker.add("source", record.source if record else None, desired.source)
    return True


def _is_same(record: BundleRecord, desired: Desired) -> bool:
    if desired.identity is not None:
        return record.spec_hash == desired.spec_hash
    # The image has left the store since; the bundle still is what the same words made of it.  A file
    # that the store does not know, on the other hand, has changed.
    reference = desired.source.get("reference")
    is_registry = reference is not None and not parse_location(reference).is_local
    return is_registry and record.request == desired.request and record.source == desired.source


#: What a source has become, in the order in which a difference is shown.
_IDENTITY = ("image", "digest", "layers", "directory", "mode")


def _mend(actual: Bundle, desired: Desired | None) -> tuple[bool, bool]:
    """Return whether to make the bundle anew, and whether to bring its secrets back."""
    only_secrets = actual.record is not None and all("secrets are gone" in text for text in actual.problems)
    if desired is not None:
        return not only_secrets, only_secrets
    raise WrongState(
        f"bundle {actual.name} cannot be used: {'; '.join(actual.problems)}",
        hint="Say what it is made from (image, tarball or directory) to have it made anew",
    )


def _mount(state: State, actual: Bundle | None, create: bool) -> bool | None:
    if create or actual is None:
        # A new bundle comes mounted.
        return False if state is State.UNMOUNTED else None
    if state is State.MOUNTED and not actual.is_mounted:
        return True
    if state is State.UNMOUNTED and actual.is_mounted and actual.needs_mounts:
        return False
    return None


@dataclasses.dataclass(slots=True, kw_only=True)
class Request:
    """One task on one bundle."""

    name: str
    state: State
    spec: ContainerSpec
    source: RootfsSource | None
    network_namespace: str | None = None


@dataclasses.dataclass(slots=True, kw_only=True)
class Result:
    """What became of it; in check mode, what would."""

    changed: bool
    differences: DifferenceTracker
    #: The bundle after the run; in check mode the one before; None when there is none.
    bundle: Bundle | None
    warnings: list[str]


def perform(manager: BundleManager, request: Request, *, check: bool) -> Result:
    """Bring a bundle to the state that is asked for, unless ``check``; return what was done."""
    desired = None
    if request.state is State.ABSENT:
        pass
    elif request.source is None:
        if request.spec != ContainerSpec(name=request.name):
            raise InvalidSpec(
                "image",
                "options of the container count only when a bundle is made",
                hint="Say what it is made from: image, tarball or directory",
            )
    else:
        desired = _desired(manager, request, request.source, check=check)
    bundle = manager.load(request.name)
    plan = plan_bundle(request.state, bundle, desired)
    if plan.changed and not check:
        plan, bundle = _ensure(manager, request, plan, desired)
    warnings = [*manager.store.warnings, *(bundle.warnings if bundle else ())]
    return Result(changed=plan.changed, differences=plan.differences, bundle=bundle, warnings=warnings)


def _desired(manager: BundleManager, request: Request, source: RootfsSource, *, check: bool) -> Desired:
    """Return what the bundle should be; but in check mode, what must be asked or is missing is fetched."""

    def now() -> Desired:
        return manager.desired(request.spec, source, network_namespace=request.network_namespace)

    if check or isinstance(source, DirectorySource | GivenSource):
        return now()
    if isinstance(source, ImageSource) and source.policy in _ASKS_ALWAYS:
        manager.store.ensure(source)
        return now()
    desired = now()
    if desired.identity is None:
        manager.store.ensure(source)
        desired = now()
    return desired


def _ensure(
    manager: BundleManager, request: Request, plan: Plan, desired: Desired | None
) -> tuple[Plan, Bundle | None]:
    """Do what has to be done while nobody else can; return the plan that holds now, and the bundle."""
    if plan.create:
        from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import staging  # noqa: PLC0415

        # Before the lock: a slow registry must not hold up other tasks on this bundle.
        source = t.cast("RootfsSource", request.source)
        staging.fetch_mount_images(request.spec, source, manager.store)
    with manager.held(request.name):
        # What was planned for may be done by now, or undone.
        actual = manager.load(request.name)
        plan = plan_bundle(request.state, actual, desired)
        return plan, _apply(manager, request, plan, actual)


def _apply(manager: BundleManager, request: Request, plan: Plan, actual: Bundle | None) -> Bundle | None:
    if plan.remove:
        manager.remove(request.name)
        return None
    bundle = actual
    if plan.create:
        source = t.cast("RootfsSource", request.source)
        if isinstance(source, ImageSource) and source.policy in _ASKS_ALWAYS:
            # It was asked a moment ago.
            source = dataclasses.replace(source, policy=PullPolicy.MISSING)
        bundle = manager.create(request.spec, source, network_namespace=request.network_namespace)
    elif plan.restore:
        bundle = manager.repair(request.name, request.spec)
    if bundle is not None and plan.mount is not None:
        (manager.mount if plan.mount else manager.unmount)(bundle)
    return bundle
