#include <weft/schema/rpc_error.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace weft::schema {
namespace {

using kj_type = kj::Exception::Type;

kj_type type_of(errc code) {
  switch (code) {
    case errc::overloaded:
      return kj_type::OVERLOADED;
    case errc::unsupported:
      return kj_type::UNIMPLEMENTED;
    default:
      // Not DISCONNECTED for `unreachable`: that would tell the caller that this very connection is gone.
      return kj_type::FAILED;
  }
}

errc code_of(kj_type type) {
  switch (type) {
    case kj_type::OVERLOADED:
      return errc::overloaded;
    case kj_type::DISCONNECTED:
      return errc::unreachable;
    case kj_type::UNIMPLEMENTED:
      return errc::unsupported;
    default:
      return errc::internal;
  }
}

// Every vat that passes an exception on puts this in front.
std::string_view without_remote_prefix(std::string_view text) {
  constexpr std::string_view prefix = "remote exception: ";
  while (text.starts_with(prefix))
    text.remove_prefix(prefix.size());
  return text;
}

std::optional<error> parse(std::string_view text) {
  const auto colon = text.find(": ");
  if (colon == std::string_view::npos) return std::nullopt;
  for (auto i = static_cast<unsigned>(errc::invalid_argument); i <= static_cast<unsigned>(errc::internal);
       ++i) {
    const auto code = static_cast<errc>(i);
    if (text.substr(0, colon) == name_of(code)) return error{code, std::string(text.substr(colon + 2))};
  }
  return std::nullopt;
}

}  // namespace

kj::Exception to_exception(const error& e) {
  const std::string text = to_string(e);
  return {type_of(e.code), "", 0, kj::heapString(text.data(), text.size())};
}

error from_exception(const kj::Exception& e) {
  const auto description = e.getDescription();
  const auto text = without_remote_prefix({description.begin(), description.size()});
  if (auto own = parse(text)) return *own;
  return {code_of(e.getType()), std::string(text)};
}

}  // namespace weft::schema
