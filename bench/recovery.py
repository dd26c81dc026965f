#!/usr/bin/env python3
"""How long until the server is ready after kill -9 with many samples in its log.

    recovery.py BUILD_DIR [--millions 10]
"""
import argparse, json, os, signal, shutil, socket, subprocess, sys, tempfile, time, urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("build")
parser.add_argument("--millions", type=int, default=10)
args = parser.parse_args()
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
url = "http://127.0.0.1:%d" % port
folder = tempfile.mkdtemp(prefix="tidemark-recovery-")


def start():
    begin = time.monotonic()
    child = subprocess.Popen([args.build + "/tidemark", "serve", "--data", folder + "/data", "--listen", "127.0.0.1:%d" % port,
                              "--self-metrics", "off"], stdout=subprocess.DEVNULL, stderr=open(folder + "/log", "ab"))
    for path in ("/-/healthy", "/-/ready"):
        while True:
            try:
                urllib.request.urlopen(url + path, timeout=5).read()
                break
            except OSError:
                if child.poll() is not None:
                    sys.exit(open(folder + "/log").read()[-2000:])
                time.sleep(0.005)
        yield path, time.monotonic() - begin
    yield child, 0


try:
    child = list(start())[-1][0]
    out = subprocess.run([args.build + "/bench/loadgen", "write", "--url", url + "/api/v1/write", "--protocol", "rw", "--profile", "cpu",
                          "--seconds", str(args.millions * 1000)], stdout=subprocess.PIPE, check=True)
    samples = json.loads(out.stdout)["samples"]
    log_bytes = sum(os.path.getsize(os.path.join(folder, "data", f)) for f in os.listdir(folder + "/data") if f.endswith(".log"))
    child.send_signal(signal.SIGKILL)
    child.wait()
    steps = list(start())
    child = steps[-1][0]
    query = url + "/api/v1/query?query=count_over_time(cpu_usage_user%7Bhostname%3D%22host_1%22%7D%5B90d%5D)"
    begin = time.monotonic()
    answer = json.loads(urllib.request.urlopen(query, timeout=120).read())
    print("%d samples, %.0f MiB of log files: healthy after %.3f s, ready after %.3f s; first query %.3f s, counts %s of %d" % (
        samples, log_bytes / 2**20, steps[0][1], steps[1][1], time.monotonic() - begin, answer["data"]["result"][0]["value"][1],
        samples // 10000))
finally:
    child.send_signal(signal.SIGTERM)
    child.wait()
    shutil.rmtree(folder, ignore_errors=True)
