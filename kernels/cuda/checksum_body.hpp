// XXH3 with 64 bits and seed 0, as a warp computes it: what guards the parts of a block.
//
// (The algorithm: xxHash's specification, github.com/Cyan4973/xxHash.) Of what is longer than 240 bytes eight
// sums of 64 bits are kept. 1,024 bytes change them by sums again, in any order, before they are scrambled:
// so four lanes take each sum, and only the scrambling is one after the other.
#pragma once

#include "cuda/lanes.hpp"

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

namespace xxh3 {

inline constexpr std::uint64_t prime32_1 = 0x9E3779B1U;
inline constexpr std::uint64_t prime32_2 = 0x85EBCA77U;
inline constexpr std::uint64_t prime32_3 = 0xC2B2AE3DU;
inline constexpr std::uint64_t prime64_1 = 0x9E3779B185EBCA87U;
inline constexpr std::uint64_t prime64_2 = 0xC2B2AE3D27D4EB4FU;
inline constexpr std::uint64_t prime64_3 = 0x165667B19E3779F9U;
inline constexpr std::uint64_t prime64_4 = 0x85EBCA77C2B2AE63U;
inline constexpr std::uint64_t prime64_5 = 0x27D4EB2F165667C5U;

inline constexpr std::uint32_t sums = 8;
inline constexpr std::uint64_t stripe_words = 8;
inline constexpr std::uint32_t block_stripes = 16;
inline constexpr std::uint64_t block_words = stripe_words * block_stripes;
inline constexpr std::uint64_t longest_short_bytes = 240;

// Word `index` of the 24 of the secret.
WEFT_BOTH_SIDES inline std::uint64_t secret_word(std::uint32_t index) {
  const std::uint64_t words[24] = {
      0xBE4BA423396CFEB8U, 0x1CAD21F72C81017CU, 0xDB979083E96DD4DEU, 0x1F67B3B7A4A44072U, 0x78E5C0CC4EE679CBU,
      0x2172FFCC7DD05A82U, 0x8E2443F7744608B8U, 0x4C263A81E69035E0U, 0xCB00C391BB52283CU, 0xA32E531B8B65D088U,
      0x4EF90DA297486471U, 0xD8ACDEA946EF1938U, 0x3F349CE33F76FAA8U, 0x1D4F0BC7C7BBDCF9U, 0x3159B4CD4BE0518AU,
      0x647378D9C97E9FC8U, 0xC3EBD33483ACC5EAU, 0xEB6313FAFFA081C5U, 0x49DAF0B751DD0D17U, 0x9E68D429265516D3U,
      0xFCA1477D58BE162BU, 0xCE31D07AD1B8F88FU, 0x280416958F3ACB45U, 0x7E404BBBCAFBD7AFU};
  return words[index];
}

// The 8 bytes of the secret from `offset` on.
WEFT_BOTH_SIDES inline std::uint64_t secret_at(std::uint32_t offset) {
  const std::uint32_t shift = offset % 8 * 8;
  const std::uint64_t low = secret_word(offset / 8) >> shift;
  return shift == 0 ? low : low | secret_word(offset / 8 + 1) << (64 - shift);
}

WEFT_BOTH_SIDES inline std::uint64_t folded_product(std::uint64_t a, std::uint64_t b) {
#if defined(__CUDA_ARCH__)
  return (a * b) ^ __umul64hi(a, b);
#else
  __extension__ typedef unsigned __int128 wide;
  const wide product = wide{a} * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
#endif
}

WEFT_BOTH_SIDES inline std::uint64_t avalanche(std::uint64_t hash) {
  hash ^= hash >> 37;
  hash *= 0x165667919E3779F9U;
  return hash ^ hash >> 32;
}

WEFT_BOTH_SIDES inline std::uint64_t rotated_left(std::uint64_t x, std::uint32_t by) {
  return x << by | x >> (64 - by);
}

WEFT_BOTH_SIDES inline std::uint64_t bytes_turned(std::uint64_t x) {
  x = (x & 0x00FF00FF00FF00FFU) << 8 | (x >> 8 & 0x00FF00FF00FF00FFU);
  x = (x & 0x0000FFFF0000FFFFU) << 16 | (x >> 16 & 0x0000FFFF0000FFFFU);
  return x << 32 | x >> 32;
}

// Two words with 16 bytes of the secret.
WEFT_BOTH_SIDES inline std::uint64_t mixed(const std::uint64_t* words, std::uint32_t secret_offset) {
  return folded_product(words[0] ^ secret_at(secret_offset), words[1] ^ secret_at(secret_offset + 8));
}

WEFT_BOTH_SIDES inline std::uint64_t of_at_most_16(const std::uint64_t* data, std::uint64_t words) {
  if (words == 0) {
    std::uint64_t hash = secret_at(56) ^ secret_at(64);
    hash = (hash ^ hash >> 33) * prime64_2;
    hash = (hash ^ hash >> 29) * prime64_3;
    return hash ^ hash >> 32;
  }
  if (words == 1) {
    constexpr std::uint64_t factor = 0x9FB21C651E98DF25U;
    std::uint64_t hash = rotated_left(data[0], 32) ^ secret_at(8) ^ secret_at(16);
    hash ^= rotated_left(hash, 49) ^ rotated_left(hash, 24);
    hash *= factor;
    hash ^= (hash >> 35) + 8;
    hash *= factor;
    return hash ^ hash >> 28;
  }
  const std::uint64_t low = data[0] ^ secret_at(24) ^ secret_at(32);
  const std::uint64_t high = data[1] ^ secret_at(40) ^ secret_at(48);
  return avalanche(16 + bytes_turned(low) + high + folded_product(low, high));
}

// Of up to 30 words.
WEFT_BOTH_SIDES inline std::uint64_t of_short(const std::uint64_t* data, std::uint64_t words) {
  if (words <= 2) return of_at_most_16(data, words);
  std::uint64_t hash = words * 8 * prime64_1;
  if (words <= 16) {
    // Pairs of words from both ends.
    for (std::uint32_t i = 0; i < (words * 8 - 1) / 32 + 1; ++i)
      hash += mixed(data + std::size_t{2} * i, 32 * i) +
              mixed(data + words - 2 - std::size_t{2} * i, 32 * i + 16);
    return avalanche(hash);
  }
  for (std::uint32_t i = 0; i < 8; ++i)
    hash += mixed(data + std::size_t{2} * i, 16 * i);
  hash = avalanche(hash);
  for (std::uint32_t i = 8; i < words / 2; ++i)
    hash += mixed(data + std::size_t{2} * i, 16 * (i - 8) + 3);
  hash += mixed(data + words - 2, 136 - 17);
  return avalanche(hash);
}

WEFT_BOTH_SIDES inline std::uint64_t first_sum(std::uint32_t index) {
  const std::uint64_t values[sums] = {prime32_3, prime64_1, prime64_2, prime64_3,
                                      prime64_4, prime32_2, prime64_5, prime32_1};
  return values[index];
}

WEFT_BOTH_SIDES inline std::uint64_t product_of_halves(std::uint64_t x) {
  return (x & 0xFFFFFFFFU) * (x >> 32);
}

WEFT_BOTH_SIDES inline std::uint64_t scrambled(std::uint64_t sum, std::uint64_t secret) {
  return (sum ^ sum >> 47 ^ secret) * prime32_1;
}

// One warp, for more than 30 words. Lane l works for sum l % 8, on every fourth stripe from l / 8 on.
template <class Warp>
class long_checksum {
  using lanes_u64 = typename Warp::template each_lanes<std::uint64_t>;
  static constexpr std::uint32_t groups = warp_lanes / sums;
  static constexpr std::uint32_t rounds = block_stripes / groups;

 public:
  WEFT_BOTH_SIDES long_checksum(const Warp& warp, const std::uint64_t* data, std::uint64_t words)
      : warp_(warp), data_(data), words_(words) {
    warp.each([&](std::uint32_t lane) {
      sum_[lane] = first_sum(lane % sums);
      scramble_[lane] = secret_word(16 + lane % sums);
      WEFT_UNROLL
      for (std::uint32_t i = 0; i < rounds; ++i)
        secret_[i][lane] = secret_word(groups * i + lane / sums + lane % sums);
    });
  }

  WEFT_BOTH_SIDES std::uint64_t value() {
    const std::uint64_t blocks = (words_ * 8 - 1) / (block_words * 8);
    lanes_u64 next[rounds];
    load(0, blocks > 0 ? block_stripes : last_stripes(0), next);
    for (std::uint64_t block = 0; block < blocks; ++block) {
      const lanes_u64 added = sums_of(next, block_stripes);
      // Underway while this block is scrambled.
      load(block + 1, block + 1 < blocks ? block_stripes : last_stripes(blocks), next);
      warp_.each(
          [&](std::uint32_t lane) { sum_[lane] = scrambled(sum_[lane] + added[lane], scramble_[lane]); });
    }
    const lanes_u64 added = sums_of(next, last_stripes(blocks));
    const lanes_u64 last = sums_of_last();
    warp_.each([&](std::uint32_t lane) { sum_[lane] += added[lane] + last[lane]; });
    return merged();
  }

 private:
  // Whole stripes behind the last whole block, but for the very last one, which ends with the data.
  WEFT_BOTH_SIDES std::uint32_t last_stripes(std::uint64_t blocks) const {
    return static_cast<std::uint32_t>((words_ * 8 - 1 - blocks * block_words * 8) / (stripe_words * 8));
  }

  WEFT_BOTH_SIDES void load(std::uint64_t block, std::uint32_t stripes, lanes_u64 (&to)[rounds]) const {
    warp_.each([&](std::uint32_t lane) {
      WEFT_UNROLL
      for (std::uint32_t i = 0; i < rounds; ++i) {
        const std::uint32_t stripe = groups * i + lane / sums;
        const std::uint64_t at = block * block_words + stripe * stripe_words + lane % sums;
        to[i][lane] = stripe < stripes ? data_[at] : 0;
      }
    });
  }

  // What the stripes add to each sum: the product of the halves of its own word with the secret, and the
  // word beside it.
  WEFT_BOTH_SIDES lanes_u64 sums_of(const lanes_u64 (&words)[rounds], std::uint32_t stripes) const {
    lanes_u64 products;
    lanes_u64 plain;
    warp_.each([&](std::uint32_t lane) {
      products[lane] = 0;
      plain[lane] = 0;
      WEFT_UNROLL
      for (std::uint32_t i = 0; i < rounds; ++i) {
        if (groups * i + lane / sums >= stripes) continue;
        products[lane] += product_of_halves(words[i][lane] ^ secret_[i][lane]);
        plain[lane] += words[i][lane];
      }
    });
    const lanes_u64 beside = warp_.other_lanes(plain, 1);
    warp_.each([&](std::uint32_t lane) { products[lane] += beside[lane]; });
    for (std::uint32_t step = sums; step < warp_lanes; step *= 2) {
      const lanes_u64 other = warp_.other_lanes(products, step);
      warp_.each([&](std::uint32_t lane) { products[lane] += other[lane]; });
    }
    return products;
  }

  // The last 64 bytes, with a part of the secret of their own.
  WEFT_BOTH_SIDES lanes_u64 sums_of_last() const {
    lanes_u64 word;
    warp_.each([&](std::uint32_t lane) { word[lane] = data_[words_ - stripe_words + lane % sums]; });
    lanes_u64 added = warp_.other_lanes(word, 1);
    warp_.each([&](std::uint32_t lane) {
      added[lane] += product_of_halves(word[lane] ^ secret_at(192 - 64 - 7 + 8 * (lane % sums)));
    });
    return added;
  }

  WEFT_BOTH_SIDES std::uint64_t merged() const {
    std::uint64_t hash = words_ * 8 * prime64_1;
    for (std::uint32_t i = 0; i < sums; i += 2)
      hash += folded_product(warp_.of_lane(sum_, i) ^ secret_at(11 + 8 * i),
                             warp_.of_lane(sum_, i + 1) ^ secret_at(11 + 8 * i + 8));
    return avalanche(hash);
  }

  const Warp& warp_;
  const std::uint64_t* data_;
  std::uint64_t words_;
  lanes_u64 sum_;
  lanes_u64 scramble_;
  lanes_u64 secret_[rounds];
};

}  // namespace xxh3

// One warp: the checksum of `words` words of 8 bytes.
template <class Warp>
WEFT_BOTH_SIDES std::uint64_t checksum_of(const Warp& warp, const std::uint64_t* data, std::uint64_t words) {
  if (words * 8 <= xxh3::longest_short_bytes) return xxh3::of_short(data, words);
  return xxh3::long_checksum<Warp>(warp, data, words).value();
}

}  // namespace weft::kernels::cuda
