// Reads typed values out of a TOML document and notes every mistake with its place.
#pragma once

#include <weft/launcher/cluster_file.hpp>

#include <toml++/toml.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft::launcher {

// What a file says may be quoted in a message, line ends and terminal commands included: these become `\x0a`.
std::string on_one_line(std::string_view text);

class mistake_list {
 public:
  void add(const toml::source_region& where, std::string_view text);
  // In the order of the file.
  std::vector<mistake> take();

 private:
  std::vector<mistake> mistakes_;
};

// One table of the document. `subject` starts every message about it: "", "gateway: ", "node \"a\": ".
class table_reader {
 public:
  table_reader(const toml::table& table, std::string subject, mistake_list& mistakes);

  // Every key that is not in `known` is a mistake.
  void refuse_unknown_keys(std::span<const std::string_view> known);

  bool has(std::string_view key) const { return table_.contains(key); }
  std::optional<std::string> text(std::string_view key);  // not empty
  std::optional<std::uint64_t> number(std::string_view key, std::uint64_t least, std::uint64_t most);
  std::optional<std::uint64_t> size(std::string_view key, std::uint64_t least_bytes);  // "256 MiB"
  std::optional<std::string> one_of(std::string_view key, std::span<const std::string_view> choices);
  const toml::array* list(std::string_view key);
  const toml::table* table(std::string_view key);

  void mistake_at(std::string_view key, const std::string& text);  // at the value of `key`, or the table
  void mistake_at(const toml::node& node, const std::string& text);
  void missing(std::string_view key, std::string_view remedy);

 private:
  const toml::table& table_;
  std::string subject_;
  mistake_list& mistakes_;
};

}  // namespace weft::launcher
