#include "manifests.hpp"

#include <weft/block/layout.hpp>

namespace weft::actors {

namespace {
constexpr std::uint64_t manifest_tag = 0x31696e616d746677;  // "wftmani1", little endian
}

result<block_to_write> stage_manifest(const schema::manifest& m, staging& room) {
  const auto payload = schema::to_bytes(m);
  if (!payload) return tl::make_unexpected(payload.error());
  auto place = room.take(block::opaque_size_bytes(payload->size()));
  if (!place) return tl::make_unexpected(place.error());
  const auto key = policies::manifest_key(m.document);
  const block::identity id{.key = key, .fingerprint = m.fingerprint, .generation = 0, .incarnation = 0};
  if (const auto written = block::write_opaque(place->bytes(), id, *payload, manifest_tag); !written) {
    return tl::make_unexpected(written.error());
  }
  return block_to_write{key, machines::item_kind::manifest,
                        std::make_shared<const staged_bytes>(std::move(*place))};
}

result<manifest_ptr> open_manifest(std::span<const std::byte> block) {
  const auto parsed = block::view::parse(block);
  if (!parsed) return tl::make_unexpected(parsed.error());
  if (!parsed->is_opaque() || parsed->layout_tag() != manifest_tag) {
    return fail(errc::corrupt, "block " + to_hex(parsed->id().key) + " is no document manifest");
  }
  auto m = schema::from_bytes(parsed->payload());
  if (!m) return tl::make_unexpected(m.error());
  return std::make_shared<const schema::manifest>(std::move(*m));
}

std::vector<id128> keys_with_blocks(const schema::manifest& m) {
  auto keys = m.block_keys;
  for (const auto& block : m.block_keys)
    keys.push_back(policies::reduced_keys_key(block));
  if (!m.block_keys.empty()) keys.push_back(policies::sparse_index_key(m.block_keys.front()));
  return keys;
}

}  // namespace weft::actors
