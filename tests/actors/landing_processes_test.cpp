// Blocks of another process that land on the likeness of a device by gets of UCX's, in a node that answers
// questions about them.
#include <weft/actors/errors.hpp>
#include <weft/actors/node.hpp>
#include <weft/device/host_device.hpp>
#include <weft/engine/host_compute_device.hpp>

#include <caf/actor_system.hpp>
#include <caf/scoped_actor.hpp>
#include <doctest/doctest.h>

#include "fabric/line_process.hpp"
#include "likeness_memory.hpp"
#include "two_processes.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

using namespace weft;
using namespace weft::actors;

namespace {

constexpr auto patience = std::chrono::minutes{2};

// Where the question's blocks go to.
enum class destination { device, arena };

node_environment on_a_device(const node_config& config, destination to) {
  node_environment environment;
  environment.device = engine::host_compute_device(std::size_t{64} << 20U);
  auto model = engine::runner::load(config.model_folder, {.threads = 1, .device = environment.device});
  REQUIRE_MESSAGE(model, to_string(model.error()));
  environment.model = std::make_shared<engine::runner>(std::move(*model));
  auto transport = weft::testing::transport_of_gets(config);
  REQUIRE_MESSAGE(transport, to_string(transport.error()));
  environment.transport = std::move(*transport);
  if (to == destination::device) environment.likeness = simulation::on_host(*environment.device);
  return environment;
}

// A node of this process, which has a device and stores nothing, and one of a child's, which stores all.
class two_nodes {
 public:
  explicit two_nodes(destination to)
      : system_(settings_),
        here_(start(to)),
        there_({WEFT_STORING_NODE, config().name, std::to_string(here_->control_port())}) {
    const auto name = there_.read_line();
    REQUIRE(!name.empty());
    const auto ready = here_->wait_until_ready(patience, {name});
    REQUIRE_MESSAGE(ready, to_string(ready.error()));
  }

  document_summary ingest(const std::string& text) {
    return reply<document_summary>(here_->gateway(), encode_atom_v, std::string{"a name"},
                                   text_ptr{std::make_shared<const std::string>(text)}, scoring_wish{});
  }

  answer ask(const std::vector<id128>& documents) {
    question asked;
    asked.text = "What is the access code for the vault at Koreth?";
    asked.documents = documents;
    return reply<answer>(here_->gateway(), ask_atom_v, asked, answer_listener{});
  }

  std::uint64_t counted(const std::string& name) {
    const auto counters = reply<node_report>(here_->handle(), status_atom_v).counters;
    const auto found = std::ranges::find(counters, name, &counter::name);
    REQUIRE(found != counters.end());
    return static_cast<std::uint64_t>(found->value);
  }

 private:
  static node_config config() { return weft::testing::node_of_two("asking", {role::decode, role::gateway}); }

  std::unique_ptr<node> start(destination to) {
    auto started = node::start(system_, config(), on_a_device(config(), to));
    REQUIRE_MESSAGE(started, to_string(started.error()));
    return std::move(*started);
  }

  template <class Reply, class Handle, class... Words>
  Reply reply(const Handle& whom, Words... words) {
    Reply got;
    caf::scoped_actor self{system_};
    self->request(whom, patience, words...)
        .receive([&](const Reply& r) { got = r; },
                 [&](const caf::error& e) { FAIL(to_string(from_caf(e, "the node"))); });
    return got;
  }

  weft::testing::system_with_weft settings_;
  caf::actor_system system_;
  std::unique_ptr<node> here_;
  weft::testing::line_process there_;
};

struct known_documents {
  explicit known_documents(two_nodes& nodes) {
    for (const auto* text : {"Notes of Melund. The tower at Melund is painted green.",
                             "Report of Koreth. The access code for the vault at Koreth is 4821."}) {
      const auto stored = nodes.ingest(text);
      CHECK(stored.holders == std::vector<std::string>{"storing"});
      ids.push_back(stored.id);
      blocks += stored.blocks;
    }
  }

  std::vector<id128> ids;
  std::uint64_t blocks = 0;
};

std::uint64_t bytes_moved(const answer& got) {
  std::uint64_t bytes = 0;
  for (const auto& transfer : got.transfers) {
    CHECK(transfer.holder == "storing");
    bytes += transfer.bytes;
  }
  CHECK(bytes > 0);
  return bytes;
}

bool came_by(const std::string& path, const answer& got) {
  return std::ranges::all_of(got.transfers, [&](const auto& transfer) { return transfer.path == path; });
}

}  // namespace

TEST_CASE("blocks of another process land on the device, and the answer is that of copies") {
  answer copied;
  {
    two_nodes nodes(destination::arena);
    const known_documents known(nodes);
    copied = nodes.ask(known.ids);
    CHECK(!came_by("land", copied));
    CHECK(nodes.counted("pool.blocks_landed") == 0);
  }
  CHECK(copied.text == "4821");
  CHECK(copied.misses == 0);

  two_nodes nodes(destination::device);
  const known_documents known(nodes);
  CHECK(known.blocks > known.ids.size());
  for (std::uint64_t times = 1; times <= 3; ++times) {
    const auto landed = nodes.ask(known.ids);
    CHECK(came_by("land", landed));
    CHECK(bytes_moved(landed) == bytes_moved(copied));
    CHECK(landed.tokens == copied.tokens);
    CHECK(landed.misses == 0);
    CHECK(nodes.counted("pool.blocks_landed") == times * known.blocks);
  }
  CHECK(nodes.counted("pool.landings_failed") == 0);
  CHECK(nodes.counted("pool.staging_used_bytes") == 0);
  CHECK(nodes.counted("device.bytes_loaded_there_alone") > 0);
  CHECK(nodes.counted("device.bytes_brought_home") == 0);
}
