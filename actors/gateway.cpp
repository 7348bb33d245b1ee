#include <weft/actors/cluster.hpp>
#include <weft/actors/errors.hpp>
#include <weft/actors/work.hpp>

#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "document_bands.hpp"
#include "manifests.hpp"
#include "opaque_blocks.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

namespace weft::actors {

namespace {

constexpr auto write_timeout = std::chrono::seconds{10};
constexpr auto lease_timeout = std::chrono::milliseconds{500};
// So that a request with the tokens of a whole document stays below the largest message.
constexpr std::size_t most_document_tokens = 200'000;

// A question at a decode node. What becomes of one whose node dies, nobody else says.
struct question_under_way {
  decode_actor by;
  caf::typed_response_promise<answer> promise;
};

struct gateway_state {
  static inline const char* name = "gateway";

  work_parts parts;
  cluster_ptr now;
  duration read_deadline{};
  std::uint32_t replicas = 1;
  manifest_cache manifests;
  std::uint64_t turn = 0;
  std::map<std::uint64_t, question_under_way> questions;
  std::uint64_t next_question = 1;
};

using self_pointer = gateway_actor::stateful_pointer<gateway_state>;

caf::error not_joined() {
  return to_caf({errc::unreachable, "the gateway has not joined its cluster yet; try again shortly"});
}

caf::error nobody_has(const char* role) {
  return to_caf({errc::unreachable,
                 std::string{"no live node has the role `"} + role + "`; `weft status` shows the nodes"});
}

// The next node in turn that has the role; this one first, where it has it.
template <class Handle>
Handle choose(gateway_state& state, Handle role_handles::*role) {
  if (const auto* here = state.now->handles_of(state.now->self.node); here && here->*role) return here->*role;
  std::vector<Handle> all;
  for (const auto& [node, handles] : state.now->handles) {
    if (handles.*role) all.push_back(handles.*role);
  }
  return all.empty() ? Handle{} : all[state.turn++ % all.size()];
}

caf::result<document_summary> ingest(self_pointer self, const std::string& name, const std::string& text,
                                     const scoring_wish& scoring) {
  auto& state = self->state;
  if (!state.now) return not_joined();
  const auto prefill = choose(state, &role_handles::prefill);
  if (!prefill) return nobody_has("prefill");
  if (text.empty())
    return to_caf({errc::invalid_argument, "document `" + name + "` is empty; give it some text"});
  const auto& context = *state.parts.context;
  encode_request request{.name = name,
                         .tokens = context.format.document(context.tokens, text),
                         .importance = scoring.importance,
                         .band_millionths = scoring.band_millionths,
                         .band_codecs = scoring.band_codecs};
  const std::size_t longest = std::min<std::size_t>(context.config.max_context_tokens, most_document_tokens);
  if (request.tokens.size() > longest) {
    return to_caf({errc::invalid_argument,
                   "document `" + name + "` has " + std::to_string(request.tokens.size()) +
                       " tokens, more than the " + std::to_string(longest) + " that fit; split it"});
  }
  return self->delegate(prefill, encode_atom_v, std::move(request));
}

// -- documents --

document_summary summary_of(const cluster& now, const schema::manifest& m,
                            const std::vector<located_key>& located, std::size_t first) {
  document_summary summary{.id = m.document,
                           .name = m.name,
                           .tokens = m.tokens.size(),
                           .blocks = m.block_keys.size(),
                           .bytes = m.creation.block_bytes,
                           .holders = {},
                           .microseconds = static_cast<std::uint64_t>(m.creation.encode_ms * 1000),
                           .pinned = false,
                           .importance = m.meaning.policy,
                           .band_millionths = band_millionths(m),
                           .band_bytes = band_bytes(m)};
  for (std::size_t i = first; i < first + m.block_keys.size(); ++i) {
    for (const auto& holder : located[i].holders) {
      auto name = now.name_of(holder.node);
      if (std::find(summary.holders.begin(), summary.holders.end(), name) == summary.holders.end()) {
        summary.holders.push_back(std::move(name));
      }
    }
  }
  std::sort(summary.holders.begin(), summary.holders.end());
  return summary;
}

using list_promise = caf::typed_response_promise<document_list>;

// Which ratio of each document is still held whole.
void list_served(self_pointer self, std::vector<manifest_ptr> manifests, document_list list,
                 list_promise promise) {
  key_list blocks;
  for (const auto& m : manifests)
    blocks.keys.insert(blocks.keys.end(), m->block_keys.begin(), m->block_keys.end());
  self->request(self->state.parts.pool, caf::infinite, size_atom_v, std::move(blocks))
      .then(
          [manifests = std::move(manifests), list = std::move(list),
           promise](const held_sizes& held) mutable {
            std::size_t first = 0;
            for (std::size_t i = 0; i < manifests.size(); ++i) {
              const auto count = manifests[i]->block_keys.size();
              if (first + count > held.bytes.size()) break;
              list.documents[i].served_millionths =
                  served_millionths(*manifests[i], std::span(held.bytes).subspan(first, count));
              first += count;
            }
            std::sort(list.documents.begin(), list.documents.end(), [](const auto& a, const auto& b) {
              return std::tie(a.name, a.id) < std::tie(b.name, b.id);
            });
            promise.deliver(std::move(list));
          },
          [promise](const caf::error& e) mutable { promise.deliver(e); });
}

void list_located(self_pointer self, std::vector<manifest_ptr> manifests, std::vector<located_key> located,
                  list_promise promise) {
  key_list first_blocks;
  for (const auto& m : manifests)
    first_blocks.keys.push_back(m->block_keys.front());
  self->request(self->state.parts.pool, caf::infinite, pin_atom_v, std::move(first_blocks))
      .then(
          [self, manifests = std::move(manifests), located = std::move(located),
           promise](const key_list& pinned) mutable {
            const std::set<id128> kept{pinned.keys.begin(), pinned.keys.end()};
            document_list list;
            std::size_t first = 0;
            for (const auto& m : manifests) {
              list.documents.push_back(summary_of(*self->state.now, *m, located, first));
              list.documents.back().pinned = kept.contains(m->block_keys.front());
              first += m->block_keys.size();
            }
            list_served(self, std::move(manifests), std::move(list), promise);
          },
          [promise](const caf::error& e) mutable { promise.deliver(e); });
}

void locate_documents(self_pointer self, std::vector<manifest_ptr> manifests, list_promise promise) {
  key_list blocks;
  for (const auto& m : manifests)
    blocks.keys.insert(blocks.keys.end(), m->block_keys.begin(), m->block_keys.end());
  self->request(self->state.parts.pool, caf::infinite, locate_atom_v, std::move(blocks))
      .then(
          [self, manifests = std::move(manifests), promise](const locate_reply& located) mutable {
            list_located(self, std::move(manifests), located.keys, promise);
          },
          [promise](const caf::error& e) mutable { promise.deliver(e); });
}

void list_manifests(self_pointer self, const std::vector<id128>& keys, list_promise promise) {
  read_order order{.keys = keys, .fingerprint = {}, .timeout = self->state.read_deadline};
  self->request(self->state.parts.pool, caf::infinite, read_atom_v, std::move(order))
      .then(
          [self, promise](const read_outcome& read) mutable {
            std::vector<manifest_ptr> manifests;
            for (const auto& block : read->blocks) {
              if (!block.outcome) continue;
              if (auto m = open_manifest(block.bytes->bytes())) manifests.push_back(std::move(*m));
            }
            locate_documents(self, std::move(manifests), promise);
          },
          [promise](const caf::error& e) mutable { promise.deliver(e); });
}

caf::result<document_list> list(self_pointer self) {
  auto promise = self->make_response_promise<document_list>();
  self->request(self->state.parts.pool, caf::infinite, list_atom_v)
      .then(
          [self, promise](key_list manifests) mutable {
            std::sort(manifests.keys.begin(), manifests.keys.end());
            manifests.keys.erase(std::unique(manifests.keys.begin(), manifests.keys.end()),
                                 manifests.keys.end());
            list_manifests(self, manifests.keys, promise);
          },
          [promise](const caf::error& e) mutable { promise.deliver(e); });
  return promise;
}

using count_promise = caf::typed_response_promise<std::uint64_t>;

// Calls `act` with the keys of everything that belongs to the document.
template <class Act>
caf::result<std::uint64_t> with_keys(self_pointer self, const id128& document, Act act) {
  auto& state = self->state;
  if (!state.now) return not_joined();
  auto promise = self->make_response_promise<std::uint64_t>();
  state.manifests.erase(document);  // it may have other blocks by now
  read_manifests(self, state.manifests, state.parts.pool, {}, state.read_deadline, {document},
                 [promise, act, document](std::vector<result<manifest_ptr>> found) mutable {
                   if (!found[0]) {
                     promise.deliver(to_caf(found[0].error()));
                     return;
                   }
                   key_list keys{keys_with_blocks(**found[0])};
                   keys.keys.push_back(policies::document_keys_key(document));
                   keys.keys.push_back(policies::manifest_key(document));
                   act(std::move(keys), promise);
                 });
  return promise;
}

auto deliver_count(count_promise promise) {
  return [promise = std::move(promise)](std::uint64_t count) mutable { promise.deliver(count); };
}

auto deliver_error(count_promise promise) {
  return [promise = std::move(promise)](const caf::error& e) mutable { promise.deliver(e); };
}

caf::result<std::uint64_t> drop(self_pointer self, const id128& document) {
  return with_keys(self, document, [self, document](key_list keys, const count_promise& promise) {
    auto& state = self->state;
    state.manifests.erase(document);
    for (const auto& [node, handles] : state.now->handles) {
      if (handles.decode) self->send(handles.decode, drop_atom_v, document);
    }
    self->request(state.parts.pool, caf::infinite, drop_atom_v, std::move(keys))
        .then(deliver_count(promise), deliver_error(promise));
  });
}

caf::result<std::uint64_t> pin(self_pointer self, bool pinned, const id128& document) {
  return with_keys(self, document, [self, pinned](key_list keys, const count_promise& promise) {
    self->request(self->state.parts.pool, caf::infinite, pin_atom_v, pinned, std::move(keys))
        .then(deliver_count(promise), deliver_error(promise));
  });
}

// -- blocks of other engines --

id128 pool_key(const gateway_state& state, const id128& client_key) {
  return policies::opaque_key(state.parts.context->scope.tenant_salt, "client", to_hex(client_key));
}

caf::result<id128> put(self_pointer self, const opaque_block_ptr& b) {
  auto& state = self->state;
  if (!state.now) return not_joined();
  auto staged = stage_opaque(*b, pool_key(state, b->key), *state.parts.room);
  if (!staged) return to_caf(staged.error());
  auto promise = self->make_response_promise<id128>();
  write_order order{.blocks = {std::move(*staged)}, .replicas = state.replicas, .timeout = write_timeout};
  self->request(state.parts.pool, caf::infinite, write_atom_v, std::move(order))
      .then(
          [promise, key = b->key](const write_outcome& written) mutable {
            if (const auto& outcome = written->blocks[0]; !outcome) {
              promise.deliver(to_caf(outcome.error()));
            } else {
              promise.deliver(key);
            }
          },
          [promise](const caf::error& e) mutable { promise.deliver(e); });
  return promise;
}

caf::result<opaque_block_ptr> get(self_pointer self, const id128& client_key) {
  auto& state = self->state;
  if (!state.now) return not_joined();
  auto promise = self->make_response_promise<opaque_block_ptr>();
  read_order order{.keys = {pool_key(state, client_key)}, .fingerprint = {}, .timeout = state.read_deadline};
  self->request(state.parts.pool, caf::infinite, read_atom_v, std::move(order))
      .then(
          [promise, client_key](const read_outcome& read) mutable {
            const auto& block = read->blocks[0];
            if (!block.outcome) {
              promise.deliver(to_caf(block.outcome.error()));
              return;
            }
            auto opened = open_opaque(client_key, block.bytes);
            if (opened) {
              promise.deliver(std::move(*opened));
            } else {
              promise.deliver(to_caf(opened.error()));
            }
          },
          [promise](const caf::error& e) mutable { promise.deliver(e); });
  return promise;
}

struct lookup {
  block_list list;
  std::vector<id128> pool_keys;
  std::size_t open = 1;
  caf::typed_response_promise<block_list> promise;

  void close_one() {
    if (--open == 0) promise.deliver(std::move(list));
  }
};

// The directory knows who holds a block, only the holder knows how large it is.
void ask_sizes(self_pointer self, const std::shared_ptr<lookup>& job,
               const std::vector<located_key>& located) {
  std::map<id128, std::vector<std::size_t>> by_holder;
  for (std::size_t i = 0; i < located.size(); ++i) {
    if (!located[i].holders.empty()) by_holder[located[i].holders[0].node].push_back(i);
  }
  for (const auto& [node, indexes] : by_holder) {
    const auto* to = self->state.now->handles_of(node);
    if (!to || !to->storage) continue;
    lease_request request{.reader = self->state.now->self, .keys = {}};
    for (const auto i : indexes)
      request.keys.push_back(job->pool_keys[i]);
    ++job->open;
    self->request(to->storage, lease_timeout, lease_atom_v, std::move(request))
        .then(
            [self, job, indexes = indexes, storage = to->storage](const lease_reply& reply) {
              for (std::size_t i = 0; i < indexes.size() && i < reply.slots.size(); ++i) {
                auto& entry = job->list.blocks[indexes[i]];
                entry.present = reply.slots[i].outcome == errc::ok;
                entry.bytes = reply.slots[i].bytes;
              }
              if (reply.lease != 0) self->send(storage, release_atom_v, reply.lease);
              job->close_one();
            },
            [job](const caf::error&) { job->close_one(); });
  }
  job->close_one();
}

caf::result<block_list> look_up(self_pointer self, const key_list& keys) {
  auto& state = self->state;
  if (!state.now) return not_joined();
  auto job = std::make_shared<lookup>();
  for (const auto& key : keys.keys) {
    job->list.blocks.push_back({.key = key, .present = false, .bytes = 0, .holders = {}});
    job->pool_keys.push_back(pool_key(state, key));
  }
  job->promise = self->make_response_promise<block_list>();
  auto promise = job->promise;
  self->request(state.parts.pool, caf::infinite, locate_atom_v, key_list{job->pool_keys})
      .then(
          [self, job](const locate_reply& located) {
            for (std::size_t i = 0; i < located.keys.size(); ++i) {
              for (const auto& holder : located.keys[i].holders) {
                job->list.blocks[i].holders.push_back(self->state.now->name_of(holder.node));
              }
            }
            ask_sizes(self, job, located.keys);
          },
          [job](const caf::error& e) { job->promise.deliver(e); });
  return promise;
}

// -- questions --

template <class Outcome>
void end_question(gateway_state& state, std::uint64_t number, Outcome outcome) {
  auto found = state.questions.extract(number);
  if (found) found.mapped().promise.deliver(std::move(outcome));
}

caf::result<answer> pass_on(self_pointer self, const question& asked, const answer_listener& listener) {
  auto& state = self->state;
  if (!state.now) return not_joined();
  const auto decode = choose(state, &role_handles::decode);
  if (!decode) return nobody_has("decode");
  auto promise = self->make_response_promise<answer>();
  const auto number = state.next_question++;
  state.questions.emplace(number, question_under_way{decode, promise});
  self->request(decode, caf::infinite, ask_atom_v, asked, listener)
      .then([self, number](answer given) { end_question(self->state, number, std::move(given)); },
            [self, number](const caf::error& e) { end_question(self->state, number, e); });
  return promise;
}

void give_up_lost_questions(gateway_state& state) {
  const auto lives = [&](const decode_actor& decode) {
    return std::ranges::any_of(state.now->handles,
                               [&](const auto& node) { return node.second.decode == decode; });
  };
  std::vector<std::uint64_t> lost;
  for (const auto& [number, under_way] : state.questions)
    if (!lives(under_way.by)) lost.push_back(number);
  for (const auto number : lost)
    end_question(state, number,
                 to_caf({errc::unreachable, "the decode node that was answering is lost; ask again"}));
}

gateway_actor::behavior_type behave(self_pointer self, const node_config& config, work_parts parts) {
  self->state.parts = std::move(parts);
  self->state.read_deadline = config.read_deadline;
  self->state.replicas = own_replicas(config);
  return {
      [self](encode_atom, const std::string& name, const text_ptr& text) {
        return ingest(self, name, *text, {});
      },
      [self](encode_atom, const std::string& name, const text_ptr& text, const scoring_wish& scoring) {
        return ingest(self, name, *text, scoring);
      },
      [self](ask_atom, const question& asked, const answer_listener& listener) {
        return pass_on(self, asked, listener);
      },
      [self](list_atom) -> caf::result<document_list> {
        if (!self->state.now) return not_joined();
        return list(self);
      },
      [self](drop_atom, const id128& document) { return drop(self, document); },
      [self](pin_atom, bool pinned, const id128& document) { return pin(self, pinned, document); },
      [self](locate_atom, const key_list& keys) { return look_up(self, keys); },
      [self](put_atom, const opaque_block_ptr& b) { return put(self, b); },
      [self](get_atom, const id128& client_key) { return get(self, client_key); },
      [self](cluster_atom, const cluster_ptr& now) {
        self->state.now = now;
        give_up_lost_questions(self->state);
      },
  };
}

}  // namespace

gateway_actor spawn_gateway(caf::actor_system& system, const node_config& config, work_parts parts) {
  return system.spawn(behave, config, std::move(parts));
}

}  // namespace weft::actors
