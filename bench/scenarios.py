"""What is not a matter of relaying as fast as possible: idle clients, a backlog, a long queue."""
import json
import os
import pathlib
import subprocess
import time

import mtas


def idle(bench, name, connections):
    """Resident memory for each idle connection, in KiB, between greeting and EHLO's answer."""
    port = mtas.free_port()
    mta = bench.mta(name, port)
    mta.start()
    try:
        before = mta.resident_kib()
        holder = subprocess.Popen(
            bench.load_command(mta.port, "--sessions", connections, "--hold-ms", 8000, "--messages", 1),
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


def accept(bench, mta, messages, *extra):
    """Accepts mail as fast as it can; messages a second."""
    return round(bench.load(mta.port, ["--messages", messages, "--sessions", 50, "--limit-s", 900,
                                       *extra])["rate"])


def backlog(bench, name, messages, domains, drain=True):
    """Accepts mail while the next hop is down; lists, restarts and drains it."""
    port = mtas.free_port()
    mta = bench.mta(name, port)
    mta.hold_back = True
    mta.start()
    figures = {}
    tenth = messages // 10 if drain else 20000
    try:
        figures["accept_rate_empty"] = accept(bench, mta, tenth, "--domains", domains)
        figures["accept_rate"] = accept(bench, mta, messages - 2 * tenth, "--domains", domains)
        figures["accept_rate_full"] = accept(bench, mta, tenth, "--domains", domains)
        figures["listing_s"] = timed(mta.listing_command())
        figures["first_page_s"] = first_page(mta.listing_command())
        mta.stop()
        begin = time.monotonic()
        sink = bench.sink(port, messages if drain else 0, 600)
        mta.hold_back = False
        mta.start()
        figures["restart_s"] = round(time.monotonic() - begin, 3)
        if name != "postrider":
            mta.flush_queue()  # what is deferred would wait for its time
        first = wait_for_delivery(sink, port)
        figures["first_delivery_s"] = first and round(first - begin, 3)
        figures["pss_mib"] = round(mta.resident_kib() / 1024, 1)
        if drain:
            if name == "postrider":
                mta.flush_queue()
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


def dead_site(bench, messages):
    """Postrider with a dead site's mail in the queue: what the others' mail feels of it, from the
    start of its transaction to its arrival, and what the dead site's retries write."""
    port = mtas.free_port()
    mta = bench.mta("postrider", port)
    mta.dead_port = mtas.free_port()
    mta.start()
    try:
        figures = {"without": to_the_living(bench, mta, port)}
        accept(bench, mta, messages, "--suffix", "dead.example")
        mta.settle(30)
        figures["with"] = to_the_living(bench, mta, port)
        mta.settle()
        attempts, written = mta.attempts("dead.example"), mta.written_bytes()
        time.sleep(10)
        tries = mta.attempts("dead.example") - attempts
        figures["retries"] = tries
        figures["kib_written_a_retry"] = round((mta.written_bytes() - written) / 1024 / max(tries, 1), 1)
        figures["dead_messages"] = messages
        return figures
    finally:
        mta.stop()


def to_the_living(bench, mta, port):
    """Delivery latency of other sites' mail at a modest load."""
    messages = 5000
    sink = bench.sink(port, messages, 120, "--stamps")
    mtas.wait_for_greeting(port)
    bench.load(mta.port, ["--messages", messages, "--sessions", 4, "--stamps"])
    taken = json.loads(sink.communicate()[0])
    return {"p50_ms": taken["p50_ms"], "p99_ms": taken["p99_ms"]}


def wait_for_delivery(sink, port):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and sink.poll() is None:
        if established(port) > 0:
            return time.monotonic()
        time.sleep(0.02)
    return None


def all_of(bench, names, quick):
    """Every scenario for Postfix and Postrider; a long queue only for Postrider, in a full run."""
    report = {}
    for name in names:
        if name not in ("postfix", "postrider"):
            continue
        ours = name == "postrider"
        report[name] = {"idle 100": idle(bench, name, 100)}
        if ours:
            report[name]["idle 1,000"] = idle(bench, name, 1000)
            report[name]["idle 10,000"] = idle(bench, name, min(10000, os.sysconf("SC_OPEN_MAX") - 100))
        if not quick:
            report[name]["backlog 50,000"] = backlog(bench, name, 50000, 5000)
        if ours and not quick:
            report[name]["dead site, 100,000"] = dead_site(bench, 100_000)
            report[name]["queue 1,000,000"] = backlog(bench, name, 1_000_000, 5000, drain=False)
        for scenario, figures in report[name].items():
            print(f"  {scenario:20} {name:10} {figures}", flush=True)
    return report
