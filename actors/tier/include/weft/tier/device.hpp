// Where a file tier's bytes are: two growing areas that are read, written and made durable without waiting.
// A real one drives files, one for tests keeps bytes in memory and makes the faults that disks make.
#pragma once

#include <weft/base/error.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace weft::tier {

enum class area : std::uint8_t { headers, data };

class device {
 public:
  // Called once for each operation, on a thread of the device's own (or within a call of `run` of one for
  // tests); must not block. `ok`, `io` (failed, or nothing is there), `out_of_space`.
  using done = std::function<void(errc)>;

  virtual ~device() = default;

  // Offsets and lengths are multiples of 4096, buffers start at one and live until `done` was called. Any
  // number may be under way; they are carried out in any order.
  virtual void read(area where, std::uint64_t offset, std::span<std::byte> into, done finished) = 0;
  virtual void write(area where, std::uint64_t offset, std::span<const std::byte> from, done finished) = 0;
  // What was written before (its `done` was called) survives a crash of the machine.
  virtual void sync(done finished) = 0;

  // What the header area had when the device was opened.
  virtual std::uint64_t header_area_bytes() const = 0;

  // "io_uring, direct": for logs and benches.
  virtual std::string description() const = 0;
};

}  // namespace weft::tier
