# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold for any request: it is refused by a field's name, or makes a config.json that is valid."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ImageConfig
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec import validate as schema
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.build import build_config
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostDevice, HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.mounts import ResolvedMount
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import CAPABILITIES
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.users import ResolvedUser
from pvecri.api import cri_pb2 as pb
from pvecri.containers import fields
from pvecri.containers.spec.build import Surroundings, container_spec
from pvecri.containers.spec.mounts import PodFiles
from pvecri.containers.validate import validate
from pvecri.state.records import SandboxRecord

HOST = HostFacts(
    crun_version=(1, 21),
    seccomp_default={"defaultAction": "SCMP_ACT_ALLOW"},
    seccomp_profile={"defaultAction": "SCMP_ACT_ALLOW"},
    devices=(HostDevice(path="/dev/null", kind="c", major=1, minor=3),),
)
POD = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name="p", namespace="n", uid="u"))
POD.linux.security_context.privileged = True

word = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_characters="/=:,"), max_size=12)
free = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
name = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,20}[A-Za-z0-9])?", fullmatch=True)
path = st.lists(word.filter(lambda text: text not in ("", "..")), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)
number = st.integers(0, (1 << 32) - 2)
maybe_id = st.none() | number.map(lambda value: pb.Int64Value(value=value))
capabilities = st.lists(st.sampled_from([*CAPABILITIES, "ALL", "net_raw"]), max_size=4)
id_maps = st.just([]) | st.just([pb.IDMapping(container_id=0, host_id=5, length=10)])


@st.composite
def mounts(draw):
    found = []
    for place in draw(st.lists(path.filter(lambda text: text.strip("/.")), max_size=4, unique=True)):
        maps, readonly = draw(id_maps), draw(st.booleans())
        mode = draw(st.sampled_from(pb.MountPropagation.values()))
        found.append(
            pb.Mount(
                container_path=place,
                host_path=draw(path),
                readonly=readonly,
                propagation=mode,
                recursive_read_only=readonly and mode == pb.PROPAGATION_PRIVATE and draw(st.booleans()),
                uidMappings=maps,
                gidMappings=maps,
                mount_options=draw(st.sampled_from([[], ["noexec"], ["nosuid", "nodev"]])),
            )
        )
    return found


@st.composite
def limits(draw):
    memory = draw(st.sampled_from([0, -1]) | st.integers(1 << 20, 1 << 40))
    return pb.LinuxContainerResources(
        cpu_period=draw(st.just(0) | st.integers(1000, 1_000_000)),
        cpu_quota=draw(st.sampled_from([0, -1]) | st.integers(1000, 1 << 40)),
        cpu_shares=draw(st.just(0) | st.integers(2, 262144)),
        memory_limit_in_bytes=memory,
        memory_swap_limit_in_bytes=draw(st.sampled_from([0, memory] if memory >= 0 else [0, -1])),
        oom_score_adj=draw(st.integers(-1000, 1000)),
        cpuset_cpus=draw(st.sampled_from(["", "0", "0-3,7"])),
        cpuset_mems=draw(st.sampled_from(["", "0"])),
        hugepage_limits=[pb.HugepageLimit(page_size="2MB", limit=draw(st.integers(0, 1 << 40)))],
        unified=draw(st.sampled_from([{}, {"memory.high": "max", "cpu.weight": "5"}])),
    )


@st.composite
def contexts(draw):
    user = draw(maybe_id)
    profiles = pb.SecurityProfile
    seccomp = draw(
        st.sampled_from(
            [
                None,
                profiles(profile_type=profiles.RuntimeDefault),
                profiles(profile_type=profiles.Unconfined),
                profiles(profile_type=profiles.Localhost, localhost_ref="/a/profile.json"),
            ]
        )
    )
    return pb.LinuxContainerSecurityContext(
        privileged=draw(st.booleans()),
        capabilities=pb.Capability(
            add_capabilities=draw(capabilities),
            drop_capabilities=draw(capabilities),
            add_ambient_capabilities=draw(capabilities),
        ),
        namespace_options=pb.NamespaceOption(pid=draw(st.sampled_from([pb.POD, pb.CONTAINER]))),
        run_as_user=user,
        run_as_group=draw(maybe_id) if user is not None else None,
        readonly_rootfs=draw(st.booleans()),
        supplemental_groups=draw(st.lists(number, max_size=3)),
        supplemental_groups_policy=draw(st.sampled_from(pb.SupplementalGroupsPolicy.values())),
        no_new_privs=draw(st.booleans()),
        masked_paths=draw(st.lists(path, max_size=2)),
        readonly_paths=draw(st.lists(path, max_size=2)),
        seccomp=seccomp,
    )


@st.composite
def requests(draw):
    return pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name=draw(name), attempt=draw(st.integers(0, 9))),
        image=pb.ImageSpec(image="docker.io/library/nginx:1"),
        command=draw(st.lists(free, max_size=3).filter(lambda words: not words or words[0])),
        args=draw(st.lists(free, max_size=3)),
        working_dir=draw(st.just("") | path),
        envs=draw(
            st.lists(
                st.builds(
                    lambda key, value: pb.KeyValue(key=key, value=value.encode()),
                    free.filter(lambda text: text and "=" not in text),
                    free,
                ),
                max_size=4,
            )
        ),
        mounts=draw(mounts()),
        devices=draw(
            st.lists(
                st.builds(
                    lambda place, access: pb.Device(
                        container_path=f"/dev{place}", host_path="/dev/null", permissions=access
                    ),
                    path,
                    st.sampled_from(["r", "rw", "mwr"]),
                ),
                max_size=2,
                unique_by=lambda device: device.container_path,
            )
        ),
        labels=draw(st.dictionaries(name, free, max_size=2)),
        annotations=draw(st.dictionaries(name, free, max_size=2)),
        log_path=draw(st.sampled_from(["", "app/0.log"])),
        tty=draw(st.booleans()),
        linux=pb.LinuxContainerConfig(resources=draw(limits()), security_context=draw(contexts())),
        stop_signal=draw(st.sampled_from(pb.Signal.values())),
    )


def made_of(config):
    """Return config.json for a request, as far as that needs no file system."""
    around = Surroundings(
        id="c" * 64,
        sandbox=SandboxRecord(
            id="s" * 64, name="p", config=b"", created_at_ns=1, netns="/n", cgroup_parent="/pods/x"
        ),
        pod=POD,
        image=ImageConfig(entrypoint=("/bin/app",)),
        host=HOST,
        files=PodFiles(hosts="/f/hosts", shm="/f/shm"),
        hostname="pod",
        pid_path="/proc/5/ns/pid",
    )
    with fields.named(lambda field: fields.request_field(field, config)):
        spec = container_spec(config, around)
        resolved = [ResolvedMount(mount=mount, source=mount.source) for mount in spec.mounts]
        return build_config(spec, around.image, ResolvedUser(), HOST, mounts=resolved)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(requests())
def test_valid_requests_make_valid_configurations(config):
    validate(config, POD)
    assert schema.validate(made_of(config)) == []


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(requests(), st.data())
def test_damaged_requests_are_refused_by_name_or_valid(config, data):
    damage(config, data)
    fault = None
    try:
        validate(config, POD)
        made = made_of(config)
    except CoreError as exc:
        fault = exc
    else:
        assert schema.validate(made) == []
    if isinstance(fault, InvalidSpec):
        assert fault.field.startswith("config."), fault


def damage(message, data):
    """Change one field of a message, however deep, to anything of its type."""
    descriptor = data.draw(st.sampled_from(list(message.DESCRIPTOR.fields)))
    value = getattr(message, descriptor.name)
    is_map = descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry
    if is_map:
        value[data.draw(st.text(max_size=5))] = data.draw(st.text(max_size=5))
    elif descriptor.label == descriptor.LABEL_REPEATED:
        if descriptor.message_type is not None:
            damage(value[0] if value else value.add(), data)
        else:
            value.append(data.draw(scalar(descriptor)))
    elif descriptor.message_type is not None:
        damage(value, data)
    else:
        setattr(message, descriptor.name, data.draw(scalar(descriptor)))


def scalar(descriptor):
    kinds = {
        descriptor.CPPTYPE_STRING: st.sampled_from(["", "/", "..", "/..", "a\0b", "ALL", "-1", "x" * 5000])
        | st.text(max_size=20),
        descriptor.CPPTYPE_INT32: st.integers(-(1 << 31), (1 << 31) - 1),
        descriptor.CPPTYPE_INT64: st.integers(-(1 << 63), (1 << 63) - 1),
        descriptor.CPPTYPE_UINT32: st.integers(0, (1 << 32) - 1),
        descriptor.CPPTYPE_UINT64: st.integers(0, (1 << 64) - 1),
        descriptor.CPPTYPE_BOOL: st.booleans(),
        descriptor.CPPTYPE_ENUM: st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-1, 5),
    }
    if descriptor.type == descriptor.TYPE_BYTES:
        return st.binary(max_size=20)
    return kinds[descriptor.cpp_type]


ENUMS = [
    ("stop_signal",),
    ("mounts", "propagation"),
    ("linux", "security_context", "namespace_options", "network"),
    ("linux", "security_context", "namespace_options", "pid"),
    ("linux", "security_context", "namespace_options", "ipc"),
    ("linux", "security_context", "namespace_options", "userns_options", "mode"),
    ("linux", "security_context", "supplemental_groups_policy"),
    ("linux", "security_context", "seccomp", "profile_type"),
    ("linux", "security_context", "apparmor", "profile_type"),
]


@pytest.mark.parametrize("steps", ENUMS, ids=".".join)
@given(value=st.integers(-(1 << 31), -1) | st.integers(100, (1 << 31) - 1))
@settings(max_examples=20, deadline=None)
def test_unknown_numbers_of_enumerations_are_refused(steps, value):
    config = pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name="a"),
        image=pb.ImageSpec(image="x"),
        mounts=[pb.Mount(container_path="/a", host_path="/b")],
    )
    holder = config
    for step in steps[:-1]:
        holder = getattr(holder, step)
        holder = holder[0] if step == "mounts" else holder
    setattr(holder, steps[-1], value)
    with pytest.raises(InvalidSpec) as caught:
        validate(config, POD)
    assert caught.value.field.endswith(steps[-1])


def test_every_enumeration_of_a_request_is_tried():
    """A new enumeration in the protocol has to be checked, and to be in the list above."""

    def walk(descriptor, path, seen):
        for field in descriptor.fields:
            if field.enum_type is not None:
                yield (*path, field.name)
            elif field.message_type not in {None, *seen} and field.name != "windows":
                yield from walk(field.message_type, (*path, field.name), {*seen, field.message_type})

    assert set(walk(pb.ContainerConfig.DESCRIPTOR, (), set())) == set(ENUMS)
