#!/usr/bin/env python3
"""Reads table files of format 1 from kvcore/docs/table.md alone and prints their entries: version kind key value.

Independent of the C code, so it proves the page. zstd blocks are checked but not inflated (the standard library has no zstd);
the filter's bits are not asked (it has no XXH3).
"""
import struct
import sys

CRC = []
for n in range(256):
    for _ in range(8):
        n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
    CRC.append(n)


def crc32c(data):
    c = 0xFFFFFFFF
    for byte in data:
        c = (c >> 8) ^ CRC[(c ^ byte) & 255]
    return c ^ 0xFFFFFFFF


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def unsnappy(data):
    size, at = varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:
            n = tag >> 2
            if n >= 60:
                extra = n - 59
                n = int.from_bytes(data[at:at + extra], "little")
                at += extra
            out += data[at:at + n + 1]
            at += n + 1
            continue
        if tag & 3 == 1:
            n, back = 4 + (tag >> 2 & 7), (tag >> 5) << 8 | data[at]
            at += 1
        else:
            width = 2 if tag & 3 == 2 else 4
            n, back = (tag >> 2) + 1, int.from_bytes(data[at:at + width], "little")
            at += width
        for _ in range(n):
            out.append(out[-back])
    assert len(out) == size
    return bytes(out)


class Table:
    def __init__(self, data):
        self.data = data
        assert data[:8] == b"\x9eKVC\r\n\x1a\n" and struct.unpack_from("<HH", data, 8) == (1, 3)
        assert crc32c(data[:124]) == struct.unpack_from("<I", data, 124)[0]
        self.uid = data[40:56]
        at = len(data) - 72
        assert data[-8:] == b"TMTABLE\n"
        assert self.sum(at, data[at:at + 60]) == struct.unpack_from("<I", data, at + 60)[0]
        fields = struct.unpack_from("<7QBBBB", data, at)
        self.top, self.filter, self.properties = fields[0:2], fields[2:4], fields[4:6]
        assert fields[6] == len(data) and fields[8:] == (0, 0, 0)
        self.levels = fields[7]
        self.bytes = 128 + 72

    def sum(self, offset, data):
        return crc32c(self.uid + struct.pack("<Q", offset) + data)

    def block(self, handle):
        offset, length = handle
        stored = self.data[offset:offset + length]
        assert len(stored) == length
        self.bytes += length
        codec, inflated_len, crc = struct.unpack("<BII", stored[-9:])
        assert crc == self.sum(offset, stored[:-4])
        if codec == 2:
            return None
        payload = unsnappy(stored[:-9]) if codec == 1 else stored[:-9]
        assert len(payload) == inflated_len
        return payload

    def entries(self, handle):
        payload = self.block(handle)
        if payload is None:
            return None
        n, base = struct.unpack_from("<IQ", payload)
        at, out, leader = 12, [], b""
        for i in range(n):
            same, at = varint(payload, at)
            rest, at = varint(payload, at)
            value_len, at = varint(payload, at)
            tag, at = varint(payload, at)
            key = leader[:same] + payload[at:at + rest]
            if i % 16 == 0:
                assert same == 0
                leader = key
            at += rest
            zigzag = tag >> 3
            version = base + ((zigzag >> 1) ^ -(zigzag & 1))
            out.append((key, version, tag & 7, payload[at:at + value_len]))
            at += value_len
        assert at == len(payload)
        return out

    def handles(self, handle):
        entries = self.entries(handle)
        if entries is None:
            raise SystemExit("the index is compressed with zstd: install a decoder")
        out = []
        for key, version, _, value in entries:
            offset, at = varint(value, 0)
            length, at = varint(value, at)
            assert at == len(value)
            out.append(((key, version), (offset, length)))
        return out

    def fields(self):
        data, at, out = self.block(self.properties), 0, {}
        while at < len(data):
            tag, at = varint(data, at)
            length, at = varint(data, at)
            assert tag > max(out, default=0)
            out[tag] = data[at:at + length]
            at += length
        return out


def number(field):
    value, at = varint(field, 0)
    assert at == len(field)
    return value


def order(entry):
    return (entry[0], -entry[1])


def read(path):
    with open(path, "rb") as f:
        table = Table(f.read())
    separators = table.handles(table.top)
    if table.levels == 2:
        separators = [pair for _, handle in separators for pair in table.handles(handle)]
    found = []
    for separator, handle in separators:
        entries = table.entries(handle)
        assert all(order(e) <= order(separator) for e in entries)
        found += entries
    assert all(order(a) < order(b) for a, b in zip(found, found[1:]))
    fields = table.fields()
    assert number(fields[14]) == len(found) and number(fields[22]) == len(separators)
    assert number(fields[16]) == sum(e[2] == 0 for e in found)
    assert number(fields[18]) == len({e[0] for e in found})
    assert fields[4] == found[0][0] and fields[6] == found[-1][0]
    if table.filter != (0, 0):
        bits = table.block(table.filter)
        assert bits[-2:] == b"\x06\x01" and (len(bits) - 2) % 64 == 0
    assert table.bytes == len(table.data)
    return found


def golden():
    """The entries tests/golden/README.md describes."""
    out = []
    for i in range(200):
        key = b"host=%02d,cpu=%d" % (i // 4, i % 4)
        deleted = i % 10 == 4
        out.append((key, 100 + i, 0 if deleted else 1, b"" if deleted else b"value %d of a golden file" % (i * i)))
        if i % 3 == 0:
            out.append((key, 7, 1, b"older"))
    return out


if __name__ == "__main__":
    if sys.argv[1:2] == ["--golden"]:
        for name in sys.argv[2:]:
            assert read(name) == golden(), name
        print("%d golden tables read as their page says" % len(sys.argv[2:]))
    else:
        for name in sys.argv[1:]:
            for key, version, kind, value in read(name):
                print(version, ("delete", "put")[kind], key, value)
