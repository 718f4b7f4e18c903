"""What the kernel still does for the process that decodes: memory, its pipes, threads, the clock.

A seccomp filter, by hand: the rules are one table, and no maintained package has less in it.
Everything else fails with EPERM: no files by name, no sockets, no programs, no signals to others.
"""

from __future__ import annotations

import ctypes
import platform
import struct

# Name: number on x86_64 and on aarch64.
ALLOWED = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "exit": (60, 93),
    "sigaltstack": (131, 132),
    "getcwd": (79, 17),  # Pillow asks
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "clock_gettime": (228, 113),
    "exit_group": (231, 94),
    "set_robust_list": (273, 99),
    "getrandom": (318, 278),
    "rseq": (334, 293),
}
CLONE, PRLIMIT, CLONE3 = (56, 220), (302, 261), (435, 435)
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

CLONE_THREAD = 0x10000
EPERM, ENOSYS = 1, 38
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2

# Classic BPF over struct seccomp_data: the number at 0, the architecture at 4, arguments from 16.
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENT = 0, 4, 16
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000


def confine(libc: ctypes.CDLL) -> bool:
    """Install the filter for good; no_new_privs must be set. False where the kernel cannot."""
    known = ARCHITECTURES.get(platform.machine())
    if known is None:
        return False
    program = _program(*known)
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    done: int = libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0)
    return done == 0


def _program(column: int, architecture: int) -> bytes:
    lines = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]
    for numbers in ALLOWED.values():
        lines += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, ALLOW)]
    lines += [(EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, ERRNO | ENOSYS)]  # clone is tried then
    lines += _if_argument(CLONE[column], (ANY_BIT, 0, 1, CLONE_THREAD))
    lines += _if_argument(PRLIMIT[column], (EQUAL, 0, 1, 0))  # of oneself
    lines.append((RETURN, 0, 0, ERRNO | EPERM))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _if_argument(number: int, test: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """Allowed when its first argument passes the test."""
    return [
        (EQUAL, 0, 4, number),
        (LOAD, 0, 0, ARGUMENT),
        test,
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, ERRNO | EPERM),
    ]
