"""System calls made by a running process's own thread, as code of an attacker in it would make them:
the thread is stopped by ptrace, its registers are set to the call, one instruction runs. x86-64."""
import ctypes
import os
import pathlib
import re
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.restype = ctypes.c_long
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
GETREGS, SETREGS, SINGLESTEP, SEIZE, INTERRUPT, DETACH = 12, 13, 9, 0x4206, 0x4207, 17
NAMES = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
         "fs_base gs_base ds es fs gs").split()
SYSCALL = b"\x0f\x05"
OPENAT, EXECVE, CLOSE = 257, 59, 3


def ptrace(request, pid, address=0, data=0):
    result = LIBC.ptrace(request, pid, address, data)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request}")
    return result


class Thread:
    """A thread of the process that is not its first."""

    def __init__(self, process):
        self.process = process
        threads = sorted(int(name) for name in os.listdir(f"/proc/{process}/task"))
        self.thread = threads[-1]
        self.memory = None

    def __enter__(self):
        ptrace(SEIZE, self.thread)
        ptrace(INTERRUPT, self.thread)
        os.waitpid(self.thread, 0x40000000)
        self.saved = self.registers()
        self.memory = open(f"/proc/{self.process}/mem", "r+b", buffering=0)
        self.instruction = self.find_syscall()
        return self

    def __exit__(self, *_):
        self.set_registers(self.saved)
        ptrace(DETACH, self.thread)
        self.memory.close()

    def registers(self):
        room = ctypes.create_string_buffer(8 * len(NAMES))
        ptrace(GETREGS, self.thread, 0, ctypes.addressof(room))
        return dict(zip(NAMES, struct.unpack(f"<{len(NAMES)}Q", room.raw)))

    def set_registers(self, values):
        room = ctypes.create_string_buffer(struct.pack(f"<{len(NAMES)}Q",
                                                       *(values[name] for name in NAMES)))
        ptrace(SETREGS, self.thread, 0, ctypes.addressof(room))

    def find_syscall(self):
        for line in pathlib.Path(f"/proc/{self.process}/maps").read_text().splitlines():
            found = re.match(r"(\w+)-(\w+) r-xp .*libc\.so", line)
            if found:
                begin, end = (int(text, 16) for text in found.groups())
                self.memory.seek(begin)
                at = self.memory.read(end - begin).find(SYSCALL)
                if at >= 0:
                    return begin + at
        raise AssertionError("no syscall instruction in the C library")

    def call(self, number, *arguments):
        """What the kernel answers: negative for an error."""
        values = dict(self.saved)
        values.update(rip=self.instruction, rax=number, orig_rax=(1 << 64) - 1)
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments):
            values[name] = value & ((1 << 64) - 1)
        self.set_registers(values)
        ptrace(SINGLESTEP, self.thread)
        _, status = os.waitpid(self.thread, 0x40000000)
        assert os.WIFSTOPPED(status), f"the thread ended: {status:#x}"
        result = self.registers()["rax"]
        return result - (1 << 64) if result >> 63 else result

    def call_with_texts(self, number, *arguments):
        """The same; texts are put into its memory, each in a place of its own."""
        return self.call(number, *(self.put(one, place) if isinstance(one, str) else one
                                   for place, one in enumerate(arguments)))

    def put(self, text, place=0):
        """Below the thread's stack, beyond its red zone."""
        address = (self.saved["rsp"] - 8192 - 1024 * place) & ~0xF
        self.memory.seek(address)
        self.memory.write(text.encode() + b"\0" * 16)
        return address

    def openat(self, path, flags):
        result = self.call(OPENAT, -100, self.put(path), flags, 0o600)
        if result >= 0:
            self.call(CLOSE, result)
        return result

    def execve(self, path):
        return self.call(EXECVE, self.put(path), 0, 0)
