#!/usr/bin/env python3
"""kvcore beside RocksDB, LevelDB, LMDB, WiredTiger and BadgerDB: runs kv_bench's workloads, one process each, the stores taking
turns, and writes the tables of bench/README.md. Every line of JSON the programs print is kept beside them.

    kv.py [--size quick|full|long] [--rounds N] [--stores a,b] [--steps a,b] [--dir DIR] [--open-gb N] BUILD/bench
"""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time

STORES = ['tidemark', 'rocksdb', 'leveldb', 'lmdb', 'wiredtiger', 'badger']
TITLES = {'tidemark': 'kvcore', 'rocksdb': 'RocksDB', 'leveldb': 'LevelDB', 'lmdb': 'LMDB', 'wiredtiger': 'WiredTiger',
          'badger': 'BadgerDB'}
PACKAGES = ['librocksdb-dev', 'libleveldb-dev', 'liblmdb-dev', 'libwiredtiger-dev', 'golang-github-dgraph-io-badger-dev']
SIZES = {  # keys of 100, 400 and 4096 bytes, metric rows, operations of a read workload, rounds, memtable MB
    'quick': dict(keys={100: 300_000, 400: 80_000, 4096: 10_000}, rows=300_000, ops=100_000, sync=2000, rounds=1, memtable=8),
    'full': dict(keys={100: 5_000_000, 400: 1_200_000, 4096: 200_000}, rows=5_000_000, ops=500_000, sync=20_000, rounds=1,
                 memtable=64),
    'long': dict(keys={100: 5_000_000, 400: 1_200_000, 4096: 200_000}, rows=5_000_000, ops=500_000, sync=20_000, rounds=3,
                 memtable=64),
}
KEY_LEN, METRIC_LEN = 16, 150
RUN_TIMEOUT_S = 900


class Step:
    """One row of the table. place: the directory it works in; a step that fills begins with it empty."""

    def __init__(self, name, workload, place, value=100, fills=False, keep=True, cache=2.0, ops=None, **extra):
        self.name, self.workload, self.place, self.value = name, workload, place, value
        self.fills, self.keep, self.cache, self.ops, self.extra = fills, keep, cache, ops, extra


def steps_of(size):
    ops = size['ops']
    fill = dict(fills=True, keep=False)
    steps = [
        Step('fillseq, batch 100', 'fillseq', 'tmp', batch=100, **fill),
        Step('fillrandom, batch 1', 'fillrandom', 'tmp', batch=1, **fill),
        Step('fillrandom, batch 100', 'fillrandom', 'v100', batch=100, fills=True),
        Step('fillsync, 1 thread', 'fillsync', 'tmp', ops=size['sync'], **fill),
        Step('fillsync, 8 threads', 'fillsync', 'tmp', ops=2 * size['sync'], threads=8, **fill),
        Step('open', 'open', 'v100'),
        Step('readrandom', 'readrandom', 'v100', ops=ops),
        Step('readrandom, cache a quarter', 'readrandom', 'v100', ops=ops // 2, cache=0.25),
        Step('readmissing', 'readmissing', 'v100', ops=ops),
        Step('seek + next 50', 'seekrandom', 'v100', ops=ops // 10),
        Step('scan forward, a row', 'scanforward', 'v100', ops=ops * 4),
        Step('scan reverse, a row', 'scanreverse', 'v100', ops=ops * 4),
        Step('YCSB C', 'ycsbc', 'v100', ops=ops),
        Step('read while writing', 'readwhilewriting', 'v100', ops=ops // 2, batch=10),
        Step('YCSB B', 'ycsbb', 'v100', ops=ops),
        Step('YCSB A', 'ycsba', 'v100', ops=ops),
        Step('overwrite', 'overwrite', 'v100', ops=ops),
        Step('YCSB E', 'ycsbe', 'v100', ops=ops // 10),
        Step('delete half', 'deletehalf', 'v100', batch=100, keep=False),
    ]
    for value in (400, 4096):
        place, batch = f'v{value}', 100 if value < 4096 else 10
        steps += [
            Step(f'fillrandom, batch {batch}, {value} B', 'fillrandom', place, value, fills=True, batch=batch),
            Step(f'readrandom, {value} B', 'readrandom', place, value, ops=ops // 2),
            Step(f'seek + next 50, {value} B', 'seekrandom', place, value, ops=ops // 20),
            Step(f'scan forward, a row, {value} B', 'scanforward', place, value, keep=False),
        ]
    steps += [
        Step('metrics: load, a row', 'metricsload', 'metrics', METRIC_LEN, fills=True, batch=100),
        Step('metrics: last 500 of a series', 'metricsscan', 'metrics', METRIC_LEN, ops=max(ops // 50, 1000), keep=False),
    ]
    return steps


def sh(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def keys_of(size, step):
    return size['rows'] if step.value == METRIC_LEN else size['keys'][step.value]


def run(args, size, step, store, memtable_mb):
    place = os.path.join(args.dir, store, step.place)
    if step.fills:
        shutil.rmtree(place, ignore_errors=True)
        os.makedirs(place)
    keys = keys_of(size, step)
    cache_mb = max(int(keys * (KEY_LEN + step.value) * step.cache) >> 20, 1)
    program = 'kv_bench_badger' if store == 'badger' else 'kv_bench'
    command = [os.path.join(args.build, program), '--store', store, '--workload', step.workload, '--dir', place,
               '--keys', keys, '--value', step.value, '--cache-mb', cache_mb, '--memtable-mb', memtable_mb]
    for name, value in [('ops', step.ops)] + list(step.extra.items()):
        if value:
            command += ['--' + name, value]
    try:
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=RUN_TIMEOUT_S)
        line = done.stdout.strip().splitlines()[-1] if done.returncode == 0 and done.stdout.strip() else None
        why = done.stderr.strip()[-300:]
    except subprocess.TimeoutExpired:
        line, why = None, f'more than {RUN_TIMEOUT_S} s'
    if line is None:
        print(f'FAILED {step.name} {store}: {why}', file=sys.stderr)
        return None
    result = json.loads(line)
    result['step'] = step.name
    return result


def run_all(args, size, log):
    results = {}  # (step, store) -> [result of each round]
    steps = [s for s in steps_of(size) if not args.steps or any(w in s.name for w in args.steps)]
    start = time.time()
    for step in steps:
        repeatable = step.workload != 'deletehalf' and (step.fills or step.workload != 'ycsbe')
        for _ in range(size['rounds'] if repeatable else 1):
            for store in args.stores:
                result = run(args, size, step, store, size['memtable'])
                if result:
                    results.setdefault((step.name, store), []).append(result)
                    log.write(json.dumps(result) + '\n')
                    log.flush()
        shown = '  '.join(f"{s} {cpu(results, step.name, s):.3g}" for s in args.stores if cpu(results, step.name, s))
        print(f'{time.time() - start:6.0f} s  {step.name}: {shown}', file=sys.stderr, flush=True)
        if not step.keep:
            for store in args.stores:
                shutil.rmtree(os.path.join(args.dir, store, step.place), ignore_errors=True)
    return steps, results


# ---- tables


def median(results, step, store, member):
    found = [r[member] for r in results.get((step, store), []) if r.get(member) is not None and r['ops']]
    return statistics.median(found) if found else None


def cpu(results, step, store):
    """CPU us an operation, the background work behind writes included."""
    return median(results, step, store, 'settled_us_op')


def show(v, digits=3):
    if v is None:
        return 'n/a'
    if v >= 1000:
        return f'{v:,.0f}'
    return f'{v:.{digits}g}'


def show_scaled(v, by):
    return show(v / by if v is not None else None)


def ratio(a, others):
    best = min((o for o in others if o), default=None)
    return a / best if a and best else None


def show_ratio(v):
    return '' if v is None else f'{v:.2f}'


def table(head, rows):
    lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    return '\n'.join(lines + ['| ' + ' | '.join(r) + ' |' for r in rows]) + '\n'


def cpu_table(steps, results, stores):
    rows, ratios = [], []
    for step in steps:
        if step.workload == 'open':
            continue
        values = {s: cpu(results, step.name, s) for s in stores}
        to_lsm = ratio(values.get('tidemark'), [values.get('rocksdb'), values.get('leveldb')])
        to_lmdb = ratio(values.get('tidemark'), [values.get('lmdb')])
        if to_lsm:
            ratios.append(to_lsm)
        rows.append([step.name] + [show(values[s]) for s in stores] + [show_ratio(to_lsm), show_ratio(to_lmdb)])
    head = ['CPU us/op'] + [TITLES[s] for s in stores] + ['to better of RocksDB, LevelDB', 'to LMDB']
    text = table(head, rows)
    if ratios:
        over = sum(r > 1 for r in ratios)
        text += (f'\nkvcore to the better of RocksDB and LevelDB: median {statistics.median(ratios):.2f}, worst {max(ratios):.2f}, '
                 f'above 1 on {over} of {len(ratios)}.\n')
    return text


def rate_table(steps, results, stores):
    rows = []
    for step in steps:
        if step.workload in ('open', 'deletehalf'):
            continue
        rows.append([step.name] + [show(median(results, step.name, s, 'ops_s')) for s in stores])
        if any(median(results, step.name, s, 'p99_us') for s in stores):
            rows.append([step.name + ': p50 / p99 us'] + [
                f"{show(median(results, step.name, s, 'p50_us'))} / {show(median(results, step.name, s, 'p99_us'))}"
                for s in stores])
    return table(['operations/s by the wall'] + [TITLES[s] for s in stores], rows)


def space_table(steps, results, stores):
    rows = []
    for step in steps:
        if step.workload in ('fillrandom', 'metricsload') and step.keep:
            def amplification(s, step=step):
                written = median(results, step.name, s, 'written_bytes')
                keys = median(results, step.name, s, 'keys')
                user = median(results, step.name, s, 'user_bytes') or (keys and keys * (KEY_LEN + step.value))
                return written / user if written else None
            rows.append([step.name + ': bytes written / bytes given'] + [show(amplification(s)) for s in stores])
            rows.append(['... disk MB'] + [show_scaled(median(results, step.name, s, 'disk_bytes'), 1e6) for s in stores])
            rows.append(['... peak RSS MB'] + [show(median(results, step.name, s, 'peak_rss_mb')) for s in stores])
        if step.workload == 'readrandom':
            rows.append([step.name + ': peak RSS MB'] + [show(median(results, step.name, s, 'peak_rss_mb')) for s in stores])
        if step.workload == 'open':
            rows.append(['open after a clean close, ms'] + [show(median(results, step.name, s, 'open_ms')) for s in stores])
            rows.append(['... RSS MB then'] + [show_scaled(median(results, step.name, s, 'rss_open_kb'), 1e3) for s in stores])
        if step.workload == 'deletehalf':
            for member, title in (('disk_before', 'delete half: disk MB before'), ('disk_after', '... after the last delete'),
                                  ('disk_settled', '... when quiet, at most 30 s, nothing asked for'),
                                  ('live_bytes', '... live keys and values, uncompressed')):
                rows.append([title] + [show_scaled(median(results, step.name, s, member), 1e6) for s in stores])
    return table(['space'] + [TITLES[s] for s in stores], rows)


def machine():
    model = [line.split(':', 1)[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name')]
    with open('/proc/meminfo') as f:
        memory = int(f.readline().split()[1]) >> 20
    return f'{model[0] if model else platform.machine()}, {os.cpu_count()} processors, {memory} GiB'


def write_report(args, size, steps, results, out):
    versions = [f"{p} {sh('dpkg-query', '-W', '-f=${Version}', p)}" for p in PACKAGES]
    notes = sorted({r['note'] for (_, store), rs in results.items() if store == 'tidemark' for r in rs})
    commit = sh('git', 'rev-parse', '--short', 'HEAD') + (' and changes' if sh('git', 'status', '--porcelain') else '')
    keys = ', '.join(f'{n:,} of {v} B' for v, n in size['keys'].items())
    out.write(f"Machine: {machine()}; commit {commit}; kvcore's style: {', '.join(notes)}; {'; '.join(versions)}; "
              f"keys and values: {keys}; {size['rows']:,} metric rows; {size['rounds']} rounds.\n\n")
    out.write(cpu_table(steps, results, args.stores) + '\n')
    out.write(rate_table(steps, results, args.stores) + '\n')
    out.write(space_table(steps, results, args.stores))


def open_large(args, gb):
    """The time and memory of opening a cleanly closed database of that size, kvcore alone."""
    keys = gb * 10**9 // (KEY_LEN + 400)
    size = dict(keys={400: keys}, rows=0)
    fill = Step(f'load {gb} GB', 'fillrandom', 'large', 400, fills=True, batch=100, cache=0.02)
    load = run(args, size, fill, 'tidemark', 64)
    opens = [run(args, size, Step('open', 'open', 'large', 400, cache=0.02), 'tidemark', 64) for _ in range(5)]
    shutil.rmtree(os.path.join(args.dir, 'tidemark', 'large'), ignore_errors=True)
    if load and all(opens):
        print(f"{load['disk_bytes'] / 1e9:.1f} GB on disk: open {statistics.median(o['open_ms'] for o in opens):.1f} ms, "
              f"{statistics.median(o['rss_open_kb'] for o in opens) / 1e3:.1f} MB resident")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('build', help='the folder of kv_bench')
    p.add_argument('--size', choices=SIZES, default='full')
    p.add_argument('--rounds', type=int)
    p.add_argument('--stores', type=lambda s: s.split(','), default=STORES)
    p.add_argument('--steps', type=lambda s: s.split(','), help='only rows whose name has one of these in it')
    p.add_argument('--dir', help='where the databases go (default: BUILD/kv-data)')
    p.add_argument('--open-gb', type=int, help='only: open a cleanly closed database of that many GB')
    args = p.parse_args()
    args.dir = args.dir or os.path.join(args.build, 'kv-data')
    size = dict(SIZES[args.size], **({'rounds': args.rounds} if args.rounds else {}))
    if args.open_gb:
        return open_large(args, args.open_gb)
    with open(os.path.join(args.build, 'kv.jsonl'), 'w') as log:
        steps, results = run_all(args, size, log)
    shutil.rmtree(args.dir, ignore_errors=True)
    path = os.path.join(args.build, 'kv.md')
    with open(path, 'w') as out:
        write_report(args, size, steps, results, out)
    sys.stdout.write(open(path).read())
    print(f'(also in {path}; every run in {os.path.join(args.build, "kv.jsonl")})', file=sys.stderr)


if __name__ == '__main__':
    main()
