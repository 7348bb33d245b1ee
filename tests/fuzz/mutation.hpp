// Damage under a seed, for replays without a fuzzer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace weft::fuzz {

using bytes = std::vector<std::byte>;

inline bytes bytes_of(std::string_view text) {
  const auto all = std::as_bytes(std::span{text});
  return {all.begin(), all.end()};
}

// Every file of a folder of seeds, in the order of their names.
inline std::vector<bytes> seeds_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& file : std::filesystem::directory_iterator(folder))
    files.push_back(file.path());
  std::sort(files.begin(), files.end());
  std::vector<bytes> seeds;
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    seeds.push_back(bytes_of(std::string{std::istreambuf_iterator<char>(in), {}}));
  }
  return seeds;
}

// A few changes at random places of a seed, parts of other seeds among them.
class mutator {
 public:
  mutator(std::vector<bytes> seeds, std::uint32_t seed) : seeds_(std::move(seeds)), random_(seed) {}

  bytes next() {
    bytes out = some_seed();
    for (auto changes = 1 + below(4); changes > 0; --changes)
      change(out);
    return out;
  }

 private:
  std::size_t below(std::size_t end) { return end == 0 ? 0 : random_() % end; }
  const bytes& some_seed() { return seeds_[below(seeds_.size())]; }

  void change(bytes& out) {
    switch (below(6)) {
      case 0:
        return out.resize(below(out.size() + 1));
      case 1:
        return overwrite(out);
      case 2:
        return insert(out, some_part(out));
      case 3:
        return insert(out, some_part(some_seed()));
      case 4:
        return erase(out);
      default:
        if (!out.empty()) out[below(out.size())] ^= static_cast<std::byte>(1U << below(8));
    }
  }

  // Values at which bounds go wrong, as much as any.
  void overwrite(bytes& out) {
    const std::size_t width = std::size_t{1} << below(4);
    if (out.size() < width) return;
    const std::uint64_t power = std::uint64_t{1} << below(64);
    const std::uint64_t choices[] = {0,          1,        power, power - 1, ~power, ~std::uint64_t{0},
                                     below(256), random_()};
    const std::uint64_t value = choices[below(8)];
    std::memcpy(out.data() + below(out.size() - width + 1), &value, width);
  }

  bytes some_part(const bytes& of) {
    const std::size_t first = below(of.size() + 1);
    const std::size_t count = below(std::min<std::size_t>(of.size() - first, 64) + 1);
    const auto begin = of.begin() + static_cast<std::ptrdiff_t>(first);
    return {begin, begin + static_cast<std::ptrdiff_t>(count)};
  }

  void insert(bytes& out, const bytes& part) {
    out.insert(out.begin() + static_cast<std::ptrdiff_t>(below(out.size() + 1)), part.begin(), part.end());
  }

  void erase(bytes& out) {
    const auto first = out.begin() + static_cast<std::ptrdiff_t>(below(out.size() + 1));
    out.erase(first,
              first + static_cast<std::ptrdiff_t>(below(static_cast<std::size_t>(out.end() - first) + 1)));
  }

  std::vector<bytes> seeds_;
  std::mt19937 random_;
};

}  // namespace weft::fuzz
