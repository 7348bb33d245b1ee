#include <weft/engine/shared_bases.hpp>

#include <algorithm>
#include <utility>

namespace weft::engine {

std::shared_ptr<const kv_cache> shared_bases::find(const id128& key) {
  const auto at = known_.find(key);
  if (at == known_.end()) return nullptr;
  if (any_lost(*at->second.base)) {
    erase(key);
    return nullptr;
  }
  turns_.splice(turns_.end(), turns_, at->second.turn);
  return at->second.base;
}

void shared_bases::insert(const id128& key, std::shared_ptr<const kv_cache> base) {
  erase(key);
  const auto turn = turns_.insert(turns_.end(), key);
  known_.emplace(key, entry{.base = std::move(base), .turn = turn});
  tidy();
}

void shared_bases::erase(const id128& key) {
  const auto at = known_.find(key);
  if (at == known_.end()) return;
  turns_.erase(at->second.turn);
  known_.erase(at);
}

// What stands in front of one that goes may be idle from then on.
void shared_bases::tidy() {
  while (drop_what_does_not_fit()) {
  }
}

// From the latest use backwards: what nobody else holds and does not fit any more goes.
bool shared_bases::drop_what_does_not_fit() {
  std::uint64_t idle = 0;
  bool dropped = false;
  counted_.clear();
  for (auto turn = turns_.end(); turn != turns_.begin();) {
    --turn;
    const auto& base = known_.at(*turn).base;
    if (base.use_count() > 1) continue;
    const std::uint64_t bytes = bytes_not_counted(*base);
    if (idle + bytes <= idle_bytes_) {
      idle += bytes;
      count(*base);
      continue;
    }
    known_.erase(*turn);
    turn = turns_.erase(turn);
    dropped = true;
  }
  return dropped;
}

std::uint64_t shared_bases::bytes_not_counted(const kv_cache& base) const {
  std::uint64_t bytes = 0;
  for (const kv_cache* part = &base; part != nullptr && !counted_.contains(part); part = part->base())
    bytes += part->allocated_bytes();
  return bytes;
}

void shared_bases::count(const kv_cache& base) const {
  for (const kv_cache* part = &base; part != nullptr && counted_.insert(part).second;)
    part = part->base();
}

bool shared_bases::drop_idle() {
  const auto idle =
      std::ranges::find_if(turns_, [this](const id128& key) { return known_.at(key).base.use_count() == 1; });
  if (idle == turns_.end()) return false;
  known_.erase(*idle);
  turns_.erase(idle);
  return true;
}

std::uint64_t shared_bases::allocated_bytes() const {
  std::uint64_t bytes = 0;
  counted_.clear();
  for (const auto& [key, known] : known_) {
    bytes += bytes_not_counted(*known.base);
    count(*known.base);
  }
  return bytes;
}

}  // namespace weft::engine
