#!/usr/bin/env python3
"""What churn costs: the same samples twice, once with series that last, once with every series replaced every ten minutes of sample time.

    bench/churn.py BUILD_DIR [--days 1] [--hosts 100] [--step 15] [--churn 600] [--runs 7] [--protocol influx] [--only tidemark,vm] [--out FILE]

10 series a host. "Calm" is the run without churn: it has the label, too, with one value. Queries are about the last hour and asked right
after the last sample, with nothing settled. CPU is the server's (utime + stime); "settled" adds what the merges up to then cost.
"""
import argparse, json, os, shutil, subprocess, sys, tempfile, time, urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import server as bench

CALM = 10 ** 10

# title, call, arguments; each is given start and end of the last hour too
QUERIES = [
    ("sum by (region), 1 h by 1 m", "query_range", {"query": "sum by (region) (cpu_usage_user)", "step": 60}),
    ("sum(rate[5m]), 1 h by 1 m", "query_range", {"query": "sum(rate(cpu_usage_user[5m]))", "step": 60}),
    ("10 metrics, avg by (os), 1 h by 1 m", "query_range",
     {"query": " + ".join("avg by (os) (avg_over_time(cpu_usage_%s[5m]))" % w for w in bench.WALKS), "step": 60}),
    ("1 host, 1 h by 1 m", "query_range", {"query": 'max(cpu_usage_user{hostname="host_7"})', "step": 60}),
    ("topk instant", "query", {"query": "topk(5, cpu_usage_user)"}),
    ("values of region", "label/region/values", {}),
    ("values of pod", "label/pod/values", {"match[]": "cpu_usage_user"}),
    ("series of 1 host", "series", {"match[]": 'cpu_usage_user{hostname="host_7"}'}),
]


def ask(server, url, call, arguments, end, runs):
    arguments = dict(arguments, **({"time": end} if call == "query" else {"start": end - 3600, "end": end}))
    target = "%s/api/v1/%s?%s" % (url, call, urllib.parse.urlencode(arguments))
    bench.http(target)
    runs, times, cpu = max(runs, 1), [], server.cpu()
    for _ in range(runs):
        begin = time.monotonic()
        body = bench.http(target)
        times.append((time.monotonic() - begin) * 1000)
    return {"ms": sorted(times)[runs // 2], "cpu_ms": (server.cpu() - cpu) * 1000 / runs, "bytes": len(body)}


def parts(build, folder):
    """Bytes of tables by space."""
    sizes, space = {}, None
    for line in subprocess.run([build + "/kvtool", "dump", "tree", folder], stdout=subprocess.PIPE, text=True, errors="replace", check=True).stdout.splitlines():
        words = line.split()
        if line.startswith("space "):
            space = words[1]
        elif space:
            sizes[space] = sizes.get(space, 0) + sum(int(w[6:]) for w in words if w.startswith("bytes="))
    return sizes


def run(name, churn, args, base):
    now = int(time.time()) // 3600 * 3600
    url, server = bench.start(name, args.build, base)
    out = {"queries": {}}
    try:
        sent = json.loads(subprocess.run(
            [args.build + "/bench/loadgen", "write", "--url", server.write[args.protocol], "--protocol", args.protocol, "--profile", "cpu",
             "--hosts", str(args.hosts), "--seconds", str(int(args.days * 86400)), "--start", str(now - int(args.days * 86400)),
             "--step", str(args.step), "--churn", str(churn)], stdout=subprocess.PIPE, check=True).stdout)
        out.update(samples=sent["samples"], cpu=server.cpu(), seconds=sent["seconds"])
        time.sleep(10)  # VictoriaMetrics shows new series some seconds late
        for title, call, arguments in QUERIES:
            out["queries"][title] = ask(server, url, call, arguments, sent["end_s"] - 1, args.runs)
        before = server.cpu()
        server.settle()
        out.update(cpu_settled=out["cpu"] + server.cpu() - before, rss=server.status("VmHWM"))
    finally:
        server.stop()
    out["disk"] = bench.disk(server.folder)
    if name == "tidemark":
        out["parts"] = parts(args.build, server.folder)
    shutil.rmtree(server.folder, ignore_errors=True)
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--days", type=float, default=1)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--step", type=int, default=15)
    parser.add_argument("--churn", type=int, default=600)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--protocol", choices=["influx", "rw"], default="influx")
    parser.add_argument("--only", default="tidemark,vm")
    parser.add_argument("--out")
    args = parser.parse_args()
    names = args.only.split(",")
    if "vm" in names and not shutil.which("victoria-metrics"):
        print("SKIPPED: victoria-metrics is not installed (apt-get install victoria-metrics)")
        names.remove("vm")
    base = tempfile.mkdtemp(prefix="tidemark-bench-")
    results = {}
    try:
        for name in names:
            for kind, churn in (("calm", CALM), ("churn", args.churn)):
                results[name, kind] = run(name, churn, args, base)
                print(name, kind, json.dumps(results[name, kind]), flush=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    report(args, names, results)


def report(args, names, results):
    out = ["%.3g days, %d series at a time, a sample every %d s, all replaced every %d s." % (args.days, args.hosts * 10, args.step, args.churn)]
    rows = []
    for name in names:
        calm, churn = results[name, "calm"], results[name, "churn"]
        series = args.hosts * 10 * args.days * 86400 / args.churn
        for title, key, scale, form in (("CPU s / million samples", "cpu", 1e6 / churn["samples"], "%.3f"),
                                        ("the same with all merges", "cpu_settled", 1e6 / churn["samples"], "%.3f"),
                                        ("peak RSS MiB", "rss", 1, "%.0f"), ("disk MB, settled", "disk", 1e-6, "%.1f")):
            rows.append([name, title, form % (calm[key] * scale), form % (churn[key] * scale), bench.ratio(churn[key], calm[key])])
        rows.append([name, "CPU us a new series, all merges", "", "%.2f" % ((churn["cpu_settled"] - calm["cpu_settled"]) * 1e6 / series), ""])
        if "parts" in churn:
            for part in sorted(churn["parts"]):
                a, b = calm["parts"].get(part, 0), churn["parts"][part]
                rows.append([name, "of it %s, MB" % part, "%.2f" % (a / 1e6), "%.2f" % (b / 1e6), bench.ratio(b, a)])
    bench.table(out, "Churn", ["server", "", "calm", "churn", "ratio"], rows)
    rows = []
    for title, _, _ in QUERIES:
        row = [title]
        for name in names:
            calm, churn = (results[name, kind]["queries"][title] for kind in ("calm", "churn"))
            row += ["%.2f / %.1f" % (r["ms"], r["cpu_ms"]) for r in (calm, churn)]
            row.append(bench.ratio(churn["ms"], calm["ms"]))
        rows.append(row)
    bench.table(out, "Queries of the last hour, median ms / server CPU ms",
                ["query"] + [h for n in names for h in (n + " calm", n + " churn", "ratio")], rows)
    bench.publish(out, args.out)


if __name__ == "__main__":
    main()
