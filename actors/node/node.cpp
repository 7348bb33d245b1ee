#include <weft/actors/errors.hpp>
#include <weft/actors/node.hpp>
#include <weft/device/cuda_device.hpp>
#include <weft/fabric/ucx_transport.hpp>
#include <weft/tier/open.hpp>

#include <caf/actor_cast.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <spdlog/spdlog.h>

#include "node_model.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <random>

namespace weft::actors {

namespace {

constexpr auto farewell_timeout = std::chrono::milliseconds{500};

std::uint64_t incarnation_from_wall_clock() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

// Of nodes that run the model, or a part of it.
result<void> open_device(const node_config& config, node_environment& environment) {
  auto device = engine::open_compute_device(config.device);
  if (!device)
    return fail(device.error().code,
                "device = \"" + config.device + "\" of node " + config.name + ": " + device.error().context);
  environment.device = std::move(*device);
  if (environment.device)
    spdlog::info("{}: the model runs on {}", config.name, environment.device->memory->name());
  return {};
}

result<void> load_model(const node_config& config, node_environment& environment) {
  auto options = runner_options_of(config);
  if (!options) return tl::make_unexpected(options.error());
  options->device = environment.device;
  auto loaded = engine::runner::load(config.model_folder, *options);
  if (!loaded) return tl::make_unexpected(loaded.error());
  environment.model = std::make_shared<engine::runner>(std::move(*loaded));
  return {};
}

// The arena as a device copies from it at full speed; as it is where the system refuses that.
std::shared_ptr<fabric::transport> pinned(const node_config& config,
                                          std::shared_ptr<fabric::transport> made) {
  auto arena = device::pin(made->arena());
  if (!arena) {
    spdlog::warn("{}: blocks go to the device through memory that is not pinned: {}", config.name,
                 arena.error().context);
    return made;
  }
  auto* const transport = made.get();
  return {transport, [made = std::move(made), arena = std::move(*arena)](const void*) mutable {
            arena.reset();
            made.reset();
          }};
}

result<std::shared_ptr<fabric::transport>> open_fabric(const node_config& config, bool for_device) {
  const std::uint64_t arena_bytes =
      config.staging_bytes + (has(config, role::storage) ? config.dram_bytes : 0);
  fabric::ucx_options options;
  options.host = config.host;
  options.port = config.fabric_port;
  options.arena_bytes = arena_bytes;
  auto made = fabric::make_ucx_transport(options);
  if (!made) return tl::make_unexpected(made.error());
  std::shared_ptr<fabric::transport> transport = std::move(*made);
  if (!for_device) return transport;
  return pinned(config, std::move(transport));
}

std::filesystem::path address_file(const node_config& config, const std::string& name) {
  return config.run_folder / (node_address_prefix + name);
}

// Written whole or not at all: others read it while it is replaced.
result<void> write_address_file(const node_config& config, std::uint16_t port) {
  if (config.run_folder.empty()) return {};
  const auto path = address_file(config, config.name);
  const auto fresh = std::filesystem::path{path}.concat(".new");
  std::ofstream out{fresh};
  out << config.host << ':' << port << '\n';
  out.close();
  if (out && std::rename(fresh.c_str(), path.c_str()) == 0) return {};
  return fail(errc::io, "cannot write " + path.string() + "; is the run folder writable?");
}

std::optional<std::pair<std::string, std::uint16_t>> read_address(const node_config& config, unsigned rank) {
  if (rank >= config.candidates.size()) return std::nullopt;
  const auto& wanted = config.candidates[rank];
  if (wanted.control_port != 0) return std::pair{wanted.host, wanted.control_port};
  std::ifstream in{address_file(config, wanted.name)};
  std::string address;
  std::getline(in, address);
  const auto colon = address.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  std::uint16_t port = 0;
  std::from_chars(address.data() + colon + 1, address.data() + address.size(), port);
  if (port != 0) return std::pair{address.substr(0, colon), port};
  return std::nullopt;
}

id128 random_id() {
  std::random_device random;
  const auto word = [&] { return std::uint64_t{random()} << 32 | random(); };
  return {word(), word() | 1};
}

result<std::shared_ptr<tier::opened_tier>> open_file_tier(const node_config& config) {
  auto opened = tier::open_tier(config.file_folder,
                                {.capacity_bytes = config.file_bytes,
                                 .queue_bytes = config.dram_bytes / 4,
                                 .eviction = config.eviction},
                                random_id);
  if (!opened) return tl::make_unexpected(opened.error());
  const auto stats = opened->books.stats();
  spdlog::info("{}: file tier {} ({}): {} blocks found, {} damaged headers", config.name,
               config.file_folder.string(), opened->on->description(), stats.recovered, stats.corrupt);
  return std::make_shared<tier::opened_tier>(std::move(*opened));
}

result<void> complete(const node_config& config, caf::actor_system& system, node_environment& environment) {
  if (!environment.clock)
    environment.clock = [] {
      return std::chrono::time_point_cast<duration>(std::chrono::steady_clock::now());
    };
  if (!environment.candidate_address)
    environment.candidate_address = [config](unsigned rank) { return read_address(config, rank); };
  if (!environment.network) environment.network = make_middleman_remoting(system, config.tls);
  if (environment.incarnation == 0) environment.incarnation = incarnation_from_wall_clock();
  if (!environment.model && !environment.device && (runs_whole_model(config) || !config.group.empty()))
    if (auto opened = open_device(config, environment); !opened) return opened;
  if (!environment.model && runs_whole_model(config)) {
    if (auto loaded = load_model(config, environment); !loaded) return loaded;
  }
  if (!environment.transport) {
    auto transport = open_fabric(config, environment.device != nullptr);
    if (!transport) return tl::make_unexpected(transport.error());
    environment.transport = std::move(*transport);
  }
  if (!environment.file && !config.file_folder.empty() && has(config, role::storage)) {
    auto file = open_file_tier(config);
    if (!file) return tl::make_unexpected(file.error());
    environment.file = std::move(*file);
  }
  return {};
}

}  // namespace

result<std::unique_ptr<node>> node::start(caf::actor_system& system, const node_config& config,
                                          node_environment environment) {
  if (const auto done = complete(config, system, environment); !done)
    return tl::make_unexpected(done.error());
  auto actors = assemble_node(system, config, environment);
  if (!actors) return tl::make_unexpected(actors.error());

  std::unique_ptr<node> made{new node};
  made->system_ = &system;
  made->transport_ = environment.transport;
  made->file_ = environment.file;
  made->network_ = environment.network;
  made->actors_ = std::move(*actors);
  auto port = environment.network->publish(made->actors_.node, config.host, config.control_port);
  if (!port) return tl::make_unexpected(port.error());
  made->control_port_ = *port;
  if (const auto written = write_address_file(config, *port); !written)
    return tl::make_unexpected(written.error());
  caf::anon_send(made->actors_.node, join_atom_v, *port);
  return made;
}

node::~node() {
  caf::scoped_actor self{*system_};
  self->request(actors_.node, farewell_timeout, leave_atom_v)
      .receive([](std::uint64_t) {}, [](const caf::error&) {});
  for (const auto& actor : actors_.all)
    caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
  for (const auto& actor : actors_.all)
    self->wait_for(caf::actor_cast<caf::actor>(actor));
}

result<void> node::wait_until_ready(std::chrono::milliseconds timeout, std::vector<std::string> nodes) {
  const std::vector needed{role::prefill, role::storage, role::decode};
  caf::scoped_actor self{*system_};
  result<void> outcome;
  self->request(actors_.node, timeout, ready_atom_v, readiness{bits(needed), std::move(nodes)})
      .receive([](std::uint64_t) {},
               [&](const caf::error&) {
                 outcome = fail(errc::deadline_exceeded,
                                "no cluster with prefill, storage and decode nodes came together within " +
                                    std::to_string(timeout.count()) + " ms; are the other nodes running?");
               });
  if (!outcome) return outcome;
  // Every part was sent the cluster before that answer: whoever answers has it.
  self->request(actors_.node, timeout, status_atom_v)
      .receive([](const node_report&) {},
               [&](const caf::error& e) { outcome = tl::unexpected{from_caf(e, "this node's parts")}; });
  return outcome;
}

}  // namespace weft::actors
