// weft::error <-> caf::error: the same code and context on both sides of a mailbox.
#pragma once

#include <weft/actors/type_ids.hpp>
#include <weft/base/error.hpp>

#include <caf/error.hpp>

namespace weft::actors {

caf::error to_caf(const error& e);

// CAF's own codes become ours: a timeout `deadline_exceeded`, a receiver that is down `unreachable`. `doing`
// says what was asked of whom, for the context.
error from_caf(const caf::error& e, std::string_view doing);

}  // namespace weft::actors
