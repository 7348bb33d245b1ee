// Bytes in chunks through a `ByteSink`, held back where the receiver is slow.
#pragma once

#include <weft/schema/weft.capnp.h>

#include <kj/async.h>

#include <cstddef>
#include <span>

namespace weft::schema {

// Sends all of `bytes`, which must stay valid until the promise resolves. The receiver may not have taken the
// last chunks by then; the next call on `sink` that is no stream call waits for them.
kj::Promise<void> send_bytes(wire::ByteSink::Client sink, std::span<const std::byte> bytes);

}  // namespace weft::schema
