#!/usr/bin/env python3
"""Tidemark beside Debian's VictoriaMetrics and Prometheus: ingest, disk, memory, queries, one run, one machine.

    bench/server.py BUILD_DIR [--hours 6] [--hosts 1000] [--runs 7] [--only tidemark,vm,prom] [--out FILE]

Every figure comes from the operating system's account of the server's process (utime + stime of /proc/PID/stat, VmHWM, du), so the load
generator's own cost does not count. Servers listen on 127.0.0.1, on ports the kernel picks, in a temporary folder, and are stopped by pid.
"""
import argparse, json, os, platform, shutil, signal, socket, statistics, subprocess, sys, tempfile, time, urllib.parse, urllib.request

TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def http(url, data=None, timeout=300):
    request = urllib.request.Request(url, data=data)
    with urllib.request.urlopen(request, timeout=timeout) as reply:
        return reply.read()


class Server:
    """One peer: how to start it, where it takes what, how to settle it."""

    def __init__(self, name, argv, ready, write_rw, write_influx, settle, folder):
        self.name, self.ready, self.folder = name, ready, folder
        self.write = {"rw": write_rw, "influx": write_influx}
        self.settle_urls = settle
        self.log = open(folder + ".log", "wb")
        self.process = subprocess.Popen(argv, stdout=self.log, stderr=self.log)
        for _ in range(600):
            try:
                http(ready, timeout=5)
                return
            except OSError:
                if self.process.poll() is not None:
                    sys.exit("%s did not start: see %s.log" % (name, folder))
                time.sleep(0.1)
        sys.exit("%s is not ready: see %s.log" % (name, folder))

    def cpu(self):
        fields = open("/proc/%d/stat" % self.process.pid).read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def status(self, key):
        for line in open("/proc/%d/status" % self.process.pid):
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024
        return 0.0

    def written(self):
        for line in open("/proc/%d/io" % self.process.pid):
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
        return 0

    def settle(self):
        for url in self.settle_urls:
            http(url, data=b"")
        # Merges go on behind some of the answers: wait until the folder stops changing.
        last, same = -1, 0
        for _ in range(120):
            size = disk(self.folder)
            same = same + 1 if size == last else 0
            if same >= 4:
                return
            last = size
            time.sleep(0.5)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def disk(folder):
    """Bytes in files; hard links count once."""
    seen, total = set(), 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                st = os.lstat(os.path.join(root, name))
            except OSError:
                continue
            if st.st_ino not in seen:
                seen.add(st.st_ino)
                total += st.st_size
    return total


def start(name, build, base):
    port = free_port()
    url = "http://127.0.0.1:%d" % port
    folder = os.path.join(base, "%s-%d" % (name, port))
    os.makedirs(folder)
    if name == "tidemark":
        return url, Server(name, [build + "/tidemark", "serve", "--data", folder, "--listen", "127.0.0.1:%d" % port, "--self-metrics", "off"],
                           url + "/-/ready", url + "/api/v1/write", url + "/write", [url + "/api/v1/admin/flush?settle=1"], folder)
    if name == "vm":
        return url, Server(name, ["victoria-metrics", "-storageDataPath", folder, "-httpListenAddr", "127.0.0.1:%d" % port,
                                  "-retentionPeriod", "3", "-search.disableCache", "-search.latencyOffset", "0s", "-loggerLevel", "ERROR"],
                           url + "/health", url + "/api/v1/write", url + "/write",
                           [url + "/internal/force_flush", url + "/internal/force_merge"], folder)
    config = os.path.join(base, "prometheus.yml")
    open(config, "w").write("global: {scrape_interval: 1h}\n")
    return url, Server(name, ["prometheus", "--config.file", config, "--storage.tsdb.path", folder, "--web.listen-address", "127.0.0.1:%d" % port,
                              "--web.enable-remote-write-receiver", "--web.enable-admin-api", "--log.level", "error"],
                       url + "/-/ready", url + "/api/v1/write", None, [], folder)


def ingest(server, build, protocol, profile, args, start_s):
    cpu, written = server.cpu(), server.written()
    out = subprocess.run([build + "/bench/loadgen", "write", "--url", server.write[protocol], "--protocol", protocol, "--profile", profile,
                          "--hosts", str(args.hosts), "--seconds", str(args.hours * 3600), "--start", str(start_s)],
                         stdout=subprocess.PIPE, check=True)
    sent = json.loads(out.stdout)
    million = sent["samples"] / 1e6
    return {"samples": sent["samples"], "cpu_per_million": (server.cpu() - cpu) / million, "rate": sent["samples"] / sent["seconds"],
            "written_per_sample": (server.written() - written) / sent["samples"], "rss_mib": server.status("VmHWM"), "end_s": sent["end_s"]}


WALKS = "user system idle nice iowait irq softirq steal guest guest_nice".split()
COUNTERS = "requests errors cpu_seconds rx_bytes tx_bytes".split()

# profile, title, query, span (None: instant), step. Several metrics are joined by +: a function of a selector over names would give series that
# differ in nothing but the name it drops, which Prometheus refuses.
QUERIES = [
    ("cpu", "1 series raw 1 h", 'cpu_usage_user{hostname="host_7"}[1h]', None, None),
    ("cpu", "max_over_time, 8 metrics of 1 host, 1 h by 1 m",
     " + ".join('max_over_time(cpu_usage_%s{hostname="host_7"}[1m])' % w for w in WALKS[:8]), 3600, 60),
    ("cpu", "avg by (hostname), 1 h windows, all hosts", "avg by (hostname) (avg_over_time(cpu_usage_user[1h]))", 21600, 3600),
    ("cpu", "the same over 10 metrics", " + ".join("avg by (hostname) (avg_over_time(cpu_usage_%s[1h]))" % w for w in WALKS), 21600, 3600),
    ("cpu", "usage_user > 90, step 60", "cpu_usage_user > 90", 21600, 60),
    ("cpu", "max_over_time[1h] > 90", "max_over_time(cpu_usage_user[1h]) > 90", 21600, 3600),
    ("cpu", "topk instant", "topk(5, cpu_usage_user)", None, None),
    ("cpu", "topk range 1 h", "topk(5, cpu_usage_user)", 3600, 60),
    ("cpu", "quantile range 1 h", "quantile(0.9, cpu_usage_user)", 3600, 60),
    ("mixed", "sum(rate) of 5 counters, 1 h", " + ".join("sum(rate(node_%s_total[5m]))" % c for c in COUNTERS), 3600, 60),
    ("mixed", "sum by (region) (rate), 1 counter", "sum by (region) (rate(node_requests_total[5m]))", 3600, 60),
    ("mixed", "avg(avg_over_time(latency_p99))", "avg(avg_over_time(node_latency_p99[5m]))", 3600, 60),
]


def ask(server, url, query, end, span, step, runs):
    if span:
        target = "%s/api/v1/query_range?%s" % (url, urllib.parse.urlencode({"query": query, "start": end - span, "end": end, "step": step}))
    else:
        target = "%s/api/v1/query?%s" % (url, urllib.parse.urlencode({"query": query, "time": end}))
    http(target)
    times, cpu = [], server.cpu()
    for _ in range(runs):
        begin = time.monotonic()
        body = http(target)
        times.append((time.monotonic() - begin) * 1000)
    return {"ms": statistics.median(times), "cpu_ms": (server.cpu() - cpu) * 1000 / runs, "bytes": len(body)}


def table(out, title, head, rows):
    out.append("\n### %s\n" % title)
    out.append("| " + " | ".join(head) + " |")
    out.append("|" + "---|" * len(head))
    out.extend("| " + " | ".join(row) + " |" for row in rows)


def publish(out, path):
    text = "\n".join(out) + "\n"
    print("\n" + text)
    if path:
        open(path, "w").write(text)


def ratio(a, b):
    return "-" if not b else "%.2f" % (a / b)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--hours", type=int, default=6)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--only", default="tidemark,vm,prom")
    parser.add_argument("--out")
    args = parser.parse_args()
    names = args.only.split(",")
    for name in list(names):
        binary = {"vm": "victoria-metrics", "prom": "prometheus"}.get(name)
        if binary and not shutil.which(binary):
            print("SKIPPED: %s is not installed (apt-get install %s)" % (name, binary))
            names.remove(name)
    base = tempfile.mkdtemp(prefix="tidemark-bench-")
    hours = {"cpu": args.hours, "mixed": max(1, args.hours // 3)}
    now = int(time.time()) // 3600 * 3600
    ingests, answers = {}, {}
    try:
        for profile in ("cpu", "mixed"):
            for protocol in ("influx", "rw"):
                for name in names:
                    if protocol == "influx" and name == "prom":
                        continue
                    args.hours = hours[profile]
                    start_s = now - hours[profile] * 3600
                    url, server = start(name, args.build, base)
                    try:
                        row = ingest(server, args.build, protocol, profile, args, start_s)
                        server.settle()
                        row["disk_per_sample"] = disk(server.folder) / row["samples"]
                        ingests[profile, protocol, name] = row
                        print(profile, protocol, name, {k: round(v, 3) for k, v in row.items()}, flush=True)
                        if protocol == "rw":
                            for p, title, query, span, step in QUERIES:
                                if p == profile:
                                    span = min(span, hours[profile] * 3600) if span else None
                                    answers[title, name] = ask(server, url, query, row["end_s"] - 13, span, step, args.runs)
                                    print(" ", title, name, {k: round(v, 2) for k, v in answers[title, name].items()}, flush=True)
                    finally:
                        server.stop()
                        shutil.rmtree(server.folder, ignore_errors=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    report(args, names, ingests, answers)


def report(args, names, ingests, answers):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, text=True).stdout.strip() or "unknown"
    model = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    versions = [subprocess.run(["dpkg-query", "-W", "-f=${Package} ${Version}", p], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               text=True).stdout for p in ("victoria-metrics", "prometheus")]
    out = ["Machine: %s, %d processors; commit %s; peers: %s." % (model, os.cpu_count(), commit, ", ".join(v for v in versions if v))]
    rows = []
    for (profile, protocol, name), r in ingests.items():
        vm = ingests.get((profile, protocol, "vm"))
        rows.append([profile, "line protocol" if protocol == "influx" else "remote_write", name, "%.1fM" % (r["samples"] / 1e6),
                     "%.3f" % r["cpu_per_million"], ratio(r["cpu_per_million"], vm and vm["cpu_per_million"]), "%dk/s" % (r["rate"] / 1000),
                     "%d" % r["rss_mib"], "%.2f" % r["disk_per_sample"], "%.2f" % r["written_per_sample"]])
    table(out, "Ingest", ["profile", "protocol", "server", "samples", "CPU s / million", "to VM", "rate", "peak RSS MiB", "disk B/sample settled",
                          "written B/sample"], rows)
    rows = []
    for _, title, _, _, _ in QUERIES:
        row = [title]
        for name in names:
            r = answers.get((title, name))
            row.append("%.2f / %.2f" % (r["ms"], r["cpu_ms"]) if r else "-")
        ours, vm = answers.get((title, "tidemark")), answers.get((title, "vm"))
        row.append(ratio(ours["ms"], vm["ms"]) if ours and vm else "-")
        rows.append(row)
    table(out, "Queries, median ms / server CPU ms", ["query"] + names + ["to VM (ms)"], rows)
    publish(out, args.out)


if __name__ == "__main__":
    main()
