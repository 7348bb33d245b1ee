#include <weft/engine/adaptive/passive_store.hpp>

namespace weft::engine {

result<void> local_passive_store::put(std::uint64_t page, page_bytes bytes) {
  pages_[page].assign(bytes.begin(), bytes.end());
  stored_bytes_ += bytes.size();
  return {};
}

void local_passive_store::begin(std::span<const std::uint64_t> pages) {
  asked_.clear();
  for (const std::uint64_t page : pages) {
    const auto found = pages_.find(page);
    asked_.push_back(found == pages_.end() ? page_bytes() : page_bytes(found->second));
  }
}

}  // namespace weft::engine
