"""Postrider: one smarthost for everything, 50 connections to it."""
import subprocess

from mtas import Mta, wait_for_greeting


class Postrider(Mta):
    name = "postrider"
    more = ""         # further configuration
    accepted = ""     # more of [accept]
    dead_port = None  # where nothing listens: the next hop of dead.example

    @staticmethod
    def program():
        return "postrider"

    @property
    def binary(self):
        return str(self.bin / "postrider")

    def start(self):
        config = self.folder / "postrider.toml"
        tls = ""
        if self.tls:
            pem, key = self.certificate()
            tls = f'[tls]\ncertificate = "{pem}"\nkey = "{key}"\n'
        signing = f'[dkim]\nfolder = "{self.keys()}"\n' if self.signed else ""
        dead = ""
        if self.dead_port:
            dead = (f'[[route]]\ndomain = ".dead.example"\n'
                    f'next_hop = "smtp://127.0.0.1:{self.dead_port}"\n')
        config.write_text(f"""hostname = "mx.bench.example"
spool = "{self.folder}/spool"
user = ""
[[listener]]
address = "{self.address}:{self.port}"
role = "mx"
tls = "{"starttls" if self.tls else "off"}"
{tls}{signing}[accept]
relay_from = ["127.0.0.0/8"]
{self.accepted}{dead}[[route]]
domain = "*"
next_hop = "smtp://127.0.0.1:{self.sink_port}"
tls = "{"opportunistic" if self.tls else "off"}"
[delivery]
site_connections = 50
retry = ["1s"]
[control]
socket = "{self.folder}/control"
{self.more}""")
        self.log = open(self.folder / "log", "w")
        self.process = subprocess.Popen([self.binary, "run", "-c", str(config)], stderr=self.log)
        wait_for_greeting(self.port, address=self.address)

    def keys(self):
        """An RSA key of 2048 bits and one of Ed25519, for the generator's sender."""
        folder = self.folder / "dkim"
        for name, kind in (("r", []), ("e", ["--ed25519"])):
            subprocess.run([self.binary, "dkim", "new", "bench.example", "--selector", name, "--folder", str(folder),
                            *kind], check=True, stdout=subprocess.DEVNULL)
        return folder

    def tool(self, *arguments):
        return [self.binary, *arguments, "-c", str(self.folder / "postrider.toml")]

    def listing_command(self):
        return [str(self.bin / "mailq"), "-c", str(self.folder / "postrider.toml")]

    def flush_queue(self):
        subprocess.run(self.tool("queue", "retry"), check=True, stdout=subprocess.DEVNULL)

    def attempts(self, domain):
        """Deliveries tried so far to a domain or below it, from the log."""
        with open(self.folder / "log", encoding="utf-8", errors="replace") as log:
            return sum(" attempted " in line and f"{domain}" in line for line in log)

    def written_bytes(self):
        """What the daemon has caused to be written to the disk so far."""
        with open(f"/proc/{self.process.pid}/io", encoding="ascii") as counters:
            return sum(int(line.split()[1]) for line in counters if line.startswith("write_bytes"))
