#!/usr/bin/env python3
"""Bytes a sample on disk of real scrapes: node_exporter is scraped every STEP seconds, then each server takes all of it in, settles and is weighed.

    bench/scrapes.py BUILD_DIR [--seconds 3600] [--step 15] [--file FILE]

FILE keeps the scrapes (and is used as it is when it exists): for each, unix milliseconds and length as little-endian 64 and 32 bits, then zlib.
"""
import argparse, os, shutil, socket, struct, subprocess, sys, tempfile, time, urllib.request, zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import server as bench


def record(path, seconds, step):
    port = bench.free_port()
    exporter = subprocess.Popen(["prometheus-node-exporter", "--web.listen-address=127.0.0.1:%d" % port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(1)
        begin = time.time()
        with open(path, "wb") as out:
            while time.time() - begin < seconds:
                at = time.time()
                body = zlib.compress(bench.http("http://127.0.0.1:%d/metrics" % port))
                out.write(struct.pack("<qI", int(at * 1000), len(body)) + body)
                time.sleep(max(0, at + step - time.time()))
    finally:
        exporter.terminate()
        exporter.wait()


def scrapes(path):
    """(samples, body in the text format with times)"""
    with open(path, "rb") as f:
        while head := f.read(12):
            ms, n = struct.unpack("<qI", head)
            lines = [line for line in zlib.decompress(f.read(n)).split(b"\n") if line and not line.startswith(b"#")]
            yield len(lines), b"".join(b"%s %d\n" % (line, ms) for line in lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--step", type=float, default=15)
    parser.add_argument("--file")
    args = parser.parse_args()
    for binary in ("prometheus-node-exporter", "victoria-metrics"):
        if not shutil.which(binary):
            sys.exit("SKIPPED: %s is not installed (apt-get install %s)" % (binary, binary))
    base = tempfile.mkdtemp(prefix="tidemark-bench-")
    path = args.file or os.path.join(base, "scrapes")
    try:
        if not os.path.exists(path):
            record(path, args.seconds, args.step)
        for name in ("tidemark", "vm"):
            url, server = bench.start(name, args.build, base)
            try:
                samples = bodies = 0
                for n, body in scrapes(path):
                    bench.http(url + "/api/v1/import/prometheus", data=body)
                    samples += n
                    bodies += 1
                server.settle()
                bytes_ = bench.disk(server.folder)
                print("%-9s %d scrapes, %d samples, %d bytes, %.3f bytes a sample, %.2f CPU s" % (name, bodies, samples, bytes_, bytes_ / samples, server.cpu()), flush=True)
            finally:
                server.stop()
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
