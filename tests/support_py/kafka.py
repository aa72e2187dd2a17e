"""Kafka brokers for tests. No broker is packaged: `Cluster` is librdkafka's own one for tests, with the
protocol on real sockets, which keeps records as long as it lives; kcat reads them. `Doorkeeper` speaks
only as much of the protocol as a login needs."""
import ctypes
import ctypes.util
import socket
import ssl
import struct
import subprocess
import threading
import unittest

from support_py import wait

PRODUCER = 0


def library():
    name = ctypes.util.find_library("rdkafka")
    if name is None:
        raise unittest.SkipTest("needs librdkafka")
    lib = ctypes.CDLL(name)
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for function, result, arguments in (
            ("rd_kafka_conf_new", pointer, []),
            ("rd_kafka_new", pointer, [ctypes.c_int, pointer, text, ctypes.c_size_t]),
            ("rd_kafka_destroy", None, [pointer]),
            ("rd_kafka_mock_cluster_new", pointer, [pointer, ctypes.c_int]),
            ("rd_kafka_mock_cluster_destroy", None, [pointer]),
            ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
            ("rd_kafka_mock_topic_create", ctypes.c_int, [pointer, text, ctypes.c_int, ctypes.c_int]),
            ("rd_kafka_mock_broker_set_down", ctypes.c_int, [pointer, ctypes.c_int32]),
            ("rd_kafka_mock_broker_set_up", ctypes.c_int, [pointer, ctypes.c_int32]),
            ("rd_kafka_mock_push_request_errors_array", None,
             [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)])):
        one = getattr(lib, function)
        one.restype, one.argtypes = result, arguments
    return lib


class Cluster:
    """Of one broker, in this process."""
    PRODUCE = 0
    BROKER = 1

    def __init__(self, topic, partitions=3):
        self.lib = library()
        reason = ctypes.create_string_buffer(512)
        self.handle = self.lib.rd_kafka_new(PRODUCER, self.lib.rd_kafka_conf_new(), reason, 512)
        assert self.handle, reason.value
        self.cluster = self.lib.rd_kafka_mock_cluster_new(self.handle, 1)
        assert self.cluster
        self.place = self.lib.rd_kafka_mock_cluster_bootstraps(self.cluster).decode()
        self.ports = {"kafka": int(self.place.rpartition(":")[2])}
        self.topic = topic
        assert self.lib.rd_kafka_mock_topic_create(self.cluster, topic.encode(), partitions, 1) == 0

    def kill(self):
        """Its connections are ended, and no new ones are let in."""
        assert self.lib.rd_kafka_mock_broker_set_down(self.cluster, self.BROKER) == 0

    def start(self):
        assert self.lib.rd_kafka_mock_broker_set_up(self.cluster, self.BROKER) == 0
        return self

    def wait(self):
        return self

    def answer_with(self, *errors):
        """To the next requests to store records."""
        self.lib.rd_kafka_mock_push_request_errors_array(
            self.cluster, self.PRODUCE, len(errors), (ctypes.c_int * len(errors))(*errors))

    def stop(self):
        self.lib.rd_kafka_mock_cluster_destroy(self.cluster)
        self.lib.rd_kafka_destroy(self.handle)

    def produce(self, topic, bodies):
        """Records without a key; no body has the octet 1."""
        subprocess.run(["kcat", "-P", "-b", self.place, "-t", topic, "-D", r"\x01"], check=True,
                       input=b"\1".join(bodies), timeout=2 * wait.DEADLINE)

    def records(self, topic=None):
        """(key, headers, value) of all that there is, partition by partition."""
        done = subprocess.run(
            ["kcat", "-C", "-q", "-e", "-b", self.place, "-t", topic or self.topic, "-o", "beginning",
             "-f", r"%k\t%h\t%s\n"], capture_output=True, text=True, timeout=2 * wait.DEADLINE, check=True)
        return [tuple(line.split("\t", 2)) for line in done.stdout.splitlines()]


class Doorkeeper:
    """Lets in who has this name and password by SASL PLAIN, over TLS; then it hangs up."""
    VERSIONS, HANDSHAKE, AUTHENTICATE = 18, 17, 36
    UNSUPPORTED, REFUSED = 35, 58

    def __init__(self, certificate, user, password):
        self.wanted = f"\0{user}\0{password}".encode()
        self.logins = []  # what was said, and whether it was right
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            try:
                one.settimeout(wait.DEADLINE)
                with self.context.wrap_socket(one, server_side=True) as secured:
                    self.serve(secured, secured.makefile("rb"))
            except (OSError, EOFError, struct.error):
                one.close()

    def serve(self, one, file):
        while True:
            size, = struct.unpack(">i", file.read(4))
            request = file.read(size)
            what, version, number = struct.unpack(">hhi", request[:8])
            length, = struct.unpack(">h", request[8:10])
            rest = request[10 + max(length, 0):]
            answer = self.answer(what, version, rest)
            if answer is None:
                return
            one.sendall(struct.pack(">ii", len(answer) + 4, number) + answer)

    def answer(self, what, version, rest):
        if what == self.VERSIONS:  # in the form of version 0, which everybody reads
            known = ((self.VERSIONS, 0, 0), (self.HANDSHAKE, 0, 1), (self.AUTHENTICATE, 0, 1), (3, 0, 2),
                     (0, 0, 7), (22, 0, 4))
            return struct.pack(">hi", self.UNSUPPORTED if version > 2 else 0, len(known)) + b"".join(
                struct.pack(">hhh", *one) for one in known) + (b"\0\0\0\0" if version in (1, 2) else b"")
        if what == self.HANDSHAKE:
            return struct.pack(">hi", 0, 1) + self.text("PLAIN")
        if what == self.AUTHENTICATE:
            size, = struct.unpack(">i", rest[:4])
            right = rest[4:4 + size] == self.wanted
            self.logins.append((rest[4:4 + size], right))
            answer = struct.pack(">h", 0 if right else self.REFUSED) + \
                (struct.pack(">h", -1) if right else self.text("the password is not right")) + \
                struct.pack(">i", 0) + (struct.pack(">q", 0) if version else b"")
            return answer
        return None

    @staticmethod
    def text(words):
        return struct.pack(">h", len(words)) + words.encode()

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
