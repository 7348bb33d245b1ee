// One process that has every role: the shortest way from a document to an answer, over real UCX and real CAF.
#include <weft/actors/errors.hpp>
#include <weft/actors/node.hpp>
#include <weft/actors/node_passive_store.hpp>
#include <weft/actors/system_config.hpp>
#include <weft/block/layout.hpp>
#include <weft/device/host_device.hpp>
#include <weft/engine/host_compute_device.hpp>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scoped_actor.hpp>
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

using namespace weft;
using namespace weft::actors;

namespace {

struct system_with_weft : caf::actor_system_config {
  system_with_weft() { prepare(*this, {}); }
};

node_config lone_node() {
  node_config config;
  config.name = "alone";
  config.roles = {role::prefill, role::storage, role::decode, role::gateway};
  config.model_folder = WEFT_SOURCE_DIR "/models/recall";
  config.dram_bytes = 64 << 20;
  config.staging_bytes = 16 << 20;
  config.heartbeat_interval = std::chrono::milliseconds{100};
  return config;
}

// A system with that node, which is ready.
class running_node {
 public:
  explicit running_node(node_environment environment = {}, const node_config& config = lone_node())
      : system_(config_), started_(node::start(system_, config, std::move(environment))) {
    REQUIRE_MESSAGE(started_, to_string(started_.error()));
    const auto ready = here().wait_until_ready(std::chrono::seconds{30});
    REQUIRE_MESSAGE(ready, to_string(ready.error()));
  }

  caf::actor_system& system() { return system_; }
  node& here() { return **started_; }

 private:
  system_with_weft config_;
  caf::actor_system system_;
  result<std::unique_ptr<node>> started_;
};

constexpr auto patience = std::chrono::seconds{60};

std::vector<std::byte> page_of(std::uint64_t number) {
  std::vector<std::byte> bytes(1000 + 37 * (number % 50));
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(number * 31 + i * i);
  return bytes;
}

// The shipped model on the host's likeness of a device.
node_environment on_a_device(std::size_t memory_bytes) {
  node_environment environment;
  environment.device = engine::host_compute_device(memory_bytes);
  auto model = engine::runner::load(lone_node().model_folder, {.threads = 2, .device = environment.device});
  REQUIRE_MESSAGE(model, to_string(model.error()));
  environment.model = std::make_shared<engine::runner>(std::move(*model));
  return environment;
}

}  // namespace

namespace {

id128 ingested(running_node& running, const scoring_wish& scoring = {}) {
  caf::scoped_actor self{running.system()};
  document_summary vault;
  self->request(running.here().gateway(), patience, encode_atom_v, std::string{"a name"},
                text_ptr{std::make_shared<const std::string>(
                    "Report of Koreth. The access code for the vault at Koreth is 4821.")},
                scoring)
      .receive([&](const document_summary& s) { vault = s; },
               [&](const caf::error& e) { FAIL(to_string(from_caf(e, "ingest"))); });
  return vault.id;
}

result<std::string> answered(running_node& running, const id128& document) {
  caf::scoped_actor self{running.system()};
  question asked;
  asked.text = "What is the access code for the vault at Koreth?";
  asked.documents = {document};
  result<std::string> text;
  self->request(running.here().gateway(), patience, ask_atom_v, asked, answer_listener{})
      .receive([&](const answer& got) { text = got.text; },
               [&](const caf::error& e) { text = tl::make_unexpected(from_caf(e, "ask")); });
  return text;
}

// What a counter of the node's status says once it has answered a question.
std::function<std::int64_t(const std::string&)> counters_after_an_answer(running_node& running,
                                                                         const scoring_wish& scoring = {}) {
  const auto text = answered(running, ingested(running, scoring));
  REQUIRE_MESSAGE(text, to_string(text.error()));
  CHECK(*text == "4821");
  caf::scoped_actor self{running.system()};
  node_report report;
  self->request(running.here().handle(), patience, status_atom_v)
      .receive([&](const node_report& found) { report = found; },
               [&](const caf::error& e) { FAIL(to_string(from_caf(e, "status"))); });
  return [report](const std::string& name) {
    for (const auto& counter : report.counters)
      if (counter.name == name) return counter.value;
    return std::int64_t{-1};
  };
}

}  // namespace

TEST_CASE("a node's model runs on its device, and its status shows the memory and the recorded steps") {
  running_node running(on_a_device(std::size_t{64} << 20U));
  const auto counted = counters_after_an_answer(running);
  CHECK(counted("device.total_bytes") == 64 << 20);
  CHECK(counted("device.used_bytes") > 0);
  CHECK(counted("device.steps_recorded") > 0);
  CHECK(counted("device.steps_launched") >= counted("device.steps_recorded"));
  CHECK(counted("device.steps_refused") == 0);
  CHECK(counted("device.blocks_written") > 0);
  CHECK(counted("device.blocks_left_to_host") == 0);
  CHECK(counted("device.bytes_loaded_there_alone") > 0);
  CHECK(counted("device.bytes_brought_home") == 0);
  CHECK((counted("fabric.moves_cuda_memory") == 0 || counted("fabric.moves_cuda_memory") == 1));
}

TEST_CASE("a device that fails amid a question fails it or not; the next one is answered") {
  const auto environment = on_a_device(std::size_t{64} << 20U);
  auto& device = dynamic_cast<device::host_device&>(*environment.device->memory);
  running_node running(environment);
  const auto vault = ingested(running);
  const auto check_answer = [](const result<std::string>& text) {
    REQUIRE_MESSAGE(text, to_string(text.error()));
    CHECK(*text == "4821");
  };
  // Before anybody has loaded the document, and then with rows that only the device has.
  for (const std::uint64_t n : {0U, 7U, 30U, 60U, 200U})
    for (const auto how : {device::failing::once, device::failing::from_then_on}) {
      CAPTURE(n);
      device.fail_at(n, how);
      const auto text = answered(running, vault);
      device.fail_no_more();
      if (text)
        check_answer(text);
      else
        CHECK(text.error().code == errc::internal);
      check_answer(answered(running, vault));
    }
}

TEST_CASE("a document is scored, cut and written in bands by the device of a node") {
  running_node running(on_a_device(std::size_t{64} << 20U));
  const auto counted = counters_after_an_answer(
      running, {.importance = "kvzip", .band_millionths = {500'000, 1'000'000}, .band_codecs = {0, 1}});
  CHECK(counted("device.blocks_written") > 0);
  CHECK(counted("device.blocks_left_to_host") == 0);
  CHECK(counted("storage.banded_blocks") == counted("device.blocks_written"));
}

TEST_CASE("a node of a group runs its part of the model on its device") {
  auto config = lone_node();
  config.group = "all";
  config.group_nodes = {config.name};
  running_node running(on_a_device(std::size_t{128} << 20U), config);
  const auto counted = counters_after_an_answer(running);
  CHECK(counted("group.ranks") == 1);
  CHECK(counted("device.steps_launched") > 0);
}

TEST_CASE("a node whose device is not there does not start, and says which and what else there is") {
  system_with_weft config;
  caf::actor_system system(config);
  auto wanted = lone_node();
  wanted.device = "cuda:1000";
  const auto started = node::start(system, wanted);
  REQUIRE(!started);
  CHECK(started.error().code == errc::unsupported);
  CHECK(started.error().context.starts_with("device = \"cuda:1000\" of node alone: "));
  wanted.roles = {role::storage, role::decode, role::gateway};
  wanted.group = "all";
  wanted.group_nodes = {wanted.name};
  const auto of_group = node::start(system, wanted);
  REQUIRE(!of_group);
  CHECK(of_group.error().context == started.error().context);
}

TEST_CASE("a node alone encodes documents and answers from them in another order") {
  running_node running;
  auto& here = running.here();

  caf::scoped_actor self{running.system()};
  const auto ingest = [&](const std::string& text) {
    document_summary summary;
    self->request(here.gateway(), patience, encode_atom_v, std::string{"a name"},
                  text_ptr{std::make_shared<const std::string>(text)})
        .receive([&](const document_summary& s) { summary = s; },
                 [&](const caf::error& e) { FAIL(to_string(from_caf(e, "ingest"))); });
    return summary;
  };
  const auto vault = ingest("Report of Koreth. The access code for the vault at Koreth is 4821.");
  const auto tower = ingest("Notes of Melund. The tower at Melund is painted green.");
  CHECK(vault.blocks == 1);
  CHECK(vault.holders == std::vector<std::string>{"alone"});

  question asked;
  asked.text = "What is the access code for the vault at Koreth?";
  asked.documents = {tower.id, vault.id};
  answer got;
  self->request(here.gateway(), patience, ask_atom_v, asked, answer_listener{})
      .receive([&](const answer& a) { got = a; },
               [&](const caf::error& e) { FAIL(to_string(from_caf(e, "ask"))); });
  CHECK(got.text == "4821");
  CHECK(got.misses == 0);
  CHECK(got.recomputed_rows == 0);

  SUBCASE("a pin is a state: twice is as once") {
    const auto pinned = [&](bool wanted) {
      self->request(here.gateway(), patience, pin_atom_v, wanted, vault.id)
          .receive([&](std::uint64_t copies) { CHECK(copies == 2); },
                   [&](const caf::error& e) { FAIL(to_string(from_caf(e, "pin"))); });
      std::vector<bool> shown;
      self->request(here.gateway(), patience, list_atom_v)
          .receive(
              [&](const document_list& list) {
                for (const auto& d : list.documents)
                  shown.push_back(d.id == vault.id && d.pinned);
              },
              [&](const caf::error& e) { FAIL(to_string(from_caf(e, "list"))); });
      return std::count(shown.begin(), shown.end(), true);
    };
    CHECK(pinned(true) == 1);
    CHECK(pinned(true) == 1);
    CHECK(pinned(false) == 0);
  }

  SUBCASE("what was dropped is not answered from") {
    self->request(here.gateway(), patience, drop_atom_v, vault.id)
        .receive([&](std::uint64_t copies) { CHECK(copies == 2); },
                 [&](const caf::error& e) { FAIL(to_string(from_caf(e, "drop"))); });
    self->request(here.gateway(), patience, ask_atom_v, asked, answer_listener{})
        .receive([&](const answer&) { FAIL("answered from a dropped document"); },
                 [&](const caf::error& e) { CHECK(from_caf(e, "ask").code == errc::not_found); });
  }
}

TEST_CASE("a session's passive pages come back from the pool, in batches; what nobody holds is missing") {
  running_node running;
  auto& here = running.here();

  // More pages than there is staging room for at once.
  constexpr std::uint64_t pages = 3000;
  node_passive_store store(here.blocks(), here.room(), {.session = 7, .patience = std::chrono::seconds{20}});
  for (std::uint64_t page = 0; page < pages; ++page)
    REQUIRE(store.put(page, page_of(page)));
  const auto read = [&store](const std::vector<std::uint64_t>& wanted) {
    store.begin(wanted);
    const auto pages_read = store.wait();
    CHECK(store.arrived());
    REQUIRE(pages_read.size() == wanted.size());
    std::vector<std::uint64_t> lost;
    for (std::size_t i = 0; i < wanted.size(); ++i)
      if (pages_read[i].empty())
        lost.push_back(wanted[i]);
      else
        CHECK(std::ranges::equal(pages_read[i], page_of(wanted[i])));
    return lost;
  };
  CHECK(read({pages - 1, 0}).empty());
  CHECK(store.flush() == 0);
  std::vector<std::uint64_t> many;
  for (std::uint64_t page = 0; page < pages; page += 11)
    many.push_back(page);
  CHECK(read(many).empty());
  CHECK(read({5, pages + 1, 6}) == std::vector<std::uint64_t>{pages + 1});

  // Another session has none of them.
  node_passive_store other(here.blocks(), here.room(), {.session = 8, .patience = std::chrono::seconds{20}});
  const std::uint64_t page = 5;
  other.begin({&page, 1});
  REQUIRE(other.wait().size() == 1);
  CHECK(other.wait()[0].empty());
}

TEST_CASE("threads that wait for blocks write, find and read them") {
  running_node running;
  auto& here = running.here();

  const auto write_and_read = [&here](std::uint64_t first) {
    for (std::uint64_t number = first; number < first + 50; ++number) {
      const id128 key{number, 1};
      const id128 absent{number, 2};
      const auto bytes = page_of(number);
      auto place = here.room()->take(block::opaque_size_bytes(bytes.size()));
      if (!place || !block::write_opaque(place->bytes(), {.key = key, .fingerprint = {}}, bytes, 0))
        return false;
      const block_to_write finished{key, machines::item_kind::opaque,
                                    std::make_shared<const staged_bytes>(std::move(*place))};
      const auto written = here.blocks()->write({{finished}, 1, patience});
      if (!written || !(*written)->blocks.front()) return false;
      const auto found = here.blocks()->locate({key, absent}, patience);
      if (!found || found->keys[0].holders.empty() || !found->keys[1].holders.empty()) return false;
      const auto read = here.blocks()->read({{key, absent}, {}, patience});
      if (!read || !(*read)->blocks[0].outcome) return false;
      if ((*read)->blocks[1].outcome || (*read)->blocks[1].outcome.error().code != errc::not_found)
        return false;
      const auto opened = block::view::parse((*read)->blocks[0].bytes->bytes());
      if (!opened || !std::ranges::equal(opened->payload(), bytes)) return false;
    }
    return true;
  };
  CHECK(write_and_read(0));
  std::array<bool, 4> good{};
  {
    std::vector<std::jthread> clients;
    for (std::size_t client = 0; client < good.size(); ++client)
      clients.emplace_back([&, client] { good[client] = write_and_read(1000 * (client + 1)); });
  }
  CHECK(std::ranges::all_of(good, std::identity{}));
}
