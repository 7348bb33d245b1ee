// Random inputs for property tests. Every check says which seed it ran with.
#pragma once

#include <weft/kernels/convert.hpp>
#include <weft/kernels/dtype.hpp>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace weft::kernels::testing {

class random_source {
 public:
  explicit random_source(std::uint32_t seed) : engine_(seed) {}

  std::uint32_t between(std::uint32_t low, std::uint32_t high) {
    return std::uniform_int_distribution<std::uint32_t>(low, high)(engine_);
  }
  bool coin() { return between(0, 1) == 1; }

  std::vector<float> values(std::size_t count, float spread = 1.0F) {
    std::normal_distribution<float> normal(0.0F, spread);
    std::vector<float> out(count);
    for (float& value : out)
      value = normal(engine_);
    return out;
  }

  std::mt19937& engine() { return engine_; }

 private:
  std::mt19937 engine_;
};

// Values as they are stored, and what the stored bytes stand for.
struct stored_values {
  stored_values(dtype type, const std::vector<float>& values)
      : bytes(values.size() * size_bytes(type)), values_of_bytes(values.size()) {
    from_f32(type, values.data(), bytes.data(), values.size());
    to_f32(type, bytes.data(), values_of_bytes.data(), values.size());
  }

  std::vector<std::byte> bytes;
  std::vector<float> values_of_bytes;
};

inline constexpr dtype all_dtypes[] = {dtype::f32, dtype::f16, dtype::bf16};

}  // namespace weft::kernels::testing
