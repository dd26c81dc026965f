#!/usr/bin/env python3
"""Line and branch coverage of the suite by folder, from gcc's counters: cov.py BUILD_DIR (built with MODE=cov and run)."""
import collections, json, os, subprocess, sys

build = sys.argv[1]
lines, branches = {}, {}
for root, _, names in os.walk(build):
    for name in names:
        if not name.endswith(".gcda") or "/tests/" in root + "/":
            continue
        out = subprocess.run(["gcov", "--json-format", "--branch-probabilities", "--stdout", os.path.join(root, name)],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        for document in out.splitlines():
            for entry in json.loads(document)["files"]:
                if entry["file"].startswith("/"):
                    continue
                for line in entry["lines"]:
                    place = (entry["file"], line["line_number"])
                    lines[place] = lines.get(place, 0) + line["count"]
                    for i, branch in enumerate(line.get("branches", [])):
                        branches[place + (i,)] = branches.get(place + (i,), 0) + branch["count"]
table = collections.defaultdict(lambda: [0, 0, 0, 0])
for at, counters in ((0, lines), (2, branches)):
    for place, count in counters.items():
        for key in (os.path.dirname(place[0]), "all"):
            table[key][at] += 1
            table[key][at + 1] += count > 0
print("%-16s %8s %7s %9s %7s" % ("folder", "lines", "run", "branches", "taken"))
for key in sorted(table, key=lambda k: (k == "all", k)):
    n, hit, b, taken = table[key]
    print("%-16s %8d %6.1f%% %9d %6.1f%%" % (key, n, 100 * hit / max(n, 1), b, 100 * taken / max(b, 1)))
