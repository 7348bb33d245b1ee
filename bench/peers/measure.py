"""What the scripts of this folder share: two processes, buffers far beyond the caches, medians of rounds in
turn with memcpy, rows as `weft bench fabric --json` prints them."""

import ctypes
import json
import mmap
import os
import statistics
import subprocess
import sys
import time

ARENA_BYTES = 256 << 20
SLICE_BYTES = 16 << 20
OPERATIONS_MAX = 256
SHAPES = [(4 << 10, 1), (64 << 10, 1), (1 << 20, 1), (16 << 20, 1), (64 << 10, 64)]  # bytes, blocks


class Arena:
    def __init__(self, fill):
        self.memory = mmap.mmap(-1, ARENA_BYTES)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        ctypes.memset(self.address, fill, ARENA_BYTES)


class Owner:
    """The other process: this script again, with `--owner`. It says one line of JSON and serves until its
    input ends."""

    def __init__(self, script, arguments):
        self.process = subprocess.Popen([sys.executable, script, "--owner", *arguments], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for line in self.process.stdout:
            if line.startswith("ready "):
                self.facts = json.loads(line[len("ready "):])
                return
        sys.exit("the owner's process ended before it was ready")

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)


def serve(facts):
    print("ready " + json.dumps(facts), flush=True)
    sys.stdin.read()


def missing(package, error):
    sys.exit(f"{package} is not usable here ({error}); see bench/peers/README.md for how to install it")


def print_rows(rows):
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "")
    print(json.dumps({"machine": {"cpu": cpu, "threads": os.cpu_count()}, "rows": rows}, indent=1))


def run(name, transport, read_blocks, rounds):
    """Prints what `rows_of` finds for reads: `read_blocks` fetches its part of the owner's arena to the same
    place in this one's."""
    print_rows(rows_of(f"{name} read", "fetch", transport, read_blocks, rounds))


def rows_of(name, operation, transport, move_blocks, rounds, shapes=SHAPES):
    """`move_blocks(offset, block_bytes, blocks)` moves that part of an arena as one operation; what a fetch
    brings into this one's must be sevens."""
    local, source = run.arena, Arena(3)
    rows = []
    place = 0
    for block_bytes, blocks in shapes:
        operation_bytes = block_bytes * blocks
        operations = max(1, min(OPERATIONS_MAX, SLICE_BYTES // operation_bytes))
        slice_bytes = operations * operation_bytes
        place = (place + block_bytes - 1) // block_bytes * block_bytes
        seconds, copies, alone = [], [], []
        for number in range(rounds + 1):  # the first does not count
            place = 0 if place + 2 * slice_bytes > ARENA_BYTES else place
            begin = time.perf_counter()
            for at in range(place, place + slice_bytes, block_bytes):
                ctypes.memmove(local.address + at, source.address + at, block_bytes)
            copied = time.perf_counter() - begin
            place += slice_bytes
            times = []
            begin = time.perf_counter()
            for at in range(place, place + slice_bytes, operation_bytes):
                started = time.perf_counter()
                move_blocks(at, block_bytes, blocks)
                times.append((time.perf_counter() - started) * 1e6)
            took = time.perf_counter() - begin
            ends = local.memory[place], local.memory[place + slice_bytes - 1]
            if operation != "put" and ends != (7, 7):
                sys.exit(f"{name} said that it had read what did not come")
            place += slice_bytes
            if number > 0:
                seconds.append(took)
                copies.append(copied)
                alone += times
        size = f"{block_bytes >> 10} KiB" if block_bytes < 1 << 20 else f"{block_bytes >> 20} MiB"
        alone.sort()
        rows.append({
            "name": f"{transport} {size if blocks == 1 else f'{blocks} x {size}'}: {name}",
            "operation": operation, "transport": transport, "verified": False,
            "size_bytes": block_bytes, "batch": blocks,
            "gb_per_s": slice_bytes / statistics.median(seconds) * 1e-9,
            "limit_name": "memcpy, one core",
            "limit_gb_per_s": slice_bytes / statistics.median(copies) * 1e-9,
            "ratio": statistics.median(c / s for c, s in zip(copies, seconds)),
            "us_p50": alone[len(alone) // 2], "us_p99": alone[len(alone) * 99 // 100]})
    return rows
