"""Haraka, where Node.js has it: HARAKA names its program."""
import os
import shutil
import subprocess

from mtas import Mta, wait_for_greeting


class Haraka(Mta):
    """Its own outbound queue on disk, a worker process for each core."""
    name = "haraka"

    @staticmethod
    def program():
        return os.environ.get("HARAKA") or shutil.which("haraka")

    def start(self):
        config = self.folder / "config"
        config.mkdir(exist_ok=True)
        (self.folder / "queue").mkdir(exist_ok=True)
        files = {
            "smtp.ini": f"listen=127.0.0.1:{self.port}\nnodes={os.cpu_count()}\n",
            "me": "mx.bench.example\n",
            "plugins": "relay\n",
            "relay.ini": "[relay]\nacl=true\nforce_routing=true\n",
            "relay_acl_allow": "127.0.0.0/8\n",
            "relay_dest_domains.ini":
                f'[domains]\nany = {{ "action": "continue", "nexthop": "127.0.0.1:{self.sink_port}" }}\n',
            "outbound.ini": "concurrency_max=50\nenable_tls=false\n",
            "connection.ini": "[headers]\nmax_received=100\n[max]\nbytes=60000000\n"
                              "[message]\nhelo=pleased to meet you\n[uuid]\nbanner_chars=6\n",
            "log.ini": "level=NOTICE\n",
        }
        for name, text in files.items():
            (config / name).write_text(text)
        self.log = open(self.folder / "log", "w", encoding="utf-8")
        self.process = subprocess.Popen([self.program(), "-c", str(self.folder)],
                                        stdout=self.log, stderr=self.log)
        wait_for_greeting(self.port)
