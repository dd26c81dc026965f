#!/usr/bin/env python3
"""kill -9 right after the last answer: how many of the answered samples does a server still have?

    kill9_peer.py BUILD_DIR [tidemark|vm|prom]...
"""
import json, os, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.parse, urllib.request


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url):
    return urllib.request.urlopen(url, timeout=60).read()


def start(name, build, folder, port):
    listen = "127.0.0.1:%d" % port
    if name == "tidemark":
        argv, ready = [build + "/tidemark", "serve", "--data", folder, "--listen", listen, "--self-metrics", "off"], "/-/ready"
    elif name == "vm":
        argv, ready = ["victoria-metrics", "-storageDataPath", folder, "-httpListenAddr", listen, "-retentionPeriod", "3",
                       "-search.latencyOffset", "0s", "-search.disableCache", "-loggerLevel", "ERROR"], "/health"
    else:
        open(folder + ".yml", "w").write("global: {scrape_interval: 1h}\n")
        argv, ready = ["prometheus", "--config.file", folder + ".yml", "--storage.tsdb.path", folder, "--web.listen-address", listen,
                       "--web.enable-remote-write-receiver", "--log.level", "error"], "/-/ready"
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        try:
            get("http://" + listen + ready)
            return child
        except OSError:
            time.sleep(0.05)


for name in sys.argv[2:] or ["tidemark", "vm", "prom"]:
    base, port = tempfile.mkdtemp(prefix="tidemark-kill9-"), free_port()
    folder, url = base + "/data", "http://127.0.0.1:%d" % port
    child = start(name, sys.argv[1], folder, port)
    try:
        first = int(time.time()) // 3600 * 3600 - 7200
        answered = 0
        begin = time.monotonic()
        for part in range(12):  # twelve seconds of load, so that some of it is older than any flush interval
            out = subprocess.run([sys.argv[1] + "/bench/loadgen", "write", "--url", url + "/api/v1/write", "--protocol", "rw", "--profile", "cpu",
                                  "--hosts", "100", "--seconds", "500", "--start", str(first + part * 500)], stdout=subprocess.PIPE, check=True)
            answered += json.loads(out.stdout)["samples"]
            time.sleep(max(0, begin + part + 1 - time.monotonic()) if part < 11 else 0)
        child.kill()
        child.wait()
        child = start(name, sys.argv[1], folder, port)
        time.sleep(2)
        query = 'sum(count_over_time({__name__="cpu_usage_user"}[4h]))'
        stored = 0
        for field in "user system idle nice iowait irq softirq steal guest guest_nice".split():
            reply = json.loads(get("%s/api/v1/query?%s" % (url, urllib.parse.urlencode(
                {"query": query.replace("user", field), "time": first + 7200}))))
            stored += sum(float(r["value"][1]) for r in reply["data"]["result"])
        print("%s: %d answered, %d there after kill -9: %d lost (%.1f %%)" % (name, answered, stored, answered - stored,
                                                                           100 * (answered - stored) / answered), flush=True)
    finally:
        child.kill()
        child.wait()
        shutil.rmtree(base, ignore_errors=True)
