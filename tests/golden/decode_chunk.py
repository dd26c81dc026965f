#!/usr/bin/env python3
"""Reads a chunk of samples from the page of its format alone (tsdb/docs/chunk.md): decode_chunk.py FILE

Prints one line a sample: time, and the value's bits in hexadecimal. Shares no code with the product.
"""
import struct, sys

M = (1 << 64) - 1


class Bytes:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            sys.exit("cut short at byte %d" % self.at)
        self.at += n
        return self.data[self.at - n:self.at]

    def u8(self):
        return self.take(1)[0]

    def varint(self):
        v = shift = 0
        while True:
            b = self.u8()
            v |= (b & 127) << shift
            shift += 7
            if b < 128:
                return v

    def zigzag(self):
        v = self.varint()
        return (v >> 1) ^ -(v & 1)

    def fixed64(self):
        return struct.unpack("<Q", self.take(8))[0]


def signed(v):
    v &= M
    return v - (1 << 64) if v >> 63 else v


class Low:
    """Bits from the low end of each byte."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def bit(self):
        b = self.data[self.at // 8] >> (self.at % 8) & 1
        self.at += 1
        return b

    def bits(self, n):
        return sum(self.bit() << i for i in range(n))


class Sequence:
    def __init__(self, b):
        self.mode, self.base = b.u8(), b.zigzag()
        first, n = b.u8(), b.u8()
        lens = []
        if n > 1:
            raw = b.take((n + 1) // 2)
            lens = [raw[i // 2] >> (i % 2 * 4) & 15 for i in range(n)]
        self.codes, code, before = {}, 0, 0
        for length, symbol in sorted((l, first + i) for i, l in enumerate(lens) if l):
            code <<= length - before
            before = length
            self.codes[length, code] = symbol
            code += 1
        if lens and code != 1 << before:
            sys.exit("codes are left over")
        self.lone = first if n == 1 else None

    def symbol(self, low):
        if self.lone is not None:
            return self.lone
        code = length = 0
        while (length, code) not in self.codes:
            code, length = code << 1 | low.bit(), length + 1
        return self.codes[length, code]

    def block(self, b, n, start):
        low = Low(b.data[b.at:])
        out = [start] if self.mode % 2 else []
        while len(out) < n:
            number = self.symbol(low)
            if number >= 16:
                extra = (number - 16) // 2 + 3
                number = ((2 | number & 1) << extra) + low.bits(extra)
            x = (number if self.mode >= 2 else (number >> 1) ^ -(number & 1)) + self.base
            out.append(signed(out[-1] + x if self.mode % 2 else x))
        b.take((low.at + 7) // 8)
        return out


def vector(b, n):
    least, width, patches = b.varint(), b.u8(), b.u8()
    low = Low(b.take((n * width + 7) // 8))
    out = [least + low.bits(width) for _ in range(n)]
    for _ in range(patches):
        i = b.u8()
        out[i] += b.varint() << width
    return out


def ints(b, n):
    mode, start = b.u8(), b.zigzag()
    slope = b.zigzag() if mode >= 2 else 0
    base = b.zigzag()
    numbers = vector(b, max(n - (2 if mode >= 2 else 1), 0))
    if mode % 2:
        numbers = [(v >> 1) ^ -(v & 1) for v in numbers]
    q = [start]
    if mode < 2:
        for v in numbers:
            q.append(q[-1] + v + base)
        return q
    if n > 1:
        q.append(start + slope)
    for v in numbers:
        slope += v + base
        q.append(q[-1] + slope)
    return q


def xors(b, n):
    data = Bytes(b.take(b.varint()))
    v = data.fixed64()
    raw = data.take(len(data.data) - 8)
    at = 0

    def bits(k):
        nonlocal at
        out = 0
        for _ in range(k):
            out = out << 1 | raw[at // 8] >> (7 - at % 8) & 1
            at += 1
        return out

    out, lead, length = [v], 0, 0
    while len(out) < n:
        if bits(1):
            if bits(1):
                lead, length = bits(5), bits(6) + 1
            v ^= bits(length) << (64 - lead - length)
        out.append(v)
    return out


def jitter(b, count, first):
    """Times in a piece of their own, in units of 512."""
    step, late, lens, starts = b.varint(), [], [], [0]
    units = (count + 511) // 512
    for _ in range(units - 1):
        lens.append(b.varint())
        starts.append(starts[-1] + b.zigzag())
    code = Sequence(b)
    for u in range(units):
        part = Bytes(b.take(lens[u]) if u < len(lens) else b.take(len(b.data) - b.at))
        late += code.block(part, min(512, count - 512 * u), starts[u])
        if late[512 * u] != starts[u] or part.at != len(part.data):
            sys.exit("unit %d does not fit" % u)
    return [first + i * step + x for i, x in enumerate(late)]


def summary(b, count):
    kind = b.u8()
    if kind & 15 == 15:
        four, low = [struct.unpack("<d", b.take(8))[0] for _ in range(4)], 0
    else:
        first = b.zigzag()
        numbers = [first, first + b.zigzag(), first - b.varint(), first + b.varint()]
        four = [q / 10.0 ** (kind & 15) for q in numbers]
        low = first
    return four, bool(kind & 16), b.zigzag() + count * low if kind & 32 else None


def check_summary(told, values):
    four, rises, total = told
    if four != [values[0], values[-1], min(values), max(values)]:
        sys.exit("the summary says %r" % four)
    if rises != all(b >= a for a, b in zip(values, values[1:])):
        sys.exit("the summary says rises: %r" % rises)
    if total is not None and total != sum(values):
        sys.exit("the summary says sum %r" % total)


def main(path):
    b = Bytes(open(path, "rb").read())
    codecs, flags, count, first, span = b.u8(), b.u8(), b.varint(), b.zigzag(), b.varint()
    tc, vc = codecs & 15, codecs >> 4
    if tc > 3 or vc > 5 or flags > 3:
        sys.exit("too new")
    told = summary(b, count) if flags & 2 else None
    step = b.varint() if tc == 2 or tc == 0 and count > 1 else 0
    late = Sequence(b) if tc == 2 else None
    apart = jitter(Bytes(b.take(b.varint())), count, first) if tc == 3 else []
    const = b.fixed64() if vc == 0 else 0
    exceptions = {}
    if vc in (1, 4):
        how, exponent = divmod(b.u8(), 16)
        factor = b.varint()
        if how > 2:
            sys.exit("too new")
        offset = b.varint() if factor > 1 else 0
        for _ in range(b.varint()):
            bits, at = b.fixed64(), 0
            for _ in range(b.varint()):
                at += b.varint()
                exceptions[at] = bits
    values_sequence = Sequence(b) if vc in (4, 5) else None
    starts = [b.zigzag() if vc in (4, 5) and values_sequence.mode % 2 else 0]
    samples = 512 if tc != 1 and vc in (0, 4, 5) else 128
    n_blocks, lens, firsts = (count + samples - 1) // samples, [], [first]
    has_blocks = not (tc in (0, 3) and vc == 0)
    for _ in range(n_blocks - 1 if has_blocks else 0):
        lens.append(b.varint())
        firsts.append(firsts[-1] + (b.varint() if tc == 1 else step * samples + (b.zigzag() if tc == 2 else 0)))
        starts.append(starts[-1] + (b.zigzag() if vc in (4, 5) and values_sequence.mode % 2 else 0))
    if not has_blocks:
        firsts = [first + i * step * samples for i in range(n_blocks)]
    times, values = apart, []
    for k in range(n_blocks):
        n = min(samples, count - k * samples)
        part = Bytes(b.take(lens[k]) if k < len(lens) else b.take(len(b.data) - b.at))
        if tc == 0:
            times += [firsts[k] + i * step for i in range(n)]
        elif tc == 1:
            times.append(firsts[k])
            for d in vector(part, n - 1):
                times.append(times[-1] + d)
        elif tc == 2:
            grid = first + k * samples * step
            times += [grid + i * step + x for i, x in enumerate(late.block(part, n, firsts[k] - grid))]
        if vc == 0:
            values += [const] * n
        elif vc == 2:
            values += xors(part, n)
        elif vc == 3:
            values += [part.fixed64() for _ in range(n)]
        elif vc == 5:
            values += [x & M for x in values_sequence.block(part, n, starts[k])]
        else:
            q = ints(part, n) if vc == 1 else values_sequence.block(part, n, starts[k])
            m = [float(signed(x * factor + offset)) for x in q]
            scaled = [x / 10.0 ** exponent if how == 0 else x * float("1e-%d" % exponent) if how == 1 else x / 1000 / 1000 for x in m]
            values += [struct.unpack("<Q", struct.pack("<d", x))[0] for x in scaled]
        if part.at != len(part.data):
            sys.exit("block %d is not used up" % k)
    for i, bits in exceptions.items():
        values[i] = bits
    if times[-1] != first + span or any(b <= a for a, b in zip(times, times[1:])):
        sys.exit("times do not fit")
    if told:
        check_summary(told, [struct.unpack("<d", struct.pack("<Q", v))[0] for v in values])
    for t, v in zip(times, values):
        print(t, "%016x" % v)


main(sys.argv[1])
