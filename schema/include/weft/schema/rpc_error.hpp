// How an error crosses the wire: as a Cap'n Proto exception whose text is "not_found: no document ...", so
// that a client in any language reads it, and a weft client gets the same code and context back.
#pragma once

#include <weft/base/error.hpp>

#include <kj/exception.h>

namespace weft::schema {

// overloaded and unsupported become the exception types of that meaning, everything else FAILED.
kj::Exception to_exception(const error& e);

// The inverse; of exceptions that weft did not make, the code follows from the type (DISCONNECTED:
// unreachable) and the context is the exception's own text.
error from_exception(const kj::Exception& e);

}  // namespace weft::schema
