#!/usr/bin/env python3
"""Reads an archive of format 1 from kvcore/docs/backup.md and file-header.md alone and prints its files: name, length, first bytes of the
sum; then what the list at its end says. Independent of the C code, so it proves the pages. Frames that are packed or sealed are not read.
"""
import hashlib
import struct
import sys

CRC = []
for n in range(256):
    for _ in range(8):
        n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
    CRC.append(n)

ARCHIVE, FILE, DATA, FILE_END, MANIFEST, END = 1, 2, 3, 4, 5, 10


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


def frames(data, uid):
    at, count = 128, 0
    while True:
        magic, crc, length, kind, flags, zero = struct.unpack_from("<4sIIBBH", data, at)
        payload = data[at + 16:at + 16 + length]
        assert magic == b"KvFr" and zero == 0 and flags == 0 and len(payload) == length, f"frame at {at}"
        assert crc32c(uid + struct.pack("<Q", at) + data[at + 8:at + 16] + payload) == crc, f"crc at {at}"
        at += 16 + length
        if kind == END:
            assert varint(payload, 0) == (count, length) and at == len(data), "end"
            return
        count += 1
        yield kind, payload


def fields(data):
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        length, at = varint(data, at)
        yield tag, data[at:at + length]
        at += length


def file_of(body):
    size, at = varint(body, 0)
    stored, at = varint(body, at)
    form, at = varint(body, at)
    return {"bytes": size, "form": form, "uid": body[at:at + 16], "sha256": body[at + 16:at + 48], "name": body[at + 48:].decode()}


def main(path):
    with open(path, "rb") as f:
        data = f.read()
    assert data[:8] == b"\x9eKVC\r\n\x1a\n" and struct.unpack_from("<HH", data, 8) == (1, 6), "not a backup of format 1"
    assert crc32c(data[:124]) == struct.unpack_from("<I", data, 124)[0], "header crc"
    met, manifest, current, content = {}, b"", None, b""
    for kind, payload in frames(data, data[40:56]):
        if kind == ARCHIVE:
            assert not met and [tag for tag, _ in fields(payload)] == [2]
        elif kind == FILE:
            current, content = file_of(payload), b""
        elif kind == DATA:
            content += payload
        elif kind == FILE_END:
            assert hashlib.sha256(content).digest() == payload and len(content) == current["bytes"], current["name"]
            assert content[40:56] == current["uid"], "the uid is that of the file's own header"
            met[current["name"]] = payload
        elif kind == MANIFEST:
            manifest += payload
    listed = []
    for tag, body in fields(manifest):
        if tag == 2:
            number, at = varint(body, 0)
            time, at = varint(body, at)
            version, at = varint(body, at)
            assert number == 0 and body[at:] == data[16:32], "uuid"
            print("version", version, "time", time >> 1)
        elif tag == 4:
            entry = file_of(body)
            assert entry["form"] == 2 and met.pop(entry["name"]) == entry["sha256"]
            listed.append(entry["name"])
            print(entry["name"], entry["bytes"])
    assert not met and listed == sorted(listed)


main(sys.argv[1])
