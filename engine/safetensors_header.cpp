#include "safetensors_header.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace weft::engine {

namespace {

using nlohmann::json;

constexpr std::size_t prefix_bytes = 8;
constexpr std::uint64_t header_limit_bytes = 100'000'000;  // the limit of the reference implementation

tl::unexpected<error> broken(const std::string& file_name, const std::string& what) {
  return fail(errc::corrupt, file_name + ": " + what + "; copy or download it again");
}

std::uint64_t header_length(std::span<const std::byte> file) {
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < prefix_bytes; ++i)
    length |= std::to_integer<std::uint64_t>(file[i]) << (8 * i);
  return length;
}

std::optional<std::vector<std::uint64_t>> unsigned_list(const json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_array()) return std::nullopt;
  std::vector<std::uint64_t> values;
  for (const auto& item : *it) {
    if (!item.is_number_unsigned()) return std::nullopt;
    values.push_back(item.get<std::uint64_t>());
  }
  return values;
}

// What is wrong with an entry, by itself; empty if nothing is.
std::string fault_of(const json& object, header_entry& entry, std::uint64_t data_bytes) {
  if (!object.is_object()) return "is no object";
  const auto type = object.find("dtype");
  if (type == object.end() || !type->is_string()) return "has no dtype";
  entry.type = type->get<std::string>();
  const auto element = element_bytes(entry.type);
  if (!element) return "has the unknown dtype " + entry.type;
  auto shape = unsigned_list(object, "shape");
  const auto offsets = unsigned_list(object, "data_offsets");
  if (!shape) return "has no shape";
  if (!offsets || offsets->size() != 2) return "has no data_offsets";
  entry.shape = std::move(*shape);
  entry.begin_bytes = (*offsets)[0];
  entry.end_bytes = (*offsets)[1];
  if (entry.begin_bytes > entry.end_bytes) return "ends before it begins";
  if (entry.end_bytes > data_bytes)
    return "ends at byte " + std::to_string(entry.end_bytes) + " of " + std::to_string(data_bytes);
  const auto expected = tensor_bytes(entry.shape, *element);
  if (!expected || *expected != entry.end_bytes - entry.begin_bytes)
    return "has a size that contradicts its shape and dtype";
  return {};
}

// Overlapping tensors, holes and bytes behind the last tensor.
std::string layout_fault(const std::vector<header_entry>& entries, std::uint64_t data_bytes) {
  std::uint64_t reached = 0;
  for (const auto& entry : entries) {
    if (entry.begin_bytes < reached) return "tensor " + entry.name + " overlaps the one before it";
    if (entry.begin_bytes > reached) return "a hole lies before tensor " + entry.name;
    reached = entry.end_bytes;
  }
  if (reached != data_bytes) return std::to_string(data_bytes - reached) + " bytes belong to no tensor";
  return {};
}

}  // namespace

std::optional<std::size_t> element_bytes(std::string_view type) {
  constexpr std::array<std::pair<std::string_view, std::size_t>, 17> sizes{{
      {"BOOL", 1},
      {"U8", 1},
      {"I8", 1},
      {"F8_E5M2", 1},
      {"F8_E4M3", 1},
      {"F8_E8M0", 1},
      {"I16", 2},
      {"U16", 2},
      {"F16", 2},
      {"BF16", 2},
      {"I32", 4},
      {"U32", 4},
      {"F32", 4},
      {"F64", 8},
      {"I64", 8},
      {"U64", 8},
      {"C64", 8},
  }};
  for (const auto& [name, size] : sizes)
    if (name == type) return size;
  return std::nullopt;
}

std::optional<std::uint64_t> tensor_bytes(std::span<const std::uint64_t> shape, std::size_t element) {
  std::uint64_t bytes = element;
  for (const std::uint64_t extent : shape) {
    if (extent != 0 && bytes > std::numeric_limits<std::uint64_t>::max() / extent) return std::nullopt;
    bytes *= extent;
  }
  return bytes;
}

result<std::vector<header_entry>> read_header(std::span<const std::byte> file, const std::string& file_name) {
  if (file.size() < prefix_bytes) return broken(file_name, "no safetensors file: it is too short");
  const std::uint64_t length = header_length(file);
  if (length > header_limit_bytes || length > file.size() - prefix_bytes)
    return broken(file_name, "the header claims " + std::to_string(length) + " bytes, the file has " +
                                 std::to_string(file.size()));
  const auto* text = reinterpret_cast<const char*>(file.data() + prefix_bytes);
  const auto header = json::parse(text, text + length, nullptr, false);
  if (header.is_discarded() || !header.is_object()) return broken(file_name, "the header is no JSON object");

  const std::uint64_t data_bytes = file.size() - prefix_bytes - length;
  std::vector<header_entry> entries;
  for (const auto& [name, object] : header.items()) {
    if (name == "__metadata__") continue;
    header_entry entry;
    entry.name = name;
    if (const auto fault = fault_of(object, entry, data_bytes); !fault.empty())
      return broken(file_name, "tensor " + name + " " + fault);
    entries.push_back(std::move(entry));
  }
  std::ranges::sort(entries, [](const header_entry& a, const header_entry& b) {
    return std::pair{a.begin_bytes, a.end_bytes} < std::pair{b.begin_bytes, b.end_bytes};
  });
  if (const auto fault = layout_fault(entries, data_bytes); !fault.empty()) return broken(file_name, fault);
  for (auto& entry : entries) {
    entry.begin_bytes += prefix_bytes + length;
    entry.end_bytes += prefix_bytes + length;
  }
  return entries;
}

}  // namespace weft::engine
