// How many rows a session's cache needs, and which of them others may share: pure functions over manifests.
#pragma once

#include <weft/actors/local_messages.hpp>
#include <weft/policies/keys.hpp>

#include "../manifests.hpp"

#include <cstdint>
#include <memory>
#include <span>

namespace weft::actors {

// What a question asks for.
struct asked_rows {
  std::span<const manifest_ptr> documents;
  std::span<const std::uint32_t> bands;  // by document: how many of them are loaded
  std::shared_ptr<const policies::stitch_plan> plan;
  std::uint32_t max_tokens = 0;
  policies::stitch_policy policy;
  policies::key_scope scope;
};

// Room for the wanted bands, and for all that the plan and the answer add to them. `shares`: what others may
// read as well is asked for under keys that name everything it is made of: opening, documents, bands, places,
// what is computed, and by which policy. Equal keys, equal rows.
session_order session_for(const asked_rows& job, const engine::kv_shape& shape, bool shares);

}  // namespace weft::actors
