// XXH3-64 by the widest instructions of this CPU, at once or piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace weft::block {

std::uint64_t checksum_of(std::span<const std::byte> bytes);

class running_checksum {
 public:
  running_checksum();
  running_checksum(running_checksum&&) noexcept;
  running_checksum& operator=(running_checksum&&) noexcept;
  ~running_checksum();

  void restart();
  void append(std::span<const std::byte> piece);
  std::uint64_t value() const;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace weft::block
