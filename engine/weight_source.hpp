// Where the tensors of a model come from: a model folder, or a seed.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/model_config.hpp>
#include <weft/engine/safetensors.hpp>
#include <weft/kernels/thread_pool.hpp>

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace weft::engine {

// A tensor while it is copied into the engine's own layout. Lives as long as its source, or as `generated`.
struct loaded_tensor {
  kernels::dtype dtype{};
  std::span<const std::byte> bytes;
  std::vector<std::byte> generated;
};

// Rows of the token embedding as f32. Reads them where they are: with tied embeddings the output projection
// holds the only copy that the engine makes.
class embedding_table {
 public:
  virtual ~embedding_table() = default;
  virtual void row(token_id token, std::span<float> out) const = 0;
};

class weight_source {
 public:
  virtual ~weight_source() = default;
  // `invalid_argument` if there is none of that name and shape.
  virtual result<loaded_tensor> tensor(const std::string& name, std::span<const std::uint64_t> shape) = 0;
  virtual result<std::unique_ptr<embedding_table>> embedding(const std::string& name, std::uint32_t tokens,
                                                             std::uint32_t width) = 0;
  // `invalid_argument` if there are weights that nobody asked for: they belong to another architecture.
  virtual result<void> check_all_used() const = 0;
};

class file_weights final : public weight_source {
 public:
  // `where` names the model in errors.
  file_weights(tensor_files files, std::string where);

  result<loaded_tensor> tensor(const std::string& name, std::span<const std::uint64_t> shape) override;
  result<std::unique_ptr<embedding_table>> embedding(const std::string& name, std::uint32_t tokens,
                                                     std::uint32_t width) override;
  result<void> check_all_used() const override;

 private:
  result<const tensor_view*> find(const std::string& name, std::span<const std::uint64_t> shape);

  std::shared_ptr<const tensor_files> files_;
  std::string where_;
  std::set<std::string> used_;
};

// Bf16 noise with a standard deviation of 0.02, norms of one; equal for equal seeds.
class random_weights final : public weight_source {
 public:
  random_weights(std::uint64_t seed, kernels::thread_pool& pool);

  result<loaded_tensor> tensor(const std::string& name, std::span<const std::uint64_t> shape) override;
  result<std::unique_ptr<embedding_table>> embedding(const std::string& name, std::uint32_t tokens,
                                                     std::uint32_t width) override;
  result<void> check_all_used() const override { return {}; }

 private:
  std::uint64_t seed_;
  kernels::thread_pool& pool_;
};

}  // namespace weft::engine
