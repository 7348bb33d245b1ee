#include <weft/actors/errors.hpp>

#include <caf/atom.hpp>
#include <caf/message.hpp>
#include <caf/sec.hpp>

#include <string>

namespace weft::actors {

caf::error to_caf(const error& e) {
  return caf::make_error(e.code, e.context);
}

namespace {

std::string context_of(const caf::error& e) {
  const caf::message& context = e.context();
  return context.match_elements<std::string>() ? context.get_as<std::string>(0) : std::string{};
}

errc code_of_system(caf::sec code) {
  switch (code) {
    case caf::sec::request_timeout:
      return errc::deadline_exceeded;
    case caf::sec::request_receiver_down:
    case caf::sec::cannot_connect_to_node:
    case caf::sec::no_route_to_receiving_node:
    case caf::sec::remote_linking_failed:
      return errc::unreachable;
    default:
      return errc::internal;
  }
}

}  // namespace

error from_caf(const caf::error& e, std::string_view doing) {
  if (e.category() == caf::atom("weft")) return {static_cast<errc>(e.code()), context_of(e)};
  std::string what{doing};
  if (e.category() == caf::atom("system")) {
    const auto code = static_cast<caf::sec>(e.code());
    return {code_of_system(code), what + ": " + to_string(code)};
  }
  if (e.category() == caf::atom("exit")) return {errc::unreachable, what + ": the actor is gone"};
  return {errc::internal, what + ": error " + std::to_string(e.code())};
}

}  // namespace weft::actors
