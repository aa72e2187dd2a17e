"""What is not a matter of relaying as fast as possible: idle clients, a backlog, a long queue."""
import json
import os
import pathlib
import subprocess
import time

import mtas


def load_command(bench, mta, *arguments):
    return [bench.bin / "bench-load", "--server", f"127.0.0.1:{mta.port}", *map(str, arguments)]


def idle(bench, name, connections):
    """Resident memory for each idle connection, in KiB, between greeting and EHLO's answer."""
    port = mtas.free_port()
    mta = bench.mta(name, port)
    mta.start()
    try:
        before = mta.resident_kib()
        holder = subprocess.Popen(
            load_command(bench, mta, "--sessions", connections, "--hold-ms", 8000, "--messages", 1),
            stdout=subprocess.DEVNULL)
        held = 0
        deadline = time.monotonic() + 7
        while held < connections and time.monotonic() < deadline:
            time.sleep(0.2)
            held = established(mta.port)
        time.sleep(1)
        after = mta.resident_kib()
        holder.wait()
        return {"connections": held, "kib_each": round((after - before) / max(held, 1), 2),
                "pss_mib": round(after / 1024, 1)}
    finally:
        mta.stop()


def established(port):
    """Connections accepted on a local port, from the kernel's table."""
    wanted = f":{port:04X}"
    count = 0
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table:
            fields = line.split()
            if fields[1].endswith(wanted) and fields[3] == "01":
                count += 1
    return count


def timed(command, **options):
    begin = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)
    return round(time.monotonic() - begin, 3)


def first_page(command):
    """Seconds until the listing's first 4 KiB."""
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as listing:
        listing.stdout.read(4096)
        took = time.monotonic() - begin
        listing.stdout.close()
        listing.kill()
    return round(took, 3)


def backlog(bench, name, messages, domains, drain=True):
    """Accepts mail while the next hop is down; lists, restarts and drains it."""
    port = mtas.free_port()
    mta = bench.mta(name, port)
    mta.hold_back = True
    mta.start()
    figures = {}
    try:
        load = json.loads(subprocess.run(
            load_command(bench, mta, "--messages", messages, "--domains", domains, "--sessions", 50,
                         "--limit-s", 600), stdout=subprocess.PIPE, text=True).stdout)
        figures["accept_rate"] = round(load["rate"])
        figures["listing_s"] = timed(mta.listing_command())
        figures["first_page_s"] = first_page(mta.listing_command())
        mta.stop()
        begin = time.monotonic()
        sink = bench.sink(port, messages if drain else 0, 600)
        mta.hold_back = False
        mta.start()
        mtas.wait_for_greeting(port)
        figures["restart_s"] = round(time.monotonic() - begin, 3)
        first = wait_for_delivery(sink, port)
        figures["first_delivery_s"] = first and round(first - begin, 3)
        figures["pss_mib"] = round(mta.resident_kib() / 1024, 1)
        mta.flush_queue()
        if drain:
            taken = json.loads(sink.communicate()[0])
            figures["drain_s"] = round(time.monotonic() - begin, 2)
            figures["drain_rate"] = round(messages / (time.monotonic() - begin))
            figures["arrived"] = taken["recipients"]
        else:
            sink.terminate()
            sink.communicate()
        return figures
    finally:
        mta.stop()


def wait_for_delivery(sink, port):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and sink.poll() is None:
        if established(port) > 0:
            return time.monotonic()
        time.sleep(0.02)
    return None


def disk_use(folder):
    return sum(entry.stat().st_size for entry in pathlib.Path(folder).rglob("*") if entry.is_file())


def all_of(bench, names, quick):
    """Every scenario for every server; a long queue only for Postrider, and only in a full run."""
    report = {}
    for name in names:
        ours = name == "postrider"
        report[name] = {"idle 100": idle(bench, name, 100)}
        if ours:
            report[name]["idle 1,000"] = idle(bench, name, 1000)
            report[name]["idle 10,000"] = idle(bench, name, min(10000, os.sysconf("SC_OPEN_MAX") - 100))
        if not quick:
            report[name]["backlog 50,000"] = backlog(bench, name, 50000, 5000)
        if ours and not quick:
            report[name]["queue 1,000,000"] = backlog(bench, name, 1_000_000, 5000, drain=False)
        for scenario, figures in report[name].items():
            print(f"  {scenario:20} {name:10} {figures}", flush=True)
    return report
