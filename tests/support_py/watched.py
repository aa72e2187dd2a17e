"""What every process that another starts had become when it ended: short-lived ones, which no look into
/proc meets in time, are held by ptrace at their end. x86-64 and others; needs root."""
import os
import pathlib
import re

from support_py.inject import DETACH, INTERRUPT, SEIZE, ptrace

CONT, WALL = 7, 0x40000000
TRACE_FORK, TRACE_VFORK, TRACE_CLONE, TRACE_EXIT = 0x2, 0x4, 0x8, 0x40
EVENT_EXIT, EVENT_STOP = 6, 128
STOPS = {19, 20, 21, 22}


class Ends:
    """While in it, `do(work)` runs work in a process of its own and returns the status (of
    /proc/PID/status, a dict) of each process that `parent` or its children ended meanwhile."""

    def __init__(self, parent):
        self.parent = parent
        self.ends = []
        self.threads = set()  # of the parent itself: they live as long as it does

    def __enter__(self):
        ptrace(SEIZE, self.parent, 0, TRACE_FORK | TRACE_VFORK | TRACE_CLONE | TRACE_EXIT)
        return self

    def __exit__(self, *_):
        for thread in {self.parent, *self.threads}:
            ptrace(INTERRUPT, thread)
            while True:
                pid, status = os.waitpid(-1, WALL)
                if pid == thread and status >> 16 == EVENT_STOP:
                    break
                self.go_on(pid, status)
            ptrace(DETACH, thread)

    def is_thread(self, pid):
        if pid not in self.threads and os.path.exists(f"/proc/{self.parent}/task/{pid}"):
            self.threads.add(pid)
        return pid in self.threads

    def do(self, work):
        self.ends = []
        asker = os.fork()
        if asker == 0:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        followed = set()
        code = None
        while code is None or followed:
            pid, status = os.waitpid(-1, WALL)
            if pid == asker:
                code = os.waitstatus_to_exitcode(status)
            elif os.WIFSTOPPED(status):
                if pid != self.parent and not self.is_thread(pid):
                    followed.add(pid)
                self.go_on(pid, status)
            else:
                followed.discard(pid)
        assert code == 0, f"the asker ended with {code}"
        return self.ends

    def go_on(self, pid, status):
        if not os.WIFSTOPPED(status):
            return
        signal, event = status >> 8 & 0xff, status >> 16
        if event == EVENT_EXIT and not self.is_thread(pid):
            text = pathlib.Path(f"/proc/{pid}/status").read_text()
            self.ends.append(dict(re.findall(r"(?m)^(\w+):\t(.*)$", text)))
        ptrace(CONT, pid, 0, 0 if event or signal in STOPS else signal)
