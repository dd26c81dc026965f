#!/usr/bin/env python3
"""Reads the files of an encrypted database from kvcore/docs/encryption.md (and the pages of the formats) and its master key alone.

Independent of the C code and of OpenSSL: AES-256-GCM and HKDF-SHA256 are written out here, so it proves the page.

    decode_sealed.py MASTER_KEY_HEX DIR      prints data keys, the entries of tables and the commits of logs
"""
import hashlib
import hmac
import os
import struct
import sys

from decode_table import Table, crc32c, varint

# ---- AES-256, encryption only


def gmul(a, b):
    out = 0
    while b:
        if b & 1:
            out ^= a
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return out


def make_sbox():
    inverse = [0] * 256
    for a in range(1, 256):
        for b in range(1, 256):
            if gmul(a, b) == 1:
                inverse[a] = b
                break
    box = []
    for v in inverse:
        s = 0x63
        for shift in range(5):
            s ^= ((v << shift) | (v >> (8 - shift))) & 255
        box.append(s)
    return box


SBOX = make_sbox()
MUL2 = [gmul(v, 2) for v in range(256)]


def expand(key):
    words = [list(key[4 * i:4 * i + 4]) for i in range(8)]
    rcon = 1
    for i in range(8, 60):
        w = list(words[i - 1])
        if i % 8 == 0:
            w = [SBOX[b] for b in w[1:] + w[:1]]
            w[0] ^= rcon
            rcon = gmul(rcon, 2)
        elif i % 8 == 4:
            w = [SBOX[b] for b in w]
        words.append([a ^ b for a, b in zip(words[i - 8], w)])
    return [sum(words[4 * r:4 * r + 4], []) for r in range(15)]


def encrypt_block(rounds, block):
    s = [a ^ b for a, b in zip(block, rounds[0])]
    for r in range(1, 15):
        s = [SBOX[s[(4 * (c + row) + row) % 16]] for c in range(4) for row in range(4)]
        if r < 14:
            mixed = []
            for c in range(4):
                a = s[4 * c:4 * c + 4]
                all4 = a[0] ^ a[1] ^ a[2] ^ a[3]
                mixed += [a[i] ^ all4 ^ MUL2[a[i] ^ a[(i + 1) % 4]] for i in range(4)]
            s = mixed
        s = [a ^ b for a, b in zip(s, rounds[r])]
    return bytes(s)


# ---- GCM


def ghash(h, data):
    y = 0
    for i in range(0, len(data), 16):
        x = y ^ int.from_bytes(data[i:i + 16], "big")
        z, v = 0, h
        for bit in range(127, -1, -1):
            if x >> bit & 1:
                z ^= v
            v = (v >> 1) ^ (0xE1 << 120 if v & 1 else 0)
        y = z
    return y


def pad(data):
    return data + bytes(-len(data) % 16)


def gcm_open(key, nonce, aad, sealed):
    rounds = expand(key)
    text, tag = sealed[:-16], sealed[-16:]
    h = int.from_bytes(encrypt_block(rounds, bytes(16)), "big")
    sizes = struct.pack(">QQ", 8 * len(aad), 8 * len(text))
    s = ghash(h, pad(aad) + pad(text) + sizes) ^ int.from_bytes(encrypt_block(rounds, nonce + b"\0\0\0\1"), "big")
    assert s.to_bytes(16, "big") == tag, "the seal does not open"
    out = bytearray()
    for i in range(0, len(text), 16):
        stream = encrypt_block(rounds, nonce + struct.pack(">I", 2 + i // 16))
        out += bytes(a ^ b for a, b in zip(text[i:i + 16], stream))
    return bytes(out)


def hkdf(key, salt, info, length=32):
    prk = hmac.new(salt, key, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\1", hashlib.sha256).digest()[:length]


# ---- files


class File:
    def __init__(self, path, keys):
        with open(path, "rb") as f:
            self.data = f.read()
        header = self.data[:128]
        assert header[:8] == b"\x9eKVC\r\n\x1a\n" and crc32c(header[:124]) == struct.unpack_from("<I", header, 124)[0]
        self.format, self.kind = struct.unpack_from("<HH", header, 8)
        self.uuid, self.uid, salt = header[16:32], header[40:56], header[56:72]
        self.key_id = struct.unpack_from("<Q", header, 72)[0]
        self.key = hkdf(keys[self.key_id], salt, b"kvcore file" + header)

    def open(self, offset, also, sealed):
        aad = struct.pack("<H", self.kind) + self.uid + struct.pack("<QQ", offset, len(sealed) - 16) + also
        return gcm_open(self.key, struct.pack("<QI", offset, 0), aad, sealed)


def master_id(master):
    text = b"kvcore master key id"
    return int.from_bytes(hkdf(master, text, text, 8), "little") or 1


def read_manifest(path, master):
    """The data keys by id, and the numbers of the tables."""
    file = File(path, {master_id(master): master})
    at, keys, tables = 128, {}, []
    while at < len(file.data):
        magic, crc, length, _ = struct.unpack_from("<4sIIQ", file.data, at)
        assert magic == b"KvEd" and crc == 0
        fields = file.open(at, file.data[at:at + 20], file.data[at + 20:at + 20 + length + 16])
        at += 20 + length + 16
        f = 0
        while f < len(fields):
            tag, f = varint(fields, f)
            n, f = varint(fields, f)
            body = fields[f:f + n]
            f += n
            if tag == 6:
                tables.append(varint(body, 0)[0])
            if tag == 34:
                key_id, b = varint(body, 0)
                _, b = varint(body, b)
                wrapper = hkdf(master, body[b:b + 16], b"kvcore data key" + file.uuid + struct.pack("<Q", key_id))
                keys[key_id] = gcm_open(wrapper, bytes(12), b"", body[b + 16:])
    return keys, tables


class SealedTable(Table):
    def __init__(self, file):
        self.file, self.data = file, file.data
        at = len(file.data) - 84
        assert file.kind == 3 and file.data[-8:] == b"TMTABLE\n"
        fields = struct.unpack("<7QBBBB", file.open(at, b"", file.data[at:at + 76]))
        self.top, self.filter, self.properties = fields[0:2], fields[2:4], fields[4:6]
        assert fields[6] == len(file.data)
        self.levels, self.bytes = fields[7], 128 + 84

    def block(self, handle):
        offset, length = handle
        plain = self.file.open(offset, b"", self.data[offset:offset + length])
        self.bytes += length
        codec, inflated_len = struct.unpack("<BI", plain[-5:])
        assert codec == 0 and len(plain) - 5 == inflated_len
        return plain[:-5]


def read_table(file):
    table = SealedTable(file)
    separators = table.handles(table.top)
    assert table.levels == 1
    return [entry for _, handle in separators for entry in table.entries(handle)]


def read_log(file):
    """(sequence, entries of the batch, application record)"""
    at, out, payload = 128, [], b""
    assert file.kind == 1
    while at < len(file.data) and file.data[at:at + 4] == b"\x9eLGR":
        crc, seq, _, total, place = struct.unpack_from("<IQQII", file.data, at + 4)
        here = min(total - place, 32736)
        size = (32 + here + 7) // 8 * 8
        assert crc == 0 and place == len(payload)
        payload += file.open(at, file.data[at:at + 32], file.data[at + 32:at + size + 16])[:here]
        at += size + 16
        if len(payload) == total:
            assert payload[0] == 1
            n, p = varint(payload, 1)
            out.append((seq, payload[p:p + n], payload[p + n:]))
            payload = b""
    return out


if __name__ == "__main__":
    root, master = sys.argv[2], bytes.fromhex(sys.argv[1])
    names = sorted(os.listdir(root))
    manifest = [name for name in names if name.endswith(".man")]
    assert len(manifest) == 1
    data_keys, numbers = read_manifest(os.path.join(root, manifest[0]), master)
    print("data keys", *sorted(data_keys))
    for name in names:
        path = os.path.join(root, name)
        if name.endswith(".tbl"):
            assert int(name[:-4]) in numbers
            sealed = File(path, data_keys)
            for key, version, kind, value in read_table(sealed):
                print("table key", sealed.key_id, ("delete", "put")[kind], key.decode(), version, value.decode())
        if name.endswith(".log"):
            sealed = File(path, data_keys)
            for sequence, batch, record in read_log(sealed):
                print("log key", sealed.key_id, "seq", sequence, "batch", batch, "record", record.decode())
