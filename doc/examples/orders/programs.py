"""What ./run starts: a broker, two Postriders, the shop's own programs; all on loopback, as who runs
them, in one folder, and all ended in the end."""
import contextlib
import ctypes
import ctypes.util
import os
import pathlib
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
RABBITMQ = pathlib.Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one in /usr/sbin wants to be root's
PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
USER = pwd.getpwuid(os.getuid()).pw_name
DEADLINE = float(os.environ.get("ORDERS_DEADLINE", 120))


class Problem(Exception):
    """With the exit status that it ends with (sysexits.h)."""

    def __init__(self, text, status=69):
        super().__init__(text)
        self.status = status


def program(name, folder=None):
    path = shutil.which(name, path=str(folder) if folder else PATH)
    if path is None:
        raise Problem(f"{name} is not there{f' (in {folder})' if folder else ''}")
    return path


def until(condition, what):
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        if time.monotonic() > end:
            raise Problem(f"waited {DEADLINE:g} s for {what}", 70)
        time.sleep(0.05)
    return value


reserved = []


def free_port():
    """Nobody else gets it who asks in this way, as the tests of Postrider do."""
    while True:
        port = random.SystemRandom().randrange(10000, 32000)
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError), socket.socket() as one:
            name.bind(f"\0postrider-test-port-{port}")
            reserved.append(name)
            one.bind(("127.0.0.1", port))
            return port


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class World:
    """The processes, the newest of which is ended first."""

    def __init__(self, folder, programs):
        self.folder, self.programs, self.processes = folder, programs, contextlib.ExitStack()
        self.values = {"FOLDER": str(folder)}
        (folder / "password").touch(0o600)
        (folder / "password").write_text("shop-secret\n")

    def port(self, name):
        return self.values.setdefault(name, free_port())

    def file(self, name, text):
        """With what stands for @NAME@."""
        for key, value in self.values.items():
            text = text.replace(f"@{key}@", str(value))
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def start(self, command, log, end=signal.SIGTERM, **more):
        """Its output goes into a file, which is shown if it ends too early."""
        path = self.folder / f"{log}.output"
        with open(path, "ab") as output:
            one = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=output, start_new_session=True, **more)
        one.output = path
        self.processes.callback(finish, one, end)
        return one

    def daemon(self, name, *more):
        """A Postrider, ready once somebody answers at its port."""
        text = "".join((HERE / file).read_text() + "\n" for file in (f"{name}.toml", *more))
        self.port(name.upper())
        config = self.file(f"{name}/postrider.toml", text)
        os.utime(config, (0, 0))  # one that was written this moment is waited for: it may not be whole
        self.file(f"{name}/aliases", f"{'ann' if name == 'customer' else name}: {USER}\n")
        one = self.start([program("postrider", self.programs), "run", "-c", config], name)
        self.wait_for(one, self.values[name.upper()])
        return config

    def wait_for(self, process, port):
        def ready():
            if process.poll() is not None:
                raise Problem(f"{process.args[0]} ended:\n{process.output.read_text('utf-8', 'replace')[-2000:]}", 70)
            return listens(port)
        until(ready, f"{process.args[0]} at port {port}")

    def mailbox(self, name):
        """The messages there; a mailbox is a maildir."""
        return [path.read_text("utf-8", "replace") for path in sorted((self.folder / name / "mail").glob("*/new/*"))]


def finish(process, end):
    """The whole session, as a program may have started others."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, end)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        pass
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Speaker:
    """A program of the shop, the lines of which are shown as they come, and kept."""

    def __init__(self, world, name, command, source=None):
        if source is not None:  # whose output it reads
            source = subprocess.Popen(source, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
            world.processes.callback(finish, source, signal.SIGTERM)
        self.name, self.lines = name, []
        self.process = subprocess.Popen([sys.executable, "-u", *map(str, command)], text=True,
                                        stdin=source.stdout if source else subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, start_new_session=True)
        if source:
            source.stdout.close()
        world.processes.callback(finish, self.process, signal.SIGTERM)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.wait_for("ready")

    def read(self):
        for line in self.process.stdout:
            if line.strip() != "ready":
                print(f"   {self.name:<12}{line.rstrip()}", flush=True)
            self.lines.append(line.rstrip())

    def wait_for(self, *words):
        def said():
            if self.process.poll() is not None:
                raise Problem(f"{self.name} ended with {self.process.returncode}", 70)
            return any(all(word in line for word in words) for line in self.lines)
        until(said, f"{' '.join(words)} from {self.name}")


class RabbitMq:
    """With AMQP, STOMP and a user "shop"; its node, cookie and files are in the folder."""

    def __init__(self, world):
        if not RABBITMQ.exists():
            raise Problem(f"{RABBITMQ} is not there (Debian: rabbitmq-server)")
        self.world, folder = world, world.folder / "rabbitmq"
        for name in ("home", "mnesia", "log", "generated"):
            (folder / name).mkdir(parents=True)
        amqp = world.port("AMQP")
        cookie = folder / "home" / ".erlang.cookie"
        cookie.write_text(f"ORDERS{random.SystemRandom().getrandbits(64):x}")
        cookie.chmod(0o400)
        (folder / "environment").touch()
        (folder / "plugins").write_text("[rabbitmq_stomp].\n")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{amqp}\nstomp.listeners.tcp.1 = 127.0.0.1:{world.port('STOMP')}\n"
            "vm_memory_high_watermark.absolute = 512MiB\ndisk_free_limit.absolute = 50MB\n"
            "default_user = shop\ndefault_pass = shop-secret\n")
        (folder / "rabbitmq.conf").chmod(0o600)
        self.environment = {
            **os.environ, "HOME": f"{folder}/home", "LANG": "C.UTF-8", "PATH": PATH,
            "ERL_EPMD_PORT": f"{world.port('EPMD')}", "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": f"{folder}/erl_crash.dump", "RABBITMQ_NODENAME": f"shop{amqp}@localhost",
            "RABBITMQ_DIST_PORT": f"{world.port('NODE')}", "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/environment", "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config", "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log", "RABBITMQ_GENERATED_CONFIG_DIR": f"{folder}/generated",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none"}
        # epmd, which the node starts, leaves its session and stays: it goes last, when no node is left.
        world.processes.callback(self.stop_epmd)
        process = world.start([RABBITMQ], "rabbitmq", signal.SIGKILL, cwd=folder, env=self.environment)
        world.wait_for(process, amqp)
        self.url = f"amqp://shop:shop-secret@127.0.0.1:{amqp}/%2f"

    def stop_epmd(self):
        def gone():
            subprocess.run([program("epmd"), "-kill"], env=self.environment, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            return not listens(self.world.values["EPMD"])
        until(gone, "the end of epmd")


class Mosquitto:
    def __init__(self, world):
        port = world.port("MQTT")
        config = world.file("mosquitto/conf", f"listener {port} 127.0.0.1\nallow_anonymous true\n"
                                              f"user {USER}\n")
        world.wait_for(world.start([program("mosquitto"), "-c", config], "mosquitto"), port)


class Kafka:
    """librdkafka's own cluster for tests, in this process: Debian has no Kafka."""

    def __init__(self, world, *topics):
        name = ctypes.util.find_library("rdkafka")
        if name is None:
            raise Problem("librdkafka is not there (Debian: librdkafka1)")
        lib = ctypes.CDLL(name)
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        for function, result, arguments in (
                ("conf_new", pointer, []), ("conf_set", number, [pointer, text, text, text, ctypes.c_size_t]),
                ("new", pointer, [number, pointer, text, ctypes.c_size_t]),
                ("destroy", None, [pointer]), ("mock_cluster_new", pointer, [pointer, number]),
                ("mock_cluster_destroy", None, [pointer]), ("mock_cluster_bootstraps", text, [pointer]),
                ("mock_topic_create", number, [pointer, text, number, number])):
            one = getattr(lib, f"rd_kafka_{function}")
            one.restype, one.argtypes = result, arguments
        conf, reason = lib.rd_kafka_conf_new(), ctypes.create_string_buffer(512)
        lib.rd_kafka_conf_set(conf, b"log_level", b"3", reason, 512)  # it has no brokers, and would say so
        client = lib.rd_kafka_new(0, conf, reason, 512)
        cluster = lib.rd_kafka_mock_cluster_new(client, 1)
        world.processes.callback(lib.rd_kafka_destroy, client)
        world.processes.callback(lib.rd_kafka_mock_cluster_destroy, cluster)
        for topic in topics:
            lib.rd_kafka_mock_topic_create(cluster, topic.encode(), 1, 1)
        self.place = lib.rd_kafka_mock_cluster_bootstraps(cluster).decode()
        world.values["KAFKA"] = self.place.rpartition(":")[2]

    def reads(self, topic):
        """A command that prints the records, one a line, those to come too."""
        return [program("kcat"), "-C", "-u", "-q", "-b", self.place, "-t", topic, "-o", "beginning"]

    def put(self, topic, line):
        subprocess.run([program("kcat"), "-P", "-b", self.place, "-t", topic], input=line, text=True, check=True)
