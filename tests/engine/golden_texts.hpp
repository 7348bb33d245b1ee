// The texts that tests/fixtures/golden_tokenizers.py gave to the reference tokenizer, built the same way.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace weft::test {

class split_mix64 {
 public:
  explicit split_mix64(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31U);
  }
  std::size_t below(std::size_t bound) { return static_cast<std::size_t>(next() % bound); }

 private:
  std::uint64_t state_;
};

class golden_texts {
 public:
  golden_texts();
  std::size_t count() const { return count_; }
  std::string text(std::uint64_t number) const;

 private:
  std::size_t count_ = 0;
  std::vector<std::vector<std::string>> fragments_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> ranges_;
};

std::uint64_t fnv1a(std::span<const std::int32_t> ids);

// <fixtures>/tokenizers/<name>/ids.u64
std::vector<std::uint64_t> golden_hashes(const std::string& name);

}  // namespace weft::test
