#include "simulated_cluster.hpp"

#include <weft/actors/errors.hpp>
#include <weft/actors/system_config.hpp>
#include <weft/block/layout.hpp>
#include <weft/tier/open.hpp>

#include <caf/actor_cast.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>

#include "attached_disk.hpp"
#include "likeness_memory.hpp"

#include <deque>
#include <stdexcept>
#include <utility>

namespace weft::simulation {

using namespace actors;

namespace {

constexpr std::uint64_t slowest_message_us = 2000;
constexpr std::uint64_t late_message_us = 500'000;
constexpr std::uint16_t first_port = 1000;
constexpr std::uint64_t lives_apart = 1'000'000;  // incarnations of a node that is fenced now and then

}  // namespace

struct simulated_cluster::member {
  node_config config;
  std::shared_ptr<fabric::transport> transport;
  fabric::faulty_transport* faulty = nullptr;  // the same
  std::unique_ptr<tier::memory_device> disk;   // with a file tier
  std::shared_ptr<tier::opened_tier> file;
  attached_disk* attached = nullptr;
  node_actors actors;
  std::uint16_t port = 0;
  std::uint64_t life = 0;
  bool alive = true;
  bool frozen = false;
  bool ready = false;
};

// Every message between nodes takes a while and finds nobody when its receiver died.
class simulated_cluster::network final : public remoting {
 public:
  network(simulated_cluster& cluster, std::string from, std::uint64_t life)
      : cluster_(cluster), from_(std::move(from)), life_(life) {}

  result<std::uint16_t> publish(const node_actor&, const std::string&, std::uint16_t port) override {
    return port;
  }

  void connect(const std::string&, std::uint16_t port,
               std::function<void(result<node_actor>)> done) override {
    cluster_.wire_->schedule(delay(), [this, port, done = std::move(done)] {
      for (const auto& [name, m] : cluster_.members_) {
        if (m->port != port || cluster_.cut(from_, name)) continue;
        if (!m->alive) continue;
        cluster_.connections_.emplace(from_, name);
        return done(caf::actor_cast<node_actor>(proxy_of(m->actors.node, name)));
      }
      done(fail(errc::unreachable, "nobody listens there"));
    });
  }

 private:
  std::chrono::microseconds delay() {
    return std::chrono::microseconds{cluster_.random_() % slowest_message_us};
  }

  bool up(const std::string& name, std::uint64_t life) const {
    const auto& m = *cluster_.members_.at(name);
    return m.alive && m.life == life;
  }

  bool happens(unsigned per_mille) { return per_mille != 0 && cluster_.random_() % 1000 < per_mille; }

  // Passes every message on later; role handles that come back go through proxies of their own.
  template <class Handle>
  caf::actor proxy_of(const Handle& target, const std::string& to) {
    const auto receiver = caf::actor_cast<caf::strong_actor_ptr>(target);
    const auto life = cluster_.members_.at(to)->life;
    auto proxy = cluster_.keep(
        cluster_.system_->spawn([this, receiver, to, life](caf::event_based_actor* self) -> caf::behavior {
          self->set_default_handler(
              [this, receiver, to, life](caf::scheduled_actor* me,
                                         caf::message_view& view) -> caf::result<caf::message> {
                auto& id = me->current_mailbox_element()->mid;
                const auto original = id;
                id.mark_as_answered();
                pass_on(receiver, to, life, me->current_sender(), original, view.move_content_to_message());
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
    cluster_.proxies_.emplace(to, proxy);
    return proxy;
  }

  void pass_on(const caf::strong_actor_ptr& receiver, const std::string& to, std::uint64_t life,
               caf::strong_actor_ptr sender, caf::message_id id, caf::message content) {
    const auto& faults = cluster_.faults_;
    if (cluster_.cut(from_, to) || happens(faults.lost)) return;
    if (content.match_elements<greet_atom, machines::node_ref, caf::strong_actor_ptr>())
      content = greeting_through_proxy(content, to);
    if (happens(faults.unanswered)) sender = nullptr;
    const auto copies = happens(faults.doubled) ? 2 : 1;
    for (auto copy = 0; copy < copies; ++copy) {
      const auto wait =
          happens(faults.late) ? std::chrono::microseconds{cluster_.random_() % late_message_us} : delay();
      cluster_.wire_->schedule(wait, [this, receiver, to, life, sender, id, content] {
        if (up(to, life) && up(from_, life_)) receiver->enqueue(sender, id, content, nullptr);
      });
    }
  }

  // What the receiver says to the one that greeted it goes its own way.
  caf::message greeting_through_proxy(const caf::message& greeting, const std::string& to) {
    const auto way = std::ranges::find(cluster_.ways_.rbegin(), cluster_.ways_.rend(), to,
                                       [](const auto& w) -> const std::string& { return w->from_; });
    const auto back = (*way)->proxy_of(cluster_.members_.at(from_)->actors.node, from_);
    return caf::make_message(greet_atom_v, greeting.get_as<machines::node_ref>(1),
                             caf::actor_cast<caf::strong_actor_ptr>(back));
  }

  template <class Handle>
  Handle proxied(const Handle& target, const std::string& to) {
    return target ? caf::actor_cast<Handle>(proxy_of(target, to)) : Handle{};
  }

  role_handles through_proxies(const role_handles& roles, const std::string& to) {
    return {proxied(roles.membership, to), proxied(roles.directory, to), proxied(roles.storage, to),
            proxied(roles.prefill, to),    proxied(roles.decode, to),    proxied(roles.care, to)};
  }

  simulated_cluster& cluster_;
  std::string from_;
  std::uint64_t life_;
};

simulated_cluster::simulated_cluster(cluster_plan plan) : plan_(std::move(plan)), random_(plan_.seed) {
  register_types(config_);
  config_.set("scheduler.policy", caf::atom("testing"));
  plan_.wire.seed = plan_.seed;
  wire_ = std::make_unique<fabric::in_process_network>(plan_.wire);
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
    m->config.tenant_replicas = plan_.tenant_replicas;
    m->config.dram_bytes = plan_.dram_bytes;
    m->config.lease_duration = plan_.lease_duration;
    m->config.staging_bytes = plan_.staging_bytes;
    m->config.base_bytes = plan_.base_bytes;
    m->config.opening_bytes = plan_.opening_bytes;
    m->config.cache_bytes = plan_.cache_bytes;
    m->config.background_importance = plan_.background_importance;
    if (plan_.file_bytes != 0 && has(m->config, role::storage)) {
      m->config.file_folder = "simulated";
      m->config.file_bytes = plan_.file_bytes;
      m->disk = std::make_unique<tier::memory_device>(plan_.seed * 31 + members_.size());
    }
    m->port = static_cast<std::uint16_t>(first_port + members_.size());
    members_.emplace(planned.name, std::move(m));
  }
  for (const auto& [name, m] : members_)
    boot(name);
}

// A life of a node begins.
void simulated_cluster::boot(const std::string& name) {
  auto& m = *members_.at(name);
  ++m.life;
  m.alive = true;
  m.ready = false;
  const bool stores = has(m.config, role::storage);
  if (m.transport) graveyard_.push_back(m.transport);  // results of its last life may refer to its arena
  auto faulty = std::make_shared<fabric::faulty_transport>(
      wire_->add_node(m.config.staging_bytes + (stores ? m.config.dram_bytes : 0)),
      [this](duration after, std::function<void()> what) { wire_->schedule(after, std::move(what)); },
      fabric::fault_plan{});
  m.faulty = faulty.get();
  give_plan(m, plan_.seed + m.life);
  m.transport = std::move(faulty);
  auto way = std::make_shared<network>(*this, name, m.life);
  node_environment environment;
  environment.transport = m.transport;
  environment.network = way;
  ways_.push_back(way);  // proxies outlive the node
  environment.clock = [this] { return wire_->now(); };
  environment.candidate_address = [](unsigned rank) {
    return std::pair{std::string{"simulated"}, static_cast<std::uint16_t>(first_port + rank)};
  };
  environment.model = needs_model(m.config) ? plan_.model : nullptr;
  environment.device = plan_.device;
  if (plan_.device && plan_.lands) environment.likeness = on_host(*plan_.device);
  environment.thread = engine_thread::shared;
  if (m.disk) environment.file = attach_disk(m);
  environment.incarnation = m.life * lives_apart;
  auto assembled = assemble_node(*system_, m.config, environment);
  if (!assembled) throw std::runtime_error{to_string(assembled.error())};
  m.actors = std::move(*assembled);
  caf::anon_send(m.actors.node, join_atom_v, m.port);
  std::uint32_t all_roles = 0;
  for (const auto& [other, o] : members_)
    all_roles |= bits(o->config.roles);
  keep(system_->spawn([node = m.actors.node, all_roles, &m, life = m.life](caf::event_based_actor* self) {
    self->request(node, caf::infinite, ready_atom_v, readiness{all_roles, {}})
        .then([&m, life](std::uint64_t) { m.ready = m.life == life; }, [](const caf::error&) {});
  }));
}

// Opens it as a node does at its start; the disk behaves meanwhile.
std::shared_ptr<tier::opened_tier> simulated_cluster::attach_disk(member& m) {
  m.disk->faults = {};
  auto attached = std::make_unique<attached_disk>(*m.disk);
  m.attached = attached.get();
  const auto drive = [&m] { m.disk->run_one(); };
  const auto id = tier::tier_id_of(
      *attached,
      [&m] {
        return id128{7, m.port};
      },
      drive);
  if (!id) throw std::runtime_error{to_string(id.error())};
  tier::file_tier books(
      {.capacity_bytes = m.config.file_bytes, .queue_bytes = m.config.dram_bytes / 4, .depth = 8}, *id);
  tier::recover(*attached, books, drive);
  m.disk->faults = disk_faults_;
  m.disk->set_data_limit(disk_limit_bytes_);
  m.file = std::make_shared<tier::opened_tier>(tier::opened_tier{std::move(attached), std::move(books)});
  return m.file;
}

// Disks go on where processes are frozen.
void simulated_cluster::run_disks() {
  for (const auto& [name, m] : members_) {
    if (!m->disk || m->disk->under_way() == 0) continue;
    for (auto operations = random_() % 4; operations > 0; --operations)
      m->disk->run_one();
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
    if (m->disk) m->disk->kill();  // what it would still answer
    m->file.reset();
    m->actors = {};
    m->transport.reset();
  }
  graveyard_.clear();
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

bool simulated_cluster::belongs_to_frozen(const caf::resumable* job) const {
  if (frozen_.empty()) return false;
  const auto* actor = dynamic_cast<const caf::local_actor*>(job);
  return actor != nullptr && frozen_.contains(actor->id());
}

// Any job may run next: the seed chooses. Those of frozen nodes stay.
void simulated_cluster::run_ready_jobs() {
  auto& jobs = scheduler().jobs;
  std::deque<caf::resumable*> waiting;
  while (!jobs.empty()) {
    const auto chosen = random_() % jobs.size();
    std::swap(jobs.front(), jobs[chosen]);
    if (belongs_to_frozen(jobs.front())) {
      waiting.push_back(jobs.front());
      jobs.pop_front();
      continue;
    }
    note(chosen);
    scheduler().run_once();
  }
  jobs = std::move(waiting);
}

bool simulated_cluster::run_until(const std::function<bool()>& condition, duration limit) {
  const auto end = wire_->now() + limit;
  while (!condition()) {
    if (wire_->now() >= end) return false;
    run_ready_jobs();
    run_disks();
    wire_->advance(plan_.tick);
    scheduler().advance_time(std::chrono::duration_cast<caf::timespan>(plan_.tick));
  }
  return true;
}

void simulated_cluster::kill(const std::string& name) {
  auto& m = *members_.at(name);
  thaw(name);
  m.alive = false;
  wire_->kill(m.transport->address());
  if (m.disk) {
    m.attached->detach();
    m.disk->kill();
  }
  for (const auto& actor : m.actors.all)
    caf::anon_send_exit(actor, caf::exit_reason::kill);
  break_connections_to(name);
}

void simulated_cluster::cut_power(const std::string& name) {
  kill(name);
  if (auto& m = *members_.at(name); m.disk) m.disk->crash();
}

void simulated_cluster::break_connections_to(const std::string& name) {
  const auto [begin, end] = proxies_.equal_range(name);
  for (auto at = begin; at != end; ++at) {
    wire_->schedule(std::chrono::microseconds{random_() % slowest_message_us},
                    [proxy = at->second] { caf::anon_send_exit(proxy, caf::exit_reason::kill); });
  }
  proxies_.erase(begin, end);
}

void simulated_cluster::restart(const std::string& name) {
  auto& m = *members_.at(name);
  if (m.alive) return;
  run_ready_jobs();
  m.actors = {};
  boot(name);
}

void simulated_cluster::freeze(const std::string& name) {
  auto& m = *members_.at(name);
  if (!m.alive || std::exchange(m.frozen, true)) return;
  wire_->freeze(m.transport->address());
  for (const auto& actor : m.actors.all)
    frozen_.insert(actor->id());
}

void simulated_cluster::spoil_transfers(std::map<fabric::fetch_fault, unsigned> per_mille) {
  transfer_faults_ = std::move(per_mille);
  for (const auto& [name, m] : members_)
    give_plan(*m, random_());
}

void simulated_cluster::spoil_sends(std::map<fabric::send_fault, unsigned> per_mille) {
  send_faults_ = std::move(per_mille);
  for (const auto& [name, m] : members_)
    give_plan(*m, random_());
}

void simulated_cluster::give_plan(member& m, std::uint64_t seed) const {
  m.faulty->change_plan({.seed = seed,
                         .fetches_per_mille = transfer_faults_,
                         .sends_per_mille = send_faults_,
                         .nth_fetch = {},
                         .nth_send = {},
                         .late_max = std::chrono::milliseconds{200}});
}

void simulated_cluster::spoil_disks(tier::device_faults faults, std::uint64_t data_limit_bytes) {
  disk_faults_ = faults;
  disk_limit_bytes_ = data_limit_bytes;
  for (const auto& [name, m] : members_) {
    if (!m->disk) continue;
    m->disk->faults = faults;
    m->disk->set_data_limit(data_limit_bytes);
  }
}

void simulated_cluster::rot(const std::string& name) {
  const auto& config = members_.at(name)->config;
  const auto at = config.staging_bytes + random_() % config.dram_bytes;
  arena(name)[at] ^= std::byte{1} << (random_() % 8);
}

void simulated_cluster::rot_on_disk(const std::string& name) {
  const auto data = members_.at(name)->disk->bytes(tier::area::data);
  if (!data.empty()) data[random_() % data.size()] ^= std::byte{1} << (random_() % 8);
}

void simulated_cluster::rot_block(const std::string& name, const id128& key, std::size_t payload_bytes) {
  const auto stored = arena(name).subspan(members_.at(name)->config.staging_bytes);
  const auto length = block::opaque_size_bytes(payload_bytes);
  for (std::size_t at = 0; at + length <= stored.size(); at += tier::sector_bytes) {
    const auto bytes = stored.subspan(at, length);
    if (const auto parsed = block::view::parse(bytes); parsed && parsed->id().key == key)
      bytes[parsed->range_of_band(0).offset] ^= std::byte{4};
  }
}

void simulated_cluster::rot_all_data_on_disk(const std::string& name) {
  const auto data = members_.at(name)->disk->bytes(tier::area::data);
  for (std::size_t at = 0; at < data.size(); at += tier::sector_bytes)
    data[at] ^= std::byte{4};
}

void simulated_cluster::thaw(const std::string& name) {
  auto& m = *members_.at(name);
  if (!std::exchange(m.frozen, false)) return;
  wire_->thaw(m.transport->address());
  for (const auto& actor : m.actors.all)
    frozen_.erase(actor->id());
}

bool simulated_cluster::cut(const std::string& from, const std::string& to) const {
  return cut_off_.contains(from) != cut_off_.contains(to);
}

void simulated_cluster::split(const std::vector<std::string>& side) {
  heal();
  cut_off_.insert(side.begin(), side.end());
  for (const auto& [name, m] : members_) {
    for (const auto& [other, o] : members_) {
      if (name < other && m->alive && o->alive && cut(name, other))
        wire_->partition(m->transport->address(), o->transport->address());
    }
  }
}

void simulated_cluster::heal() {
  for (const auto& [name, m] : members_) {
    for (const auto& [other, o] : members_) {
      if (name < other && m->alive && o->alive && cut(name, other))
        wire_->heal(m->transport->address(), o->transport->address());
    }
  }
  cut_off_.clear();
}

bool simulated_cluster::alive(const std::string& name) const {
  return members_.at(name)->alive;
}

bool simulated_cluster::settled() const {
  for (const auto& [name, m] : members_) {
    if (m->alive && !m->ready) return false;
  }
  return true;
}

std::shared_ptr<eventual<document_summary>> simulated_cluster::ingest(const std::string& through,
                                                                      std::string text,
                                                                      scoring_wish scoring) {
  auto result = std::make_shared<eventual<document_summary>>();
  auto shared_text = text_ptr{std::make_shared<const std::string>(std::move(text))};
  system_->spawn([gateway = members_.at(through)->actors.gateway, shared_text, scoring,
                  result](caf::event_based_actor* self) {
    self->request(gateway, std::chrono::seconds{30}, encode_atom_v, std::string{"simulated"}, shared_text,
                  scoring)
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

std::span<std::byte> simulated_cluster::arena(const std::string& name) {
  return members_.at(name)->transport->arena();
}

template <class T, class Handle, class... Ts>
std::shared_ptr<eventual<T>> simulated_cluster::request(const Handle& whom, Ts... message) {
  auto result = std::make_shared<eventual<T>>();
  system_->spawn([=](caf::event_based_actor* self) {
    self->request(whom, std::chrono::seconds{30}, message...)
        .then([result](const T& answer) { result->value = answer; },
              [result](const caf::error& e) { result->failure = from_caf(e, "a simulated request"); });
  });
  return result;
}

std::shared_ptr<eventual<write_outcome>> simulated_cluster::put(const std::string& through, const id128& key,
                                                                std::span<const std::byte> payload) {
  auto& m = *members_.at(through);
  auto place = m.actors.room->take(block::opaque_size_bytes(payload.size()));
  if (!place) {
    auto full = std::make_shared<eventual<write_outcome>>();
    full->failure = place.error();
    return full;
  }
  const block::identity id{.key = key, .fingerprint = {1, 2}, .generation = 0, .incarnation = 0};
  if (const auto written = block::write_opaque(place->bytes(), id, payload, 0); !written)
    throw std::runtime_error{to_string(written.error())};
  write_order order;
  order.blocks.push_back(
      {key, machines::item_kind::opaque, std::make_shared<const staged_bytes>(std::move(*place))});
  order.replicas = actors::own_replicas(m.config);
  order.timeout = std::chrono::seconds{5};
  return request<write_outcome>(m.actors.pool, write_atom_v, std::move(order));
}

std::shared_ptr<eventual<read_outcome>> simulated_cluster::get(const std::string& through,
                                                               std::vector<id128> keys, bool in_place,
                                                               std::vector<std::uint64_t> front_bytes) {
  read_order order;
  order.in_place = in_place;
  order.front_bytes = std::move(front_bytes);
  order.keys = std::move(keys);
  order.timeout = members_.at(through)->config.read_deadline;
  return request<read_outcome>(members_.at(through)->actors.pool, read_atom_v, std::move(order));
}

std::shared_ptr<eventual<locate_reply>> simulated_cluster::locate(const std::string& through,
                                                                  std::vector<id128> keys) {
  return request<locate_reply>(members_.at(through)->actors.pool, locate_atom_v, key_list{std::move(keys)});
}

std::shared_ptr<eventual<std::uint64_t>> simulated_cluster::drop_document(const std::string& through,
                                                                          const id128& document) {
  return request<std::uint64_t>(members_.at(through)->actors.gateway, drop_atom_v, document);
}

std::shared_ptr<eventual<std::uint64_t>> simulated_cluster::pin_document(const std::string& through,
                                                                         const id128& document) {
  return request<std::uint64_t>(members_.at(through)->actors.gateway, pin_atom_v, true, document);
}

std::shared_ptr<eventual<document_list>> simulated_cluster::documents(const std::string& through) {
  return request<document_list>(members_.at(through)->actors.gateway, list_atom_v);
}

std::shared_ptr<eventual<std::uint64_t>> simulated_cluster::drop(const std::string& through,
                                                                 const id128& key) {
  return request<std::uint64_t>(members_.at(through)->actors.pool, drop_atom_v, key_list{{key}});
}

std::shared_ptr<eventual<std::uint64_t>> simulated_cluster::pin(const std::string& through, const id128& key,
                                                                bool pinned) {
  return request<std::uint64_t>(members_.at(through)->actors.pool, pin_atom_v, pinned, key_list{{key}});
}

std::shared_ptr<eventual<node_report>> simulated_cluster::report(const std::string& name) {
  return request<node_report>(members_.at(name)->actors.node, status_atom_v);
}

std::shared_ptr<eventual<lease_reply>> simulated_cluster::lease(const std::string& holder,
                                                                std::vector<id128> keys) {
  lease_request wanted;
  wanted.reader = {{1, 1}, 1};
  wanted.keys = std::move(keys);
  return request<lease_reply>(members_.at(holder)->actors.storage, lease_atom_v, std::move(wanted));
}

std::shared_ptr<eventual<machines::candidate_state>> simulated_cluster::leadership(const std::string& name) {
  return request<machines::candidate_state>(members_.at(name)->actors.node, lead_atom_v);
}

time_point simulated_cluster::now() const {
  return wire_->now();
}

}  // namespace weft::simulation
