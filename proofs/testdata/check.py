#!/usr/bin/env python3
"""Reproduces the vectors in `blake3/` and their blob ids from the words of docs/protocol.md, sections 2 and 3.

Needs Python 3.8 and the package `blake3`; shares nothing with the Rust code.

    check.py                   checks payloads up to 1 MiB, in some seconds
    check.py --up-to BYTES     checks payloads up to that length; 134217728 is all: some minutes, 2 GiB
    check.py --id FILE         prints the blob id of a file's bytes
"""

import argparse
import json
import sys
from pathlib import Path

from blake3 import blake3

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent


def need(condition, message):
    if not condition:
        sys.exit(message)


# --- keccak256 (the original Keccak padding, as on chain) ------------------------------------------------------------

def keccak256(message):
    rotate = lambda x, n: (x << n | x >> 64 - n) & 2**64 - 1 if n else x
    constants, lfsr = [], 1
    for _ in range(24):
        constant = 0
        for j in range(7):
            constant |= (lfsr & 1) << (1 << j) - 1
            lfsr = lfsr << 1 ^ (0x171 if lfsr & 0x80 else 0)
        constants.append(constant)
    padded = bytearray(message) + b"\x01" + bytes(-(len(message) + 1) % 136)
    padded[-1] |= 0x80
    lanes = [0] * 25  # lane (x, y) at x + 5y
    for block in range(0, len(padded), 136):
        for i in range(17):
            lanes[i] ^= int.from_bytes(padded[block + 8 * i:block + 8 * i + 8], "little")
        for constant in constants:
            columns = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
            lanes = [lane ^ columns[(i - 1) % 5] ^ rotate(columns[(i + 1) % 5], 1) for i, lane in enumerate(lanes)]
            moved, (x, y) = lanes[:], (1, 0)
            for t in range(24):
                source, (x, y) = lanes[x + 5 * y], (y, (2 * x + 3 * y) % 5)
                moved[x + 5 * y] = rotate(source, (t + 1) * (t + 2) // 2 % 64)
            lanes = [
                moved[i] ^ ~moved[i - i % 5 + (i + 1) % 5] & moved[i - i % 5 + (i + 2) % 5] & 2**64 - 1
                for i in range(25)
            ]
            lanes[0] ^= constant
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


# --- GF(2^16) --------------------------------------------------------------------------------------------------------

def times_x(polynomial):
    polynomial <<= 1
    return polynomial ^ 0x1002D if polynomial >> 16 else polynomial


def multiply_polynomials(a, b):
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a, b = times_x(a), b >> 1
    return product


def cantor_basis():
    """b0 = 1; b(i+1) is the even polynomial y with y * y + y = b(i)."""
    evens = {multiply_polynomials(y, y) ^ y: y for y in range(0, 1 << 16, 2)}
    basis = [1]
    while len(basis) < 16:
        basis.append(evens[basis[-1]])
    return basis


def logarithms():
    """exp and log of elements to the base of the polynomial x."""
    elements = [0]  # polynomial of each element, then the other way round
    for b in cantor_basis():
        elements += [b ^ element for element in elements]
    of_polynomial = [0] * (1 << 16)
    for element, polynomial in enumerate(elements):
        of_polynomial[polynomial] = element
    exp, log, power = [], [0] * (1 << 16), 1
    for i in range(65535):
        exp.append(of_polynomial[power])
        log[of_polynomial[power]] = i
        power = times_x(power)
    return exp, log


EXP, LOG = logarithms()


def multiply(a, b):
    return EXP[(LOG[a] + LOG[b]) % 65535] if a and b else 0


def inverse(a):
    return EXP[-LOG[a] % 65535]


# Many symbols at a time: `n` symbols are the integer whose first n bytes (little-endian) are the low bytes of the
# symbols and whose next n bytes are the high ones, so addition is exclusive or.

ONES = [int.from_bytes(b"\x01" * (1 << bit), "little") for bit in range(8)]


def byte_map(images):
    """The 256 values of the GF(2)-linear map of a byte that sends bit i to images[i]."""
    table = 0
    for bit, image in enumerate(images):
        table |= (table ^ image * ONES[bit]) << (8 << bit)
    return table.to_bytes(256, "little")


def multiplier(factor):
    """Byte maps for the product with a factor: low to low, low to high, high to low, high to high."""
    images = [multiply(factor, 1 << bit) for bit in range(16)]
    return tuple(
        byte_map([image >> to & 255 for image in images[at:at + 8]]) for at in (0, 8) for to in (0, 8)
    )


def scale(maps, symbols, n):
    data = symbols.to_bytes(2 * n, "little")
    low, high = data[:n], data[n:]
    from_low = int.from_bytes(low.translate(maps[0]) + low.translate(maps[1]), "little")
    return from_low ^ int.from_bytes(high.translate(maps[2]) + high.translate(maps[3]), "little")


# --- The code --------------------------------------------------------------------------------------------------------

def convolve(kernel, rows, count, n):
    """Row x of the answer is the sum over j of kernel[x ^ j] times row j; `rows` holds `count` rows one after the other.

    With halves k0, k1 of the kernel and d0, d1 of the rows, the answer's halves k0 d0 + k1 d1 and k1 d0 + k0 d1 are
    k0 (d0 + d1) + (k0 + k1) d1 and k0 (d0 + d1) + (k0 + k1) d0.
    """
    if count == 1:
        maps = MULTIPLIERS.get(kernel[0])
        if maps is None:
            maps = MULTIPLIERS[kernel[0]] = multiplier(kernel[0])
        return scale(maps, rows, n)
    half = count // 2
    bits = half * 16 * n
    d0, d1 = rows & (1 << bits) - 1, rows >> bits
    k0, sums = kernel[:half], [a ^ b for a, b in zip(kernel, kernel[half:])]
    both = convolve(k0, d0 ^ d1, half, n)
    return both ^ convolve(sums, d1, half, n) | (both ^ convolve(sums, d0, half, n)) << bits


MULTIPLIERS = {}


def product_of(elements):
    return EXP[sum(LOG[element] for element in elements) % 65535]


def parity(data, k, n):
    """The 3K parity rows as symbols: row i is the sum over j of c / (i + 4K + j) times data row j."""
    c = multiply(product_of(range(4 * k, 8 * k)), inverse(product_of(range(1, 4 * k))))
    MULTIPLIERS.clear()
    joined = int.from_bytes(b"".join(row.to_bytes(2 * n, "little") for row in data), "little")
    rows = []
    for block in range(0, 3 * k, k):
        kernel = [multiply(c, inverse(4 * k ^ block ^ x)) for x in range(k)]
        coset = convolve(kernel, joined, k, n).to_bytes(2 * n * k, "little")
        rows += [int.from_bytes(coset[at:at + 2 * n], "little") for at in range(0, len(coset), 2 * n)]
    return rows


def interpolated(data, k, n, i):
    """Parity row i by Lagrange's formula, from the definition of the code."""
    total = 0
    for j, row in enumerate(data):
        others = [point for point in range(4 * k, 8 * k) if point != 4 * k + j]
        factor = multiply(
            product_of(i ^ point for point in others),
            inverse(product_of(4 * k + j ^ point for point in others)),
        )
        total ^= scale(multiplier(factor), row, n)
    return total


# --- Rows, tree, combination -----------------------------------------------------------------------------------------

def shape(length):
    for limit, k in ((14, 16), (16, 64), (18, 256), (20, 1024), (22, 2048), (25, 4096), (27, 8192)):
        if length <= 1 << limit:
            return k, 64 * max(1, -(-length // (64 * k)))
    raise ValueError("payload is too long")


def symbols_of(row):
    blocks = range(0, len(row), 64)
    planes = [row[b:b + 32] for b in blocks] + [row[b + 32:b + 64] for b in blocks]
    return int.from_bytes(b"".join(planes), "little")


def row_of(symbols, n):
    planes = symbols.to_bytes(2 * n, "little")
    return b"".join(planes[at:at + 32] + planes[n + at:n + at + 32] for at in range(0, n, 32))


def key_of(use):
    return blake3(b"", derive_key_context="meridian v1 " + use).digest()


KEYS = {use: key_of(use) for use in ("row leaf", "row node", "rlc vector", "coefficients")}


def keyed_hash(use, message, length=32):
    return blake3(message, key=KEYS[use]).digest(length=length)


def tree(leaves):
    """All levels, from the leaves to the root."""
    levels = [leaves]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([keyed_hash("row node", below[i] + below[i + 1]) for i in range(0, len(below), 2)])
    return levels


def range_proof(levels, start, end):
    """The siblings that the rows from start to before end lack, level by level, left before right."""
    proof = []
    for level in levels[:-1]:
        if start % 2:
            proof.append(level[start - 1])
        if end % 2:
            proof.append(level[end])
        start, end = start // 2, (end + 1) // 2
    return proof


def limbs(value):
    return [int.from_bytes(value[at:at + 2], "little") for at in range(0, 16, 2)]


def combine(rows, coefficients):
    """The combination of each row, 16 bytes: column by column, all rows at once."""
    count, data = len(rows), b"".join(rows)
    w = len(data) // count
    sums = [0] * 8
    for s, coefficient in enumerate(coefficients):
        at = 64 * (s // 32) + s % 32
        column = int.from_bytes(data[at::w] + data[at + 32::w], "little")
        for limb, factor in enumerate(limbs(coefficient)):
            sums[limb] ^= scale(multiplier(factor), column, count)
    planes = [total.to_bytes(2 * count, "little") for total in sums]
    return [bytes(b for plane in planes for b in (plane[j], plane[count + j])) for j in range(count)]


def extend_values(values):
    """The K values and the 3K that the code adds to them, each value packed into a row of one block."""
    shards = []
    for value in values:
        shards.append(symbols_of(value[0::2] + bytes(24) + value[1::2] + bytes(24)))
    extended = [row_of(symbols, 32) for symbols in parity(shards, len(values), 32)]
    return values + [bytes(b for i in range(8) for b in (row[i], row[32 + i])) for row in extended]


class Blob:
    def __init__(self, payload, kzg_root=bytes(32)):
        self.k, self.w = k, w = shape(len(payload))
        data = payload + bytes(k * w - len(payload))
        self.rows = [data[at:at + w] for at in range(0, k * w, w)]
        symbols = [symbols_of(row) for row in self.rows]
        added = parity(symbols, k, w // 2)
        for i in sorted({0, k - 1, 3 * k - 1}) if k <= 256 else ():
            need(added[i] == interpolated(symbols, k, w // 2, i), "parity is not the interpolation")
        self.rows += [row_of(row, w // 2) for row in added]
        self.levels = tree([keyed_hash("row leaf", row) for row in self.rows])
        row_root = self.levels[-1][0]
        sizes = b"".join(size.to_bytes(4, "little") for size in (k, 3 * k, w))
        stream = keyed_hash("coefficients", row_root + sizes, 8 * w)
        self.coefficients = [stream[at:at + 16] for at in range(0, 8 * w, 16)]
        self.rlc = combine(self.rows[:k], self.coefficients)
        rlc_root = keyed_hash("rlc vector", b"".join(self.rlc))
        # abi.encode: five words of 32 bytes, integers big-endian.
        words = [(1).to_bytes(32, "big"), len(payload).to_bytes(32, "big"), row_root, rlc_root, kzg_root]
        self.header = b"".join(words)
        self.id = keccak256(self.header)


# --- The files -------------------------------------------------------------------------------------------------------

def payload_of(vector):
    source = vector["payload"]
    if "file" in source:
        payload = (REPOSITORY / source["file"]).read_bytes()
    else:
        payload = blake3(source["seed"].encode()).digest(length=source["length"])
    need(len(payload) == source["length"], f"payload of {len(payload)} bytes, not {source['length']}")
    need(to_hex(blake3(payload).digest()) == source["blake3"], "another payload than the file's")
    return payload


def to_hex(data):
    return "0x" + data.hex()


def check(vector):
    """Compares everything that a file says with what the protocol's words give."""
    header = vector["header"]
    blob = Blob(payload_of(vector), bytes.fromhex(header["kzgRoot"][2:]))
    t, words = 4 * blob.k, [to_hex(blob.header[at:at + 32]) for at in range(0, 160, 32)]

    def same(what, have, want):
        need(have == want, f"{vector['payload']}: {what}: file has {have}, the protocol gives {want}")

    same("shape", vector["shape"], {"k": blob.k, "n": 3 * blob.k, "t": t, "w": blob.w})
    same("header", header, {
        "codec": 1, "length": vector["payload"]["length"],
        "rowRoot": words[2], "rlcRoot": words[3], "kzgRoot": words[4],
    })
    same("abi.encode(header)", vector["encodedHeader"], to_hex(blob.header))
    same("blob id", vector["blobId"], to_hex(blob.id))
    for entry in vector["coefficients"]:
        same(f"coefficient {entry['index']}", entry["value"], to_hex(blob.coefficients[entry["index"]]))
    values = extend_values(blob.rlc)
    for entry in vector["rlc"]:
        index = entry["index"]
        same(f"rlc value {index}", entry["value"], to_hex(values[index]))
        same(f"combination of row {index}", values[index], combine([blob.rows[index]], blob.coefficients)[0])
    for entry in vector["rows"]:
        index = entry["index"]
        same(f"first block of row {index}", entry["firstBlock"], to_hex(blob.rows[index][:64]))
        same(f"leaf {index}", entry["leaf"], to_hex(blob.levels[0][index]))
        same(f"proof {index}", entry["proof"], [to_hex(h) for h in range_proof(blob.levels, index, index + 1)])
    for entry in vector["ranges"]:
        start, end = entry["start"], entry["start"] + entry["count"]
        parts = [(start, end)] if end <= t else [(start, t), (0, end - t)]
        same(f"range {start} to {end}", entry["proofs"], [
            [to_hex(h) for h in range_proof(blob.levels, *part)] for part in parts
        ])
    return blob


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--up-to", type=int, metavar="BYTES", default=1 << 20)
    parser.add_argument("--id", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.id:
        print(to_hex(Blob(arguments.id.read_bytes()).id))
        return
    vectors = [json.loads(path.read_text()) for path in (HERE / "blake3").glob("*.json")]
    vectors = sorted(vectors, key=lambda vector: vector["payload"]["length"])
    chosen = [vector for vector in vectors if vector["payload"]["length"] <= arguments.up_to]
    need(chosen, "no vectors")
    for vector in chosen:
        blob = check(vector)
        print(f"{vector['payload']['length']:>9} bytes  K {blob.k:>4}  W {blob.w:>5}  {to_hex(blob.id)}", flush=True)
    print(f"{len(chosen)} of {len(vectors)} files agree")


if __name__ == "__main__":
    sys.exit(main())
