// The header of a safetensors file: u64 length (little endian), JSON, then the tensors' bytes without holes.
#pragma once

#include <weft/base/error.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft::engine {

struct header_entry {
  std::string name;
  std::string type;  // "F32", "BF16", ...
  std::vector<std::uint64_t> shape;
  std::uint64_t begin_bytes = 0;  // from the start of the file
  std::uint64_t end_bytes = 0;
};

// Bytes of one element; none for a type that the format does not have.
std::optional<std::size_t> element_bytes(std::string_view type);

// Bytes of a tensor of this shape; none when they do not fit into 64 bits.
std::optional<std::uint64_t> tensor_bytes(std::span<const std::uint64_t> shape, std::size_t element);

// Entries by ascending offset. `corrupt`, with file and tensor named, unless the tensors cover the file from
// the header to its end exactly once and every size follows from type and shape.
result<std::vector<header_entry>> read_header(std::span<const std::byte> file, const std::string& file_name);

}  // namespace weft::engine
