"""File systems of a hostile user's, by FUSE's own protocol: one with a file whose close is never answered,
and one that answers nothing. Needs root to be mounted; whoever reads it needs not."""
import ctypes
import os
import pathlib
import select
import struct
import threading

LOOKUP, FORGET, GETATTR, OPEN, FLUSH, INIT, OPENDIR, INTERRUPT, BATCH_FORGET = (
    1, 2, 3, 14, 25, 26, 27, 36, 42)
FOLDER, FILE, LONG = 0o40755, 0o100644, 3600
LIBC = ctypes.CDLL(None, use_errno=True)
DETACH = 2


class Unclosed:
    """`path` is the file; `closers` the processes that have waited for its close. process: in whose mount
    namespace it is, if not in ours."""
    options = ""

    def __init__(self, folder, owner, process=None):
        self.folder, self.owner = pathlib.Path(folder), owner
        self.folder.mkdir(exist_ok=True)
        self.path = self.folder / "file"
        self.closers = []
        try:
            self.device = os.open("/dev/fuse", os.O_RDWR)
        except OSError:
            self.is_mounted = False
            return
        options = f"fd={self.device},rootmode=40000,user_id={owner},group_id={owner}{self.options}"
        self.is_mounted = self.mount(options, process)
        if not self.is_mounted:
            os.close(self.device)
            return
        self.ending, self.end = os.pipe()
        self.serving = threading.Thread(target=self.serve)
        self.serving.start()

    def mount(self, options, process):
        def do():
            return LIBC.mount(b"eve", os.fsencode(self.folder), b"fuse", 6, options.encode()) == 0
        if process is None:
            return do()
        with open(f"/proc/{process}/ns/mnt", encoding="ascii") as namespace:
            child = os.fork()  # with one thread, as setns(2) wants it
            if child == 0:
                os._exit(0 if LIBC.setns(namespace.fileno(), 0) == 0 and do() else 1)
        return os.waitpid(child, 0)[1] == 0

    def attributes(self, node):
        mode = FOLDER if node == 1 else FILE
        return struct.pack("=6Q10I", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, self.owner, self.owner, 0,
                           4096, 0)

    def answer(self, operation, node):
        """The body; None: an error."""
        if operation == INIT:
            return struct.pack("=IIIIHHII", 7, 31, 65536, 0, 12, 9, 65536, 1) + bytes(32)
        if operation == LOOKUP:
            return struct.pack("=4QII", 2, 0, LONG, LONG, 0, 0) + self.attributes(2)
        if operation == GETATTR:
            return struct.pack("=QII", LONG, 0, 0) + self.attributes(node)
        if operation in (OPEN, OPENDIR):
            return struct.pack("=QII", 1, 0, 0)
        return None

    @staticmethod
    def process_of(thread):
        status = pathlib.Path(f"/proc/{thread}/status").read_text()
        return int(status.split("Tgid:")[1].split()[0])

    def serve(self):
        while self.ending not in select.select([self.device, self.ending], [], [])[0]:
            try:
                packet = os.read(self.device, 1 << 18)
            except OSError:  # it was unmounted
                return
            _, operation, unique, node, _, _, pid = struct.unpack_from("=IIQQIII", packet)
            self.note(operation, pid)
            if self.is_passed_over(operation):
                continue
            body = self.answer(operation, node)
            head = struct.pack("=IiQ", 16 + len(body or b""), 0 if body is not None else -38, unique)
            os.write(self.device, head + (body or b""))

    def note(self, operation, thread):
        if operation == FLUSH:
            self.closers.append(self.process_of(thread))

    def is_passed_over(self, operation):
        return operation in (FLUSH, FORGET, BATCH_FORGET, INTERRUPT)

    def stop(self):
        """Ends all that waits."""
        if not self.is_mounted:
            return
        self.is_mounted = False
        LIBC.umount2(os.fsencode(self.folder), DETACH)
        os.write(self.end, b"x")
        self.serving.join()
        for descriptor in (self.device, self.ending, self.end):  # the first ends the file system
            os.close(descriptor)


class Silent(Unclosed):
    """Whoever asks for anything in it waits, whatever user that is. `askers` are the processes."""
    options = ",allow_other"

    def __init__(self, folder, owner, process=None):
        self.askers = []
        super().__init__(folder, owner, process)

    def note(self, operation, thread):
        if operation not in (INIT, FORGET, BATCH_FORGET, INTERRUPT):
            self.askers.append(self.process_of(thread))

    def is_passed_over(self, operation):
        return operation != INIT
