#include <weft/actors/cluster.hpp>
#include <weft/actors/errors.hpp>
#include <weft/actors/fabric.hpp>
#include <weft/actors/node.hpp>
#include <weft/actors/node_actor.hpp>
#include <weft/actors/pool.hpp>
#include <weft/block/model_spec.hpp>
#include <weft/fabric/ucx_transport.hpp>

#include <caf/actor_cast.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <openssl/evp.h>
#include <spdlog/spdlog.h>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>

namespace weft::actors {

namespace {

constexpr const char* seed_file = "seed";
constexpr auto farewell_timeout = std::chrono::milliseconds{500};

std::uint32_t bit(role r) {
  return 1U << static_cast<unsigned>(r);
}

std::uint32_t bits(const std::vector<role>& roles) {
  std::uint32_t all = 0;
  for (const auto r : roles)
    all |= bit(r);
  return all;
}

bool has(const node_config& config, role r) {
  return (bits(config.roles) & bit(r)) != 0;
}

bool needs_model(const node_config& config) {
  return has(config, role::prefill) || has(config, role::decode) || has(config, role::gateway);
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

std::uint64_t incarnation_from_wall_clock() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

result<std::shared_ptr<engine::runner>> load_model(const node_config& config) {
  engine::runner_options options;
  options.threads = config.threads;
  if (config.cache_dtype != "auto") {
    options.cache_dtype = kernels::dtype_from_name(config.cache_dtype);
    if (!options.cache_dtype)
      return fail(errc::invalid_argument,
                  "unknown cache_dtype `" + config.cache_dtype + "`; auto, f32, bf16 or f16");
  }
  auto loaded = engine::runner::load(config.model_folder, options);
  if (!loaded) return tl::make_unexpected(loaded.error());
  return std::make_shared<engine::runner>(std::move(*loaded));
}

result<std::shared_ptr<const model_context>> describe_model(const node_config& config,
                                                            const engine::runner& model) {
  auto tokens = engine::tokenizer::load(config.model_folder);
  if (!tokens) return tl::make_unexpected(tokens.error());
  auto format = engine::prompt_format::for_model(model.config(), *tokens);
  if (!format) return tl::make_unexpected(format.error());
  return std::make_shared<const model_context>(
      model_context{.config = model.config(),
                    .tokens = std::move(*tokens),
                    .format = std::move(*format),
                    .shape = model.cache_shape(),
                    .scope = {.tenant_salt = config.tenant, .fingerprint = block::fingerprint(model.spec())},
                    .cut = {.block_tokens = config.block_tokens, .shard = {}}});
}

result<std::shared_ptr<fabric::transport>> open_fabric(const node_config& config) {
  const std::uint64_t arena_bytes =
      config.staging_bytes + (has(config, role::storage) ? config.dram_bytes : 0);
  fabric::ucx_options options;
  options.host = config.host;
  options.port = config.fabric_port;
  options.arena_bytes = arena_bytes;
  auto made = fabric::make_ucx_transport(options);
  if (!made) return tl::make_unexpected(made.error());
  return std::shared_ptr<fabric::transport>(std::move(*made));
}

// Written whole or not at all: others read it while it is replaced.
result<void> write_seed_file(const node_config& config, std::uint16_t port) {
  if (config.run_folder.empty()) return {};
  const auto path = config.run_folder / seed_file;
  const auto fresh = config.run_folder / (std::string{seed_file} + ".new");
  std::ofstream out{fresh};
  out << config.host << ' ' << port << '\n';
  out.close();
  if (out && std::rename(fresh.c_str(), path.c_str()) == 0) return {};
  return fail(errc::io, "cannot write " + path.string() + "; is the run folder writable?");
}

std::optional<std::pair<std::string, std::uint16_t>> read_seed_address(const node_config& config) {
  if (config.seed_port != 0) return std::pair{config.seed_host, config.seed_port};
  std::ifstream in{config.run_folder / seed_file};
  std::string host;
  std::uint16_t port = 0;
  if (in >> host >> port) return std::pair{host, port};
  return std::nullopt;
}

result<void> complete(const node_config& config, caf::actor_system& system, node_environment& environment) {
  if (!environment.clock)
    environment.clock = [] {
      return std::chrono::time_point_cast<duration>(std::chrono::steady_clock::now());
    };
  if (!environment.seed_address) environment.seed_address = [config] { return read_seed_address(config); };
  if (!environment.network) environment.network = make_middleman_remoting(system, config.tls);
  if (environment.incarnation == 0) environment.incarnation = incarnation_from_wall_clock();
  if (!environment.model && needs_model(config)) {
    auto model = load_model(config);
    if (!model) return tl::make_unexpected(model.error());
    environment.model = std::move(*model);
  }
  if (!environment.transport) {
    auto transport = open_fabric(config);
    if (!transport) return tl::make_unexpected(transport.error());
    environment.transport = std::move(*transport);
  }
  return {};
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

}  // namespace

result<std::unique_ptr<node>> node::start(caf::actor_system& system, const node_config& config,
                                          node_environment environment) {
  if (const auto done = complete(config, system, environment); !done)
    return tl::make_unexpected(done.error());
  std::shared_ptr<const model_context> context;
  if (needs_model(config)) {
    auto described = describe_model(config, *environment.model);
    if (!described) return tl::make_unexpected(described.error());
    context = std::move(*described);
  }

  std::unique_ptr<node> made{new node};
  made->system_ = &system;
  made->transport_ = environment.transport;
  made->network_ = environment.network;
  const auto keep = [&](const auto& actor) {
    made->actors_.push_back(caf::actor_cast<caf::strong_actor_ptr>(actor));
  };

  auto room = std::make_shared<staging>(environment.transport->arena(), config.staging_bytes);
  node_parts parts;
  parts.self = describe_self(config, environment);
  parts.network = environment.network;
  parts.clock = environment.clock;
  parts.seed_address = environment.seed_address;
  parts.fabric = spawn_fabric(system, environment.transport);
  parts.pool = spawn_pool(
      system,
      {.fabric = parts.fabric, .room = room, .clock = environment.clock, .seed = environment.incarnation});
  parts.roles.directory = spawn_directory(system, config, environment.clock);
  if (config.is_seed) parts.roles.membership = spawn_membership(system, config, environment.clock);
  if (has(config, role::storage)) {
    parts.roles.storage =
        spawn_storage(system, config, parts.fabric, environment.transport->arena(), environment.clock);
  }
  work_parts work{
      .context = context, .pool = parts.pool, .engine = {}, .room = room, .clock = environment.clock};
  if (has(config, role::prefill) || has(config, role::decode)) {
    work.engine = spawn_engine(system, environment.model, context, environment.thread);
  }
  if (has(config, role::prefill)) parts.roles.prefill = spawn_prefill(system, config, work);
  if (has(config, role::decode)) parts.roles.decode = spawn_decode(system, config, work);
  if (context) parts.gateway = spawn_gateway(system, config, work);

  made->gateway_ = parts.gateway;
  made->handle_ = spawn_node(system, config, parts);
  keep(made->handle_);
  if (parts.gateway) keep(parts.gateway);
  if (parts.roles.decode) keep(parts.roles.decode);
  if (parts.roles.prefill) keep(parts.roles.prefill);
  if (work.engine) keep(work.engine);
  if (parts.roles.storage) keep(parts.roles.storage);
  if (parts.roles.membership) keep(parts.roles.membership);
  keep(parts.roles.directory);
  keep(parts.pool);
  keep(parts.fabric);

  auto port = environment.network->publish(made->handle_, config.host, config.control_port);
  if (!port) return tl::make_unexpected(port.error());
  made->control_port_ = *port;
  if (config.is_seed) {
    if (const auto written = write_seed_file(config, *port); !written)
      return tl::make_unexpected(written.error());
  }
  caf::anon_send(made->handle_, join_atom_v, *port);
  return made;
}

node::~node() {
  if (handle_) {
    caf::scoped_actor self{*system_};
    self->request(handle_, farewell_timeout, leave_atom_v)
        .receive([](caf::unit_t) {}, [](const caf::error&) {});
  }
  for (const auto& actor : actors_)
    caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
  caf::scoped_actor self{*system_};
  for (const auto& actor : actors_)
    self->wait_for(caf::actor_cast<caf::actor>(actor));
}

result<void> node::wait_until_ready(std::chrono::milliseconds timeout, std::vector<role> wanted) {
  caf::scoped_actor self{*system_};
  result<void> outcome;
  self->request(handle_, timeout, ready_atom_v, bits(wanted))
      .receive([](caf::unit_t) {},
               [&](const caf::error&) {
                 outcome = fail(errc::deadline_exceeded,
                                "no cluster with prefill, storage and decode nodes came together within " +
                                    std::to_string(timeout.count()) + " ms; are the other nodes running?");
               });
  return outcome;
}

}  // namespace weft::actors
