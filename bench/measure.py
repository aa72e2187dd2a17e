"""Runs one load through one server and says what it cost."""
import json
import os
import pathlib
import statistics
import subprocess
import time

import mtas
from mta_exim import Exim
from mta_haraka import Haraka
from mta_postfix import Postfix
from mta_postrider import Postrider

SERVERS = {"postfix": Postfix, "postrider": Postrider, "exim": Exim, "haraka": Haraka}


def flushes():
    """Cache flushes that the kernel has sent to the disks so far (/proc/diskstats, field 19)."""
    total = 0
    for line in pathlib.Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        if len(fields) >= 20 and not fields[2].startswith(("loop", "ram")):
            total += int(fields[18])
    return total


def sync_latency_ms(folder):
    """Median of a bare 4 KiB append with fdatasync on the disk in question."""
    path = pathlib.Path(folder) / "sync-probe"
    took = []
    with open(path, "wb", buffering=0) as probe:
        for _ in range(200):
            begin = time.perf_counter()
            probe.write(b"x" * 4096)
            os.fdatasync(probe.fileno())
            took.append((time.perf_counter() - begin) * 1000)
    path.unlink()
    return round(statistics.median(took), 3)


def median_of(runs):
    return {key: round(statistics.median(run[key] for run in runs), 4) for key in runs[0]}


class Bench:
    def __init__(self, binaries, folder, seconds):
        self.bin = pathlib.Path(binaries)
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seconds = seconds

    def mta(self, name, sink_port):
        return SERVERS[name](self.folder, sink_port, self.bin)

    def sink(self, port, recipients, limit, *extra):
        return subprocess.Popen(
            [self.bin / "bench-sink", "--listen", f"127.0.0.1:{port}", "--recipients", str(recipients),
             "--limit-s", str(limit), *extra], stdout=subprocess.PIPE, text=True)

    def load_command(self, port, *arguments):
        return [self.bin / "bench-load", "--server", f"127.0.0.1:{port}", *map(str, arguments)]

    def load(self, port, arguments):
        done = subprocess.run(self.load_command(port, *arguments), capture_output=True, text=True)
        return json.loads(done.stdout)

    def ceiling(self):
        """The generator talking straight to the sink."""
        result = {}
        for name, extra in (("reused", []), ("one a message", ["--connection-a-message"])):
            port = mtas.free_port()
            sink = self.sink(port, 40000, 60)
            mtas.wait_for_greeting(port)
            load = self.load(port, ["--messages", 40000, *extra])
            sink.communicate()
            result[name] = round(load["rate"])
        return result

    def measure(self, name, row):
        """One run of one row. Some of the same load first, so that all connections are warm; its
        rate says how many messages fill the time of a run."""
        port = mtas.free_port()
        mta = self.mta(name, port)
        mta.tls = row.tls
        mta.signed = row.signed
        mta.start()
        try:
            messages = row.least()
            while True:
                rate = self.relay(mta, row, port, messages)["rate"]
                if messages / rate > self.seconds / 6:
                    return self.relay(mta, row, port, max(row.least(), int(rate * self.seconds)))
                messages *= 4
        finally:
            mta.stop()

    def relay(self, mta, row, port, messages):
        """The rate is of messages that have arrived; the cost includes what is done afterwards,
        such as deletions that waited for company."""
        sink = self.sink(port, messages * row.recipients, 180, *(["--tls"] if row.tls else []))
        mtas.wait_for_greeting(port)
        cpu, syncs, begin = mta.cpu_seconds(), flushes(), time.monotonic()
        load = self.load(mta.port, row.load_arguments(messages))
        taken = json.loads(sink.communicate()[0])
        seconds = time.monotonic() - begin
        resident = mta.resident_kib()
        mta.settle()
        return {
            "messages": messages, "sent": load["messages"], "arrived": taken["recipients"],
            "rate": round(messages / seconds, 1),
            "cpu_ms": round((mta.cpu_seconds() - cpu) / messages * 1000, 4),
            "p50_ms": load["p50_ms"], "p99_ms": load["p99_ms"],
            "syncs": round((flushes() - syncs) / messages, 3), "pss_mib": round(resident / 1024, 1),
        }

    def table(self, rows, names, rounds):
        """{row: {server: medians}}; servers beside the two only where the row asks for them."""
        results = {row.name: {} for row in rows}
        for turn in range(rounds):
            for row in rows:
                for name in names:
                    if name not in ("postfix", "postrider") and not row.others:
                        continue
                    if row.signed and name != "postrider":
                        continue
                    figures = self.measure(name, row)
                    results[row.name].setdefault(name, []).append(figures)
                    print(f"  round {turn + 1}  {row.name:44} {name:10} {figures['rate']:>9} /s "
                          f"{figures['cpu_ms']:>8} ms CPU  p50 {figures['p50_ms']} ms  "
                          f"{figures['syncs']} flushes/message", flush=True)
        return {row: {name: median_of(runs) for name, runs in by_name.items()}
                for row, by_name in results.items()}
