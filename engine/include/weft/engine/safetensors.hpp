// The weights of a model folder: model.safetensors, or the shards named by model.safetensors.index.json,
// memory-mapped.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>
#include <weft/kernels/dtype.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft::engine {

// A tensor inside a mapped file; lives as long as its `tensor_files`.
struct tensor_view {
  kernels::dtype dtype{};
  std::vector<std::uint64_t> shape;
  std::span<const std::byte> bytes;
};

// A tensor to be written. `type` is the safetensors name: "F32", "BF16", "F16", "U8", "I64".
struct tensor_to_write {
  std::string name;
  std::string type;
  std::vector<std::uint64_t> shape;
  std::span<const std::byte> bytes;
};

class mapped_file;

class tensor_files {
 public:
  // Every header is checked before a tensor is handed out: a cut-off file, offsets outside the file or
  // overlapping, sizes that contradict shape and dtype are `corrupt`, with file and tensor named.
  static result<tensor_files> open(const std::filesystem::path& model_folder);

  // A single file, checked in the same way.
  static result<tensor_files> open_file(const std::filesystem::path& file);

  // Null if there is none of that name.
  const tensor_view* find(std::string_view name) const;
  const std::map<std::string, tensor_view, std::less<>>& all() const { return tensors_; }

  // First 128 bits of SHA-256 over names, types, shapes and bytes in name order. Reads every byte.
  id128 digest() const;

 private:
  std::vector<std::shared_ptr<const mapped_file>> files_;
  std::map<std::string, tensor_view, std::less<>> tensors_;
};

result<void> write_safetensors(const std::filesystem::path& file, std::span<const tensor_to_write> tensors);

}  // namespace weft::engine
