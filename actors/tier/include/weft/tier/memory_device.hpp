// A device that keeps its bytes in memory, does nothing until it is told to, and makes the faults that disks
// make. Not thread-safe: for tests and simulations, which run in one thread.
#pragma once

#include <weft/tier/device.hpp>

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <random>
#include <vector>

namespace weft::tier {

// Chances in a thousand, for each operation.
struct device_faults {
  std::uint32_t failed_read = 0;        // `io`
  std::uint32_t failed_write = 0;       // `io`; any part of it may have been written
  std::uint32_t failed_sync = 0;        // `io`; what was not durable is lost
  std::uint32_t lost_sync = 0;          // says `ok` and did nothing
  std::uint32_t misdirected_write = 0;  // lands some sectors further on, says `ok`
  std::uint32_t lost_write = 0;         // says `ok` and wrote nothing
  std::uint32_t flipped_bit = 0;        // a write that leaves a bit wrong
};

class memory_device final : public device {
 public:
  static constexpr std::uint64_t unlimited = ~std::uint64_t{0};

  explicit memory_device(std::uint64_t seed, std::uint64_t data_limit_bytes = unlimited)
      : random_(seed), data_limit_bytes_(data_limit_bytes) {}

  void read(area where, std::uint64_t offset, std::span<std::byte> into, done finished) override;
  void write(area where, std::uint64_t offset, std::span<const std::byte> from, done finished) override;
  void sync(done finished) override;
  std::uint64_t header_area_bytes() const override { return areas_[0].bytes.size(); }
  std::string description() const override { return "memory"; }

  // Ends one operation, any of those under way. False where there is none.
  bool run_one();
  void run_all();

  // The machine loses power: what is under way happens in part or not at all and is never answered, and of
  // what was not made durable any sector may be the old one.
  void crash();
  // The process is killed: what is under way happens in part or not at all, what was written stays.
  void kill();

  device_faults faults;
  // Data that would lie behind it is refused with `out_of_space`.
  void set_data_limit(std::uint64_t bytes) { data_limit_bytes_ = bytes; }

  std::size_t under_way() const { return waiting_.size(); }
  std::span<std::byte> bytes(area where) { return areas_[static_cast<std::size_t>(where)].bytes; }

 private:
  enum class kind : std::uint8_t { read, write, sync };
  struct operation {
    kind what{};
    area where{};
    std::uint64_t offset = 0;
    std::span<std::byte> into;
    std::vector<std::byte> from;
    done finished;
  };
  struct store {
    std::vector<std::byte> bytes;
    std::map<std::uint64_t, std::vector<std::byte>>
        durable;  // sectors as they were at the last sync, if changed
  };

  bool chance(std::uint32_t in_a_thousand) { return random_() % 1000 < in_a_thousand; }
  store& of(area where) { return areas_[static_cast<std::size_t>(where)]; }
  operation take_any();
  errc carry_out(operation& op);
  errc carry_out_write(operation& op);
  void put(area where, std::uint64_t offset, std::span<const std::byte> from);
  void put_part(const operation& op);
  void lose_what_is_not_durable();

  std::mt19937_64 random_;
  std::uint64_t data_limit_bytes_;
  std::array<store, 2> areas_;
  std::deque<operation> waiting_;
};

}  // namespace weft::tier
