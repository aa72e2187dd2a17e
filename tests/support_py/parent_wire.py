"""What the daemon says to its parent (daemon/privsep/parent_protocol.h, delivery/local/agents/local_target_codec.cc), for a
test that plays a daemon which an attacker has taken over: it takes the daemon's own end of the socket."""
import array
import ctypes
import os
import socket
import struct

from support_py import wait

MAGIC = 0x50524432
PERFORM, READ_FORWARD, BIND, RELOAD, TOKEN = 1, 2, 3, 4, 5
MAILBOX, ENTRY, PLACE = 0, 1, 2
MAILDIR, MBOX, LMTP, COMMAND = 0, 1, 2, 3
OUTCOME, TEXT, NOTHING, REFUSED, FAILED = 1, 2, 3, 4, 5
NAMES = {OUTCOME: "performed", TEXT: "text", NOTHING: "nothing", REFUSED: "refused", FAILED: "failed"}
LIBC = ctypes.CDLL(None, use_errno=True)
PIDFD_OPEN, PIDFD_GETFD = 434, 438


def take_socket(pid):
    """The daemon's end of its socket to the parent: the first sequenced one it has."""
    process = LIBC.syscall(PIDFD_OPEN, pid, 0)
    assert process >= 0, os.strerror(ctypes.get_errno())
    try:
        for fd in sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd")):
            if not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:"):
                continue
            copy = LIBC.syscall(PIDFD_GETFD, process, fd, 0)
            if copy < 0:
                continue
            ours = socket.socket(fileno=copy)
            if ours.family == socket.AF_UNIX and ours.type & 0xf == socket.SOCK_SEQPACKET:
                return ours
            ours.close()
    finally:
        os.close(process)
    raise AssertionError("the daemon has no such socket")


def number(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(value):
    value = value if isinstance(value, bytes) else str(value).encode()
    return number(len(value)) + value


def job(to, kind=MAILDIR, place="", root="", arguments=(), user="", source=MAILBOX, name="", size=3,
        sender="a@ext.example", ident="1", hostname="us.example", time=1000, trace=""):
    out = number(2) + number(source) + text(name) + number(kind) + text(user) + text(root) + text(place)
    out += number(len(arguments)) + b"".join(text(one) for one in arguments)
    out += number(time) + number(1 << 40) + number(0)
    local, _, domain = to.rpartition("@")
    for one in (ident, sender, to, to, local, "", domain, hostname):
        out += text(one)
    return out + number(1_700_000_000_000) + text(trace) + number(size)


def request(verb=PERFORM, user="", name="", source=MAILBOX, address=b"", magic=MAGIC, size=None):
    out = struct.pack("=IIII", magic, verb, source, len(address) if size is None else size)
    for value, room in ((user, 64), (name, 1024)):
        value = value if isinstance(value, bytes) else str(value).encode()
        out += value[:room].ljust(room, b"\0")
    return out + address.ljust(128, b"\0")


def ipv4(host, port):
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def memory_file(content):
    fd = os.memfd_create("job", os.MFD_CLOEXEC)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


class Wire:
    def __init__(self, pid):
        self.socket = take_socket(pid)

    def close(self):
        self.socket.close()

    def send(self, packet, descriptors):
        self.socket.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                        array.array("i", descriptors))] if descriptors else [])

    def ask(self, packet, *descriptors, timeout=wait.DEADLINE):
        """The kind of the answer and its text; "silence" if nobody answers and the socket is closed."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self.send(packet, [theirs.fileno(), *descriptors])
            ours.settimeout(timeout)
            got = b""
            while len(got) < 20 or len(got) < 20 + struct.unpack("=IIiII", got[:20])[4]:
                more = ours.recv(65536)
                if not more:
                    return "silence", ""
                got += more
        _, kind, code, is_ours, _ = struct.unpack("=IIiII", got[:20])
        return NAMES.get(kind, str(kind)), got[20:].decode("utf-8", "replace")

    def perform(self, work, user="", source=MAILBOX, body=b"x\r\n", **more):
        file, content = memory_file(work), memory_file(body)
        try:
            return self.ask(request(PERFORM, user, source=source, **more), file, content)
        finally:
            os.close(file)
            os.close(content)
