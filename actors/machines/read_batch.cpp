#include <weft/machines/read_batch.hpp>

#include "placement_order.hpp"
#include "rendezvous.hpp"

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace weft::machines {
namespace {

enum class key_phase : std::uint8_t {
  locating,
  waiting,   // to ask the directory again at `retry_at`
  choosing,  // has candidates, or nothing left to try
  leasing,
  fetching,
  done,
};

struct key_state {
  key_phase phase = key_phase::choosing;
  std::uint64_t call = 0;            // the one it waits for
  std::vector<node_ref> candidates;  // best last
  std::vector<node_ref> tried;
  unsigned locates = 0;
  bool maybe = false;                   // the last locate could not tell
  bool guessed = false;                 // the likely holders have been asked without the directory
  bool tried_named = false;             // a holder that the directory named has been asked
  bool failed = false;                  // somebody who may hold it could not deliver
  std::optional<node_ref> gone_from{};  // it was thought to be there, and nobody answered
  errc why = errc::ok;                  // the last such failure
  time_point retry_at{};
};

enum class call_kind : std::uint8_t { locate, lease, fetch };

struct call_state {
  call_kind kind = call_kind::locate;
  node_ref holder;
  std::vector<std::uint32_t> keys;
  std::uint64_t lease = 0;  // under which a fetch reads; 0: none, out of memory
  time_point expires{};
  bool abandoned = false;  // its keys have gone elsewhere; only the report is awaited
};

bool is_a_no(errc why) {
  return why == errc::not_found || why == errc::stale;
}

bool ended_with(const node_ref& life, const node_ref& down) {
  return life.node == down.node && life.incarnation <= down.incarnation;
}

// Spreads keys over replicas: every reader's seed gives another order.
std::uint64_t preference(std::uint64_t seed, const id128& key, const node_ref& holder) {
  return rendezvous_weight({key.high ^ seed, key.low + seed * 0x9e3779b97f4a7c15ULL}, holder.node);
}

}  // namespace

struct read_batch::state {
  std::vector<id128> keys;
  read_options options;
  std::vector<key_state> progress;
  std::map<std::uint64_t, call_state> calls;  // not reported yet
  std::uint64_t last_call = 0;
  std::size_t undone = 0;
  time_point deadline{};
  std::vector<node_ref> down;
  std::optional<placement_order> writers_order;  // made when it is first needed
  std::vector<read_action> actions;

  state(std::vector<id128> k, read_options o)
      : keys(std::move(k)), options(std::move(o)), progress(keys.size()), undone(keys.size()) {}

  std::vector<read_action> take_actions() {
    std::stable_partition(actions.begin(), actions.end(),
                          [](const read_action& a) { return std::holds_alternative<read_done>(a); });
    return std::exchange(actions, {});
  }

  duration remaining(time_point now) const { return std::max(duration::zero(), deadline - now); }

  bool is_down(const node_ref& life) const {
    return std::ranges::any_of(down, [&](const node_ref& d) { return ended_with(life, d); });
  }

  bool waits_for(std::uint32_t key, std::uint64_t call) const {
    return progress[key].phase != key_phase::done && progress[key].call == call;
  }

  std::uint64_t open_call(call_state c) {
    calls.emplace(++last_call, std::move(c));
    return last_call;
  }

  // Takes a reported call out of the books. Nothing for made-up numbers and for calls of another kind.
  std::optional<call_state> close_call(std::uint64_t number, call_kind kind) {
    const auto at = calls.find(number);
    if (at == calls.end() || at->second.kind != kind) return std::nullopt;
    call_state c = std::move(at->second);
    calls.erase(at);
    return c;
  }

  void finish(std::uint32_t key, read_outcome outcome, errc why, const node_ref& holder) {
    key_state& k = progress[key];
    k.phase = key_phase::done;
    k.call = 0;
    k.candidates = {};
    k.tried = {};
    --undone;
    actions.push_back(read_done{.key = key, .outcome = outcome, .why = why, .holder = holder});
  }

  // ---- locating

  void locate(std::vector<std::uint32_t> wanted, time_point now) {
    if (wanted.empty()) return;
    // A third, so that time is left for the holders when the directory does not answer.
    const duration timeout = remaining(now) / 3;
    const std::uint64_t number =
        open_call({.kind = call_kind::locate, .holder = {}, .keys = wanted, .expires = now + timeout});
    for (const std::uint32_t key : wanted) {
      key_state& k = progress[key];
      k.phase = key_phase::locating;
      k.call = number;
      ++k.locates;
    }
    actions.push_back(locate_keys{.call = number, .keys = std::move(wanted), .timeout = timeout});
  }

  void take_holders(std::uint32_t key, const key_holders& answer) {
    key_state& k = progress[key];
    k.phase = key_phase::choosing;
    k.call = 0;
    k.maybe = answer.maybe;
    // Only now is it known that it may still be there.
    if (k.gone_from && std::ranges::find(answer.holders, *k.gone_from) != answer.holders.end())
      k.failed = true;
    set_candidates(key, answer.holders);
  }

  std::uint64_t cost_of(const node_ref& holder) const {
    const auto at = std::ranges::find(options.costs, holder, [](const auto& c) { return c.first; });
    return at == options.costs.end() ? 0 : at->second;
  }

  // Those of `holders` that are alive and were not tried, the preferred one last.
  void set_candidates(std::uint32_t key, const std::vector<node_ref>& holders) {
    key_state& k = progress[key];
    k.candidates.clear();
    for (const node_ref& h : holders) {
      if (!is_down(h) && std::ranges::find(k.tried, h) == k.tried.end()) k.candidates.push_back(h);
    }
    const auto weight = [&](const node_ref& h) {
      const bool own = options.self && *options.self == h;
      return std::tuple(own, ~cost_of(h), preference(options.seed, keys[key], h));
    };
    std::ranges::sort(k.candidates, {}, weight);
    k.candidates.erase(std::unique(k.candidates.begin(), k.candidates.end()), k.candidates.end());
  }

  // Where writers would have put the key.
  void guess_holders(std::uint32_t key, unsigned guesses) {
    std::vector<node_ref> likely;
    if (!writers_order) writers_order.emplace(options.storage_nodes, options.storage_shares);
    for (const std::uint16_t i : writers_order->of(keys[key], guesses)) {
      likely.push_back(writers_order->nodes()[i]);
    }
    set_candidates(key, likely);
  }

  // The best of them is asked before the directory is.
  void guess_first(std::uint32_t key) {
    guess_holders(key, options.first_guesses);
    std::vector<node_ref>& candidates = progress[key].candidates;
    if (candidates.size() > 1) candidates.erase(candidates.begin(), candidates.end() - 1);
  }

  // ---- the next step of keys that have none under way

  void advance(time_point now) {
    if (now >= deadline) {
      give_up();
      return;
    }
    std::map<node_ref, std::vector<std::uint32_t>> to_lease;
    std::vector<std::uint32_t> to_locate;
    for (std::uint32_t key = 0; key < progress.size(); ++key) {
      key_state& k = progress[key];
      if (k.phase == key_phase::choosing) choose(key, now);
      if (k.phase == key_phase::waiting && k.retry_at <= now) to_locate.push_back(key);
      if (k.phase == key_phase::choosing) to_lease[k.candidates.back()].push_back(key);
    }
    locate(std::move(to_locate), now);
    for (const auto& [holder, wanted] : to_lease) {
      for (std::size_t at = 0; at < wanted.size(); at += options.max_keys_per_lease) {
        const auto first = wanted.begin() + static_cast<std::ptrdiff_t>(at);
        const auto count = std::min(options.max_keys_per_lease, wanted.size() - at);
        lease(holder, {first, first + static_cast<std::ptrdiff_t>(count)}, now);
      }
    }
  }

  // Leaves the key with a candidate, waiting, or done.
  void choose(std::uint32_t key, time_point now) {
    key_state& k = progress[key];
    if (k.candidates.empty() && k.maybe && !std::exchange(k.guessed, true))
      guess_holders(key, options.guesses);
    if (!k.candidates.empty()) return;
    if (const std::optional<time_point> at = ask_again_at(k, now)) {
      k.phase = key_phase::waiting;
      k.retry_at = *at;
      return;
    }
    if (k.failed) {
      finish(key, read_outcome::error, k.why, {});
    } else if (k.maybe) {
      finish(key, read_outcome::error, errc::unreachable, {});
    } else {
      finish(key, read_outcome::miss, errc::ok, {});
    }
  }

  // A directory that is being rebuilt is given time. Where all known holders failed, it may know better by
  // now, but is asked once only.
  std::optional<time_point> ask_again_at(const key_state& k, time_point now) const {
    if (k.locates == 0) return now;  // what was remembered is not true any more
    if (k.locates >= options.locate_attempts) return std::nullopt;
    if (k.maybe) return std::min(deadline, now + options.relocate_delay);
    if ((k.tried_named || k.failed) && k.locates < 2) return now;
    return std::nullopt;
  }

  void note_failure(std::uint32_t key, errc why) {
    key_state& k = progress[key];
    k.phase = key_phase::choosing;
    k.call = 0;
    if (is_a_no(why)) return;
    k.failed = true;
    k.why = why;
  }

  // A guess that was wrong says nothing about the key.
  void note_no_lease(std::uint32_t key, const node_ref& holder, errc why) {
    if (progress[key].locates == 0) {
      note_not_there(key, holder, why);
    } else {
      note_failure(key, why);
    }
  }

  // Where it was remembered something else stands, or nobody answers.
  void note_not_there(std::uint32_t key, const node_ref& holder, errc why) {
    key_state& k = progress[key];
    k.phase = key_phase::choosing;
    k.call = 0;
    if (why != errc::unreachable && why != errc::deadline_exceeded) return;
    if (std::ranges::find(k.tried, holder) == k.tried.end()) k.tried.push_back(holder);
    k.gone_from = holder;
    k.why = why;
  }

  // The whole rest for a last resort, a fair part of it where others, or the directory, could still be asked.
  duration share_of_rest(const std::vector<std::uint32_t>& wanted, time_point now) const {
    std::size_t others = 0;
    for (const std::uint32_t key : wanted)
      others = std::max(others, progress[key].locates == 0 ? 2 : progress[key].candidates.size());
    return remaining(now) / static_cast<std::int64_t>(others + 1);
  }

  // ---- leasing

  void lease(const node_ref& holder, std::vector<std::uint32_t> wanted, time_point now) {
    for (const std::uint32_t key : wanted) {
      key_state& k = progress[key];
      k.candidates.pop_back();
      k.tried.push_back(holder);
      k.tried_named |= k.locates > 0;
    }
    const duration timeout = share_of_rest(wanted, now);
    const std::uint64_t number =
        open_call({.kind = call_kind::lease, .holder = holder, .keys = wanted, .expires = now + timeout});
    for (const std::uint32_t key : wanted) {
      progress[key].phase = key_phase::leasing;
      progress[key].call = number;
    }
    actions.push_back(
        request_lease{.call = number, .holder = holder, .keys = std::move(wanted), .timeout = timeout});
  }

  void take_lease(std::uint64_t number, const call_state& c, std::uint64_t lease_number,
                  const std::vector<leased_piece>& pieces, time_point now) {
    std::vector<std::uint32_t> granted;
    std::vector<fetch_piece> wanted;
    for (std::size_t i = 0; i < c.keys.size(); ++i) {
      const std::uint32_t key = c.keys[i];
      if (!waits_for(key, number)) continue;
      const leased_piece piece = i < pieces.size() ? pieces[i] : leased_piece{.outcome = errc::internal};
      if (piece.outcome == errc::ok && lease_number != 0 && now < deadline) {
        granted.push_back(key);
        wanted.push_back({key, piece.offset, piece.bytes, piece.generation});
      } else {
        note_no_lease(key, c.holder, piece.outcome == errc::ok ? errc::internal : piece.outcome);
      }
    }
    if (!wanted.empty()) {
      const duration timeout = share_of_rest(granted, now);
      fetch(c.holder, lease_number, granted, std::move(wanted), timeout, now);
    } else if (lease_number != 0) {
      actions.push_back(release_lease{.holder = c.holder, .lease = lease_number});
    }
  }

  // ---- fetching

  // Without asking anybody. The keys of which nothing is remembered.
  std::vector<std::uint32_t> fetch_remembered(time_point now) {
    std::map<node_ref, std::pair<std::vector<std::uint32_t>, std::vector<fetch_piece>>> known;
    std::vector<std::uint32_t> others;
    for (std::uint32_t key = 0; key < keys.size(); ++key) {
      if (key >= options.remembered.size() || !options.remembered[key]) {
        others.push_back(key);
        continue;
      }
      const block_place& place = *options.remembered[key];
      auto& [wanted, pieces] = known[place.holder];
      wanted.push_back(key);
      pieces.push_back({key, place.offset, place.bytes, place.generation});
    }
    // A third, so that time is left for those who know.
    for (auto& [holder, work] : known)
      fetch(holder, 0, work.first, std::move(work.second), remaining(now) / 3, now);
    return others;
  }

  void fetch(const node_ref& holder, std::uint64_t lease_number, const std::vector<std::uint32_t>& granted,
             std::vector<fetch_piece> pieces, duration timeout, time_point now) {
    const std::uint64_t number = open_call({.kind = call_kind::fetch,
                                            .holder = holder,
                                            .keys = granted,
                                            .lease = lease_number,
                                            .expires = now + timeout});
    for (const std::uint32_t key : granted) {
      progress[key].phase = key_phase::fetching;
      progress[key].call = number;
    }
    actions.push_back(fetch_pieces{.call = number,
                                   .holder = holder,
                                   .lease = lease_number,
                                   .pieces = std::move(pieces),
                                   .timeout = timeout});
  }

  void take_pieces(std::uint64_t number, const call_state& c, const std::vector<errc>& pieces) {
    if (c.lease != 0) actions.push_back(release_lease{.holder = c.holder, .lease = c.lease});
    for (std::size_t i = 0; i < c.keys.size(); ++i) {
      const std::uint32_t key = c.keys[i];
      if (!waits_for(key, number)) continue;
      const errc outcome = i < pieces.size() ? pieces[i] : errc::internal;
      if (outcome == errc::ok) {
        finish(key, read_outcome::ok, errc::ok, c.holder);
      } else if (c.lease == 0) {
        note_not_there(key, c.holder, outcome);
      } else {
        note_failure(key, outcome);
      }
    }
  }

  // ---- what does not answer

  void abandon(std::uint64_t number, call_state& c, errc why) {
    if (c.abandoned) return;
    c.abandoned = true;
    if (c.kind == call_kind::fetch) actions.push_back(cancel_fetch{number});
    for (const std::uint32_t key : c.keys) {
      if (!waits_for(key, number)) continue;
      if (c.kind == call_kind::locate) {
        take_holders(key, {.holders = {}, .maybe = true});
      } else if (c.kind == call_kind::lease) {
        note_no_lease(key, c.holder, why);
      } else if (c.lease == 0) {
        note_not_there(key, c.holder, why);
      } else {
        note_failure(key, why);
      }
    }
  }

  void abandon_expired(time_point now) {
    for (auto& [number, c] : calls) {
      if (c.expires <= now) abandon(number, c, errc::deadline_exceeded);
    }
  }

  void give_up() {
    for (auto& [number, c] : calls)
      abandon(number, c, errc::deadline_exceeded);
    for (std::uint32_t key = 0; key < progress.size(); ++key) {
      if (progress[key].phase == key_phase::done) continue;
      finish(key, read_outcome::error, errc::deadline_exceeded, {});
    }
  }
};

read_batch::read_batch(std::vector<id128> keys, read_options options)
    : state_(std::make_unique<state>(std::move(keys), std::move(options))) {}
read_batch::~read_batch() = default;
read_batch::read_batch(read_batch&&) noexcept = default;
read_batch& read_batch::operator=(read_batch&&) noexcept = default;

std::vector<read_action> read_batch::start(time_point now) {
  state& s = *state_;
  s.deadline = now + s.options.deadline;
  std::vector<std::uint32_t> unknown = s.fetch_remembered(now);
  if (s.options.first_guesses == 0) {
    s.locate(std::move(unknown), now);
    return s.take_actions();
  }
  for (const std::uint32_t key : unknown)
    s.guess_first(key);
  s.advance(now);
  return s.take_actions();
}

std::vector<read_action> read_batch::on_located(std::uint64_t call, std::vector<key_holders> answers,
                                                time_point now) {
  state& s = *state_;
  const std::optional<call_state> c = s.close_call(call, call_kind::locate);
  if (!c) return {};
  for (std::size_t i = 0; i < c->keys.size(); ++i) {
    if (!s.waits_for(c->keys[i], call)) continue;
    s.take_holders(c->keys[i], i < answers.size() ? answers[i] : key_holders{.holders = {}, .maybe = true});
  }
  s.advance(now);
  return s.take_actions();
}

std::vector<read_action> read_batch::on_leased(std::uint64_t call, std::uint64_t lease,
                                               const std::vector<leased_piece>& pieces, time_point now) {
  state& s = *state_;
  const std::optional<call_state> c = s.close_call(call, call_kind::lease);
  if (!c) return {};
  s.take_lease(call, *c, lease, pieces, now);
  s.advance(now);
  return s.take_actions();
}

std::vector<read_action> read_batch::on_lease_failed(std::uint64_t call, errc why, time_point now) {
  return on_leased(call, 0, std::vector(keys().size(), leased_piece{.outcome = why}), now);
}

std::vector<read_action> read_batch::on_fetched(std::uint64_t call, const std::vector<errc>& pieces,
                                                time_point now) {
  state& s = *state_;
  const std::optional<call_state> c = s.close_call(call, call_kind::fetch);
  if (!c) return {};
  s.take_pieces(call, *c, pieces);
  s.advance(now);
  return s.take_actions();
}

std::vector<read_action> read_batch::on_node_down(const node_ref& node, time_point now) {
  state& s = *state_;
  s.down.push_back(node);
  for (key_state& k : s.progress) {
    std::erase_if(k.candidates, [&](const node_ref& h) { return ended_with(h, node); });
  }
  for (auto& [number, c] : s.calls) {
    if (c.kind != call_kind::locate && ended_with(c.holder, node)) s.abandon(number, c, errc::unreachable);
  }
  s.advance(now);
  return s.take_actions();
}

std::vector<read_action> read_batch::tick(time_point now) {
  state& s = *state_;
  s.abandon_expired(now);
  s.advance(now);
  return s.take_actions();
}

std::optional<time_point> read_batch::next_deadline() const {
  const state& s = *state_;
  if (s.undone == 0) return std::nullopt;
  time_point next = s.deadline;
  for (const auto& [number, c] : s.calls) {
    if (!c.abandoned) next = std::min(next, c.expires);
  }
  for (const key_state& k : s.progress) {
    if (k.phase == key_phase::waiting) next = std::min(next, k.retry_at);
  }
  return next;
}

bool read_batch::all_done() const {
  return state_->undone == 0;
}
bool read_batch::finished() const {
  return state_->undone == 0 && state_->calls.empty();
}
std::span<const id128> read_batch::keys() const {
  return state_->keys;
}

}  // namespace weft::machines
