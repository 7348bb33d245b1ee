#!/usr/bin/env python3
"""Prints the ids that docs/keys.md prescribes, computed with hashlib alone.

The expected values in tests/block/fingerprint_test.cpp and tests/policies/keys_test.cpp come from here.
"""
import hashlib
import struct

NONE, LLAMA3, LINEAR = 0, 1, 2


def u8(value):
    return struct.pack("<B", value)


def u32(*values):
    return struct.pack(f"<{len(values)}I", *values)


def f64(*values):
    return struct.pack(f"<{len(values)}d", *values)


def text(value):
    return u32(len(value)) + value


def tokens(values):
    return struct.pack("<Q", len(values)) + struct.pack(f"<{len(values)}i", *values)


def hashed(*fields):
    return hashlib.sha256(b"".join(fields)).digest()[:16]


def model(scaling):
    fields = [text(b"weft.model.1"), text(b"llama"), u32(16, 32, 8, 64), u8(2), f64(500000.0), u8(scaling)]
    if scaling != NONE:
        fields.append(f64(32.0))
    if scaling == LLAMA3:
        fields += [f64(1.0, 4.0), u32(8192)]
    return hashed(*fields, bytes.fromhex("00112233445566778899aabbccddeeff"))


SALT = b"tenant-a"
FINGERPRINT = bytes(range(16))


def document(values):
    return hashed(text(b"weft.document.1"), text(SALT), FINGERPRINT, u8(1), tokens(values))


def block(encoding, shard, shards, block_tokens, anchor, index, values):
    return hashed(text(b"weft.block.1"), text(SALT), FINGERPRINT, u8(encoding), u32(shard, shards, block_tokens),
                  anchor, u32(index), tokens(values))


def main():
    for name, scaling in (("llama3", LLAMA3), ("none", NONE), ("linear", LINEAR)):
        print("fingerprint", name, model(scaling).hex())
    print("document_id [1, 2, -3]", document([1, 2, -3]).hex())
    print("document_id []", document([]).hex())
    ids = list(range(100, 105))
    anchor = document(ids)
    for index in range(3):
        print("document block", index, block(1, 1, 2, 2, anchor, index, ids[2 * index:2 * index + 2]).hex())
    parent = bytes(16)
    for index in range(3):
        parent = block(0, 1, 2, 2, parent, 0, ids[2 * index:2 * index + 2])
        print("prefix block", index, parent.hex())
    print("manifest_key", hashed(text(b"weft.manifest.1"), anchor).hex())
    print("opaque_key", hashed(text(b"weft.opaque.1"), text(SALT), text(b"vllm/fp8"), text(b"\x00key")).hex())


if __name__ == "__main__":
    main()
