#!/usr/bin/env python3
"""Two thousand idle connections and ten thousand short-lived senders do not stop a write or a query.

    connections.py TIDEMARK_BINARY [--senders 10000] [--idle 2000]

Half of the idle connections have sent nothing, the others one request each (keep-alive). Then senders come one after another on 32 threads, each with a
connection of its own, while a writer and a reader with connections of their own are timed. Every write must be answered 204 and be there afterwards.
"""
import argparse, http.client, json, os, resource, shutil, signal, socket, statistics, subprocess, sys, tempfile, threading, time

parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("--senders", type=int, default=10000)
parser.add_argument("--idle", type=int, default=2000)
args = parser.parse_args()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
if min(hard, 20000) < args.idle * 2:
    print("SKIPPED: the limit of open files is %d" % hard)
    sys.exit(77)
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
folder = tempfile.mkdtemp(prefix="tidemark-conn-")
log = open(folder + "/log", "wb")
server = subprocess.Popen([args.binary, "serve", "--data", folder + "/data", "--listen", "127.0.0.1:%d" % port, "--self-metrics", "off"],
                          stdout=log, stderr=log)


def request(method, path, body=None, timeout=30):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p))] * 1000


problems, lock = [], threading.Lock()


def problem(text):
    with lock:
        problems.append(text)


try:
    for _ in range(200):
        try:
            if request("GET", "/-/ready")[0] == 200:
                break
        except OSError:
            time.sleep(0.05)
    idle = []
    for i in range(args.idle):
        try:
            s = socket.create_connection(("127.0.0.1", port), timeout=10)
            if i % 2:
                s.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            idle.append(s)
        except OSError as e:
            problem("idle connection %d: %s" % (i, e))
            break
    time.sleep(0.5)
    done, counter = threading.Event(), iter(range(args.senders))
    writes, reads, sent = [], [], []

    def sender():
        while True:
            with lock:
                n = next(counter, None)
            if n is None:
                return
            try:
                status, _ = request("POST", "/write?precision=ms", "short,sender=s%d v=%d %d" % (n % 100, n, 1000 * (int(time.time()) - 20000) + n))
                if status != 204:
                    problem("sender %d was answered %d" % (n, status))
                sent.append(n)
            except OSError as e:
                problem("sender %d: %s" % (n, e))

    def timed(samples, method, path, body, expect):
        while not done.is_set():
            begin = time.monotonic()
            try:
                status, _ = request(method, path, body)
                if status != expect:
                    problem("%s %s was answered %d" % (method, path, status))
            except OSError as e:
                problem("%s %s: %s" % (method, path, e))
            samples.append(time.monotonic() - begin)
            time.sleep(0.02)

    others = [threading.Thread(target=timed, args=(writes, "POST", "/write", "steady v=1", 204)),
              threading.Thread(target=timed, args=(reads, "GET", "/api/v1/query?query=sum(short_v)", None, 200))]
    threads = [threading.Thread(target=sender) for _ in range(32)]
    begin = time.monotonic()
    for t in others + threads:
        t.start()
    for t in threads:
        t.join()
    seconds = time.monotonic() - begin
    done.set()
    for t in others:
        t.join()
    now = int(time.time())
    status, body = request("GET", "/api/v1/query?query=sum(count_over_time(short_v[8h]))&time=%d" % now)
    stored = float(json.loads(body)["data"]["result"][0]["value"][1]) if status == 200 else -1
    if stored != len(set(sent)):
        problem("%d samples stored of %d answered" % (stored, len(sent)))
    threads_now = next(l for l in open("/proc/%d/status" % server.pid) if l.startswith("Threads")).split()[1]
    print("%d idle, %d senders in %.1f s; write p50 %.1f p99 %.1f ms, query p50 %.1f p99 %.1f ms; %s threads; %d problems %s" % (
        len(idle), len(sent), seconds, percentile(writes, 0.5), percentile(writes, 0.99), percentile(reads, 0.5), percentile(reads, 0.99),
        threads_now, len(problems), problems[:3]))
finally:
    server.send_signal(signal.SIGTERM)
    try:
        code = server.wait(60)
    except subprocess.TimeoutExpired:
        server.kill()
        code = -9
    shutil.rmtree(folder, ignore_errors=True)
if code != 0:
    problem("the server ended with %d" % code)
    print(problems[-1])
sys.exit(1 if problems else 0)
