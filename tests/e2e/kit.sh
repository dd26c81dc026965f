# What scripts beside a server share; sourced, with $tidemark and $work set: fail, expect, start (sets server and url), stop. Whoever sources it kills
# $server in its trap and ends with exit $failed.
failed=0
fail() {
    echo "FAILED: $1"
    failed=1
}
# expect STATUS TEXT command...: exit status, and a part of what is printed
expect() {
    want=$1 text=$2
    shift 2
    "$@" >"$work/out" 2>&1 </dev/null
    got=$?
    [ $got -eq "$want" ] || fail "$*: exit $got, not $want: $(head -3 "$work/out")"
    grep -qF -e "$text" "$work/out" || fail "$*: \"$text\" is not in: $(head -3 "$work/out")"
}
start() { # data, flags...
    data=$1
    shift
    : >"$work/ready" # not the one before
    "$tidemark" serve --data "$data" --listen 127.0.0.1:0 --self-metrics off --retention inf "$@" >"$work/ready" 2>"$work/log" &
    server=$!
    for _ in $(seq 200); do
        grep -q '^ready ' "$work/ready" && break
        sleep 0.05
    done
    url=http://$(sed -n 's/^ready .*listen=\([^ ]*\).*/\1/p' "$work/ready")
}
stop() {
    kill "$server" && wait "$server" || fail "the server did not stop well"
    server=
}
