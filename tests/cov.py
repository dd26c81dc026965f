#!/usr/bin/env python3
"""Line and branch coverage of the suite from gcc's counters: cov.py BUILD_DIR [LAYER] (built with MODE=cov and run).

By folder; with LAYER (kvcore) by file of it. Lines that hold KV_ASSERT or KV_VERIFY have no branches here: their other way is the end of
the program. Nothing else is left out. BUILD_DIR/untaken.txt lists every line of LAYER with branches that were never taken.
"""
import collections, json, os, re, subprocess, sys

build = sys.argv[1]
layer = sys.argv[2] + "/" if len(sys.argv) > 2 else ""
asserts = re.compile(r"\bKV_(ASSERT|VERIFY)\(")
sources, lines, branches = {}, {}, {}
left_out = 0


def source(path):
    if path not in sources:
        with open(path, errors="replace") as f:
            sources[path] = f.read().split("\n")
    return sources[path]


def text(path, number):
    found = source(path)
    return found[number - 1].strip() if number <= len(found) else ""


def count(entry):
    for line in entry["lines"]:
        place = (entry["file"], line["line_number"])
        lines[place] = lines.get(place, 0) + line["count"]
        for i, branch in enumerate(line.get("branches", [])):
            branches[place + (i,)] = branches.get(place + (i,), 0) + branch["count"]


for root, _, names in os.walk(build):
    for name in names:
        if not name.endswith(".gcda") or "/tests/" in root + "/" or (layer and "/" + layer not in root + "/"):
            continue
        out = subprocess.run(["gcov", "--json-format", "--branch-probabilities", "--stdout", os.path.join(root, name)],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        for document in out.splitlines():
            for entry in json.loads(document)["files"]:
                if entry["file"].startswith(layer) and not entry["file"].startswith("/"):
                    count(entry)
for place in list(branches):
    if asserts.search(text(place[0], place[1])):
        del branches[place]
        left_out += 1
table = collections.defaultdict(lambda: [0, 0, 0, 0])
for at, counters in ((0, lines), (2, branches)):
    for place, n in counters.items():
        for key in (place[0] if layer else os.path.dirname(place[0]), "all"):
            table[key][at] += 1
            table[key][at + 1] += n > 0
width = max(len(key) for key in table)
print("%-*s %8s %7s %9s %7s" % (width, "file" if layer else "folder", "lines", "run", "branches", "taken"))
for key in sorted(table, key=lambda k: (k == "all", k)):
    n, hit, b, taken = table[key]
    print("%-*s %8d %6.1f%% %9d %6.1f%%" % (width, key, n, 100 * hit / max(n, 1), b, 100 * taken / max(b, 1)))
print("left out: %d branches of assertions" % left_out)
untaken = collections.defaultdict(list)
for place in branches:
    if branches[place] == 0:
        untaken[place[:2]].append(place[2])
with open(os.path.join(build, "untaken.txt"), "w") as out:
    for place in sorted(untaken):
        out.write("%s:%d: %s: %s\n" % (place[0], place[1], ",".join(map(str, sorted(untaken[place]))), text(*place)))
