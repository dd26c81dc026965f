#!/bin/sh
# install.sh BUILD DESTDIR PREFIX VERSION: programs, libraries, headers, pkg-config files, manual pages and the systemd unit.
set -eu
build=$1 root=$2$3 prefix=$3 version=$4
public="kvcore/kv.h tsdb/ts.h"
install -d "$root/bin" "$root/lib/pkgconfig" "$root/lib/systemd/system" "$root/share/man/man1" "$root/share/man/man3"
install -m 755 "$build/tidemark" "$build/kvtool" "$root/bin"
install -m 644 "$build/libkvcore.a" "$build/libtidemark.a" "$root/lib"
for lib in libkvcore libtidemark; do
    install -m 755 "$build/$lib.so" "$root/lib/$lib.so.0"
    ln -sf "$lib.so.0" "$root/lib/$lib.so"
done
# The public headers, and what they include of ours: all of it, and nothing else.
for header in $(${CC:-cc} -I. -MM -MT x -x c $public | sed 's/^x://; s/\\$//'); do
    install -d "$root/include/${header%/*}"
    install -m 644 "$header" "$root/include/${header%/*}"
done
for lib in kvcore tidemark; do
    private="-lzstd -lsnappy -lxxhash -lcrypto -lsodium -lm -pthread"
    cat >"$root/lib/pkgconfig/$lib.pc" <<P
prefix=$prefix
includedir=\${prefix}/include
libdir=\${prefix}/lib

Name: $lib
Description: $([ $lib = kvcore ] && echo 'embeddable ordered durable key-value store' || echo 'embeddable metrics database with PromQL')
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -l$lib
Libs.private: $private
P
done
for page in kvcore/docs/man/*.[13] tools/*.1; do
    [ ! -f "$page" ] || install -m 644 "$page" "$root/share/man/man${page##*.}"
done
[ ! -f tools/tidemark.service ] || install -m 644 tools/tidemark.service "$root/lib/systemd/system"
