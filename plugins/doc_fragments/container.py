# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the options by which several modules say what a container is."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  entrypoint:
    description:
      - Program and leading arguments, in place of those of the image.
      - A list is taken as it is. A text is split into words as a shell would, but no shell runs.
      - If set, even to an empty list, the image's own command no longer counts, because it was written for
        the image's own entrypoint.
      - If not set, the image's entrypoint is used.
    type: raw
  command:
    description:
      - Arguments that follow the entrypoint, or program and arguments if there is no entrypoint.
      - A list is taken as it is. A text is split into words as a shell would, but no shell runs.
      - If not set, the image's command is used, unless O(entrypoint) is set.
    type: raw
  env:
    description:
      - Environment variables, added to those of the image and replacing those of the same name.
      - Values must be texts or whole numbers; put others, such as V(true) or V(1.10), in quotes.
      - Nothing comes from the environment of the host. C(PATH), C(HOME), C(HOSTNAME) and, with O(terminal),
        C(TERM) are set if neither image nor task sets them.
    type: dict
    default: {}
  secret_env:
    description:
      - Environment variables like O(env) whose values are secret. They appear in no output, no diff and no
        record.
      - They are in the configuration of the container, which only root can read, and visible inside it.
    type: dict
  cwd:
    description:
      - Absolute path of the working directory in the container. It is made if it does not exist.
      - If not set, the image's is used, else V(/).
    type: str
  user:
    description:
      - Who runs the program, as C(user[:group]), with names that the root file system knows or numbers.
      - If not set, the image's is used, else root.
    type: str
  supplementary_groups:
    description:
      - Further groups of the user, names or numbers.
    type: list
    elements: str
    default: []
  merge_image_groups:
    description:
      - Whether the user also has the groups that C(/etc/group) of the root file system gives it.
      - They never count if O(user) names a group.
    type: bool
    default: true
  terminal:
    description:
      - Whether the program gets a pseudo terminal instead of pipes.
    type: bool
    default: false
  hostname:
    description:
      - Host name in the container. It needs O(namespaces.uts=private).
      - If not set, it is made of the container's name, which is cut to 63 characters.
    type: str
  labels:
    description:
      - Names and values that say something about the container, for example to find it again.
      - They become OCI annotations, as the labels of the image do.
    type: dict
    default: {}
  annotations:
    description:
      - OCI annotations. Some steer crun, for example C(run.oci.keep_original_groups).
      - They win over labels of the same name. Labels of the image never steer crun.
    type: dict
    default: {}
  namespaces:
    description:
      - Which kinds of namespaces the container has of its own (V(private)), shares with the host (V(host)),
        or joins, given as the absolute path of a namespace file such as V(/proc/4711/ns/ipc).
      - It always has a mount namespace of its own.
    type: dict
    suboptions:
      pid:
        description: Processes.
        type: str
        default: private
      ipc:
        description: System V IPC and POSIX message queues. With V(host), C(/dev/shm) is the host's as well.
        type: str
        default: private
      uts:
        description: Host name and domain name.
        type: str
        default: private
      cgroup:
        description: View of the control groups.
        type: str
        default: private
      user:
        description:
          - User and group ids. V(private) needs O(uid_maps) and O(gid_maps).
        type: str
        default: host
  uid_maps:
    description:
      - Ranges of user ids of a container with O(namespaces.user=private). One range must begin at
        O(uid_maps[].container_id=0).
    type: list
    elements: dict
    default: []
    suboptions: &id_map
      container_id:
        description: First id in the container.
        type: int
        required: true
      host_id:
        description: Id of the host that it stands for.
        type: int
        required: true
      size:
        description: How many ids follow each other.
        type: int
        required: true
  gid_maps:
    description:
      - Ranges of group ids of a container with O(namespaces.user=private). One range must begin at
        O(gid_maps[].container_id=0).
    type: list
    elements: dict
    default: []
    suboptions: *id_map
  mounts:
    description:
      - What is mounted in the container besides the usual C(/proc), C(/dev), C(/sys) and their like.
      - The order does not matter, since parents are mounted before what lies below them.
      - A mount on one of the usual destinations takes its place.
    type: list
    elements: dict
    default: []
    suboptions:
      type:
        description:
          - V(bind) shows a file or directory of the host.
          - V(tmpfs) is an empty directory in memory.
          - V(volume) is a named volume, which is made on first use and filled with what the image has at
            the destination.
          - V(image) shows the content of another image, read-only.
          - V(secret) and V(file) are files whose content is given here.
        type: str
        choices: [bind, tmpfs, volume, image, secret, file]
        default: bind
      destination:
        description: Absolute path in the container.
        type: str
        required: true
      source:
        description:
          - Absolute path on the host for V(bind), name of the volume for V(volume), reference of the image
            for V(image).
          - Required for these types.
        type: str
      content:
        description: Content of a V(file), for which it is required.
        type: str
      secret:
        description:
          - Content of a V(secret), for which it is required. It is kept in memory, and appears in no
            output, no diff and no record.
        type: str
      encoding:
        description: How O(mounts[].content) or O(mounts[].secret) is written.
        type: str
        choices: [utf-8, base64]
        default: utf-8
      read_only:
        description:
          - Whether the container cannot write to it. Images and secrets are always read-only.
        type: bool
        default: false
      recursive_read_only:
        description:
          - Whether file systems that are mounted below the source are read-only as well. It implies
            O(mounts[].read_only), and needs Linux 5.12 and O(mounts[].propagation=rprivate) or V(private).
        type: bool
        default: false
      propagation:
        description:
          - Whether mounts that are made below it later are seen on the other side. V(rslave) shows those of
            the host in the container, V(rshared) does so in both directions if the source lies on a shared
            mount.
        type: str
        choices: [rprivate, private, rslave, slave, rshared, shared]
        default: rprivate
      options:
        description:
          - Further options that do not depend on the file system, for example V(noexec), V(nosuid),
            V(nodev) or V(noatime). V(bind) leaves out what is mounted below the source.
          - A tmpfs has V(nosuid) and V(nodev) unless it has V(suid) or V(dev).
        type: list
        elements: str
        default: []
      sub_path:
        description: Relative path in a V(volume) or V(image) that is mounted. If not set, all of it is.
        type: str
      size:
        description:
          - Largest size of a V(tmpfs), with a unit, for example V(64MiB). A plain number is bytes.
          - If not set, the kernel takes half of the memory.
        type: str
      mode:
        description:
          - Permission bits of a V(tmpfs), V(secret) or V(file), as octal text in quotes, for example
            V('0640').
          - If not set, V('1777') for a V(tmpfs), V('0400') for a V(secret), and V('0644') for a V(file).
        type: raw
      uid:
        description:
          - Owner of a V(tmpfs), V(secret) or V(file) in the container, as a number.
          - If not set, root for a V(tmpfs), and the user of the container for the others.
        type: int
      gid:
        description:
          - Group of a V(tmpfs), V(secret) or V(file) in the container, as a number.
          - If not set, root's for a V(tmpfs), and the group of the container's user for the others.
        type: int
      uid_maps:
        description:
          - Ranges by which the owners of the files of a V(bind) or V(volume) are shown as others (id-mapped
            mount). It needs Linux 5.12 and O(mounts[].gid_maps).
        type: list
        elements: dict
        default: []
        suboptions: *id_map
      gid_maps:
        description:
          - Ranges by which the groups of the files of a V(bind) or V(volume) are shown as others. It needs
            O(mounts[].uid_maps).
        type: list
        elements: dict
        default: []
        suboptions: *id_map
      create_source:
        description:
          - Whether a missing source of a V(bind) is made as a directory. Otherwise it is an error.
        type: bool
        default: false
  devices:
    description:
      - Devices of the host that the container can use.
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description:
          - Absolute path on the host of a device, or of a directory that stands for all devices in it.
        type: str
        required: true
      destination:
        description:
          - Absolute path in the container. If not set, that of O(devices[].source).
        type: str
      permissions:
        description: Any of V(r) to read, V(w) to write and V(m) to make nodes.
        type: str
        default: rwm
  resources:
    description:
      - Limits of the container's control group. What is not set is not limited.
      - They can be changed while the container runs.
      - Sizes have a unit, for example V(64MiB) or V(64m), both of which are 67108864 bytes, or V(64MB),
        which is 64000000. A plain number is bytes.
    type: dict
    suboptions:
      cpus:
        description:
          - How many CPUs it can use at most, for example V(1.5). It sets O(resources.cpu_quota) for a
            period of 100 ms.
          - Mutually exclusive with O(resources.cpu_quota) and O(resources.cpu_period).
        type: str
      cpu_shares:
        description:
          - Weight against others when CPUs are short, V(2) to V(262144); others have V(1024).
        type: int
      cpu_quota:
        description:
          - Microseconds of CPU time in each O(resources.cpu_period), at least V(1000). V(-1) and V(0) are
            unlimited.
        type: int
      cpu_period:
        description:
          - Length of a period in microseconds, V(1000) to V(1000000). If not set, V(100000).
        type: int
      cpuset_cpus:
        description: Numbers of the CPUs to run on, for example V(0-3,7).
        type: str
      cpuset_mems:
        description: Numbers of the NUMA nodes to take memory from, for example V(0).
        type: str
      memory:
        description:
          - Most memory that it can use, at least V(512KiB). A container that needs more is killed.
          - V(-1) is unlimited.
        type: str
      memory_reservation:
        description:
          - Memory that it is brought back to when the host is short of it. Not more than
            O(resources.memory).
        type: str
      memory_swap:
        description:
          - Most memory and swap together. It needs O(resources.memory), and is no less than that; if both
            are equal, there is no swap. V(-1) is unlimited.
        type: str
      pids_limit:
        description:
          - Most processes and threads. V(-1) and V(0) are unlimited.
        type: int
      io_weight:
        description:
          - Weight against others when block devices are busy, V(10) to V(1000). It needs the scheduler BFQ
            or C(io.cost).
        type: int
      io_limits:
        description: Throttles of block devices, with at least one limit each. What is not set is not limited.
        type: list
        elements: dict
        default: []
        suboptions:
          device:
            description: Absolute path of the device node on the host, of a whole disk.
            type: str
            required: true
          read_bps:
            description: Bytes per second that can be read, with a unit as in O(resources).
            type: str
          write_bps:
            description: Bytes per second that can be written, with a unit as in O(resources).
            type: str
          read_iops:
            description: Read operations per second.
            type: int
          write_iops:
            description: Write operations per second.
            type: int
      hugepages:
        description:
          - Most memory in huge pages for each page size, for example V(2MB) with V(64MiB). The size of a
            page is a name as the kernel writes it.
        type: dict
        default: {}
      unified:
        description:
          - Files of cgroup v2 and what is written into them, for example V(memory.high) with V(67108864),
            for limits without an option of their own. Hosts with cgroup v1 refuse it.
        type: dict
        default: {}
  security:
    description:
      - What the processes of the container can do.
    type: dict
    suboptions:
      privileged:
        description:
          - Whether it has all capabilities and devices of the host, sees everything, and can change the
            kernel's settings.
          - A seccomp or AppArmor profile that is named still holds. Processes of such a container can take
            over the host.
        type: bool
        default: false
      capabilities_add:
        description:
          - Capabilities besides the usual ones, with or without C(CAP_), or V(ALL).
          - The usual ones are C(CHOWN), C(DAC_OVERRIDE), C(FOWNER), C(FSETID), C(KILL),
            C(NET_BIND_SERVICE), C(SETFCAP), C(SETGID), C(SETPCAP), C(SETUID) and C(SYS_CHROOT).
          - A program that does not run as root has only those that are added.
        type: list
        elements: str
        default: []
      capabilities_drop:
        description:
          - Capabilities that it does not have, with or without C(CAP_), or V(ALL) for all but those of
            O(security.capabilities_add).
        type: list
        elements: str
        default: []
      no_new_privileges:
        description: Whether programs gain nothing from set-user-id bits or file capabilities.
        type: bool
        default: false
      seccomp:
        description:
          - Filter of system calls. V(default) is the host's C(/usr/share/containers/seccomp.json) from the
            Debian package C(golang-github-containers-common), or none if O(security.privileged=true).
            V(unconfined) is none.
          - The absolute path of a profile on the host, in the format of the OCI specification or of docker
            and podman.
        type: str
        default: default
      apparmor:
        description:
          - Name of a loaded AppArmor profile, or V(unconfined). If not set, none is set.
        type: str
      selinux_process_label:
        description: SELinux label of the processes, as V(user:role:type:level). If not set, there is none.
        type: str
      selinux_mount_label:
        description: SELinux label of the mounts, as V(user:role:type:level). If not set, there is none.
        type: str
      masked_paths:
        description:
          - Absolute paths that are hidden. If not set, the usual ones such as C(/proc/kcore) and
            C(/sys/firmware), or none if O(security.privileged=true). An empty list hides nothing.
        type: list
        elements: str
      read_only_paths:
        description:
          - Absolute paths that cannot be written. If not set, the usual ones such as C(/proc/sys), or none
            if O(security.privileged=true). An empty list protects nothing.
        type: list
        elements: str
      read_only_rootfs:
        description: Whether the root file system cannot be written. Mounts are not affected.
        type: bool
        default: false
  rlimits:
    description:
      - Resource limits of the processes. Those that are not set are inherited.
      - A host without C(CAP_SYS_RESOURCE) lowers what is above its own hard limits, with a warning.
    type: list
    elements: dict
    default: []
    suboptions:
      type:
        description: Name of the limit, for example V(nofile) or V(RLIMIT_NOFILE).
        type: str
        required: true
      soft:
        description: The limit that counts, a whole number in the limit's own unit, or V(unlimited).
        type: str
        required: true
      hard:
        description:
          - How far a process can raise O(rlimits[].soft) by itself. If not set, the same.
        type: str
  sysctls:
    description:
      - Kernel settings of the container's own namespaces, for example V(net.core.somaxconn) with V(1024).
      - Possible are C(net.*) without the host's network, C(fs.mqueue.*) and those of System V IPC with a
        namespace O(namespaces.ipc) that is not the host's, and C(kernel.domainname). Others would change
        the host and are refused.
    type: dict
    default: {}
  hooks:
    description:
      - Programs that crun runs at the stages of a container's life. They run on the host, as root, but for
        V(startContainer).
    type: list
    elements: dict
    default: []
    suboptions:
      stage:
        description:
          - When it runs. V(createRuntime), V(createContainer) and V(prestart) run while the container is
            created, V(startContainer) and V(poststart) when it is started, V(poststop) when it is deleted.
          - V(prestart) is deprecated by the OCI specification in favour of V(createRuntime).
        type: str
        required: true
        choices: [createRuntime, createContainer, startContainer, poststart, poststop, prestart]
      path:
        description: Absolute path of the program.
        type: str
        required: true
      args:
        description: Arguments after the name of the program.
        type: list
        elements: str
        default: []
      env:
        description: Environment variables of the hook. It has no others.
        type: dict
        default: {}
      timeout:
        description: Seconds after which it is killed and counts as failed. If not set, there is no limit.
        type: int
  oom_score_adj:
    description:
      - How likely the kernel is to kill it when memory runs out, from V(-1000), never, to V(1000), first.
      - A host without C(CAP_SYS_RESOURCE) raises what is below its own value, with a warning.
      - If not set, it is inherited.
    type: int
  cgroups_path:
    description:
      - Absolute path of the control group below the root of the hierarchy, or V(slice:prefix:name) for a
        scope of systemd.
      - If not set, a scope of C(pvecri.slice) if systemd is the init, else a group below C(/pvecri).
    type: str
  stop_signal:
    description:
      - Signal that asks the program to end, a name with or without C(SIG), or a number.
      - If not set, the image's is used, else V(SIGTERM).
    type: str
  shm_size:
    description:
      - Size of C(/dev/shm), with a unit as in O(resources). If not set, V(64MiB).
    type: str
"""
