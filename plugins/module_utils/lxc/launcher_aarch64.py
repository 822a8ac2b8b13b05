# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List the launcher's machine code for 64-bit ARM; see `launcher` for what it does.

To change it, change the comments, which are the assembler's source, and run tests/support/machine_code.py on
this file.
"""

from __future__ import annotations

import typing as t

#: The code, one instruction a line.
CODE: t.Final = bytes.fromhex(
    "f40b40f9"  # ldr x20, [sp, #16]  ; argv[1], the socket's path
    "ff0308d1"  # sub sp, sp, #512
    "ff7f00a9"  # stp xzr, xzr, [sp]  ; rt_sigaction(SIGPIPE, SIG_DFL): systemd ignores it
    "ff7f01a9"  # stp xzr, xzr, [sp, #16]
    "a00180d2"  # mov x0, #13
    "e1030091"  # mov x1, sp
    "020080d2"  # mov x2, #0
    "030180d2"  # mov x3, #8
    "c81080d2"  # mov x8, #134
    "010000d4"  # svc #0
    "200080d2"  # mov x0, #1  ; socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
    "a1008052"  # mov w1, #5
    "0101a072"  # movk w1, #8, lsl #16
    "020080d2"  # mov x2, #0
    "c81880d2"  # mov x8, #198
    "010000d4"  # svc #0
    "f30300aa"  # mov x19, x0  ; x19: the socket
    "601df8b7"  # tbnz x0, #63, quit
    "29008052"  # mov w9, #1  ; sockaddr_un
    "e9030079"  # strh w9, [sp]
    "e90b0091"  # add x9, sp, #2
    "6a0d80d2"  # mov x10, #107
    # copy:
    "8b164038"  # ldrb w11, [x20], #1
    "2b150038"  # strb w11, [x9], #1
    "8b000034"  # cbz w11, copied
    "4a0500f1"  # subs x10, x10, #1
    "81ffff54"  # b.ne copy
    "3f010039"  # strb wzr, [x9]
    # copied:
    "e00313aa"  # mov x0, x19  ; connect()
    "e1030091"  # mov x1, sp
    "c20d80d2"  # mov x2, #110
    "681980d2"  # mov x8, #203
    "010000d4"  # svc #0
    "601bf8b7"  # tbnz x0, #63, quit
    "e1030291"  # add x1, sp, #128  ; msghdr
    "e9030391"  # add x9, sp, #192  ; iovec: one byte
    "ea030491"  # add x10, sp, #256  ; control: four descriptors
    "eb430391"  # add x11, sp, #208
    "2c0080d2"  # mov x12, #1
    "0d0880d2"  # mov x13, #64
    "3f7c00a9"  # stp xzr, xzr, [x1]
    "293001a9"  # stp x9, x12, [x1, #16]
    "2a3402a9"  # stp x10, x13, [x1, #32]
    "3f1800f9"  # str xzr, [x1, #48]
    "2b3100a9"  # stp x11, x12, [x9]
    "e00313aa"  # mov x0, x19  ; recvmsg(MSG_CMSG_CLOEXEC)
    "0200a852"  # mov w2, #0x40000000
    "881a80d2"  # mov x8, #212
    "010000d4"  # svc #0
    "1f0400f1"  # cmp x0, #1
    "41190054"  # b.ne quit
    "150080d2"  # mov x21, #0  ; x21: stage 0, streams
    "80018092"  # mov x0, #-13  ; fewer than four: a security module kept them
    "e98340f9"  # ldr x9, [sp, #256]
    "3f8100f1"  # cmp x9, #32
    "c1170054"  # b.ne report
    "160080d2"  # mov x22, #0
    # dups:
    "e9430491"  # add x9, sp, #272
    "207976b8"  # ldr w0, [x9, x22, lsl #2]
    "e10316aa"  # mov x1, x22
    "020080d2"  # mov x2, #0
    "080380d2"  # mov x8, #24  ; dup3()
    "010000d4"  # svc #0
    "c016f8b7"  # tbnz x0, #63, report
    "d6060091"  # add x22, x22, #1
    "df0e00f1"  # cmp x22, #3
    "e1feff54"  # b.ne dups
    "350080d2"  # mov x21, #1  ; stage 1, block: mmap(MAP_PRIVATE | MAP_FIXED)
    "1700a4d2"  # mov x23, #0x20000000  ; x23: the block
    "e00317aa"  # mov x0, x23
    "0110a0d2"  # mov x1, #0x800000
    "620080d2"  # mov x2, #3
    "430280d2"  # mov x3, #0x12
    "e41f41b9"  # ldr w4, [sp, #284]
    "050080d2"  # mov x5, #0
    "c81b80d2"  # mov x8, #222
    "010000d4"  # svc #0
    "1f0017eb"  # cmp x0, x23
    "e1140054"  # b.ne report
    "a81380d2"  # mov x8, #157  ; setsid(); it may lead a session already
    "010000d4"  # svc #0
    "f80240f9"  # ldr x24, [x23]  ; x24: flags
    "550080d2"  # mov x21, #2  ; stage 2, terminal
    "f8000036"  # tbz x24, #0, no_terminal
    "000080d2"  # mov x0, #0  ; ioctl(TIOCSCTTY)
    "c1818ad2"  # mov x1, #0x540e
    "020080d2"  # mov x2, #0
    "a80380d2"  # mov x8, #29
    "010000d4"  # svc #0
    "8013f8b7"  # tbnz x0, #63, report
    # no_terminal:
    "400280d2"  # mov x0, #18  ; umask(022), for directories that are made here
    "c81480d2"  # mov x8, #166
    "010000d4"  # svc #0
    "750080d2"  # mov x21, #3  ; stage 3, directory
    "a1000094"  # bl go
    "1f0800b1"  # cmn x0, #2
    "41010054"  # b.ne entered
    "f63a40f9"  # ldr x22, [x23, #112]  ; it is not there: make what is missing of it
    # make:
    "c18640f8"  # ldr x1, [x22], #8
    "c10000b4"  # cbz x1, made
    "600c8092"  # mov x0, #-100
    "a23d80d2"  # mov x2, #493
    "480480d2"  # mov x8, #34  ; mkdirat()
    "010000d4"  # svc #0
    "faffff17"  # b make
    # made:
    "96000094"  # bl go
    # entered:
    "fc0300aa"  # mov x28, x0  ; x28: how that ended; the user may enter where root may not
    "950080d2"  # mov x21, #4  ; stage 4, read-only root: mount_setattr("/", MOUNT_ATTR_RDONLY)
    "d8011036"  # tbz x24, #2, writable
    "290080d2"  # mov x9, #1
    "e97f08a9"  # stp x9, xzr, [sp, #128]
    "ff7f09a9"  # stp xzr, xzr, [sp, #144]
    "e9058052"  # mov w9, #0x2f
    "e95300f9"  # str x9, [sp, #160]
    "600c8092"  # mov x0, #-100
    "e1830291"  # add x1, sp, #160
    "020080d2"  # mov x2, #0
    "e3030291"  # add x3, sp, #128
    "040480d2"  # mov x4, #32
    "483780d2"  # mov x8, #442
    "010000d4"  # svc #0
    "800ff8b7"  # tbnz x0, #63, report
    # writable:
    "b50080d2"  # mov x21, #5  ; stage 5, capabilities: first the bounding set
    "f90640f9"  # ldr x25, [x23, #8]
    "160080d2"  # mov x22, #0
    # bound:
    "2927d69a"  # lsr x9, x25, x22
    "49010037"  # tbnz x9, #0, kept
    "000380d2"  # mov x0, #24  ; prctl(PR_CAPBSET_DROP); no such capability: fine
    "e10316aa"  # mov x1, x22
    "020080d2"  # mov x2, #0
    "030080d2"  # mov x3, #0
    "040080d2"  # mov x4, #0
    "e81480d2"  # mov x8, #167
    "010000d4"  # svc #0
    "1f0400b1"  # cmn x0, #1
    "c00d0054"  # b.eq report
    # kept:
    "d6060091"  # add x22, x22, #1
    "df0201f1"  # cmp x22, #64
    "61feff54"  # b.ne bound
    "000180d2"  # mov x0, #8  ; prctl(PR_SET_KEEPCAPS, 1), until execve()
    "210080d2"  # mov x1, #1
    "020080d2"  # mov x2, #0
    "030080d2"  # mov x3, #0
    "040080d2"  # mov x4, #0
    "e81480d2"  # mov x8, #167
    "010000d4"  # svc #0
    "d50080d2"  # mov x21, #6  ; stage 6, groups
    "e00642a9"  # ldp x0, x1, [x23, #32]
    "e81380d2"  # mov x8, #159
    "010000d4"  # svc #0
    "e00bf8b7"  # tbnz x0, #63, report
    "f50080d2"  # mov x21, #7  ; stage 7, group
    "e00e40f9"  # ldr x0, [x23, #24]
    "081280d2"  # mov x8, #144
    "010000d4"  # svc #0
    "400bf8b7"  # tbnz x0, #63, report
    "150180d2"  # mov x21, #8  ; stage 8, user
    "e00a40f9"  # ldr x0, [x23, #16]
    "481280d2"  # mov x8, #146
    "010000d4"  # svc #0
    "a00af8b7"  # tbnz x0, #63, report
    "b50080d2"  # mov x21, #5  ; stage 5 again: the other sets, as far as we have them
    "49a48052"  # mov w9, #0x522
    "0901a472"  # movk w9, #0x2008, lsl #16
    "e93f00f9"  # str x9, [sp, #120]
    "e0e30191"  # add x0, sp, #120  ; capget()
    "e1030291"  # add x1, sp, #128
    "480b80d2"  # mov x8, #90
    "010000d4"  # svc #0
    "8009f8b7"  # tbnz x0, #63, report
    "f98740b9"  # ldr w25, [sp, #132]  ; x25: what is permitted
    "e99340b9"  # ldr w9, [sp, #144]
    "398309aa"  # orr x25, x25, x9, lsl #32
    "160080d2"  # mov x22, #0
    # sets:
    "e9420191"  # add x9, x23, #80
    "297976f8"  # ldr x9, [x9, x22, lsl #3]
    "2901198a"  # and x9, x9, x25
    "ea030291"  # add x10, sp, #128
    "4a09168b"  # add x10, x10, x22, lsl #2
    "490100b9"  # str w9, [x10]
    "29fd60d3"  # lsr x9, x9, #32
    "490d00b9"  # str w9, [x10, #12]
    "d6060091"  # add x22, x22, #1
    "df0e00f1"  # cmp x22, #3
    "c1feff54"  # b.ne sets
    "e0e30191"  # add x0, sp, #120  ; capset()
    "e1030291"  # add x1, sp, #128
    "680b80d2"  # mov x8, #91
    "010000d4"  # svc #0
    "0007f8b7"  # tbnz x0, #63, report
    "e93640f9"  # ldr x9, [x23, #104]
    "3903098a"  # and x25, x25, x9
    "160080d2"  # mov x22, #0
    # ambient:
    "2927d69a"  # lsr x9, x25, x22
    "29010036"  # tbz x9, #0, not_ambient
    "e00580d2"  # mov x0, #47  ; prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE)
    "410080d2"  # mov x1, #2
    "e20316aa"  # mov x2, x22
    "030080d2"  # mov x3, #0
    "040080d2"  # mov x4, #0
    "e81480d2"  # mov x8, #167
    "010000d4"  # svc #0
    "6005f8b7"  # tbnz x0, #63, report
    # not_ambient:
    "d6060091"  # add x22, x22, #1
    "df0201f1"  # cmp x22, #64
    "81feff54"  # b.ne ambient
    "750080d2"  # mov x21, #3  ; stage 3 again, as the user
    "7c00f8b6"  # tbz x28, #63, inside
    "2f000094"  # bl go
    "8004f8b7"  # tbnz x0, #63, report
    # inside:
    "350180d2"  # mov x21, #9  ; stage 9, no_new_privs
    "38010836"  # tbz x24, #1, new_privs
    "c00480d2"  # mov x0, #38  ; prctl(PR_SET_NO_NEW_PRIVS, 1)
    "210080d2"  # mov x1, #1
    "020080d2"  # mov x2, #0
    "030080d2"  # mov x3, #0
    "040080d2"  # mov x4, #0
    "e81480d2"  # mov x8, #167
    "010000d4"  # svc #0
    "4003f8b7"  # tbnz x0, #63, report
    # new_privs:
    "e02640f9"  # ldr x0, [x23, #72]  ; umask()
    "c81480d2"  # mov x8, #166
    "010000d4"  # svc #0
    "600080d2"  # mov x0, #3  ; close_range(3, ~0, CLOSE_RANGE_CLOEXEC)
    "01008012"  # mov w1, #-1
    "820080d2"  # mov x2, #4
    "883680d2"  # mov x8, #436
    "010000d4"  # svc #0
    "550180d2"  # mov x21, #10  ; stage 10, program
    "3a008092"  # mov x26, #-2  ; x26: the failure to tell of
    "f6e20191"  # add x22, x23, #120
    # next:
    "c08640f8"  # ldr x0, [x22], #8
    "800100b4"  # cbz x0, none
    "e18a43a9"  # ldp x1, x2, [x23, #56]
    "a81b80d2"  # mov x8, #221  ; execve()
    "010000d4"  # svc #0
    "1f0800b1"  # cmn x0, #2  ; not there, or below what is no directory: look on
    "40ffff54"  # b.eq next
    "1f5000b1"  # cmn x0, #20
    "00ffff54"  # b.eq next
    "1f3400b1"  # cmn x0, #13  ; may not be executed: look on, but remember
    "81000054"  # b.ne report
    "fa0300aa"  # mov x26, x0
    "f4ffff17"  # b next
    # none:
    "e0031aaa"  # mov x0, x26
    # report:
    "e903004b"  # neg w9, w0
    "f5270029"  # stp w21, w9, [sp]
    "e00313aa"  # mov x0, x19  ; write(): stage and error
    "e1030091"  # mov x1, sp
    "020180d2"  # mov x2, #8
    "080880d2"  # mov x8, #64
    "010000d4"  # svc #0
    # quit:
    "e00f80d2"  # mov x0, #127
    "c80b80d2"  # mov x8, #94  ; exit_group()
    "010000d4"  # svc #0
    # go:
    "e01a40f9"  # ldr x0, [x23, #48]
    "280680d2"  # mov x8, #49  ; chdir()
    "010000d4"  # svc #0
    "c0035fd6"  # ret
)
