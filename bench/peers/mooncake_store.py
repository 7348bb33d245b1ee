#!/usr/bin/env python3
"""Mooncake Store, with its master, between two processes of one host: gets and puts by key, and whether keys
are there: mooncake_store.py [--rounds N]"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time

import measure

KEYS_AT_ONCE = 512
SEGMENT_BYTES = 1536 << 20
BUFFER_BYTES = 64 << 20
PUT_SHAPES = [(64 << 10, 1), (1 << 20, 1)]

parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--owner", help=argparse.SUPPRESS)
options = parser.parse_args()

try:
    from mooncake.store import MooncakeDistributedStore
except (ImportError, OSError) as error:
    measure.missing("Mooncake Store", error)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_master():
    beside = os.path.join(os.path.dirname(sys.executable), "mooncake_master")
    program = beside if os.path.exists(beside) else shutil.which("mooncake_master")
    if program is None:
        sys.exit("mooncake_master is not installed; see bench/peers/README.md")
    port = free_port()
    master = subprocess.Popen([program, f"--rpc_port={port}", f"--metrics_port={free_port()}"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return master, f"127.0.0.1:{port}"
        if master.poll() is not None:
            break
        time.sleep(0.1)
    master.kill()
    sys.exit("mooncake_master does not start")


def store_with_arena(master, segment_bytes, fill):
    store = MooncakeDistributedStore()
    name = f"127.0.0.1:{free_port()}"
    if store.setup(name, "P2PHANDSHAKE", segment_bytes, BUFFER_BYTES, "tcp", "", master) != 0:
        sys.exit("Mooncake Store does not start")
    arena = measure.Arena(fill)
    if store.register_buffer(arena.address, measure.ARENA_BYTES) != 0:
        sys.exit("Mooncake Store does not take the memory")
    return store, arena


def key_of(block_bytes, offset):
    return f"block-{block_bytes}-{offset}"


def must(status, what):
    if status < 0:
        sys.exit(f"Mooncake's {what} ended with {status}")


def own(master):
    store, arena = store_with_arena(master, SEGMENT_BYTES, 7)
    for block_bytes in sorted({shape[0] for shape in measure.SHAPES}):
        for at in range(0, measure.ARENA_BYTES, block_bytes):
            must(store.put_from(key_of(block_bytes, at), arena.address + at, block_bytes), "put")
    measure.serve({})


def lookup_row(store, rounds):
    block_bytes = 64 << 10
    keys = [key_of(block_bytes, at * block_bytes) for at in range(KEYS_AT_ONCE)]
    times = []
    for _ in range(10 * rounds):
        started = time.perf_counter()
        found = store.batch_is_exist(keys)
        times.append((time.perf_counter() - started) * 1e6)
        if any(one != 1 for one in found):
            sys.exit("Mooncake Store does not find what was put")
    times.sort()
    return {"name": f"lookup of {KEYS_AT_ONCE} keys: Mooncake Store", "operation": "lookup", "transport": "tcp",
            "batch": KEYS_AT_ONCE, "us_p50": times[len(times) // 2], "us_p99": times[len(times) * 99 // 100]}


def read(master):
    owner = measure.Owner(__file__, [master])
    # Without a segment of its own: everything is the other process's.
    store, arena = store_with_arena(master, 0, 0)
    puts = 0

    def get_blocks(offset, block_bytes, blocks):
        places = range(offset, offset + block_bytes * blocks, block_bytes)
        if blocks == 1:
            must(store.get_into(key_of(block_bytes, offset), arena.address + offset, block_bytes), "get")
        else:
            found = store.batch_get_into([key_of(block_bytes, at) for at in places],
                                         [arena.address + at for at in places], [block_bytes] * blocks)
            must(min(found), "get")

    def put_block(offset, block_bytes, _):
        nonlocal puts
        puts += 1
        must(store.put_from(f"put-{puts}", arena.address + offset, block_bytes), "put")

    measure.run.arena = arena
    rows = measure.rows_of("Mooncake Store get", "get", "tcp", get_blocks, options.rounds)
    rows += measure.rows_of("Mooncake Store put", "put", "tcp", put_block, options.rounds, PUT_SHAPES)
    rows.append(lookup_row(store, options.rounds))
    measure.print_rows(rows)
    owner.end()


if options.owner:
    own(options.owner)
else:
    running, at = start_master()
    try:
        read(at)
    finally:
        running.kill()
