#!/usr/bin/env python3
"""Prints the placements that tests/policies/placement_test.cpp expects.

Computed independently: XXH3 for 32 bytes from its specification, and real logarithms in place of fixed-point ones.
"""
import math
import struct

MASK = (1 << 64) - 1
SECRET = bytes.fromhex("b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f")
PRIME64_1 = 0x9E3779B185EBCA87


def mixed(words, secret):
    low, high = (word ^ key for word, key in zip(words, struct.unpack("<2Q", secret)))
    product = low * high
    return (product & MASK) ^ (product >> 64)


def xxh3_of_32_bytes(words):
    h = (32 * PRIME64_1 + mixed(words[:2], SECRET[:16]) + mixed(words[2:], SECRET[16:])) & MASK
    h ^= h >> 37
    h = (h * 0x165667919E3779F9) & MASK
    return h ^ (h >> 32)


def place(key, nodes):
    def score(node):
        identity, weight = node
        return -math.log2(xxh3_of_32_bytes([*key, *identity]) / 2**64) / weight

    return [identity for identity, _ in sorted(nodes, key=score)]


def main():
    nodes = [((0x77656674, i), i) for i in range(1, 6)]
    for i in range(8):
        order = place((0x0123456789ABCDEF + i, 0xFEDCBA9876543210), nodes)
        print(", ".join(str(low) for _, low in order) + ",")


if __name__ == "__main__":
    main()
