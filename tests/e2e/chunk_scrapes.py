#!/usr/bin/env python3
"""Scrapes of a real node_exporter through the codecs: chunk_scrapes.py UNIT_TSDB [--scrapes N]

Each series' scrapes become lines "time_ms series value", ordered by series, in a file whose path the test chunk_data/scrapes* of unit-tsdb reads.
Exit 77: prometheus-node-exporter is not installed.
"""
import argparse, os, shutil, socket, subprocess, sys, tempfile, time, urllib.request


def scrape(url, series):
    body = urllib.request.urlopen(url, timeout=10).read().decode()
    now = int(time.time() * 1000)
    for line in body.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            series.setdefault(name, []).append((now, value))


def start_exporter():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % s.getsockname()[1]
    child = subprocess.Popen(["prometheus-node-exporter", "--web.listen-address", address], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    return child, "http://%s/metrics" % address


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("unit")
    arguments.add_argument("--scrapes", type=int, default=40)
    options = arguments.parse_args()
    if not shutil.which("prometheus-node-exporter"):
        print("SKIPPED: prometheus-node-exporter is not installed")
        return 77
    series = {}
    child, url = start_exporter()
    try:
        until = time.time() + 20
        while True:
            try:
                scrape(url, series)
                break
            except OSError:
                if time.time() > until:
                    raise
                time.sleep(0.1)
        for _ in range(options.scrapes - 1):
            time.sleep(0.2)
            scrape(url, series)
    finally:
        child.kill()
        child.wait()
    with tempfile.TemporaryDirectory(prefix="tidemark-e2e-") as folder:
        path = folder + "/scrapes"
        with open(path, "w") as f:
            for name in sorted(series):
                for at, value in series[name]:
                    f.write("%d %s %s\n" % (at, name.replace(" ", "_"), value))
        run = subprocess.run([options.unit, "--filter", "chunk_data/scrapes*", "--verbose=0", "-j1"], env=dict(os.environ, CHUNK_SCRAPES=path),
                             capture_output=True, text=True)
    said = [line for line in (run.stdout + run.stderr).splitlines() if "bytes a sample" in line or "[FAIL]" in line or "chunk_data.c" in line]
    print("\n".join(said))
    return 0 if run.returncode == 0 and any("bytes a sample" in line for line in said) else 1


sys.exit(main())
