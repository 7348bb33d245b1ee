#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "reach_cluster.hpp"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

namespace weft::launcher {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Of a key or a fingerprint, as other engines print them too.
const CLI::Validator hexadecimal_id(
    [](const std::string& text) {
      return id128_from_hex(text) ? std::string{}
                                  : "'" + text + "' is no id; write 32 lower-case hexadecimal digits";
    },
    "ID");

struct import_options {
  std::vector<std::string> files;
  std::string key;
  std::string layout = "bytes";
  std::string fingerprint;
  std::uint32_t tokens = 0;
};

struct block_file {
  fs::path file;
  id128 key;
};

result<std::vector<block_file>> name_blocks(const import_options& options) {
  if (!options.key.empty() && options.files.size() != 1)
    return fail(errc::invalid_argument,
                "--key names one block, but there are several files; name each file by its key instead");
  std::vector<block_file> blocks;
  for (const auto& file : options.files) {
    const auto name = options.key.empty() ? fs::path(file).stem().string() : options.key;
    const auto key = id128_from_hex(name);
    if (!key)
      return fail(errc::invalid_argument,
                  file + ": its name is no key of 32 lower-case hexadecimal digits; rename it or give --key");
    blocks.push_back({file, *key});
  }
  return blocks;
}

result<std::vector<std::byte>> read_file(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::vector<char> text(std::istreambuf_iterator<char>(in), {});
  if (!in || in.bad())
    return fail(errc::io, file.string() + " cannot be read; check that it is a file and yours to read");
  const auto bytes = std::as_bytes(std::span(text));
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

result<void> import_block(client::connection& cluster, const block_file& b, const import_options& options,
                          const gateway_options& gateway, json& done) {
  const auto bytes = read_file(b.file);
  if (!bytes) return tl::unexpected{bytes.error()};
  const client::block_layout layout{.descriptor = options.layout,
                                    .fingerprint = id128_from_hex(options.fingerprint).value_or(id128{}),
                                    .tokens = options.tokens};
  if (auto put = cluster.put(b.key, layout, *bytes, deadline_of(gateway)); !put) return put;
  done.push_back({{"key", to_hex(b.key)}, {"bytes", bytes->size()}});
  return {};
}

int import_blocks(client::connection& cluster, const std::vector<block_file>& blocks,
                  const import_options& options, const gateway_options& gateway,
                  const command_context& context) {
  json done = json::array();
  int code = exit_done;
  for (const auto& b : blocks) {
    if (const auto imported = import_block(cluster, b, options, gateway, done); !imported) {
      code = report_call(cluster, imported.error());
      if (code == exit_no_cluster) break;
    } else if (!context.json) {
      std::cout << "imported " << to_hex(b.key) << "  " << done.back()["bytes"] << " bytes" << std::endl;
    }
  }
  if (context.json) print_json({{"blocks", done}});
  return code;
}

void add_import_command(CLI::App& app, command_context& context) {
  auto* command = add_command(
      app, "import", "put raw blocks of an engine that brings its own KV into the pool",
      "weft import 0123456789abcdef0123456789abcdef.kv --layout my-engine-v1 --tokens 64", context);
  auto options = std::make_shared<import_options>();
  command->add_option("FILE", options->files, "the bytes of a block; its name without ending is the key")
      ->required()
      ->check(CLI::ExistingFile);
  command->add_option("--key", options->key, "the key, for one file of any name")->check(hexadecimal_id);
  command->add_option("--layout", options->layout, "what the bytes mean, in the engine's own words")
      ->capture_default_str();
  command->add_option("--fingerprint", options->fingerprint, "of the model that the bytes belong to")
      ->check(hexadecimal_id);
  command->add_option("--tokens", options->tokens, "how many tokens the block holds")->capture_default_str();
  auto gateway = add_gateway_options(*command);
  on_run(command, context, [options, gateway, &context] {
    const auto blocks = name_blocks(*options);
    if (!blocks) return report_wrong_use(blocks.error().context);
    return with_cluster(*gateway, [&](client::connection& cluster) {
      return import_blocks(cluster, *blocks, *options, *gateway, context);
    });
  });
}

result<void> write_file(const fs::path& file, std::span<const std::byte> bytes) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out) return fail(errc::io, file.string() + " cannot be written; check the folder and the space left");
  return {};
}

int export_block(client::connection& cluster, const id128& key, const std::string& file,
                 const gateway_options& gateway, const command_context& context) {
  const auto block = cluster.get(key, deadline_of(gateway));
  if (!block) return report_call(cluster, block.error());
  if (file.empty()) {
    std::cout.write(reinterpret_cast<const char*>(block->bytes.data()),
                    static_cast<std::streamsize>(block->bytes.size()));
    std::cout.flush();
    return exit_done;
  }
  if (const auto written = write_file(file, block->bytes); !written) return report(written.error());
  if (context.json)
    print_json({{"key", to_hex(key)},
                {"layout", block->layout.descriptor},
                {"fingerprint", to_hex(block->layout.fingerprint)},
                {"tokens", block->layout.tokens},
                {"bytes", block->bytes.size()},
                {"file", file}});
  return exit_done;
}

void add_export_block_command(CLI::App& app, command_context& context) {
  auto* command = add_command(app, "export-block", "get the bytes of a raw block out of the pool",
                              "weft export-block 0123456789abcdef0123456789abcdef --out block.kv", context);
  auto key = std::make_shared<std::string>();
  auto file = std::make_shared<std::string>();
  command->add_option("KEY", *key, "the key it was put under")->required()->check(hexadecimal_id);
  command->add_option("--out", *file, "file for the bytes (standard output without it)");
  auto gateway = add_gateway_options(*command);
  on_run(command, context, [key, file, gateway, &context] {
    if (context.json && file->empty())
      return report_wrong_use("--json and the block cannot both go to standard output; give --out FILE");
    return with_cluster(*gateway, [&](client::connection& cluster) {
      return export_block(cluster, *id128_from_hex(*key), *file, *gateway, context);
    });
  });
}

}  // namespace

void add_block_commands(CLI::App& app, command_context& context) {
  add_import_command(app, context);
  add_export_block_command(app, context);
}

}  // namespace weft::launcher
