#!/usr/bin/env python3
"""strace of the real server: between a request being read and its 2xx being sent there is a sync that began after the write and returned 0.

    ack_sync.py TIDEMARK_BINARY
Exit 77: strace is not installed or may not trace here.
"""
import os, re, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.request

if not shutil.which("strace"):
    print("SKIPPED: strace is not installed")
    sys.exit(77)
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
folder = tempfile.mkdtemp(prefix="tidemark-ack-")
trace = os.path.join(folder, "trace")
child = subprocess.Popen(["strace", "-f", "-tt", "-s", "64", "-o", trace, "-e", "trace=recvfrom,read,sendto,sendmsg,writev,pwrite64,pwritev,fdatasync,fsync",
                          sys.argv[1], "serve", "--data", folder + "/data", "--listen", "127.0.0.1:%d" % port, "--self-metrics", "off"],
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
try:
    for _ in range(300):
        try:
            urllib.request.urlopen("http://127.0.0.1:%d/-/ready" % port, timeout=5).read()
            break
        except OSError:
            if child.poll() is not None:
                text = child.stderr.read().decode()
                print("SKIPPED: strace cannot trace here: " + text.strip()[:80])
                sys.exit(77)
            time.sleep(0.1)
    for i in range(40):
        body = ("ack_%d,host=a v=%d\nack_%d,host=b v=%d\n" % (i % 3, i, i % 3, i)).encode()
        request = urllib.request.Request("http://127.0.0.1:%d/write" % port, data=body)
        assert urllib.request.urlopen(request, timeout=30).status == 204
finally:
    # strace passes the signal on; the server flushes and ends.
    subprocess.run(["pkill", "-TERM", "-P", str(child.pid)])
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()
answers = syncs = 0
received = written = synced = False
unfinished = {}
for line in open(trace, errors="replace"):
    pid, _, call = line.split(None, 2)
    if "<unfinished" in call:
        unfinished[pid] = call
        if call.startswith(("pwrite", "pwritev")):
            written, synced = True, False
        continue
    resumed = re.match(r"<\.\.\. (\w+) resumed>(.*)", call)
    name = resumed.group(1) if resumed else call.split("(")[0]
    text = (unfinished.pop(pid, "") + resumed.group(2)) if resumed else call
    if name in ("recvfrom", "read") and "POST /write" in text:
        received, written, synced = True, False, False
    elif name in ("pwrite64", "pwritev"):
        written, synced = True, False
    elif name in ("fdatasync", "fsync") and text.rstrip().endswith("= 0"):
        syncs += 1
        synced = written
    elif name in ("sendto", "sendmsg", "writev") and "204" in text and received:
        answers += 1
        if not (written and synced):
            print("an answer without a sync of its write before it:", line.strip())
            sys.exit(1)
        received = False
shutil.rmtree(folder, ignore_errors=True)
print("%d answers of 40, each behind its own sync (%d syncs)" % (answers, syncs))
sys.exit(0 if answers == 40 else 1)
