#include "weight_source.hpp"

#include <weft/kernels/convert.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <numeric>
#include <utility>

namespace weft::engine {

namespace {

std::string text_of(std::span<const std::uint64_t> shape) {
  std::string text = "[";
  for (const auto extent : shape)
    text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

class file_embedding final : public embedding_table {
 public:
  file_embedding(std::shared_ptr<const tensor_files> files, const tensor_view& table)
      : files_(std::move(files)), table_(table) {}

  void row(token_id token, std::span<float> out) const override {
    const std::size_t row_bytes = out.size() * kernels::size_bytes(table_.dtype);
    kernels::to_f32(table_.dtype, table_.bytes.data() + static_cast<std::size_t>(token) * row_bytes,
                    out.data(), out.size());
  }

 private:
  std::shared_ptr<const tensor_files> files_;
  const tensor_view& table_;
};

}  // namespace

file_weights::file_weights(tensor_files files, std::string where)
    : files_(std::make_shared<const tensor_files>(std::move(files))), where_(std::move(where)) {}

result<const tensor_view*> file_weights::find(const std::string& name, std::span<const std::uint64_t> shape) {
  const tensor_view* found = files_->find(name);
  if (found == nullptr)
    return fail(
        errc::invalid_argument,
        where_ + ": tensor " + name + " is missing; config.json and the weights must be of the same model");
  if (!std::ranges::equal(found->shape, shape))
    return fail(errc::invalid_argument, where_ + ": tensor " + name + " has shape " + text_of(found->shape) +
                                            " where config.json says " + text_of(shape) +
                                            "; config.json and the weights must be of the same model");
  used_.insert(name);
  return found;
}

result<loaded_tensor> file_weights::tensor(const std::string& name, std::span<const std::uint64_t> shape) {
  const auto found = find(name, shape);
  if (!found) return tl::unexpected(found.error());
  return loaded_tensor{(*found)->dtype, (*found)->bytes, {}};
}

result<std::unique_ptr<embedding_table>> file_weights::embedding(const std::string& name,
                                                                 std::uint32_t tokens, std::uint32_t width) {
  const auto found = find(name, std::array<std::uint64_t, 2>{tokens, width});
  if (!found) return tl::unexpected(found.error());
  return std::make_unique<file_embedding>(files_, **found);
}

result<void> file_weights::check_all_used() const {
  for (const auto& [name, view] : files_->all()) {
    // Written by some exporters: the output projection of tied embeddings again, and RoPE's frequencies.
    if (used_.contains(name) || name == "lm_head.weight" || name.ends_with("rotary_emb.inv_freq")) continue;
    return fail(errc::invalid_argument,
                where_ + ": tensor " + name +
                    " has no place in the model that config.json describes; both must be of the same model");
  }
  return {};
}

namespace {

// A counter-based generator: value i of a tensor needs no other value.
std::uint64_t mixed(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15ULL;
  value = (value ^ (value >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27U)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31U);
}

// Four bf16 values, uniform in about +-0.035: 8 random bits of mantissa and sign around a fixed scale.
std::uint64_t four_values(std::uint64_t seed, std::uint64_t index) {
  constexpr float scale = 0.02F * 1.7320508F / 32768.0F;
  const std::uint64_t random = mixed(seed + index);
  std::uint64_t packed = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const auto value = static_cast<float>(static_cast<std::int16_t>(random >> (16U * i))) * scale;
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    packed |= std::uint64_t{bits >> 16U} << (16U * i);
  }
  return packed;
}

std::uint64_t tensor_seed(std::uint64_t seed, const std::string& name) {
  std::uint64_t hash = mixed(seed);
  for (const char letter : name)
    hash = mixed(hash ^ static_cast<unsigned char>(letter));
  return hash;
}

void fill(std::uint64_t seed, std::uint64_t first_value, std::span<std::byte> bf16) {
  for (std::size_t at = 0; at < bf16.size(); at += sizeof(std::uint64_t)) {
    const std::uint64_t values = four_values(seed, first_value / 4 + at / sizeof(std::uint64_t));
    std::memcpy(bf16.data() + at, &values, std::min(sizeof(values), bf16.size() - at));
  }
}

class random_embedding final : public embedding_table {
 public:
  explicit random_embedding(std::uint64_t seed) : seed_(seed) {}

  void row(token_id token, std::span<float> out) const override {
    const std::uint64_t first = static_cast<std::uint64_t>(token) * out.size();
    for (std::size_t at = 0; at < out.size(); ++at) {
      const std::uint64_t values = four_values(seed_, (first + at) / 4);
      const auto bits = static_cast<std::uint32_t>(values >> (16U * ((first + at) % 4))) << 16U;
      std::memcpy(&out[at], &bits, sizeof(bits));
    }
  }

 private:
  std::uint64_t seed_;
};

}  // namespace

random_weights::random_weights(std::uint64_t seed, kernels::thread_pool& pool) : seed_(seed), pool_(pool) {}

result<loaded_tensor> random_weights::tensor(const std::string& name, std::span<const std::uint64_t> shape) {
  const std::uint64_t values =
      std::accumulate(shape.begin(), shape.end(), std::uint64_t{1}, std::multiplies<>());
  loaded_tensor made{kernels::dtype::bf16, {}, std::vector<std::byte>(values * 2)};
  if (name.ends_with("norm.weight")) {
    constexpr std::uint16_t one = 0x3f80;
    for (std::uint64_t i = 0; i < values; ++i)
      std::memcpy(made.generated.data() + 2 * i, &one, sizeof(one));
  } else {
    constexpr std::uint64_t values_per_task = 1U << 16U;
    const std::span<std::byte> all = made.generated;
    const std::uint64_t seed = tensor_seed(seed_, name);
    pool_.parallel_for((values + values_per_task - 1) / values_per_task, [&](std::size_t task, unsigned) {
      const std::uint64_t first = task * values_per_task;
      fill(seed, first, all.subspan(2 * first, 2 * std::min(values_per_task, values - first)));
    });
  }
  made.bytes = made.generated;
  return made;
}

result<std::unique_ptr<embedding_table>> random_weights::embedding(const std::string& name, std::uint32_t,
                                                                   std::uint32_t) {
  return std::make_unique<random_embedding>(tensor_seed(seed_, name));
}

}  // namespace weft::engine
