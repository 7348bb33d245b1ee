#include <weft/block/digest.hpp>
#include <weft/engine/safetensors.hpp>

#include "json_file.hpp"
#include "mapped_file.hpp"
#include "safetensors_header.hpp"

#include <set>
#include <utility>

namespace weft::engine {

namespace {

constexpr std::uintmax_t index_limit_bytes = 100U << 20U;

std::optional<kernels::dtype> float_type(std::string_view type) {
  if (type == "F32") return kernels::dtype::f32;
  if (type == "F16") return kernels::dtype::f16;
  if (type == "BF16") return kernels::dtype::bf16;
  return std::nullopt;
}

std::string_view safetensors_name(kernels::dtype type) {
  return type == kernels::dtype::f32 ? "F32" : type == kernels::dtype::f16 ? "F16" : "BF16";
}

using tensor_map = std::map<std::string, tensor_view, std::less<>>;

result<tensor_map> tensors_of(mapped_file& file, const std::string& file_name) {
  auto entries = read_header(file.bytes(), file_name);
  if (!entries) return tl::unexpected(entries.error());
  tensor_map tensors;
  for (auto& entry : *entries) {
    const auto type = float_type(entry.type);
    if (!type) {
      // Stored masks and counters are no weights, but weights of another floating-point type cannot be left
      // out.
      if (entry.type.front() == 'F' || entry.type.front() == 'C')
        return fail(errc::unsupported, file_name + ": tensor " + entry.name + " has dtype " + entry.type +
                                           "; BF16, F16 and F32 are supported");
      continue;
    }
    const auto bytes = file.bytes().subspan(entry.begin_bytes, entry.end_bytes - entry.begin_bytes);
    tensors[entry.name] = {*type, std::move(entry.shape), file.aligned(bytes, kernels::size_bytes(*type))};
  }
  return tensors;
}

struct shard_index {
  std::set<std::string> files;
  std::map<std::string, std::string> file_of_tensor;
};

result<shard_index> read_index(const std::filesystem::path& index_file) {
  const auto index = read_json_object(index_file, index_limit_bytes);
  if (!index) return tl::unexpected(index.error());
  const auto map = index->find("weight_map");
  if (map == index->end() || !map->is_object() || map->empty())
    return fail(errc::corrupt, index_file.string() + " has no \"weight_map\"; download it again");
  shard_index found;
  for (const auto& [tensor, file] : map->items()) {
    const auto name = file.is_string() ? file.get<std::string>() : std::string{};
    if (name.empty() || std::filesystem::path(name).filename() != name || name == "..")
      return fail(errc::corrupt,
                  index_file.string() + ": tensor " + tensor + " is not in a file of the model folder");
    found.files.insert(name);
    found.file_of_tensor[tensor] = name;
  }
  return found;
}

result<shard_index> files_of(const std::filesystem::path& model_folder) {
  const auto single = model_folder / "model.safetensors";
  const auto index_file = model_folder / "model.safetensors.index.json";
  std::error_code code;
  if (std::filesystem::exists(single, code)) return shard_index{{single.filename().string()}, {}};
  if (std::filesystem::exists(index_file, code)) return read_index(index_file);
  return fail(errc::not_found, "no model.safetensors and no model.safetensors.index.json in " +
                                   model_folder.string() + "; a Hugging Face model folder holds one of them");
}

result<void> keeps_promise(const shard_index& index, const std::string& name, const tensor_map& tensors) {
  for (const auto& [tensor, file_name] : index.file_of_tensor)
    if (file_name == name && !tensors.contains(tensor))
      return fail(errc::corrupt, "the index promises tensor " + tensor + " in " + name +
                                     ", which does not hold it; download the model again");
  return {};
}

}  // namespace

result<tensor_files> tensor_files::open(const std::filesystem::path& model_folder) {
  const auto index = files_of(model_folder);
  if (!index) return tl::unexpected(index.error());
  tensor_files opened;
  for (const auto& name : index->files) {
    auto file = mapped_file::open(model_folder / name);
    if (!file) return tl::unexpected(file.error());
    auto tensors = tensors_of(**file, (model_folder / name).string());
    if (!tensors) return tl::unexpected(tensors.error());
    if (auto kept = keeps_promise(*index, name, *tensors); !kept) return tl::unexpected(kept.error());
    opened.files_.push_back(std::move(*file));
    opened.tensors_.merge(*tensors);
    if (!tensors->empty())
      return fail(errc::corrupt, (model_folder / name).string() + ": tensor " + tensors->begin()->first +
                                     " is in another file of the model too; download the model again");
  }
  return opened;
}

result<tensor_files> tensor_files::open_file(const std::filesystem::path& file) {
  auto mapped = mapped_file::open(file);
  if (!mapped) return tl::unexpected(mapped.error());
  auto tensors = tensors_of(**mapped, file.string());
  if (!tensors) return tl::unexpected(tensors.error());
  tensor_files opened;
  opened.files_.push_back(std::move(*mapped));
  opened.tensors_ = std::move(*tensors);
  return opened;
}

const tensor_view* tensor_files::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

id128 tensor_files::digest() const {
  block::digest hash("weft weights");
  for (const auto& [name, tensor] : tensors_) {
    hash.text(name).text(safetensors_name(tensor.dtype)).u64(tensor.shape.size());
    for (const std::uint64_t extent : tensor.shape)
      hash.u64(extent);
    hash.u64(tensor.bytes.size()).raw(tensor.bytes);
  }
  return hash.finish();
}

}  // namespace weft::engine
