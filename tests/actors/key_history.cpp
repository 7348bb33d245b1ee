#include "key_history.hpp"

#include <algorithm>

namespace weft::simulation {

id128 key_of(std::uint64_t seed, std::size_t number) {
  const auto h = (seed * 1000 + number + 1) * 0x9e3779b97f4a7c15ULL;
  return {h ^ (h >> 29), h * 0xbf58476d1ce4e5b9ULL + number + 1};
}

std::vector<std::byte> payload_of(const id128& key) {
  std::vector<std::byte> bytes(500 + key.low % 12'000);
  auto h = key.high;
  for (auto& b : bytes) {
    h = h * 6364136223846793005ULL + 1442695040888963407ULL;
    b = static_cast<std::byte>(h >> 56);
  }
  return bytes;
}

// A key that is put anew while a drop of it is under way may go or stay.
void key_history::put_acknowledged(const id128& key) {
  keys_[key].acknowledged = true;
}

std::string key_history::judge_hit(const id128& key, std::span<const std::byte> payload) const {
  const auto at = keys_.find(key);
  if (at == keys_.end() || !at->second.ever_put) return "a key that was never put was found";
  if (!std::ranges::equal(payload, payload_of(key))) return "a read brought bytes that were never put";
  return {};
}

std::vector<id128> key_history::kept() const {
  std::vector<id128> keys;
  for (const auto& [key, f] : keys_) {
    if (f.acknowledged && !f.may_be_gone) keys.push_back(key);
  }
  return keys;
}

}  // namespace weft::simulation
