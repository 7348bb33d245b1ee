// What was done with each key of a simulation, and what a read may therefore bring back.
#pragma once

#include <weft/base/id128.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace weft::simulation {

// Keys stand for their content, as in the pool: the same bytes for a key, whoever puts it.
id128 key_of(std::uint64_t seed, std::size_t number);
std::vector<std::byte> payload_of(const id128& key);

class key_history {
 public:
  void put_begun(const id128& key) { keys_[key].ever_put = true; }
  void put_acknowledged(const id128& key);
  // From its beginning on it may be in effect anywhere.
  void drop_begun(const id128& key) { keys_[key].may_be_gone = true; }

  // Empty, or what is wrong with a read that brought these bytes.
  std::string judge_hit(const id128& key, std::span<const std::byte> payload) const;

  // Acknowledged, and not dropped since.
  std::vector<id128> kept() const;

 private:
  struct facts {
    bool ever_put = false;
    bool acknowledged = false;
    bool may_be_gone = false;
  };
  std::map<id128, facts> keys_;
};

}  // namespace weft::simulation
