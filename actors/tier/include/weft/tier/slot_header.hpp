// The sectors of a tier's header file as values (docs/file-tier.md specifies every byte).
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>
#include <weft/machines/item_kind.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::tier {

inline constexpr std::size_t sector_bytes = 4096;

using sector = std::array<std::byte, sector_bytes>;

struct slot_header {
  bool empty =
      false;  // of a slot that held a block; then the fields from `key` on, but for `sequence`, are 0
  std::uint64_t slot = 0;
  id128 tier;
  id128 key;
  std::uint64_t sequence = 0;
  std::uint64_t place = 0;  // in the data file
  std::uint64_t bytes = 0;
  std::uint32_t tenant = 0;
  machines::item_kind kind = machines::item_kind::block;

  friend bool operator==(const slot_header&, const slot_header&) = default;
};

// Where it stands in the header file.
constexpr std::uint64_t header_offset(std::uint64_t slot) {
  return (slot + 1) * sector_bytes;
}

void store(std::span<std::byte, sector_bytes> out, const slot_header& header);

// `not_found`: the sector was never written. `corrupt`: torn, rotten, of another slot or of another tier.
result<slot_header> load_slot_header(std::span<const std::byte> in, std::uint64_t slot, const id128& tier);

// Sector 0. `not_found`: never written; `corrupt`: not of a tier, `unsupported`: of another version.
void store_tier_id(std::span<std::byte, sector_bytes> out, const id128& tier);
result<id128> load_tier_id(std::span<const std::byte> in);

}  // namespace weft::tier
