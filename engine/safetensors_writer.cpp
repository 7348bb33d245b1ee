#include <weft/engine/safetensors.hpp>

#include <nlohmann/json.hpp>

#include "safetensors_header.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <system_error>

namespace weft::engine {

namespace {

constexpr std::size_t header_alignment = 8;

// Wide elements first, so that every tensor is aligned to its element behind an aligned header.
std::vector<const tensor_to_write*> in_file_order(std::span<const tensor_to_write> tensors) {
  std::vector<const tensor_to_write*> order;
  for (const auto& tensor : tensors)
    order.push_back(&tensor);
  std::ranges::stable_sort(order, [](const tensor_to_write* a, const tensor_to_write* b) {
    return element_bytes(a->type).value_or(0) > element_bytes(b->type).value_or(0);
  });
  return order;
}

result<std::string> header_of(const std::vector<const tensor_to_write*>& order) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::uint64_t offset = 0;
  for (const auto* tensor : order) {
    const auto element = element_bytes(tensor->type);
    if (!element) return fail(errc::invalid_argument, "safetensors has no type " + tensor->type);
    const auto bytes = tensor_bytes(tensor->shape, *element);
    if (!bytes || *bytes != tensor->bytes.size())
      return fail(errc::invalid_argument, "tensor " + tensor->name + " has " +
                                              std::to_string(tensor->bytes.size()) +
                                              " bytes, which its shape and type contradict");
    if (tensor->name == "__metadata__" || header.contains(tensor->name))
      return fail(errc::invalid_argument, "tensor name " + tensor->name + " cannot be used twice");
    header[tensor->name] = {
        {"dtype", tensor->type}, {"shape", tensor->shape}, {"data_offsets", {offset, offset + *bytes}}};
    offset += *bytes;
  }
  std::string text = header.dump();
  text.append((header_alignment - text.size() % header_alignment) % header_alignment, ' ');
  return text;
}

}  // namespace

result<void> write_safetensors(const std::filesystem::path& file, std::span<const tensor_to_write> tensors) {
  const auto order = in_file_order(tensors);
  const auto header = header_of(order);
  if (!header) return tl::unexpected(header.error());
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  if (!out) return fail(errc::io, "cannot write " + file.string() + "; check the folder and its permissions");
  std::array<char, 8> length{};
  for (std::size_t i = 0; i < length.size(); ++i)
    length[i] = static_cast<char>(header->size() >> (8 * i));
  out.write(length.data(), length.size());
  out.write(header->data(), static_cast<std::streamsize>(header->size()));
  for (const auto* tensor : order)
    out.write(reinterpret_cast<const char*>(tensor->bytes.data()),
              static_cast<std::streamsize>(tensor->bytes.size()));
  out.close();
  if (out) return {};
  std::error_code code;
  std::filesystem::remove(file, code);
  return fail(errc::io, "writing " + file.string() + " failed; is the disk full?");
}

}  // namespace weft::engine
