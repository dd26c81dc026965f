#!/bin/sh
# The program as a person meets it: help, refusals with a clear line and the right exit status, a clean stop, asking a directory.
set -u
build=$1
tidemark=$build/tidemark
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null; chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
. "$(dirname "$0")/kit.sh"
start() { # data, more arguments; sets server and url
    data=$1
    shift
    : >"$work/ready"
    "$tidemark" serve --data "$data" --listen 127.0.0.1:0 "$@" >"$work/ready" 2>"$work/log" &
    server=$!
    for _ in $(seq 200); do
        grep -q '^ready ' "$work/ready" && break
        kill -0 $server 2>/dev/null || break
        sleep 0.05
    done
    address=$(sed -n 's/^ready listen=\([^ ]*\) data=.* took=.*s$/\1/p' "$work/ready")
    [ -n "$address" ] || fail "no ready line: $(cat "$work/ready" "$work/log")"
    url=http://$address
}
stop() {
    kill -TERM $server
    wait $server
    got=$?
    server=
    [ $got -eq 0 ] || fail "exit $got after SIGTERM: $(tail -3 "$work/log")"
}

expect 0 "tidemark " "$tidemark" version
expect 0 "tidemark " "$tidemark" --version
expect 0 "usage: tidemark COMMAND" "$tidemark" --help
expect 0 "--retention TIME|inf" "$tidemark" serve --help
expect 2 "usage: tidemark COMMAND" "$tidemark"
expect 2 'unknown command "sevre"' "$tidemark" sevre
expect 2 "unknown flag --retentoin (nearest: --retention)" "$tidemark" serve --retentoin 1d
expect 2 "is not a time" "$tidemark" query up --at yesterdayish
expect 2 "usage: tidemark query" "$tidemark" query
expect 1 "127.0.0.1:1" "$tidemark" query up --url http://127.0.0.1:1
expect 1 "" "$tidemark" query up --data "$work/nothing"
expect 1 "" "$tidemark" check --data "$work/nothing"
[ ! -e "$work/nothing" ] || fail "asking a directory that is not there made it"

expect 2 "flag --retention-rule: retention rule 1, {a=\"}: 1:4: parse error" "$tidemark" serve --data "$work/nothing" --retention-rule '{a="}=1d'
expect 2 "flag --promql-features" "$tidemark" serve --data "$work/nothing" --promql-features new
[ ! -e "$work/nothing" ] || fail "refused settings made a directory"

echo text >"$work/file"
expect 1 "tidemark: " "$tidemark" serve --data "$work/file" --listen 127.0.0.1:0
expect 1 "tidemark: " "$tidemark" serve --data "$work/no/such/parent" --listen 127.0.0.1:0
expect 1 "refusing to listen on 0.0.0.0:0 without credentials" "$tidemark" serve --data "$work/d" --listen 0.0.0.0:0
expect 1 "expected HOST:PORT" "$tidemark" serve --data "$work/d" --listen 127.0.0.1:65536
expect 1 "is not an IP address" "$tidemark" serve --data "$work/d" --listen nowhere:9430
echo "basic ann:secret" >"$work/credentials"
chmod 644 "$work/credentials"
expect 1 "can be read by others" "$tidemark" serve --data "$work/d" --listen 127.0.0.1:0 --credentials "$work/credentials"
expect 1 "cannot read the credentials" "$tidemark" serve --data "$work/d" --credentials "$work/none"
chmod 600 "$work/credentials"
: >"$work/empty"
chmod 600 "$work/empty"
expect 1 "names nobody" "$tidemark" serve --data "$work/d" --credentials "$work/empty"
if [ "$(id -u)" != 0 ]; then
    mkdir "$work/locked"
    chmod 555 "$work/locked"
    expect 1 "tidemark: " "$tidemark" serve --data "$work/locked/d" --listen 127.0.0.1:0
fi

start "$work/data" --self-metrics 1s
curl -sf -o /dev/null --data-binary 'm,host=a v=42' "$url/write" || fail "a write was refused"
expect 0 'm_v{host="a"}  42' "$tidemark" query m_v --url "$url"
expect 0 "[1] vector" "$tidemark" query 'label_replace(vector(1), "__name__", "vector", "", "")' --url "$url" --from now-1m --step 20s
expect 1 "parse error" "$tidemark" query 'sum(' --url "$url"
expect 1 "tidemark: " "$tidemark" serve --data "$work/data" --listen 127.0.0.1:0
expect 1 "Address already in use" "$tidemark" serve --data "$work/other" --listen "$address"
for _ in $(seq 60); do
    "$tidemark" query 'up{job="tidemark"}' --url "$url" | grep -q tidemark && break
    sleep 0.1
done
expect 0 'job="tidemark"' "$tidemark" query up --url "$url"
stop
expect 0 'm_v{host="a"}  42' "$tidemark" query m_v --data "$work/data"
expect 0 "is sound" "$tidemark" check --data "$work/data"

start "$work/data" --credentials "$work/credentials" --self-metrics off
[ "$(curl -s -o /dev/null -w '%{http_code}' "$url/metrics")" = 401 ] || fail "no credentials were asked for"
[ "$(curl -s -o /dev/null -w '%{http_code}' -u ann:secret "$url/metrics")" = 200 ] || fail "good credentials were refused"
expect 1 "no credentials" "$tidemark" query m_v --url "$url"
expect 0 'm_v{host="a"}  42' "$tidemark" query m_v --url "http://ann:secret@${url#http://}"
expect 0 '"values":[42]' "$tidemark" export m_v --url "http://ann:secret@${url#http://}"
stop
[ $failed -eq 0 ] && echo "the program behaves"
exit $failed
