#include <weft/actors/block_watcher.hpp>

namespace weft::actors {

void block_watcher::arrived(std::size_t, std::span<const std::byte> bytes) {
  // The pieces of a range lie one behind the other in the arena.
  whole_ = whole_.empty() ? bytes : std::span{whole_.data(), whole_.size() + bytes.size()};
  verifier_.append(bytes);
}

result<void> block_watcher::complete(std::size_t range) {
  auto proof = verifier_.finish(whole_, expected_.at(range));
  verifier_.restart();
  whole_ = {};
  return proof;
}

}  // namespace weft::actors
