// What has come from the other ranks of a group: of the current step, and of the next one from ranks that are
// ahead.
#pragma once

#include <weft/base/error.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::fabric {

// The header of every active message of a group, as it is sent: between machines of one byte order.
struct group_message {
  std::uint64_t group = 0;  // hash over the addresses of all ranks
  std::uint64_t step = 0;
  std::uint32_t from = 0;
  std::uint32_t offset = 0;  // of this part
  std::uint32_t total = 0;   // of the whole message
  std::uint32_t reserved = 0;
};
static_assert(sizeof(group_message) == 32);

class group_inbox {
 public:
  group_inbox(std::uint64_t group, unsigned rank, unsigned ranks, std::size_t piece_bytes);

  // Forgets what came before this step.
  void begin(std::uint64_t step);

  // One part, wherever it is from: checked, then copied. False if it cannot be of this group's next steps.
  bool take(std::span<const std::byte> header, std::span<const std::byte> part);

  bool complete(unsigned from) const;
  std::size_t total_bytes(unsigned from) const { return slot_of(from, step_).total; }
  std::span<const std::byte> message(unsigned from) const;

 private:
  static constexpr std::size_t alignment = 64;
  struct alignas(alignment) line {
    std::byte bytes[alignment];
  };
  struct slot {
    bool begun = false;
    std::size_t total = 0;
    std::size_t arrived = 0;
  };

  std::size_t index_of(unsigned from, std::uint64_t step) const { return std::size_t{from} * 2 + step % 2; }
  const slot& slot_of(unsigned from, std::uint64_t step) const { return slots_[index_of(from, step)]; }

  std::uint64_t group_;
  unsigned rank_;
  unsigned ranks_;
  std::size_t piece_bytes_;
  std::size_t slot_lines_;
  std::uint64_t step_ = 0;
  std::vector<slot> slots_;
  std::vector<line> memory_;
};

}  // namespace weft::fabric
