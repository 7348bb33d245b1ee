// The actors that work with the model: engine, prefill, decode, and the gateway in front of them.
#pragma once

#include <weft/actors/control.hpp>
#include <weft/actors/interfaces.hpp>
#include <weft/actors/model_context.hpp>
#include <weft/actors/node_calls.hpp>
#include <weft/actors/node_config.hpp>
#include <weft/engine/runner.hpp>

#include <caf/actor_system.hpp>

#include <memory>

namespace weft::actors {

// Where the engine computes: a thread of its own, or the scheduler's (simulations).
enum class engine_thread : bool { shared = false, own = true };

// Bytes of KV cache.
struct engine_memory {
  std::uint64_t limit_bytes = 0;      // of all sessions together; 0: as much as they ask for
  std::uint64_t idle_base_bytes = 0;  // of documents' rows that no session uses any more and the next one may
  std::uint64_t idle_opening_bytes = 0;  // the same of openings
};

// With a `lead`, of whose rank `model` then is the shard, the other ranks do what this one does. It ends when
// the group does.
class rank_lead;
engine_actor spawn_engine(caf::actor_system& system, std::shared_ptr<engine::runner> model,
                          std::shared_ptr<const model_context> context, engine_thread thread,
                          const engine_memory& memory, std::shared_ptr<rank_lead> lead = nullptr);

// What the actors of one node that has a model share.
struct work_parts {
  std::shared_ptr<const model_context> context;
  pool_actor pool;
  engine_actor engine;  // the gateway needs none
  std::shared_ptr<staging> room;
  clock_source clock;
  fabric_actor fabric;
  std::shared_ptr<node_calls> calls;
  bool grouped = false;  // the engine is one of a group: sessions share no rows, and decode densely
};

local_prefill_actor spawn_prefill(caf::actor_system& system, const node_config& config, work_parts parts);
local_decode_actor spawn_decode(caf::actor_system& system, const node_config& config, work_parts parts);
gateway_actor spawn_gateway(caf::actor_system& system, const node_config& config, work_parts parts);

}  // namespace weft::actors
