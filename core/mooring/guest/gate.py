"""The first program of a session's container: it waits until this machine has checked the mounts.

``gate FIFO PROGRAM ARG…`` opens the FIFO for reading, which blocks until there is a writer, and
becomes the program. It is a static executable of two system calls, and so needs nothing of the
image: no shell, no loader, and no variable of the environment has an effect on it. It lies on a
read-only mount, at a path that the image cannot know (see ``guest.paths.programs_folder``).

Exit codes: 125 if the FIFO cannot be opened, 127 if the program cannot be run.
"""

from __future__ import annotations

import struct

# elf(5): a little-endian 64-bit executable with one loaded segment, which is the whole file
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_IDENTITY = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
_EXECUTABLE, _LOADED, _READ_AND_EXECUTE = 2, 1, 5
_BASE, _PAGE = 0x400000, 0x10000

# At the start the stack holds argc, then argv, then a null pointer, then the environment.
_X86_64 = bytes.fromhex(
    "488b7c2410"  # mov  rdi, [rsp+16]         argv[1], the FIFO
    "be00000800"  # mov  esi, 0x80000          O_RDONLY | O_CLOEXEC
    "b802000000"  # mov  eax, 2                open
    "0f05"  #       syscall
    "85c0"  #       test eax, eax
    "7821"  #       js   closed
    "488b7c2418"  # mov  rdi, [rsp+24]         argv[2], the program
    "488d742418"  # lea  rsi, [rsp+24]         its argv
    "488b0424"  #   mov  rax, [rsp]            argc
    "488d54c410"  # lea  rdx, [rsp+8*rax+16]   the environment
    "b83b000000"  # mov  eax, 59               execve
    "0f05"  #       syscall
    "bf7f000000"  # mov  edi, 127
    "eb05"  #       jmp  leave
    "bf7d000000"  # closed: mov edi, 125
    "b83c000000"  # leave: mov eax, 60         exit
    "0f05"  #       syscall
)
_AARCH64 = struct.pack(
    "<18I",
    0x92800C60,  # mov  x0, #-100              AT_FDCWD
    0xF9400BE1,  # ldr  x1, [sp, #16]          argv[1], the FIFO
    0xD2A00102,  # mov  x2, #0x80000           O_RDONLY | O_CLOEXEC
    0xD2800708,  # mov  x8, #56                openat
    0xD4000001,  # svc  #0
    0xB7F80140,  # tbnz x0, #63, closed
    0xF9400FE0,  # ldr  x0, [sp, #24]          argv[2], the program
    0x910063E1,  # add  x1, sp, #24            its argv
    0xF94003E2,  # ldr  x2, [sp]               argc
    0x8B226FE2,  # add  x2, sp, x2, lsl #3
    0x91004042,  # add  x2, x2, #16            the environment
    0xD2801BA8,  # mov  x8, #221               execve
    0xD4000001,  # svc  #0
    0xD2800FE0,  # mov  x0, #127
    0x14000002,  # b    leave
    0xD2800FA0,  # closed: mov x0, #125
    0xD2800BA8,  # leave: mov x8, #93          exit
    0xD4000001,  # svc  #0
)
# By the name of the processor, as uname(1) prints it: its number in elf(5), and the code
_CODE = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64)}


def gate_program(machine: str) -> bytes | None:
    """The gate as an executable.

    Args:
        machine: the processor, as ``platform.machine()`` names it.

    Returns:
        The file's content; None if there is no gate for that processor.
    """
    if machine not in _CODE:
        return None
    number, code = _CODE[machine]
    start = _HEADER.size + _SEGMENT.size
    size = start + len(code)
    header = _HEADER.pack(
        _IDENTITY, _EXECUTABLE, number, 1, _BASE + start, _HEADER.size, 0, 0,
        _HEADER.size, _SEGMENT.size, 1, 0, 0, 0,
    )  # fmt: skip
    segment = _SEGMENT.pack(_LOADED, _READ_AND_EXECUTE, 0, _BASE, _BASE, size, size, _PAGE)
    return header + segment + code
