# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List the launcher's machine code for x86-64; see `launcher` for what it does.

To change it, change the comments, which are the assembler's source, and run tests/support/machine_code.py on
this file.
"""

from __future__ import annotations

import typing as t

#: The code, one instruction a line.
CODE: t.Final = bytes.fromhex(
    "4c8b7c2410"  # mov r15, [rsp + 16]  ; argv[1], the socket's path
    "4881ec00020000"  # sub rsp, 512
    "31d2"  # xor edx, edx  ; rt_sigaction(SIGPIPE, SIG_DFL): systemd ignores it
    "52"  # push rdx
    "52"  # push rdx
    "52"  # push rdx
    "52"  # push rdx
    "4889e6"  # mov rsi, rsp
    "bf0d000000"  # mov edi, 13
    "41ba08000000"  # mov r10d, 8
    "b80d000000"  # mov eax, 13
    "0f05"  # syscall
    "4883c420"  # add rsp, 32
    "bf01000000"  # mov edi, 1  ; socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
    "be05000800"  # mov esi, 0x80005
    "31d2"  # xor edx, edx
    "b829000000"  # mov eax, 41
    "0f05"  # syscall
    "89c3"  # mov ebx, eax  ; rbx: the socket
    "85c0"  # test eax, eax
    "0f88ee030000"  # js quit
    "66c704240100"  # mov word ptr [rsp], 1  ; sockaddr_un
    "488d7c2402"  # lea rdi, [rsp + 2]
    "4c89fe"  # mov rsi, r15
    "b96b000000"  # mov ecx, 107
    # copy:
    "ac"  # lodsb
    "aa"  # stosb
    "84c0"  # test al, al
    "e0fa"  # loopnz copy
    "c60700"  # mov byte ptr [rdi], 0
    "89df"  # mov edi, ebx  ; connect()
    "4889e6"  # mov rsi, rsp
    "ba6e000000"  # mov edx, 110
    "b82a000000"  # mov eax, 42
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "0f88b9030000"  # js quit
    "488db42480000000"  # lea rsi, [rsp + 128]  ; msghdr
    "31c0"  # xor eax, eax
    "488906"  # mov [rsi], rax
    "48894608"  # mov [rsi + 8], rax
    "488d9424c0000000"  # lea rdx, [rsp + 192]  ; iovec: one byte
    "48895610"  # mov [rsi + 16], rdx
    "48c7461801000000"  # mov qword ptr [rsi + 24], 1
    "488d8c2400010000"  # lea rcx, [rsp + 256]  ; control: four descriptors
    "48894e20"  # mov [rsi + 32], rcx
    "48c7462840000000"  # mov qword ptr [rsi + 40], 64
    "48894630"  # mov [rsi + 48], rax
    "488d8c24d0000000"  # lea rcx, [rsp + 208]
    "48890a"  # mov [rdx], rcx
    "48c7420801000000"  # mov qword ptr [rdx + 8], 1
    "89df"  # mov edi, ebx  ; recvmsg(MSG_CMSG_CLOEXEC)
    "ba00000040"  # mov edx, 0x40000000
    "b82f000000"  # mov eax, 47
    "0f05"  # syscall
    "4883f801"  # cmp rax, 1
    "0f8551030000"  # jne quit
    "4531e4"  # xor r12d, r12d  ; r12: stage 0, streams
    "b8f3ffffff"  # mov eax, -13  ; fewer than four: a security module kept them
    "4883bc240001000020"  # cmp qword ptr [rsp + 256], 32
    "0f851f030000"  # jne report
    "31f6"  # xor esi, esi
    # dups:
    "8bbcb410010000"  # mov edi, [rsp + 272 + rsi * 4]
    "b821000000"  # mov eax, 33  ; dup2()
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "0f8807030000"  # js report
    "ffc6"  # inc esi
    "83fe03"  # cmp esi, 3
    "75e3"  # jne dups
    "41ffc4"  # inc r12d  ; stage 1, block: mmap(MAP_PRIVATE | MAP_FIXED)
    "bf00000020"  # mov edi, 0x20000000
    "be00008000"  # mov esi, 0x800000
    "ba03000000"  # mov edx, 3
    "41ba12000000"  # mov r10d, 0x12
    "448b84241c010000"  # mov r8d, [rsp + 284]
    "4531c9"  # xor r9d, r9d
    "b809000000"  # mov eax, 9
    "0f05"  # syscall
    "483d00000020"  # cmp rax, 0x20000000
    "0f85ca020000"  # jne report
    "bd00000020"  # mov ebp, 0x20000000  ; rbp: the block
    "b870000000"  # mov eax, 112  ; setsid(); it may lead a session already
    "0f05"  # syscall
    "41ffc4"  # inc r12d  ; stage 2, terminal
    "f6450001"  # test byte ptr [rbp], 1
    "7418"  # jz no_terminal
    "31ff"  # xor edi, edi  ; ioctl(TIOCSCTTY)
    "be0e540000"  # mov esi, 0x540e
    "31d2"  # xor edx, edx
    "b810000000"  # mov eax, 16
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "0f889d020000"  # js report
    # no_terminal:
    "bf12000000"  # mov edi, 18  ; umask(022), for directories that are made here
    "b85f000000"  # mov eax, 95
    "0f05"  # syscall
    "41ffc4"  # inc r12d  ; stage 3, directory
    "e8b0020000"  # call go
    "83f8fe"  # cmp eax, -2
    "7523"  # jne entered
    "4c8b7570"  # mov r14, [rbp + 112]  ; it is not there: make what is missing of it
    # make:
    "498b3e"  # mov rdi, [r14]
    "4885ff"  # test rdi, rdi
    "7412"  # jz made
    "beed010000"  # mov esi, 493
    "b853000000"  # mov eax, 83  ; mkdir()
    "0f05"  # syscall
    "4983c608"  # add r14, 8
    "ebe6"  # jmp make
    # made:
    "e888020000"  # call go
    # entered:
    "4189c5"  # mov r13d, eax  ; r13: how that ended; the user may go where root may not
    "41ffc4"  # inc r12d  ; stage 4, read-only root: mount_setattr("/", MOUNT_ATTR_RDONLY)
    "f6450004"  # test byte ptr [rbp], 4
    "745c"  # jz writable
    "31c0"  # xor eax, eax
    "48c784248000000001000000"  # mov qword ptr [rsp + 128], 1
    "4889842488000000"  # mov [rsp + 136], rax
    "4889842490000000"  # mov [rsp + 144], rax
    "4889842498000000"  # mov [rsp + 152], rax
    "66c78424a00000002f00"  # mov word ptr [rsp + 160], 0x2f
    "bf9cffffff"  # mov edi, -100
    "488db424a0000000"  # lea rsi, [rsp + 160]
    "31d2"  # xor edx, edx
    "4c8d942480000000"  # lea r10, [rsp + 128]
    "41b820000000"  # mov r8d, 32
    "b8ba010000"  # mov eax, 442
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "0f88f9010000"  # js report
    # writable:
    "41ffc4"  # inc r12d  ; stage 5, capabilities: first the bounding set
    "4531f6"  # xor r14d, r14d
    # bound:
    "488b4508"  # mov rax, [rbp + 8]
    "4c0fa3f0"  # bt rax, r14
    "7220"  # jc kept
    "bf18000000"  # mov edi, 24  ; prctl(PR_CAPBSET_DROP); no such capability: fine
    "4489f6"  # mov esi, r14d
    "31d2"  # xor edx, edx
    "4531d2"  # xor r10d, r10d
    "4531c0"  # xor r8d, r8d
    "b89d000000"  # mov eax, 157
    "0f05"  # syscall
    "83f8ff"  # cmp eax, -1
    "0f84c9010000"  # je report
    # kept:
    "41ffc6"  # inc r14d
    "4183fe40"  # cmp r14d, 64
    "75cd"  # jne bound
    "bf08000000"  # mov edi, 8  ; prctl(PR_SET_KEEPCAPS, 1), until execve()
    "be01000000"  # mov esi, 1
    "31d2"  # xor edx, edx
    "4531d2"  # xor r10d, r10d
    "4531c0"  # xor r8d, r8d
    "b89d000000"  # mov eax, 157
    "0f05"  # syscall
    "41ffc4"  # inc r12d  ; stage 6, groups
    "488b7d20"  # mov rdi, [rbp + 32]
    "488b7528"  # mov rsi, [rbp + 40]
    "b874000000"  # mov eax, 116
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "0f888d010000"  # js report
    "41ffc4"  # inc r12d  ; stage 7, group
    "488b7d18"  # mov rdi, [rbp + 24]
    "b86a000000"  # mov eax, 106
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "0f8877010000"  # js report
    "41ffc4"  # inc r12d  ; stage 8, user
    "488b7d10"  # mov rdi, [rbp + 16]
    "b869000000"  # mov eax, 105
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "0f8861010000"  # js report
    "41bc05000000"  # mov r12d, 5  ; stage 5 again: the other sets, as far as we have them
    "c744247822050820"  # mov dword ptr [rsp + 120], 0x20080522
    "c744247c00000000"  # mov dword ptr [rsp + 124], 0
    "488d7c2478"  # lea rdi, [rsp + 120]  ; capget()
    "488db42480000000"  # lea rsi, [rsp + 128]
    "b87d000000"  # mov eax, 125
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "0f882f010000"  # js report
    "448bb42484000000"  # mov r14d, [rsp + 132]  ; r14: what is permitted
    "8b8c2490000000"  # mov ecx, [rsp + 144]
    "48c1e120"  # shl rcx, 32
    "4909ce"  # or r14, rcx
    "31d2"  # xor edx, edx
    # sets:
    "488b4cd550"  # mov rcx, [rbp + 80 + rdx * 8]
    "4c21f1"  # and rcx, r14
    "898c9480000000"  # mov [rsp + 128 + rdx * 4], ecx
    "48c1e920"  # shr rcx, 32
    "898c948c000000"  # mov [rsp + 140 + rdx * 4], ecx
    "ffc2"  # inc edx
    "83fa03"  # cmp edx, 3
    "75df"  # jne sets
    "488d7c2478"  # lea rdi, [rsp + 120]  ; capset()
    "488db42480000000"  # lea rsi, [rsp + 128]
    "b87e000000"  # mov eax, 126
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "0f88da000000"  # js report
    "4c237568"  # and r14, [rbp + 104]
    "4531ff"  # xor r15d, r15d
    # ambient:
    "4d0fa3fe"  # bt r14, r15
    "7322"  # jnc not_ambient
    "bf2f000000"  # mov edi, 47  ; prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE)
    "be02000000"  # mov esi, 2
    "4489fa"  # mov edx, r15d
    "4531d2"  # xor r10d, r10d
    "4531c0"  # xor r8d, r8d
    "b89d000000"  # mov eax, 157
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "0f88ab000000"  # js report
    # not_ambient:
    "41ffc7"  # inc r15d
    "4183ff40"  # cmp r15d, 64
    "75cf"  # jne ambient
    "41bc03000000"  # mov r12d, 3  ; stage 3 again, as the user
    "4585ed"  # test r13d, r13d
    "790d"  # jns inside
    "e8b9000000"  # call go
    "85c0"  # test eax, eax
    "0f888a000000"  # js report
    # inside:
    "41bc09000000"  # mov r12d, 9  ; stage 9, no_new_privs
    "f6450002"  # test byte ptr [rbp], 2
    "741d"  # jz new_privs
    "bf26000000"  # mov edi, 38  ; prctl(PR_SET_NO_NEW_PRIVS, 1)
    "be01000000"  # mov esi, 1
    "31d2"  # xor edx, edx
    "4531d2"  # xor r10d, r10d
    "4531c0"  # xor r8d, r8d
    "b89d000000"  # mov eax, 157
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "7861"  # js report
    # new_privs:
    "488b7d48"  # mov rdi, [rbp + 72]  ; umask()
    "b85f000000"  # mov eax, 95
    "0f05"  # syscall
    "bf03000000"  # mov edi, 3  ; close_range(3, ~0, CLOSE_RANGE_CLOEXEC)
    "beffffffff"  # mov esi, 0xffffffff
    "ba04000000"  # mov edx, 4
    "b8b4010000"  # mov eax, 436
    "0f05"  # syscall
    "41ffc4"  # inc r12d  ; stage 10, program
    "41befeffffff"  # mov r14d, -2  ; r14: the failure to tell of
    "4c8d6d78"  # lea r13, [rbp + 120]
    # next:
    "498b7d00"  # mov rdi, [r13]
    "4885ff"  # test rdi, rdi
    "7427"  # jz none
    "488b7538"  # mov rsi, [rbp + 56]
    "488b5540"  # mov rdx, [rbp + 64]
    "b83b000000"  # mov eax, 59  ; execve()
    "0f05"  # syscall
    "4983c508"  # add r13, 8
    "83f8fe"  # cmp eax, -2  ; not there, or below what is no directory: look on
    "74df"  # je next
    "83f8ec"  # cmp eax, -20
    "74da"  # je next
    "83f8f3"  # cmp eax, -13  ; may not be executed: look on, but remember
    "7508"  # jne report
    "4189c6"  # mov r14d, eax
    "ebd0"  # jmp next
    # none:
    "4489f0"  # mov eax, r14d
    # report:
    "44892424"  # mov [rsp], r12d
    "f7d8"  # neg eax
    "89442404"  # mov [rsp + 4], eax
    "89df"  # mov edi, ebx
    "4889e6"  # mov rsi, rsp
    "ba08000000"  # mov edx, 8
    "b801000000"  # mov eax, 1  ; write(): stage and error
    "0f05"  # syscall
    # quit:
    "bf7f000000"  # mov edi, 127
    "b8e7000000"  # mov eax, 231  ; exit_group()
    "0f05"  # syscall
    # go:
    "488b7d30"  # mov rdi, [rbp + 48]
    "b850000000"  # mov eax, 80  ; chdir()
    "0f05"  # syscall
    "c3"  # ret
)
