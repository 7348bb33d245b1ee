#include "simulated_cluster.hpp"

#include <weft/actors/errors.hpp>
#include <weft/actors/system_config.hpp>

#include <caf/actor_cast.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>

#include <utility>

namespace weft::simulation {

using namespace actors;

namespace {

constexpr auto tick = std::chrono::microseconds{100};
constexpr std::uint64_t slowest_message_us = 2000;
constexpr std::uint16_t first_port = 1000;

}  // namespace

struct simulated_cluster::member {
  node_config config;
  std::shared_ptr<fabric::transport> transport;
  node_actors actors;
  std::uint16_t port = 0;
  bool alive = true;
  bool ready = false;
};

// Every message between nodes takes a while and finds nobody when its receiver died.
class simulated_cluster::network final : public remoting {
 public:
  network(simulated_cluster& cluster, std::string from) : cluster_(cluster), from_(std::move(from)) {}

  result<std::uint16_t> publish(const node_actor&, const std::string&, std::uint16_t port) override {
    return port;
  }

  void connect(const std::string&, std::uint16_t port,
               std::function<void(result<node_actor>)> done) override {
    cluster_.wire_->schedule(delay(), [this, port, done = std::move(done)] {
      for (const auto& [name, m] : cluster_.members_) {
        if (m->port != port) continue;
        if (m->alive) return done(caf::actor_cast<node_actor>(proxy_of(m->actors.node, name)));
      }
      done(fail(errc::unreachable, "nobody listens there"));
    });
  }

 private:
  duration delay() { return std::chrono::microseconds{cluster_.random_() % slowest_message_us}; }

  bool up(const std::string& name) const { return cluster_.members_.at(name)->alive; }

  // Passes every message on later; role handles that come back go through proxies of their own.
  template <class Handle>
  caf::actor proxy_of(const Handle& target, const std::string& to) {
    const auto receiver = caf::actor_cast<caf::strong_actor_ptr>(target);
    return cluster_.keep(cluster_.system_->spawn([this, receiver,
                                                  to](caf::event_based_actor* self) -> caf::behavior {
      self->set_default_handler([this, receiver, to](caf::scheduled_actor* me,
                                                     caf::message_view& view) -> caf::result<caf::message> {
        auto& id = me->current_mailbox_element()->mid;
        const auto original = id;
        id.mark_as_answered();
        cluster_.wire_->schedule(delay(), [this, receiver, to, original, sender = me->current_sender(),
                                           content = view.move_content_to_message()]() mutable {
          if (up(to) && up(from_)) receiver->enqueue(sender, original, std::move(content), nullptr);
        });
        return caf::delegated<caf::message>{};
      });
      return {[this, receiver, to, self](roles_atom) -> caf::result<role_handles> {
        auto promise = self->make_response_promise<role_handles>();
        self->request(caf::actor_cast<caf::actor>(receiver), std::chrono::seconds{1}, roles_atom_v)
            .then([this, to, promise](
                      const role_handles& roles) mutable { promise.deliver(through_proxies(roles, to)); },
                  [promise](caf::error& e) mutable { promise.deliver(std::move(e)); });
        return promise;
      }};
    }));
  }

  template <class Handle>
  Handle proxied(const Handle& target, const std::string& to) {
    return target ? caf::actor_cast<Handle>(proxy_of(target, to)) : Handle{};
  }

  role_handles through_proxies(const role_handles& roles, const std::string& to) {
    return {proxied(roles.membership, to), proxied(roles.directory, to), proxied(roles.storage, to),
            proxied(roles.prefill, to), proxied(roles.decode, to)};
  }

  simulated_cluster& cluster_;
  std::string from_;
};

simulated_cluster::simulated_cluster(cluster_plan plan) : plan_(std::move(plan)), random_(plan_.seed) {
  register_types(config_);
  config_.set("scheduler.policy", caf::atom("testing"));
  fabric::network_options wire;
  wire.seed = plan_.seed;
  wire_ = std::make_unique<fabric::in_process_network>(wire);
  system_ = std::make_unique<caf::actor_system>(config_);
  system_->await_actors_before_shutdown(false);
  for (const auto& planned : plan_.nodes) {
    auto m = std::make_unique<member>();
    m->config.name = planned.name;
    m->config.roles = planned.roles;
    for (const auto& candidate : plan_.nodes)
      m->config.candidates.push_back({candidate.name, "simulated", 0});
    m->config.model_folder = WEFT_SOURCE_DIR "/models/recall";
    m->config.replicas = plan_.replicas;
    m->config.dram_bytes = 8 << 20;
    m->config.staging_bytes = 4 << 20;
    m->port = static_cast<std::uint16_t>(first_port + members_.size());
    const bool stores = has(m->config, role::storage);
    m->transport = wire_->add_node(m->config.staging_bytes + (stores ? m->config.dram_bytes : 0));
    members_.emplace(planned.name, std::move(m));
  }
  for (auto& [name, m] : members_) {
    node_environment environment;
    environment.transport = m->transport;
    environment.network = std::make_shared<network>(*this, name);
    environment.clock = [this] { return wire_->now(); };
    environment.candidate_address = [](unsigned rank) {
      return std::pair{std::string{"simulated"}, static_cast<std::uint16_t>(first_port + rank)};
    };
    environment.model = needs_model(m->config) ? plan_.model : nullptr;
    environment.thread = engine_thread::shared;
    environment.incarnation = 1;
    auto assembled = assemble_node(*system_, m->config, environment);
    if (!assembled) throw std::runtime_error{to_string(assembled.error())};
    m->actors = std::move(*assembled);
    caf::anon_send(m->actors.node, join_atom_v, m->port);
  }
  std::uint32_t all_roles = 0;
  for (const auto& [name, m] : members_)
    all_roles |= bits(m->config.roles);
  for (auto& [name, m] : members_) {
    keep(system_->spawn([node = m->actors.node, all_roles, m = m.get()](caf::event_based_actor* self) {
      self->request(node, caf::infinite, ready_atom_v, readiness{all_roles, {}})
          .then([m](std::uint64_t) { m->ready = true; }, [](const caf::error&) {});
    }));
  }
}

simulated_cluster::~simulated_cluster() {
  for (const auto& [name, m] : members_) {
    for (const auto& actor : m->actors.all)
      caf::anon_send_exit(actor, caf::exit_reason::kill);
  }
  for (const auto& other : others_)
    caf::anon_send_exit(other, caf::exit_reason::kill);
  others_.clear();
  run_ready_jobs();
  for (auto& [name, m] : members_) {
    m->actors = {};
    m->transport.reset();
  }
  run_ready_jobs();
}

caf::actor simulated_cluster::keep(caf::actor a) {
  others_.push_back(a);
  return a;
}

caf::scheduler::test_coordinator& simulated_cluster::scheduler() const {
  return dynamic_cast<caf::scheduler::test_coordinator&>(system_->scheduler());
}

void simulated_cluster::note(std::uint64_t what) {
  constexpr std::uint64_t prime = 0x100000001b3;
  trace_ = (trace_ ^ what) * prime;
}

// Any job may run next: the seed chooses.
void simulated_cluster::run_ready_jobs() {
  auto& jobs = scheduler().jobs;
  while (!jobs.empty()) {
    const auto chosen = random_() % jobs.size();
    note(chosen);
    std::swap(jobs.front(), jobs[chosen]);
    scheduler().run_once();
  }
}

bool simulated_cluster::run_until(const std::function<bool()>& condition, duration limit) {
  const auto end = wire_->now() + limit;
  while (!condition()) {
    if (wire_->now() >= end) return false;
    run_ready_jobs();
    wire_->advance(tick);
    scheduler().advance_time(std::chrono::duration_cast<caf::timespan>(tick));
  }
  return true;
}

void simulated_cluster::kill(const std::string& name) {
  auto& m = *members_.at(name);
  m.alive = false;
  wire_->kill(m.transport->address());
  for (const auto& actor : m.actors.all)
    caf::anon_send_exit(actor, caf::exit_reason::kill);
}

bool simulated_cluster::settled() const {
  for (const auto& [name, m] : members_) {
    if (m->alive && !m->ready) return false;
  }
  return true;
}

std::shared_ptr<eventual<document_summary>> simulated_cluster::ingest(const std::string& through,
                                                                      std::string text) {
  auto result = std::make_shared<eventual<document_summary>>();
  auto shared_text = text_ptr{std::make_shared<const std::string>(std::move(text))};
  system_->spawn(
      [gateway = members_.at(through)->actors.gateway, shared_text, result](caf::event_based_actor* self) {
        self->request(gateway, std::chrono::seconds{30}, encode_atom_v, std::string{"simulated"}, shared_text)
            .then([result](const document_summary& s) { result->value = s; },
                  [result](const caf::error& e) { result->failure = from_caf(e, "ingest"); });
      });
  return result;
}

std::shared_ptr<eventual<answer>> simulated_cluster::ask(const std::string& through, question asked) {
  auto result = std::make_shared<eventual<answer>>();
  system_->spawn(
      [gateway = members_.at(through)->actors.gateway, asked, result](caf::event_based_actor* self) {
        self->request(gateway, std::chrono::seconds{30}, ask_atom_v, asked, answer_listener{})
            .then([result](const answer& a) { result->value = a; },
                  [result](const caf::error& e) { result->failure = from_caf(e, "ask"); });
      });
  return result;
}

time_point simulated_cluster::now() const {
  return wire_->now();
}

}  // namespace weft::simulation
