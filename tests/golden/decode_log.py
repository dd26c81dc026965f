#!/usr/bin/env python3
"""Reads a log file of format 1 from kvcore/docs/log.md and file-header.md alone and prints its commits: sequence, what was known
synced, puts and deletes, bytes of application record. Independent of the C code, so it proves the pages.
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


def take(data, at):
    length, at = varint(data, at)
    assert at + length <= len(data), "runs past the end"
    return data[at:at + length], at + length


def header(data):
    assert data[:8] == b"\x9eKVC\r\n\x1a\n", "magic"
    form, kind = struct.unpack_from("<HH", data, 8)
    assert (form, kind) == (1, 1), "not a log of format 1"
    assert crc32c(data[:124]) == struct.unpack_from("<I", data, 124)[0], "header crc"
    return data[40:56], struct.unpack_from("<Q", data, 88)[0]


def records(data, uid, expect):
    at = 128
    while at < len(data):
        payload, total = b"", 1
        while len(payload) < total:
            magic, crc, seq, synced, total, place = struct.unpack_from("<4sIQQII", data, at)
            size = min(total - place, 32736)
            end = at + (32 + size + 7) // 8 * 8
            assert magic == b"\x9eLGR" and seq == expect and place == len(payload) and synced < seq, f"fragment at {at}"
            assert crc32c(uid + struct.pack("<Q", at) + data[at:at + 4] + data[at + 8:end]) == crc, f"crc at {at}"
            payload += data[at + 32:at + 32 + size]
            at = end
        yield seq, synced, payload
        expect += 1


def main(path):
    with open(path, "rb") as f:
        data = f.read()
    uid, first = header(data)
    for seq, synced, payload in records(data, uid, first):
        assert payload[0] == 1, "kind"
        batch, rest = take(payload, 1)
        at = puts = deletes = 0
        while at < len(batch):
            space, kind = batch[at], batch[at + 1]
            assert space < 32 and kind < 2
            key, at = take(batch, at + 2)
            if kind == 1:
                _, at = take(batch, at)
            puts, deletes = puts + kind, deletes + (1 - kind)
        print(seq, synced, puts, deletes, len(payload) - rest)


main(sys.argv[1])
