// Errors are values: a code that programs branch on and a context that tells a person which input was wrong
// and what to do about it.
#pragma once

#include <tl/expected.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace weft {

enum class errc : std::uint8_t {
  ok = 0,
  invalid_argument,   // the caller's input is wrong; trying again will not help
  not_found,          // no such block, document, file or node
  corrupt,            // bytes do not prove to be what they should be
  stale,              // generation, incarnation or epoch has moved on
  out_of_space,       // pool, quota or context is full
  overloaded,         // try again later
  deadline_exceeded,  // not done in time; the operation may still have happened
  unreachable,        // the peer is gone or cannot be connected to
  cancelled,
  unsupported,  // known, named, and not done by this build or model
  io,           // a system call failed
  internal,
};

// "not_found", "stale", ...
std::string_view name_of(errc code);

struct error {
  errc code = errc::internal;
  std::string context;  // one line: what was wrong with which input, and the remedy
};

// "not_found: no document 0123…; `weft documents` lists them"
std::string to_string(const error& e);

template <class T>
using result = tl::expected<T, error>;

// `return fail(errc::not_found, "no document " + id);`
tl::unexpected<error> fail(errc code, std::string context);

}  // namespace weft
