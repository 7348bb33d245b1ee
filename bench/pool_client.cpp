#include "pool_client.hpp"

#include <weft/actors/errors.hpp>
#include <weft/block/layout.hpp>

#include <caf/scoped_actor.hpp>

#include <algorithm>
#include <chrono>
#include <utility>

namespace weft::bench {

namespace {

using namespace actors;

constexpr auto patience = std::chrono::seconds{10};

}  // namespace

result<block_to_write> pool_client::stage(const id128& key, std::span<const std::byte> payload) {
  auto place = node_.room()->take(block::opaque_size_bytes(payload.size()));
  if (!place) return tl::unexpected{place.error()};
  if (auto written = block::write_opaque(place->bytes(), {.key = key, .fingerprint = {}}, payload, 0);
      !written)
    return tl::unexpected{written.error()};
  return block_to_write{key, machines::item_kind::opaque,
                        std::make_shared<const staged_bytes>(std::move(*place))};
}

result<void> pool_client::put(const block_to_write& block) {
  const auto done = node_.blocks()->write({{block}, 1, patience});
  if (!done) return tl::unexpected{done.error()};
  return (*done)->blocks.front();
}

result<void> pool_client::get(const id128& key) {
  const auto done = node_.blocks()->read({{key}, {}, patience});
  if (!done) return tl::unexpected{done.error()};
  return (*done)->blocks.front().outcome;
}

result<std::size_t> pool_client::lookup(const std::vector<id128>& keys) {
  const auto found = node_.blocks()->locate(keys, patience);
  if (!found) return tl::unexpected{found.error()};
  return static_cast<std::size_t>(
      std::ranges::count_if(found->keys, [](const located_key& key) { return !key.holders.empty(); }));
}

result<void> pool_client::drop(caf::actor_system& system, const std::vector<id128>& keys) {
  result<void> outcome;
  caf::scoped_actor self{system};
  self->request(node_.pool(), patience, drop_atom_v, key_list{keys})
      .receive([](std::uint64_t) {},
               [&](const caf::error& e) { outcome = tl::unexpected{from_caf(e, "a drop")}; });
  return outcome;
}

}  // namespace weft::bench
