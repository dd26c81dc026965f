#!/bin/sh
# tidemark export and import, and the endpoints beneath them: what was exported and imported elsewhere is exported again byte for byte, in every
# format, from a directory and from a server; wrong lines are told; an import is repeated without effect; the peers' own tools read it.
set -u
build=$1
tidemark=$build/tidemark
work=$(mktemp -d)
server= peer=
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null; [ -z "$peer" ] || kill -9 "$peer" 2>/dev/null; rm -rf "$work"' EXIT
. "$(dirname "$0")/kit.sh"

# ---- lines of everything that is hard to write down
cat >"$work/hard.json" <<'J'
{"metric":{"__name__":"up","job":"a \"quoted\" \\ one\nand two","path":"/<&>"},"values":[1,0.1,-0,1e-300,123456789012345.6],"timestamps":[1700000000000,1700000000001,1700000086400,1700086400000,1700172800999]}
{"timestamps":[-5,1700000000000],"values":["Infinity","-inf"],"metric":{"__name__":"inf","é":"\u00e9\ud83d\ude00"}}
{"metric":{"__name__":"http.requests","label.with.dots":"x"},"values":[7,8],"timestamps":[1700000000000,1700000060000],"more":{"a":[1,{"b":null}]}}
{"metric":{"no":"name"},"values":[],"timestamps":[]}
{"metric":{"__name__":"gone","job":"x"},"values":[5,null,"NaN"],"timestamps":[1700000000000,1700000015000,1700000030000]}
J
expect 0 "samples=12 rejected=0 series_created=4" "$tidemark" import --data "$work/one" "$work/hard.json"
"$tidemark" export --data "$work/one" >"$work/one.json" || fail "export"
[ "$(wc -l <"$work/one.json")" -ge 6 ] || fail "the export has $(wc -l <"$work/one.json") lines"
grep -qF '"values":[5,null,"NaN"]' "$work/one.json" || fail "a stale marker or NaN is not told: $(grep gone "$work/one.json")"

same() { # format, what: the second store's export is the first's
    "$tidemark" export --format "$1" --data "$work/one" 2>/dev/null >"$work/a.txt"
    "$tidemark" export --format "$1" --data "$2" 2>/dev/null >"$work/b.txt"
    [ -s "$work/a.txt" ] || fail "$1: nothing is exported"
    sort "$work/a.txt" >"$work/a.sorted"
    sort "$work/b.txt" | cmp -s "$work/a.sorted" - || fail "$1 to $2 and back differs: $(diff "$work/a.txt" "$work/b.txt" | head -4)"
}
expect 0 "rejected=0" "$tidemark" import --data "$work/two" "$work/one.json"
same json "$work/two"
expect 0 "rejected=0" "$tidemark" import --data "$work/two" "$work/one.json" # again: nothing changes
same json "$work/two"
expect 0 "is sound" "$tidemark" check --data "$work/two"
for format in prometheus openmetrics; do
    expect 0 "1 stale markers were left out" "$tidemark" export --format $format --data "$work/one" --output "$work/$format.txt"
    expect 1 "already exists" "$tidemark" export --format $format --data "$work/one" --output "$work/$format.txt"
    expect 0 "samples=11 rejected=0" "$tidemark" import --format $format --data "$work/$format" "$work/$format.txt"
    same prometheus "$work/$format"
    same openmetrics "$work/$format"
done
tail -1 "$work/openmetrics.txt" | grep -qx '# EOF' || fail "openmetrics does not end in # EOF"
grep -qF '{"http.requests","label.with.dots"="x"} 8 1700000060000' "$work/prometheus.txt" || fail "quoted names: $(grep dots "$work/prometheus.txt")"

# ---- selections
expect 0 '"values":[0.1,-0]' "$tidemark" export up --from 1700000000.001 --to 1700000086.4 --data "$work/one"
[ "$("$tidemark" export 'up' '{job=~".*"}' --data "$work/one" | wc -l)" = "$("$tidemark" export '{job=~".*"}' --data "$work/one" | wc -l)" ] ||
    fail "a series that two selectors match came twice"

# ---- a server
start "$work/served"
expect 0 "rejected=0" "$tidemark" import --url "$url" "$work/one.json"
"$tidemark" export --url "$url" 2>/dev/null | sort >"$work/served.json"
sort "$work/one.json" | cmp -s - "$work/served.json" || fail "what a server was sent is not what it exports: $(diff "$work/one.json" "$work/served.json" | head -4)"
cat "$work/openmetrics.txt" | "$tidemark" import --format openmetrics --url "$url" >"$work/out" 2>&1 || fail "from a pipe: $(cat "$work/out")"
curl -sf --data-binary @"$work/prometheus.txt" "$url/api/v1/import/prometheus" || fail "curl to /api/v1/import/prometheus"
curl -sg "$url/api/v1/export?match[]=gone&format=prometheus" | grep -qF 'gone{job="x"} 5 1700000000000' || fail "curl from /api/v1/export"
curl -s "$url/api/v1/export?format=xml" | grep -qF 'known are json' || fail "an unknown format is taken"
echo 'm,host=a v=1 1700000000' | "$tidemark" import --format influx --precision s --url "$url" >/dev/null || fail "line protocol"
expect 0 '1700000000000' "$tidemark" export m_v --url "$url"
expect 1 "parse error" "$tidemark" export 'sum(up)' --url "$url"
stop
expect 0 '"timestamps":[1700000000000]' "$tidemark" export m_v --data "$work/served"

# ---- what is wrong is told, the rest stored
cat >"$work/bad.json" <<'J'
{"metric":{"__name__":"ok"},"values":[1],"timestamps":[1700000000000]}
{"metric":{"__name__":"ok"},"values":[1],"timestamps":[1,2]}
not json
{"metric":{"__name__":"ok"},"values":[2],"timestamps":[1700000001000]}
J
expect 1 "line 2:1: " "$tidemark" import --data "$work/bad" "$work/bad.json"
expect 1 "line 3:1: expected a JSON object" "$tidemark" import --data "$work/bad" "$work/bad.json"
expect 1 "samples=2 rejected=2" "$tidemark" import --data "$work/bad" "$work/bad.json"
printf '\n%s\n' '{"metric":{"__name__":"ok"},"values":[1],"timestamps":[99999999999999]}' >"$work/late.json"
expect 1 "line 2: time 99999999999999 ms is after" "$tidemark" import --data "$work/bad" "$work/late.json"
grep -q "ts_options" "$work/out" && fail "an import tells a person of ts_options: $(cat "$work/out")"
gzip -k "$work/bad.json"
expect 1 "zcat FILE | tidemark import" "$tidemark" import --data "$work/bad" "$work/bad.json.gz"
expect 2 "--to is before --from" "$tidemark" export --data "$work/bad" --from now --to now-1h
expect 2 "--to is before --from" "$tidemark" chunk --data "$work/bad" --from now --to now-1h
[ ! -c /dev/full ] || expect 1 "standard output: No space left" sh -c '"$1" export --data "$2" >/dev/full' sh "$tidemark" "$work/bad"
start "$work/bad"
expect 1 "rejected=2" "$tidemark" import --url "$url" "$work/bad.json"
stop
expect 1 "cannot be seen" "$tidemark" import --data "$work/bad" "$work/prometheus.txt"
expect 1 "No such file" "$tidemark" import --data "$work/bad" "$work/missing"
expect 1 "127.0.0.1:1" "$tidemark" import --url http://127.0.0.1:1 "$work/one.json"
expect 2 "usage" "$tidemark" import --url x --data y
expect 2 "--format takes" "$tidemark" import --format xml
expect 2 "--format takes" "$tidemark" export --format xml
expect 2 "take a time" "$tidemark" export --from yesterdayish
expect 1 "" "$tidemark" export --data "$work/nothing"
[ ! -e "$work/nothing" ] || fail "an export made a store"

# ---- more than a piece, and the facts of its chunks
awk 'BEGIN {for (i = 0; i < 20; i++) for (t = 0; t < 10000; t++) printf "big{i=\"%d\"} %d %.0f\n", i, t * i, 1700000000000 + t * 15000}' >"$work/big.txt"
expect 0 "samples=200000 rejected=0 series_created=20" "$tidemark" import --format prometheus --data "$work/big" "$work/big.txt"
"$tidemark" export --format prometheus --data "$work/big" 2>/dev/null | cmp -s - "$work/big.txt" || fail "200000 samples are not as they were"
expect 0 "200000" "$tidemark" chunk --summary --data "$work/big"
expect 0 "effort=" "$tidemark" chunk 'big{i="7"}' --from 1700000000 --to 1700086400 --data "$work/big"
grep -q 'times=step values=[a-z]* .*bytes_per_sample=' "$work/out" || fail "chunk says $(head -3 "$work/out")"
grep -q 'i="8"' "$work/out" && fail "chunk tells of other series"
expect 0 "ref=1:3" "$tidemark" chunk --ref 1:3 --data "$work/big"
expect 2 "METRIC:SERIES" "$tidemark" chunk --ref 1-3 --data "$work/big"

# ---- the peers' own tools, where they are installed
if command -v promtool >/dev/null; then
    "$tidemark" export up gone --format openmetrics --from 1700000000 --data "$work/one" --output "$work/peer.om" 2>/dev/null
    promtool tsdb create-blocks-from openmetrics "$work/peer.om" "$work/blocks" >"$work/out" 2>&1 || fail "promtool: $(tail -2 "$work/out")"
else
    echo "SKIPPED: promtool is not installed"
fi
if command -v victoria-metrics >/dev/null; then
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    victoria-metrics -storageDataPath="$work/vm" -httpListenAddr=127.0.0.1:$port -retentionPeriod=100y >"$work/vm.log" 2>&1 &
    peer=$!
    for _ in $(seq 100); do
        curl -s -o /dev/null http://127.0.0.1:$port/health && break
        sleep 0.1
    done
    "$tidemark" export 'big{i="3"}' --data "$work/big" | curl -sf --data-binary @- http://127.0.0.1:$port/api/v1/import || fail "VictoriaMetrics does not import"
    curl -s "http://127.0.0.1:$port/internal/force_flush"
    curl -s "http://127.0.0.1:$port/api/v1/export?match[]=big" -g >"$work/vm.json"
    expect 0 "rejected=0" "$tidemark" import --data "$work/back" "$work/vm.json"
    "$tidemark" export 'big{i="3"}' --format prometheus --data "$work/big" >"$work/a.txt"
    "$tidemark" export 'big' --format prometheus --data "$work/back" | cmp -s - "$work/a.txt" || fail "through VictoriaMetrics and back differs"
    kill "$peer" && wait "$peer" 2>/dev/null
    peer=
else
    echo "SKIPPED: victoria-metrics is not installed"
fi
[ $failed -eq 0 ] && echo "exported and imported in three formats, from files, pipes and a server"
exit $failed
