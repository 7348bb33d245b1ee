#include <weft/policies/remembered_items.hpp>

namespace weft::policies {

void remembered_items::add(std::uint64_t identity, std::uint64_t bytes, std::uint32_t uses) {
  if (identity == 0) return;
  take(identity);
  const std::uint64_t number = next_number_++;
  known_[identity] = {number, bytes, uses};
  order_.push_back({identity, number, bytes});
  bytes_ += bytes;
  while (!order_.empty()) {
    const entry& first = order_.front();
    const auto at = known_.find(first.identity);
    const bool stands = at != known_.end() && at->second.number == first.number;
    if (stands && bytes_ <= limit_bytes_) break;
    if (stands) {
      bytes_ -= first.bytes;
      known_.erase(at);
    }
    order_.pop_front();
  }
}

std::optional<std::uint32_t> remembered_items::take(std::uint64_t identity) {
  const auto at = known_.find(identity);
  if (at == known_.end()) return std::nullopt;
  const std::uint32_t uses = at->second.uses;
  bytes_ -= at->second.bytes;
  known_.erase(at);
  return uses;
}

}  // namespace weft::policies
