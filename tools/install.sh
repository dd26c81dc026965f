#!/bin/sh
# install.sh BUILD DESTDIR PREFIX VERSION: programs, libraries, headers, pkg-config files and the systemd unit.
set -eu
build=$1 root=$2$3 prefix=$3 version=$4
install -d "$root/bin" "$root/lib/pkgconfig" "$root/include/kvcore/base" "$root/include/tsdb" "$root/lib/systemd/system"
install -m 755 "$build/tidemark" "$build/kvtool" "$root/bin"
install -m 644 "$build/libkvcore.a" "$build/libtidemark.a" "$root/lib"
for lib in libkvcore libtidemark; do
    install -m 755 "$build/$lib.so" "$root/lib/$lib.so.0"
    ln -sf "$lib.so.0" "$root/lib/$lib.so"
done
install -m 644 kvcore/kv.h "$root/include/kvcore"
install -m 644 kvcore/base/buf.h kvcore/base/limits.h kvcore/base/logfmt.h kvcore/base/slice.h kvcore/base/status.h "$root/include/kvcore/base"
install -m 644 tsdb/ts.h "$root/include/tsdb"
for lib in kvcore tidemark; do
    private="-lzstd -lsnappy -lxxhash -lcrypto -lsodium -lm -pthread"
    cat >"$root/lib/pkgconfig/$lib.pc" <<P
Name: $lib
Description: $([ $lib = kvcore ] && echo 'embeddable ordered durable key-value store' || echo 'embeddable metrics database with PromQL')
Version: $version
Cflags: -I$prefix/include
Libs: -L$prefix/lib -l$lib
Libs.private: $private
P
done
[ ! -f tools/tidemark.service ] || install -m 644 tools/tidemark.service "$root/lib/systemd/system"
