#!/usr/bin/env python3
"""The same questions to a real Prometheus and to Tidemark, which it writes to.

    prometheus.py TIDEMARK_BINARY [--seconds 300]

Debian's prometheus scrapes prometheus-node-exporter and itself every second and remote_writes to Tidemark. Then every query of QUERIES is asked
of both, as instant and as range query, and the answers must hold the same series and values within 1e-9. Times are chosen so that no sample lies on
the edge of a window (2.42 has closed windows, 3.x and Tidemark left-open ones) and windows begin a while after the first scrape, so that no
counter is born inside one. Exit 77: Prometheus is not installed.
"""
import argparse, json, math, os, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.parse, urllib.request

QUERIES = """
up
up == 1
process_resident_memory_bytes
{__name__=~"node_load.*"}
node_load1 + node_load5 * 2
-node_load15
node_memory_MemTotal_bytes - node_memory_MemFree_bytes
node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes * 100
rate(node_cpu_seconds_total[10s])
irate(node_cpu_seconds_total{mode="idle"}[10s])
increase(prometheus_http_requests_total[30s])
delta(node_memory_MemFree_bytes[15s])
idelta(node_memory_MemFree_bytes[15s])
deriv(node_memory_MemFree_bytes[20s])
predict_linear(node_memory_MemFree_bytes[20s], 3600)
sum by (mode) (rate(node_cpu_seconds_total[20s]))
sum without (cpu) (rate(node_cpu_seconds_total[20s]))
avg by (cpu) (rate(node_cpu_seconds_total{mode!="idle"}[20s]))
max by (job) (process_cpu_seconds_total)
min(node_cpu_seconds_total) by (mode)
count by (job) ({__name__=~"process_.+"})
group(up) by (job)
stddev(node_cpu_seconds_total)
stdvar by (mode) (node_cpu_seconds_total)
quantile(0.9, node_cpu_seconds_total)
quantile by (mode) (0.25, node_cpu_seconds_total)
topk(3, node_cpu_seconds_total)
bottomk(2, rate(node_cpu_seconds_total{mode="user"}[20s]))
count_values("v", up)
histogram_quantile(0.9, rate(prometheus_http_request_duration_seconds_bucket[30s]))
histogram_quantile(0.5, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[40s])))
histogram_quantile(0.99, prometheus_http_request_duration_seconds_bucket)
avg_over_time(node_load1[20s])
min_over_time(node_memory_MemFree_bytes[20s])
max_over_time(node_memory_MemFree_bytes[20s])
sum_over_time(up[20s])
count_over_time(up[20s])
last_over_time(node_load1[20s])
present_over_time(up[20s])
quantile_over_time(0.7, node_memory_MemFree_bytes[20s])
stddev_over_time(node_memory_MemFree_bytes[20s])
stdvar_over_time(node_load1[20s])
changes(node_memory_MemFree_bytes[20s])
resets(process_cpu_seconds_total[20s])
absent(no_such_metric{a="b"})
absent_over_time(no_such_metric[10s])
rate(node_network_receive_bytes_total[20s]) * 8
node_cpu_seconds_total{mode="user"} / ignoring(mode) node_cpu_seconds_total{mode="system"}
node_cpu_seconds_total / on(cpu, instance, job) group_left sum without (mode) (node_cpu_seconds_total)
up * on(instance) group_left(version) prometheus_build_info
node_filesystem_avail_bytes / node_filesystem_size_bytes
node_load1 > bool 0.5
node_load1 and node_load5
node_load1 or up
up unless on(job) prometheus_build_info
label_replace(up, "host", "$1", "instance", "(.*):.*")
label_join(up, "joined", "-", "job", "instance")
clamp(node_load1, 0.1, 0.2)
clamp_max(node_load1, 0.5)
round(node_load1 * 100, 5)
ceil(node_load1) + floor(node_load5) + sqrt(node_load15)
abs(delta(node_memory_MemFree_bytes[15s]))
ln(node_memory_MemTotal_bytes) + log2(node_memory_MemTotal_bytes) + exp(node_load1)
time() - process_start_time_seconds
timestamp(up)
vector(1) + scalar(count(up))
scalar(node_load1) + 1
hour() + minute() + day_of_week()
node_load1 offset 10s
rate(node_cpu_seconds_total{mode="idle"}[20s] offset 10s)
max_over_time(rate(node_cpu_seconds_total{mode="idle"}[10s])[30s:5s])
avg_over_time((node_load1 + 1)[30s:3s])
sum(rate(node_cpu_seconds_total[20s])) by (mode) / ignoring(mode) group_left sum(rate(node_cpu_seconds_total[20s]))
sort_desc(node_cpu_seconds_total{mode="user"})
sort(node_load1 or node_load5)
holt_winters(node_load1[20s], 0.5, 0.5)
1 + 2 * 3 ^ 2 % 5
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url, timeout=60):
    try:
        with urllib.request.urlopen(url, timeout=timeout) as reply:
            return json.loads(reply.read())
    except urllib.error.HTTPError as e:
        return json.loads(e.read())


def wait(url, seconds=60):
    for _ in range(int(seconds * 10)):
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("not ready: " + url)


def instant(base, query, at):
    return get("%s/api/v1/query?%s" % (base, urllib.parse.urlencode({"query": query, "time": "%.3f" % at})))


def ranged(base, query, start, end, step):
    return get("%s/api/v1/query_range?%s" % (base, urllib.parse.urlencode(
        {"query": query, "start": "%.3f" % start, "end": "%.3f" % end, "step": step})))


def points(answer):
    """{labels: {time: value}} of any result type."""
    data = answer["data"]
    if data["resultType"] in ("scalar", "string"):
        return {(): {round(float(data["result"][0]), 3): data["result"][1]}}
    out = {}
    for series in data["result"]:
        values = series["values"] if "values" in series else [series["value"]]
        out[tuple(sorted(series["metric"].items()))] = {round(float(t), 3): v for t, v in values}
    return out


def close(a, b):
    x, y = float(a), float(b)
    if math.isnan(x) or math.isnan(y):
        return math.isnan(x) and math.isnan(y)
    return x == y or abs(x - y) <= 1e-9 * max(abs(x), abs(y))


def difference(ours, theirs):
    if ours.get("status") != "success" or theirs.get("status") != "success":
        return "ours %s, theirs %s" % (ours.get("error", "ok"), theirs.get("error", "ok"))
    if ours["data"]["resultType"] != theirs["data"]["resultType"]:
        return "types differ"
    a, b = points(ours), points(theirs)
    if a.keys() != b.keys():
        return "series differ: only ours %s; only theirs %s" % (list(a.keys() - b.keys())[:2], list(b.keys() - a.keys())[:2])
    for labels in a:
        if a[labels].keys() != b[labels].keys():
            return "times differ at %s: %s" % (dict(labels), sorted(a[labels].keys() ^ b[labels].keys())[:4])
        for t in a[labels]:
            if not close(a[labels][t], b[labels][t]):
                return "%s at %s: ours %s, theirs %s" % (dict(labels), t, a[labels][t], b[labels][t])
    return None


def quiet_phase(prometheus, at):
    """A fraction of a second at which no series of either target has a sample, nor 40 ms to either side."""
    taken = sorted({round(float(s["value"][1]) % 1, 3) for s in instant(prometheus, "timestamp(up)", at)["data"]["result"]})
    gaps = [((b - a) % 1 or 1, a) for a, b in zip(taken, taken[1:] + [taken[0] + 1])]
    width, begin = max(gaps)
    return (begin + width / 2) % 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--seconds", type=int, default=300)
    args = parser.parse_args()
    for tool in ("prometheus", "prometheus-node-exporter"):
        if not shutil.which(tool):
            print("SKIPPED: %s is not installed" % tool)
            sys.exit(77)
    folder = tempfile.mkdtemp(prefix="tidemark-e2e-")
    children = []

    def spawn(argv, log):
        children.append(subprocess.Popen(argv, stdout=open(os.path.join(folder, log), "wb"), stderr=subprocess.STDOUT))

    try:
        ours, theirs, node = ("127.0.0.1:%d" % free_port() for _ in range(3))
        spawn([args.binary, "serve", "--data", folder + "/tidemark", "--listen", ours, "--self-metrics", "off"], "tidemark.log")
        wait("http://%s/-/ready" % ours)
        spawn(["prometheus-node-exporter", "--web.listen-address", node], "node.log")
        with open(folder + "/prometheus.yml", "w") as f:
            f.write("global: {scrape_interval: 1s, evaluation_interval: 1m}\nscrape_configs:\n"
                    "- {job_name: node, static_configs: [{targets: ['%s']}]}\n- {job_name: prometheus, static_configs: [{targets: ['%s']}]}\n"
                    "remote_write: [{url: 'http://%s/api/v1/write'}]\n" % (node, theirs, ours))
        spawn(["prometheus", "--config.file", folder + "/prometheus.yml", "--storage.tsdb.path", folder + "/prometheus",
               "--web.listen-address", theirs], "prometheus.log")
        wait("http://%s/-/ready" % theirs)
        begin = time.time()
        # Every handler's histogram is born now, not inside a window.
        for path in ("query?query=up", "query_range?query=up&start=0&end=1&step=1", "labels", "series?match[]=up"):
            get("http://%s/api/v1/%s" % (theirs, path))
        time.sleep(args.seconds)
        end = math.floor(time.time()) - 8
        phase = quiet_phase("http://" + theirs, end)
        first = math.ceil(begin) + 65 if args.seconds >= 120 else math.ceil(begin) + 45
        bad = asked = 0
        for query in QUERIES.strip().splitlines():
            for kind in ("instant", "range"):
                if kind == "instant":
                    at = end + phase
                    a, b = (instant("http://" + s, query, at) for s in (ours, theirs))
                else:
                    start, step = max(first, end - 180) + phase, 7
                    if end - start < 3:
                        start = end - 3 + phase
                    a, b = (ranged("http://" + s, query, start, end + phase, step) for s in (ours, theirs))
                asked += 1
                problem = difference(a, b)
                if problem:
                    bad += 1
                    print("DIFFERS %s %s: %s" % (kind, query, problem))
        print("%d questions of %d queries after %d s: %d differ" % (asked, len(QUERIES.strip().splitlines()), args.seconds, bad))
        sys.exit(1 if bad else 0)
    finally:
        for child in reversed(children):
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
        shutil.rmtree(folder, ignore_errors=True)


main()
