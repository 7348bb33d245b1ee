#include "table_reader.hpp"

#include <weft/launcher/byte_size.hpp>
#include <weft/launcher/nearest_name.hpp>

#include <algorithm>
#include <tuple>
#include <utility>

namespace weft::launcher {

std::string on_one_line(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string line;
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (code >= 0x20 && code != 0x7f) {
      line += c;
    } else {
      line += {'\\', 'x', digits[code >> 4], digits[code & 15]};
    }
  }
  return line;
}

void mistake_list::add(const toml::source_region& where, std::string_view text) {
  mistakes_.push_back({where.begin.line, where.begin.column, on_one_line(text)});
}

std::vector<mistake> mistake_list::take() {
  std::stable_sort(mistakes_.begin(), mistakes_.end(), [](const mistake& a, const mistake& b) {
    return std::tie(a.line, a.column) < std::tie(b.line, b.column);
  });
  return std::move(mistakes_);
}

table_reader::table_reader(const toml::table& table, std::string subject, mistake_list& mistakes)
    : table_(table), subject_(std::move(subject)), mistakes_(mistakes) {}

void table_reader::refuse_unknown_keys(std::span<const std::string_view> known) {
  for (const auto& [key, value] : table_) {
    if (std::find(known.begin(), known.end(), key.str()) != known.end()) continue;
    mistakes_.add(key.source(),
                  subject_ + "unknown key `" + std::string(key.str()) + "`" + suggestion(key.str(), known));
  }
}

std::optional<std::string> table_reader::text(std::string_view key) {
  const auto* node = table_.get(key);
  if (node == nullptr) return std::nullopt;
  const auto* value = node->as_string();
  if (value == nullptr) {
    mistake_at(*node, "`" + std::string(key) + "` must be text in quotes");
    return std::nullopt;
  }
  if (value->get().empty()) {
    mistake_at(*node, "`" + std::string(key) + "` is empty; give it a value or remove the line");
    return std::nullopt;
  }
  return value->get();
}

std::optional<std::uint64_t> table_reader::number(std::string_view key, std::uint64_t least,
                                                  std::uint64_t most) {
  const auto* node = table_.get(key);
  if (node == nullptr) return std::nullopt;
  const auto* value = node->as_integer();
  const bool fits = value != nullptr && value->get() >= 0 &&
                    static_cast<std::uint64_t>(value->get()) >= least &&
                    static_cast<std::uint64_t>(value->get()) <= most;
  if (!fits) {
    mistake_at(*node, "`" + std::string(key) + "` must be a whole number from " + std::to_string(least) +
                          " to " + std::to_string(most));
    return std::nullopt;
  }
  return static_cast<std::uint64_t>(value->get());
}

std::optional<std::uint64_t> table_reader::size(std::string_view key, std::uint64_t least_bytes) {
  const auto written = text(key);
  if (!written) return std::nullopt;
  auto bytes = parse_byte_size(*written);
  if (!bytes) {
    mistake_at(key, "`" + std::string(key) + "`: " + bytes.error().context);
    return std::nullopt;
  }
  if (*bytes < least_bytes) {
    mistake_at(key, "`" + std::string(key) + "` must be at least " + format_bytes(least_bytes));
    return std::nullopt;
  }
  return *bytes;
}

std::optional<std::string> table_reader::one_of(std::string_view key,
                                                std::span<const std::string_view> choices) {
  auto written = text(key);
  if (!written || std::find(choices.begin(), choices.end(), *written) != choices.end()) return written;
  mistake_at(key, "unknown " + std::string(key) + " \"" + *written + "\"" + suggestion(*written, choices));
  return std::nullopt;
}

const toml::array* table_reader::list(std::string_view key) {
  const auto* node = table_.get(key);
  if (node == nullptr) return nullptr;
  if (node->as_array() == nullptr) mistake_at(*node, "`" + std::string(key) + "` must be a list in [ ]");
  return node->as_array();
}

const toml::table* table_reader::table(std::string_view key) {
  const auto* node = table_.get(key);
  if (node == nullptr) return nullptr;
  if (node->as_table() == nullptr) {
    mistake_at(*node, "`" + std::string(key) + "` must be a section, [" + std::string(key) + "]");
  }
  return node->as_table();
}

void table_reader::mistake_at(std::string_view key, const std::string& text) {
  const auto* node = table_.get(key);
  mistake_at(node != nullptr ? *node : static_cast<const toml::node&>(table_), text);
}

void table_reader::mistake_at(const toml::node& node, const std::string& text) {
  mistakes_.add(node.source(), subject_ + text);
}

void table_reader::missing(std::string_view key, std::string_view remedy) {
  mistake_at(table_, "`" + std::string(key) + "` is missing; " + std::string(remedy));
}

}  // namespace weft::launcher
