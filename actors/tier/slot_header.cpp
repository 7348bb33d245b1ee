#include <weft/tier/slot_header.hpp>

#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace weft::tier {
namespace {

constexpr std::array<char, 8> slot_magic{'W', 'E', 'F', 'T', 'S', 'L', 'T', 0x1a};
constexpr std::array<char, 8> tier_magic{'W', 'E', 'F', 'T', 'T', 'I', 'R', 0x1a};
constexpr std::size_t used_bytes = 128;
constexpr std::size_t checked_from = 16;
constexpr std::size_t slot_reserved_from = 93;
constexpr std::size_t tier_reserved_from = 40;
constexpr std::uint32_t version = 1;
constexpr std::uint32_t state_full = 1;
constexpr std::uint32_t state_empty = 2;

template <class Number>
void put(std::span<std::byte> out, std::size_t at, Number value) {
  for (std::size_t i = 0; i < sizeof(Number); ++i)
    out[at + i] = static_cast<std::byte>(value >> (8 * i));
}

template <class Number>
Number get(std::span<const std::byte> in, std::size_t at) {
  Number value = 0;
  for (std::size_t i = 0; i < sizeof(Number); ++i)
    value = static_cast<Number>(value | static_cast<Number>(in[at + i]) << (8 * i));
  return value;
}

void put_id(std::span<std::byte> out, std::size_t at, const id128& id) {
  for (std::size_t i = 0; i < 8; ++i) {
    out[at + i] = static_cast<std::byte>(id.high >> (56 - 8 * i));
    out[at + 8 + i] = static_cast<std::byte>(id.low >> (56 - 8 * i));
  }
}

id128 get_id(std::span<const std::byte> in, std::size_t at) {
  id128 id;
  for (std::size_t i = 0; i < 8; ++i) {
    id.high = id.high << 8 | static_cast<std::uint64_t>(in[at + i]);
    id.low = id.low << 8 | static_cast<std::uint64_t>(in[at + 8 + i]);
  }
  return id;
}

bool zeros(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

std::uint64_t checksum_of(std::span<const std::byte> sector) {
  return XXH3_64bits(sector.data() + checked_from, used_bytes - checked_from);
}

void seal(std::span<std::byte> out, const std::array<char, 8>& magic) {
  std::memcpy(out.data(), magic.data(), magic.size());
  put(out, 8, checksum_of(out));
}

// What both kinds of sectors have in common.
result<void> check(std::span<const std::byte> in, const std::array<char, 8>& magic,
                   std::size_t reserved_from) {
  if (in.size() < sector_bytes) return fail(errc::corrupt, "a sector of the header file is cut off");
  if (zeros(in.first(used_bytes))) return fail(errc::not_found, "the sector was never written");
  if (std::memcmp(in.data(), magic.data(), magic.size()) != 0)
    return fail(errc::corrupt, "the sector has another magic");
  if (get<std::uint64_t>(in, 8) != checksum_of(in))
    return fail(errc::corrupt, "the sector's checksum is wrong");
  if (get<std::uint32_t>(in, 16) != version)
    return fail(errc::unsupported, "the sector has version " + std::to_string(get<std::uint32_t>(in, 16)) +
                                       "; this program reads 1");
  if (!zeros(in.subspan(reserved_from, used_bytes - reserved_from)))
    return fail(errc::corrupt, "reserved bytes of the sector are not zero");
  return {};
}

bool plausible(const slot_header& h) {
  if (h.empty)
    return !h.key && h.place == 0 && h.bytes == 0 && h.tenant == 0 && h.kind == machines::item_kind{};
  return h.key && h.bytes != 0 && h.place % sector_bytes == 0 && h.place + h.bytes >= h.place &&
         h.kind <= machines::item_kind::opaque;
}

}  // namespace

void store(std::span<std::byte, sector_bytes> out, const slot_header& header) {
  std::ranges::fill(out, std::byte{0});
  put(out, 16, version);
  put(out, 20, header.empty ? state_empty : state_full);
  put(out, 24, header.slot);
  put_id(out, 32, header.tier);
  put_id(out, 48, header.key);
  put(out, 64, header.sequence);
  put(out, 72, header.place);
  put(out, 80, header.bytes);
  put(out, 88, header.tenant);
  put(out, 92, static_cast<std::uint8_t>(header.kind));
  seal(out, slot_magic);
}

result<slot_header> load_slot_header(std::span<const std::byte> in, std::uint64_t slot, const id128& tier) {
  if (const auto sound = check(in, slot_magic, slot_reserved_from); !sound)
    return tl::make_unexpected(sound.error());
  const auto state = get<std::uint32_t>(in, 20);
  const slot_header h{.empty = state == state_empty,
                      .slot = get<std::uint64_t>(in, 24),
                      .tier = get_id(in, 32),
                      .key = get_id(in, 48),
                      .sequence = get<std::uint64_t>(in, 64),
                      .place = get<std::uint64_t>(in, 72),
                      .bytes = get<std::uint64_t>(in, 80),
                      .tenant = get<std::uint32_t>(in, 88),
                      .kind = static_cast<machines::item_kind>(in[92])};
  if (state != state_full && state != state_empty)
    return fail(errc::corrupt, "the slot has an unknown state");
  if (h.slot != slot) return fail(errc::corrupt, "the header belongs to another slot: a misdirected write");
  if (h.tier != tier) return fail(errc::corrupt, "the header belongs to another tier");
  if (h.sequence == 0 || !plausible(h)) return fail(errc::corrupt, "the header contradicts itself");
  return h;
}

void store_tier_id(std::span<std::byte, sector_bytes> out, const id128& tier) {
  std::ranges::fill(out, std::byte{0});
  put(out, 16, version);
  put_id(out, 24, tier);
  seal(out, tier_magic);
}

result<id128> load_tier_id(std::span<const std::byte> in) {
  if (const auto sound = check(in, tier_magic, tier_reserved_from); !sound)
    return tl::make_unexpected(sound.error());
  const id128 id = get_id(in, 24);
  if (!id) return fail(errc::corrupt, "the tier has no id");
  return id;
}

}  // namespace weft::tier
