// Blocks of random shapes and random bands, and the rows that went into them.
#pragma once

#include <weft/block/layout.hpp>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <vector>

namespace weft::block::test {

// Bytes at an address aligned as the format wants it, exactly as many as asked for.
class aligned_bytes {
 public:
  explicit aligned_bytes(std::size_t bytes) : bytes_(bytes) {
    void* memory = nullptr;
    if (posix_memalign(&memory, part_alignment_bytes, bytes) != 0) throw std::bad_alloc();
    memory_.reset(static_cast<std::byte*>(memory));
    std::memset(memory, 0xa5, bytes);
  }
  explicit aligned_bytes(std::span<const std::byte> content) : aligned_bytes(content.size()) {
    if (!content.empty()) std::memcpy(memory_.get(), content.data(), content.size());
  }

  std::span<std::byte> span() { return {memory_.get(), bytes_}; }
  std::span<const std::byte> span() const { return {memory_.get(), bytes_}; }
  std::byte& operator[](std::size_t i) { return memory_.get()[i]; }

 private:
  struct free_memory {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::size_t bytes_;
  std::unique_ptr<std::byte, free_memory> memory_;
};

struct sample {
  shape dimensions;
  identity id;
  std::vector<band_rows> bands;
  std::vector<std::byte> k, v;  // whole tensors in the source's order
  kv_source source;             // refers to k and v: a sample is moved, never copied
  aligned_bytes bytes{0};

  sample() = default;
  sample(sample&&) = default;
  sample& operator=(sample&&) = default;

  const std::byte* row(const std::byte* tensor, std::uint32_t layer, std::uint32_t head,
                       std::uint32_t token) const {
    return tensor + (layer * source.layer_stride + head * source.head_stride + token * source.token_stride) *
                        kernels::size_bytes(dimensions.dtype);
  }
};

using random_engine = std::mt19937_64;

inline std::uint32_t pick(random_engine& random, std::uint32_t low, std::uint32_t high) {
  return std::uniform_int_distribution<std::uint32_t>(low, high)(random);
}

inline shape random_shape(random_engine& random) {
  return {.layers = pick(random, 1, 5),
          .kv_heads = pick(random, 1, 4),
          .head_dim = pick(random, 1, 40),
          .tokens = pick(random, 1, 40),
          .dtype = static_cast<kernels::dtype>(pick(random, 0, 2))};
}

// Gives every row to one of `bands` bands, or to none with a chance of 1 in 8.
inline std::vector<band_rows> random_bands(random_engine& random, const shape& s, std::uint32_t bands) {
  std::vector<band_rows> result(bands);
  for (std::uint32_t band = 0; band < bands; ++band) {
    result[band].counts.assign(std::size_t{s.layers} * s.kv_heads, 0);
    result[band].min_score = static_cast<float>(bands - 1 - band);
    result[band].coding = static_cast<codec>(pick(random, 0, 2));
  }
  for (std::size_t head = 0; head < std::size_t{s.layers} * s.kv_heads; ++head)
    for (std::uint32_t token = 0; token < s.tokens; ++token) {
      if (pick(random, 0, 7) == 0) continue;
      band_rows& band = result[pick(random, 0, bands - 1)];
      ++band.counts[head];
      band.positions.push_back(static_cast<std::uint16_t>(token));
    }
  return result;
}

inline kv_source random_strides(random_engine& random, const shape& s) {
  const bool token_major = pick(random, 0, 1) == 0;
  const std::size_t gap = pick(random, 0, 3);
  kv_source source;
  source.token_stride = token_major ? std::size_t{s.kv_heads} * s.head_dim + gap : s.head_dim;
  source.head_stride = token_major ? s.head_dim : std::size_t{s.tokens} * s.head_dim + gap;
  source.layer_stride = token_major ? s.tokens * source.token_stride : s.kv_heads * source.head_stride;
  return source;
}

inline std::vector<std::byte> random_bytes(random_engine& random, std::size_t bytes) {
  std::vector<std::byte> content(bytes);
  for (std::byte& b : content)
    b = static_cast<std::byte>(random());
  return content;
}

inline identity random_identity(random_engine& random) {
  return {{random(), random()}, {random(), random()}, random(), random()};
}

inline sample make_sample(random_engine& random, const shape& s, std::vector<band_rows> bands) {
  sample made;
  made.dimensions = s;
  made.id = random_identity(random);
  made.bands = std::move(bands);
  made.source = random_strides(random, s);
  const std::size_t bytes = s.layers * made.source.layer_stride * kernels::size_bytes(s.dtype);
  made.k = random_bytes(random, bytes);
  made.v = random_bytes(random, bytes);
  made.source.k = made.k.data();
  made.source.v = made.v.data();
  made.bytes = aligned_bytes(size_bytes(s, made.bands));
  if (auto written = write(made.bytes.span(), made.id, s, made.bands, made.source); !written)
    throw std::runtime_error(to_string(written.error()));
  return made;
}

inline sample random_sample(random_engine& random) {
  const shape s = random_shape(random);
  return make_sample(random, s, random_bands(random, s, pick(random, 1, 5)));
}

}  // namespace weft::block::test
