// Where the pieces of an answer go while it is made; may live in another process.
#pragma once

#include <weft/actors/messages.hpp>
#include <weft/actors/type_ids.hpp>

#include <caf/replies_to.hpp>
#include <caf/typed_actor.hpp>

namespace weft::actors {

using answer_listener = caf::typed_actor<caf::reacts_to<token_atom, answer_piece>>;

}  // namespace weft::actors
