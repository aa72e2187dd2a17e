"""A RabbitMQ of the test's own: ports, folder, cookie and node of its own, as who runs the test. It may
be killed and started again; what it confirmed it still has. pika is who reads."""
import os
import pathlib
import signal
import socket
import subprocess
import unittest

from support_py import daemon, wait
from support_py.tools import tool

PROGRAMS = pathlib.Path("/usr/lib/rabbitmq/bin")
USER, PASSWORD = "pr", "pr-secret"


def need(*programs):
    """Installs it, and these, if need be; skips only where that cannot be done."""
    try:
        import pika  # noqa: F401
        installed = (PROGRAMS / "rabbitmq-server").exists() and all(map(has, programs))
    except ImportError:
        installed = False
    if not installed:
        install()


def install():
    done = subprocess.run([daemon.ROOT / "scripts" / "packages", "install", "events"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise unittest.SkipTest(f"message brokers cannot be installed: {' '.join(last)}")


def has(program):
    try:
        return bool(tool(program))
    except FileNotFoundError:
        return False


class RabbitMq:
    def __init__(self, folder, certificate, roots, plugins=()):
        self.folder = pathlib.Path(folder)
        for name in ("home", "mnesia", "log", "gen"):
            (self.folder / name).mkdir()
        self.ports = {name: wait.free_port() for name in
                      ("amqp", "amqps", "mqtt", "mqtts", "stomp", "stomps", "node", "epmd")}
        self.ports |= {"amqp10": self.ports["amqp"], "amqp10s": self.ports["amqps"]}  # both at one port
        self.port = self.ports["amqp"]
        cookie = self.folder / "home" / ".erlang.cookie"
        cookie.write_text(f"PRTEST{self.port}")
        cookie.chmod(0o400)
        (self.folder / "env.conf").touch()
        (self.folder / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")
        lines = [f"listeners.tcp.1 = 127.0.0.1:{self.port}",
                 "vm_memory_high_watermark.absolute = 512MiB", "disk_free_limit.absolute = 50MB",
                 f"default_user = {USER}", f"default_pass = {PASSWORD}"]
        lines += [f"listeners.ssl.1 = 127.0.0.1:{self.ports['amqps']}",
                  f"ssl_options.cacertfile = {roots}", f"ssl_options.certfile = {certificate}",
                  f"ssl_options.keyfile = {certificate}", "ssl_options.verify = verify_none",
                  "ssl_options.fail_if_no_peer_cert = false"]
        for name in ("mqtt", "stomp"):
            if f"rabbitmq_{name}" in plugins:
                lines += [f"{name}.listeners.tcp.1 = 127.0.0.1:{self.ports[name]}",
                          f"{name}.listeners.ssl.1 = 127.0.0.1:{self.ports[name + 's']}"]
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        self.process = None
        self.start()
        self.wait()

    def environment(self):
        one = dict(os.environ)
        one.update({
            "HOME": f"{self.folder}/home", "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": f"{self.ports['epmd']}", "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": f"{self.folder}/erl_crash.dump",
            "RABBITMQ_NODENAME": f"n{self.port}@localhost",
            "RABBITMQ_DIST_PORT": f"{self.ports['node']}", "RABBITMQ_PID_FILE": f"{self.folder}/pid",
            "RABBITMQ_CONF_ENV_FILE": f"{self.folder}/env.conf",
            "RABBITMQ_CONFIG_FILE": f"{self.folder}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{self.folder}/advanced.config",
            "RABBITMQ_MNESIA_BASE": f"{self.folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{self.folder}/log",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{self.folder}/gen",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{self.folder}/enabled_plugins",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none"})
        return one

    def start(self):
        with open(self.folder / "log" / "console", "ab") as console:
            self.process = subprocess.Popen(
                [PROGRAMS / "rabbitmq-server"], cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=console, stderr=console, env=self.environment(), start_new_session=True)
        return self

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def wait(self):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError("RabbitMQ ended: " + (self.folder / "log" / "console").read_text(
                    "utf-8", "replace")[-2000:])
            return self.listens()
        wait.until(ready, "RabbitMQ", 3 * wait.DEADLINE, pause=0.1)
        return self

    def kill(self):
        """As a crash: the whole session at once. It is over when the kernel has cleared up."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        wait.until(lambda: not self.listens(), "the end of RabbitMQ")

    def stop(self):
        if self.process.poll() is None:
            self.kill()
        subprocess.run(["epmd", "-kill"], env=self.environment(), stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    # Who reads

    def channel(self):
        import pika
        connection = pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", self.port, credentials=pika.PlainCredentials(USER, PASSWORD)))
        return connection.channel()

    def declare(self, queue):
        channel = self.channel()
        channel.queue_declare(queue, durable=True)
        channel.connection.close()

    def take_all(self, queue):
        """What is in the queue, with its properties; it is gone from there."""
        channel = self.channel()
        found = []
        while True:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                break
            found.append((properties, body))
        channel.connection.close()
        return found
