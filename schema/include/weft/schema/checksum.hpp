// XXH3-64 of bytes that arrive in pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace weft::schema {

std::uint64_t checksum_of(std::span<const std::byte> bytes);
std::uint64_t checksum_of(std::string_view bytes);

class running_checksum {
 public:
  running_checksum();
  running_checksum(running_checksum&&) noexcept;
  running_checksum& operator=(running_checksum&&) noexcept;
  ~running_checksum();

  void add(std::span<const std::byte> bytes);
  std::uint64_t value() const;  // of all that was added so far

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace weft::schema
