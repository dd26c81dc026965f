#!/usr/bin/env python3
"""Reads records of a value-log segment of format 1 from kvcore/docs/vlog.md and file-header.md alone: decode_vlog.py FILE OFFSET:LEN...
Prints codec, length and the start of each value.

Independent of the C code, so it proves the page.
"""
import struct
import sys

from decode_table import crc32c, unsnappy

data = open(sys.argv[1], "rb").read()
assert data[:8] == bytes.fromhex("9e4b56430d0a1a0a"), "magic"
fmt, kind = struct.unpack_from("<HH", data, 8)
assert (fmt, kind) == (1, 4), "format 1 of kind value log"
assert struct.unpack_from("<I", data, 124)[0] == crc32c(data[:124]), "header's crc"
uid = data[40:56]
for place in sys.argv[2:]:
    offset, length = map(int, place.split(":"))
    stored = data[offset:offset + length]
    codec, inflated, crc = struct.unpack_from("<BII", stored, length - 9)
    assert crc32c(uid + struct.pack("<Q", offset) + stored[:-4]) == crc, "crc at %d" % offset
    payload = stored[:-9]
    value = {0: lambda b: b, 1: unsnappy}[codec](payload)
    assert len(value) == inflated
    print(codec, len(value), value[:16].hex())
