#include "decode_group.hpp"

#include <weft/actors/cluster.hpp>
#include <weft/actors/errors.hpp>
#include <weft/engine/device_name.hpp>
#include <weft/engine/model_shard.hpp>

#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>
#include <spdlog/spdlog.h>

#include "../node/node_model.hpp"
#include "resumed_listener.hpp"

#include <algorithm>
#include <deque>
#include <optional>
#include <string>
#include <utility>

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::rank_news_ptr)

namespace weft::actors {

namespace {

constexpr auto tick_interval = std::chrono::milliseconds{250};
constexpr auto seat_timeout = std::chrono::seconds{2};
constexpr auto join_timeout = std::chrono::seconds{60};  // one rank may be so much later with its shard
constexpr auto step_timeout = std::chrono::seconds{5};   // ranks do the same at the same time
constexpr auto retry_pause = std::chrono::seconds{1};
constexpr auto question_patience = std::chrono::seconds{30};  // for a group to be there
constexpr unsigned most_tries = 4;

// A node of the group that lives.
struct live_rank {
  machines::node_ref ref;
  role_handles roles;
};

struct asked_question {
  question asked;
  resumed_listener listener;  // null: nobody listens
  caf::typed_response_promise<answer> promise;
  time_point waits_since;
  unsigned tries = 0;  // what comes of an earlier one does not count
};
using asked_ptr = std::shared_ptr<asked_question>;

struct group_state {
  static inline const char* name = "decode_group";

  ~group_state();

  caf::actor_system* system = nullptr;
  node_config config;
  work_parts parts;
  engine::runner_options model;
  cluster_ptr now;
  std::optional<time_point> first_view;

  std::optional<rank_threads> threads;
  std::optional<fabric::ucx_group_seat> seat;  // that waits for its roster
  group_round seated_in;
  std::uint64_t joining = 0;  // thread whose group this node is in, or is to be
  std::uint64_t joining_ranks = 0;

  // As the one that leads.
  std::uint64_t round = 0;
  bool forming = false;
  time_point next_try{};
  std::vector<machines::node_ref> members;  // of the group that there is, or is being made
  std::shared_ptr<rank_lead> lead;
  engine_actor engine;
  local_decode_actor answering;
  std::string why_not;

  std::vector<engine_actor> ending;  // of groups that are no more
  std::deque<asked_ptr> waiting;
  std::vector<asked_ptr> answered_here;
  std::vector<std::pair<asked_ptr, decode_actor>> answered_there;  // by the one that leads
  decode_report report;
};

// What uses the transport ends before this actor has.
group_state::~group_state() {
  if (lead) lead->give_up();
  caf::scoped_actor self{*system};
  const auto end = [&self](const auto& actor) {
    self->send_exit(actor, caf::exit_reason::user_shutdown);
    self->wait_for(actor);
  };
  if (answering) end(answering);
  if (engine) ending.push_back(engine);
  for (const auto& one : ending)
    end(one);
}

using self_pointer = local_group_actor::stateful_pointer<group_state>;

std::vector<live_rank> live_ranks(const group_state& state) {
  std::vector<live_rank> live;
  if (!state.now) return live;
  for (const auto& name : state.config.group_nodes)
    for (const auto& member : state.now->view.members) {
      if (member.name != name) continue;
      const auto* roles = state.now->handles_of(member.ref.node);
      if (roles != nullptr && roles->group) live.push_back({member.ref, *roles});
    }
  return live;
}

bool leads(const group_state& state, const std::vector<live_rank>& live) {
  return !live.empty() && live.front().ref.node == state.now->self.node;
}

// As many of the first as the model can be cut for.
std::vector<live_rank> usable(const group_state& state, std::vector<live_rank> live) {
  const auto& whole = state.parts.context->config;
  while (live.size() > 1 && !engine::shard_of(whole, 0, static_cast<unsigned>(live.size())))
    live.pop_back();
  return live;
}

std::vector<machines::node_ref> refs_of(const std::vector<live_rank>& ranks) {
  std::vector<machines::node_ref> refs;
  for (const auto& rank : ranks)
    refs.push_back(rank.ref);
  return refs;
}

// -- questions --

void dispatch(self_pointer self, const asked_ptr& job);

void finish(asked_question& job) {
  if (job.listener) caf::anon_send_exit(job.listener, caf::exit_reason::user_shutdown);
}

void deliver(asked_question& job, const error& why) {
  job.promise.deliver(to_caf(why));
  finish(job);
}

void wait_for_group(self_pointer self, const asked_ptr& job) {
  job->waits_since = self->state.parts.clock();
  self->state.waiting.push_back(job);
}

void ask_again(self_pointer self, const asked_ptr& job, const error& why) {
  if (++job->tries == most_tries) return deliver(*job, why);
  ++self->state.report.asked_again;
  if (job->listener) self->send(job->listener, open_atom_v);
  wait_for_group(self, job);
}

// Whether this is the try that the question waits for; it ends it.
bool ends_try(group_state& state, const asked_ptr& job, unsigned tries) {
  return job->tries == tries && std::erase(state.answered_here, job) != 0;
}

void answer_here(self_pointer self, const asked_ptr& job) {
  auto& state = self->state;
  state.answered_here.push_back(job);
  self->request(state.answering, caf::infinite, ask_atom_v, job->asked, answer_listener{job->listener})
      .then(
          [self, job, tries = job->tries](answer given) {
            if (!ends_try(self->state, job, tries)) return;
            job->promise.deliver(std::move(given));
            finish(*job);
          },
          [self, job, tries = job->tries, lead = state.lead](const caf::error& e) {
            if (!ends_try(self->state, job, tries)) return;
            const auto why = from_caf(e, "answering in a group");
            if (lead->lost())
              ask_again(self, job, why);
            else
              deliver(*job, why);
          });
}

bool ends_try_there(group_state& state, const asked_ptr& job, unsigned tries) {
  return job->tries == tries &&
         std::erase_if(state.answered_there, [&](const auto& asked) { return asked.first == job; }) != 0;
}

void ask_leader(self_pointer self, const asked_ptr& job, const decode_actor& leader) {
  self->state.answered_there.emplace_back(job, leader);
  self->request(leader, caf::infinite, ask_atom_v, job->asked, answer_listener{job->listener})
      .then(
          [self, job, tries = job->tries](answer given) {
            if (!ends_try_there(self->state, job, tries)) return;
            job->promise.deliver(std::move(given));
            finish(*job);
          },
          [self, job, tries = job->tries](const caf::error& e) {
            if (!ends_try_there(self->state, job, tries)) return;
            const auto why = from_caf(e, "asking the first node of the group");
            if (why.code == errc::unreachable)
              ask_again(self, job, why);
            else
              deliver(*job, why);
          });
}

// A leader that died says nothing.
void miss_lost_leaders(self_pointer self) {
  auto& state = self->state;
  const auto live = live_ranks(state);
  const auto lives = [&](const auto& asked) {
    return std::ranges::any_of(live, [&](const live_rank& one) { return one.roles.decode == asked.second; });
  };
  auto& asked = state.answered_there;
  const auto lost = std::partition(asked.begin(), asked.end(), lives);
  const std::vector<std::pair<asked_ptr, decode_actor>> missed{lost, asked.end()};
  asked.erase(lost, asked.end());
  for (const auto& [job, leader] : missed)
    ask_again(self, job,
              {errc::unreachable, "the first node of the group `" + state.config.group + "` is lost"});
}

void dispatch(self_pointer self, const asked_ptr& job) {
  auto& state = self->state;
  const auto live = live_ranks(state);
  if (live.empty()) return wait_for_group(self, job);
  if (!leads(state, live)) return ask_leader(self, job, live.front().roles.decode);
  if (state.answering && !state.lead->lost()) return answer_here(self, job);
  wait_for_group(self, job);
}

void dispatch_waiting(self_pointer self) {
  auto waiting = std::exchange(self->state.waiting, {});
  for (const auto& job : waiting) {
    const auto since = job->waits_since;
    const auto before = self->state.waiting.size();
    dispatch(self, job);
    if (self->state.waiting.size() > before) job->waits_since = since;
  }
}

void refuse_late(self_pointer self) {
  auto& state = self->state;
  const auto now = state.parts.clock();
  std::erase_if(state.waiting, [&](const asked_ptr& job) {
    if (now - job->waits_since < question_patience) return false;
    deliver(*job, {errc::unreachable, "the decode group `" + state.config.group + "` has not come together" +
                                          (state.why_not.empty() ? std::string{} : ": " + state.why_not) +
                                          "; `weft status` shows which nodes live"});
    return true;
  });
}

// -- the group --

// Ends the group that this node leads, or is in. Questions that it was answering are asked again.
void end_group(self_pointer self) {
  auto& state = self->state;
  if (state.lead) state.lead->give_up();
  if (state.answering) self->send_exit(state.answering, caf::exit_reason::user_shutdown);
  if (state.engine) {
    self->send_exit(state.engine, caf::exit_reason::user_shutdown);
    self->monitor(state.engine);
    state.ending.push_back(state.engine);
  }
  for (const auto& job : std::exchange(state.answered_here, {}))
    ask_again(self, job, {errc::unreachable, "the group `" + state.config.group + "` was lost"});
  state.answering = local_decode_actor{};
  state.engine = engine_actor{};
  state.lead.reset();
  state.members.clear();
  state.report.group_ranks = 0;
  state.threads->stop();
  state.joining = 0;
  state.seat.reset();
}

void not_formed(self_pointer self, const std::string& why) {
  auto& state = self->state;
  if (why != state.why_not) spdlog::warn("{}: group {}: {}", state.config.name, state.config.group, why);
  state.why_not = why;
  state.forming = false;
  state.members.clear();
  state.next_try = state.parts.clock() + retry_pause;
}

result<std::string> take_seat(group_state& state) {
  fabric::ucx_group_options options;
  options.group.timeout = step_timeout;
  options.join_timeout = join_timeout;
  auto seat = fabric::ucx_group_seat::open(options);
  if (!seat) return tl::make_unexpected(seat.error());
  auto address = seat->address();
  state.seat.emplace(std::move(*seat));
  return address;
}

// What its device is for NCCL.
std::optional<unsigned> cuda_device_of(const group_state& state) {
  if (!state.model.device) return std::nullopt;
  const auto name = engine::device_from_name(state.config.device);
  return name ? std::optional(name->number) : std::nullopt;
}

void join(group_state& state, unsigned rank, std::vector<std::string> addresses) {
  state.report.group_rank = rank;
  state.report.group_ranks = 0;
  state.joining_ranks = addresses.size();
  auto seat = std::move(*state.seat);
  state.seat.reset();
  state.joining = state.threads->join(std::move(seat), {.rank = rank,
                                                        .addresses = std::move(addresses),
                                                        .model_folder = state.config.model_folder,
                                                        .model = state.model,
                                                        .cuda_device = cuda_device_of(state),
                                                        .stop_tokens = state.parts.context->config.eos_tokens,
                                                        .step_timeout = step_timeout});
}

// Seats that are being asked for.
struct forming_group {
  group_round round;
  std::vector<live_rank> ranks;
  std::vector<std::string> addresses;
  std::size_t open = 0;
};

void seat_taken(self_pointer self, const std::shared_ptr<forming_group>& group) {
  auto& state = self->state;
  if (--group->open != 0 || !state.forming || group->round.number != state.round) return;
  for (unsigned rank = 1; rank < group->ranks.size(); ++rank)
    self->send(group->ranks[rank].roles.group, join_atom_v,
               group_roster{.round = group->round, .rank = rank, .addresses = group->addresses});
  join(state, 0, group->addresses);
}

void form(self_pointer self, std::vector<live_rank> ranks) {
  auto& state = self->state;
  end_group(self);
  state.forming = true;
  state.members = refs_of(ranks);
  const auto own = take_seat(state);
  if (!own) return not_formed(self, own.error().context);
  auto group = std::make_shared<forming_group>();
  group->round = {.leader = state.now->self, .number = ++state.round};
  group->addresses.resize(ranks.size());
  group->addresses[0] = *own;
  group->ranks = std::move(ranks);
  group->open = group->ranks.size();
  for (std::size_t rank = 1; rank < group->ranks.size(); ++rank)
    self->request(group->ranks[rank].roles.group, seat_timeout, seat_atom_v, group->round)
        .then(
            [self, group, rank](const std::string& address) {
              group->addresses[rank] = address;
              seat_taken(self, group);
            },
            [self, group](const caf::error& e) {
              auto& now = self->state;
              if (now.forming && group->round.number == now.round)
                not_formed(self, from_caf(e, "asking a node of the group for a seat").context);
            });
  seat_taken(self, group);
}

bool wants_another(const group_state& state, const std::vector<live_rank>& ranks) {
  if (refs_of(ranks) == state.members) return state.lead && state.lead->lost();
  const auto still_there = [&](const machines::node_ref& member) {
    return std::ranges::find(ranks, member, &live_rank::ref) != ranks.end();
  };
  // Who comes back waits until nothing is being answered; who is gone is missed at once.
  return !std::ranges::all_of(state.members, still_there) || state.answered_here.empty();
}

void look_after_group(self_pointer self) {
  auto& state = self->state;
  const auto now = state.parts.clock();
  const auto live = live_ranks(state);
  if (!leads(state, live)) {
    if (state.lead || state.forming) {
      end_group(self);
      state.forming = false;
    }
    return;
  }
  if (now < state.next_try) return;
  const bool complete = live.size() == state.config.group_nodes.size();
  const auto patience = 4 * state.config.liveness_timeout;
  if (!complete && state.report.groups_made == 0 && now - *state.first_view < patience) return;
  const auto ranks = usable(state, live);
  if (!state.members.empty() && !wants_another(state, ranks)) return;
  form(self, ranks);
}

void formed(self_pointer self, const std::shared_ptr<rank_lead>& lead) {
  auto& state = self->state;
  state.forming = false;
  state.why_not.clear();
  state.lead = lead;
  state.engine = spawn_engine(self->home_system(), {lead, &lead->model()}, state.parts.context,
                              engine_thread::own, {.limit_bytes = state.config.cache_bytes}, lead);
  auto parts = state.parts;
  parts.engine = state.engine;
  parts.grouped = true;
  state.answering = spawn_decode(self->home_system(), state.config, std::move(parts));
  if (state.now) self->send(state.answering, cluster_atom_v, state.now);
  spdlog::info("{}: group {}: {} ranks answer together, this one leads", state.config.name,
               state.config.group, state.members.size());
}

void take_news(self_pointer self, const rank_news& news) {
  auto& state = self->state;
  const bool current = news.thread == state.joining;
  if (!news.ended && current) {
    ++state.report.groups_made;
    state.report.group_ranks = state.joining_ranks;
    if (news.lead) formed(self, news.lead);
  }
  if (news.ended) {
    state.threads->forget(news.thread);
    if (current && state.forming) not_formed(self, news.why.context);
    if (current && state.report.group_rank != 0) state.report.group_ranks = 0;
  }
}

local_group_actor::behavior_type behave(self_pointer self, const node_config& config, work_parts parts,
                                        const engine::runner_options& model) {
  auto& state = self->state;
  state.system = &self->home_system();
  state.config = config;
  state.parts = std::move(parts);
  state.model = model;
  state.report.grouped = true;
  state.threads.emplace([me = caf::actor_cast<local_group_actor>(self)](rank_news news) {
    caf::anon_send(me, ready_atom_v, std::make_shared<const rank_news>(std::move(news)));
  });
  self->set_down_handler([self](const caf::down_msg& down) {
    std::erase_if(self->state.ending, [&](const auto& engine) { return engine.address() == down.source; });
  });
  self->send(self, tick_atom_v);
  return {
      [self](ask_atom, const question& asked, const answer_listener& listener) -> caf::result<answer> {
        auto job = std::make_shared<asked_question>();
        job->asked = asked;
        if (listener) job->listener = spawn_resumed_listener(self->home_system(), listener);
        job->promise = self->make_response_promise<answer>();
        auto promise = job->promise;
        dispatch(self, job);
        return promise;
      },
      [](size_atom, const id128&) -> caf::result<std::uint64_t> { return std::uint64_t{0}; },
      [self](drop_atom, const id128& document) {
        if (self->state.answering) self->send(self->state.answering, drop_atom_v, document);
      },
      [self](cluster_atom, const cluster_ptr& now) {
        auto& s = self->state;
        s.now = now;
        if (!s.first_view) s.first_view = s.parts.clock();
        if (s.answering) self->send(s.answering, cluster_atom_v, now);
        miss_lost_leaders(self);
        look_after_group(self);
        dispatch_waiting(self);
      },
      [self](status_atom) -> caf::result<decode_report> {
        if (!self->state.answering) return self->state.report;
        auto promise = self->make_response_promise<decode_report>();
        self->request(self->state.answering, caf::infinite, status_atom_v)
            .then(
                [self, promise](decode_report given) mutable {
                  const auto& own = self->state.report;
                  given.grouped = true;
                  given.group_ranks = own.group_ranks;
                  given.group_rank = own.group_rank;
                  given.groups_made = own.groups_made;
                  given.asked_again = own.asked_again;
                  promise.deliver(given);
                },
                [self, promise](const caf::error&) mutable { promise.deliver(self->state.report); });
        return promise;
      },
      [self](seat_atom, const group_round& round) -> caf::result<std::string> {
        auto& s = self->state;
        end_group(self);
        s.forming = false;
        s.seated_in = round;
        const auto address = take_seat(s);
        if (!address) return to_caf(address.error());
        return *address;
      },
      [self](join_atom, const group_roster& roster) {
        auto& s = self->state;
        const bool same =
            roster.round.leader == s.seated_in.leader && roster.round.number == s.seated_in.number;
        if (!same || !s.seat || roster.rank >= roster.addresses.size()) return;
        join(s, roster.rank, roster.addresses);
      },
      [self](ready_atom, const rank_news_ptr& news) {
        take_news(self, *news);
        dispatch_waiting(self);
      },
      [self](tick_atom) {
        look_after_group(self);
        dispatch_waiting(self);
        refuse_late(self);
        self->delayed_send(self, tick_interval, tick_atom_v);
      },
  };
}

}  // namespace

local_group_actor spawn_decode_group(caf::actor_system& system, const node_config& config, work_parts parts,
                                     std::shared_ptr<const engine::compute_device> device) {
  auto model = *runner_options_of(config);
  model.device = std::move(device);
  return system.spawn<caf::detached>(behave, config, std::move(parts), model);
}

}  // namespace weft::actors
