#include <weft/actors/block_store.hpp>
#include <weft/actors/care.hpp>
#include <weft/actors/cluster.hpp>
#include <weft/actors/fabric.hpp>
#include <weft/actors/node_actor.hpp>
#include <weft/actors/node_assembly.hpp>
#include <weft/actors/pool.hpp>
#include <weft/actors/retrieval.hpp>
#include <weft/block/model_spec.hpp>
#include <weft/engine/stitch.hpp>

#include <caf/actor_cast.hpp>
#include <openssl/evp.h>
#include <spdlog/spdlog.h>

#include "../group/decode_group.hpp"
#include "../rescoring.hpp"
#include "../tenants.hpp"
#include "node_model.hpp"
#include <unistd.h>

#include <array>
#include <chrono>

namespace weft::actors {

namespace {

std::uint32_t bit(role r) {
  return 1U << static_cast<unsigned>(r);
}

// A name's node id is the same in every life, so that what placement chose for it stays with it.
id128 id_of(const std::string& name) {
  const std::string text = "weft.node.1:" + name;
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
  id128 id;
  for (std::size_t i = 0; i < 8; ++i) {
    id.high = id.high << 8 | digest[i];
    id.low = id.low << 8 | digest[i + 8];
  }
  return id;
}

result<engine::model_outline> outline_for(const node_config& config, const engine::runner* model) {
  if (model != nullptr) return engine::outline_of(*model);
  const auto options = runner_options_of(config);
  if (!options) return tl::make_unexpected(options.error());
  return engine::outline_of(config.model_folder, options->cache_dtype);
}

result<std::shared_ptr<const model_context>> describe_model(const node_config& config,
                                                            const engine::runner* model) {
  auto outline = outline_for(config, model);
  if (!outline) return tl::make_unexpected(outline.error());
  auto tokens = engine::tokenizer::load(config.model_folder);
  if (!tokens) return tl::make_unexpected(tokens.error());
  auto format = engine::prompt_format::for_model(outline->config, *tokens);
  if (!format) return tl::make_unexpected(format.error());
  return std::make_shared<const model_context>(
      model_context{.config = std::move(outline->config),
                    .tokens = std::move(*tokens),
                    .format = std::move(*format),
                    .shape = outline->shape,
                    .scope = {.tenant_salt = config.tenant, .fingerprint = block::fingerprint(outline->spec)},
                    .cut = {.block_tokens = config.block_tokens, .shard = {}},
                    .frequencies = std::move(outline->frequencies)});
}

machines::member describe_self(const node_config& config, const node_environment& environment) {
  return {.ref = {id_of(config.name), environment.incarnation},
          .name = config.name,
          .roles = bits(config.roles),
          .host = config.host,
          .control_port = 0,
          .fabric_address = environment.transport->address(),
          .capacity_bytes = has(config, role::storage) ? config.dram_bytes : 0,
          .pid = static_cast<std::uint32_t>(getpid())};
}

void appoint_candidates(node_parts& parts, const node_config& config) {
  for (const auto& c : config.candidates) {
    if (parts.candidates.size() == machines::max_candidates) break;
    if (c.name == config.name) parts.rank = static_cast<unsigned>(parts.candidates.size());
    parts.candidates.push_back(id_of(c.name));
  }
  if (!parts.candidates.empty()) return;
  parts.rank = 0;
  parts.candidates.push_back(id_of(config.name));
}

// What a block's way goes through on this node; the actors around it come later.
struct block_path {
  std::shared_ptr<peer_links> links;
  std::shared_ptr<node_fetches> fetches;
  std::shared_ptr<directory_shard> shard;
  std::shared_ptr<node_calls> calls;
  std::shared_ptr<block_store> store;  // null where nothing is stored
  std::shared_ptr<block_pool> pool;
};

// Of nodes that answer questions with the whole model on a device; null where blocks cannot land there.
std::shared_ptr<const device_landing> open_landing(const node_config& config,
                                                   const node_environment& environment, const staging& room) {
  if (!environment.device || !environment.model || !has(config, role::decode) || !config.group.empty() ||
      !engine::rows_come_alone(*environment.model))
    return nullptr;
  auto& transport = *environment.transport;
  auto made = make_device_landing(environment.device, transport.arena().first(room.capacity_bytes()),
                                  transport, environment.likeness);
  const auto& device = environment.device->memory->name();
  if (!made) {
    spdlog::info("{}: no block is fetched straight to {}: {}", config.name, device, made.error().context);
    return nullptr;
  }
  spdlog::info("{}: blocks that are fetched one-sidedly land on {}, in {} bytes beside staging", config.name,
               device, room.capacity_bytes());
  return std::move(*made);
}

block_path make_block_path(const node_config& config, const node_environment& environment, const id128& self,
                           const std::shared_ptr<staging>& room) {
  auto& transport = *environment.transport;
  block_path path;
  const auto lost = std::make_shared<std::weak_ptr<call_table>>();
  path.links = peer_links::make(transport, [lost](fabric::peer_id peer) {
    if (const auto table = lost->lock()) table->peer_lost(peer);
  });
  const auto table = call_table::make(transport, path.links, environment.clock);
  *lost = table;
  path.fetches = std::make_shared<node_fetches>(self, transport, path.links);
  path.shard = std::make_shared<directory_shard>(config.liveness_timeout, environment.clock);
  path.calls = std::make_shared<node_calls>(self, table, path.shard);
  if (has(config, role::storage)) {
    path.store = std::make_shared<block_store>(config, store_parts{.calls = path.calls,
                                                                   .fetches = path.fetches,
                                                                   .arena = transport.arena(),
                                                                   .clock = environment.clock,
                                                                   .file = environment.file});
  }
  path.pool = std::make_shared<block_pool>(pool_parts{.calls = path.calls,
                                                      .fetches = path.fetches,
                                                      .transport = &transport,
                                                      .room = room,
                                                      .landing = open_landing(config, environment, *room),
                                                      .clock = environment.clock,
                                                      .lease_duration = config.lease_duration,
                                                      .seed = environment.incarnation,
                                                      .tenant = tenant_number(config.tenant),
                                                      .replicas = own_replicas(config)});
  return path;
}

}  // namespace

std::uint32_t bits(const std::vector<role>& roles) {
  std::uint32_t all = 0;
  for (const auto r : roles)
    all |= bit(r);
  return all;
}

std::uint32_t own_replicas(const node_config& config) {
  const auto own = config.tenant_replicas.find(config.tenant);
  return own == config.tenant_replicas.end() ? config.replicas : own->second;
}

bool has(const node_config& config, role r) {
  return (bits(config.roles) & bit(r)) != 0;
}

bool runs_whole_model(const node_config& config) {
  return has(config, role::prefill) || (has(config, role::decode) && config.group.empty());
}

bool needs_model(const node_config& config) {
  return has(config, role::prefill) || has(config, role::decode) || has(config, role::gateway);
}

result<node_actors> assemble_node(caf::actor_system& system, const node_config& config,
                                  const node_environment& environment) {
  std::shared_ptr<const model_context> context;
  if (needs_model(config)) {
    auto described = describe_model(config, environment.model.get());
    if (!described) return tl::make_unexpected(described.error());
    context = std::move(*described);
  }

  node_actors made;
  const auto keep = [&](const auto& actor) {
    if (actor) made.all.push_back(caf::actor_cast<caf::strong_actor_ptr>(actor));
  };

  auto room = std::make_shared<staging>(environment.transport->arena(), config.staging_bytes);
  node_parts parts;
  parts.self = describe_self(config, environment);
  parts.device = environment.device;
  parts.network = environment.network;
  parts.clock = environment.clock;
  parts.candidate_address = environment.candidate_address;
  appoint_candidates(parts, config);
  auto path = make_block_path(config, environment, parts.self.ref.node, room);
  parts.fabric = spawn_fabric(system, path.links, path.fetches);
  parts.pool = spawn_pool(system, path.pool);
  parts.roles.directory = spawn_directory(system, path.shard);
  if (parts.rank) {
    parts.membership = spawn_membership(system, config, environment.clock);
    parts.roles.membership = parts.membership;
  }
  if (has(config, role::storage)) {
    const auto storage = spawn_storage(system, path.store);
    parts.roles.storage = storage;
    parts.roles.care =
        spawn_care(system, config, {.storage = storage, .pool = parts.pool, .clock = environment.clock});
  }
  path.calls->serve(path.store);
  work_parts work{.context = context,
                  .pool = parts.pool,
                  .engine = {},
                  .room = room,
                  .clock = environment.clock,
                  .fabric = parts.fabric,
                  .calls = path.calls};
  if (runs_whole_model(config)) {
    work.engine = spawn_engine(system, environment.model, context, environment.thread,
                               {.limit_bytes = config.cache_bytes,
                                .idle_base_bytes = config.base_bytes,
                                .idle_opening_bytes = config.opening_bytes});
  }
  if (has(config, role::prefill)) {
    const auto prefill = spawn_prefill(system, config, work);
    parts.roles.prefill = prefill;
    if (!config.background_importance.empty())
      parts.rescoring = spawn_rescoring(system, config, work, prefill);
  }
  if (has(config, role::decode) && config.group.empty()) {
    parts.decode = spawn_decode(system, config, work);
    parts.roles.decode = parts.decode;
  } else if (has(config, role::decode)) {
    const auto place = spawn_decode_group(system, config, work, environment.device);
    parts.decode = place;
    parts.roles.decode = place;
    parts.roles.group = place;
  }
  if (has(config, role::retrieval)) {
    const auto ranks =
        spawn_retrieval(system, {.pool = parts.pool, .room = room, .read_timeout = config.read_deadline});
    parts.roles.retrieval = ranks;
    path.calls->serve_ranking(ranking_of(ranks));
  }
  if (context) parts.gateway = spawn_gateway(system, config, work);

  made.gateway = parts.gateway;
  made.pool = parts.pool;
  made.blocks = path.pool;
  made.storage = parts.roles.storage;
  made.room = room;
  made.node = spawn_node(system, config, parts);
  keep(made.node);
  keep(made.gateway);
  keep(parts.roles.decode);
  keep(parts.roles.retrieval);
  keep(parts.rescoring);
  keep(parts.roles.prefill);
  keep(work.engine);
  keep(parts.roles.care);
  keep(parts.roles.storage);
  keep(parts.roles.membership);
  keep(parts.roles.directory);
  keep(parts.pool);
  keep(parts.fabric);
  return made;
}

}  // namespace weft::actors
