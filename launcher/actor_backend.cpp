#include "actor_backend.hpp"

#include <weft/actors/errors.hpp>
#include <weft/base/shortest_decimal.hpp>
#include <weft/policies/bands.hpp>

#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <stop_token>
#include <utility>
#include <variant>
#include <vector>

namespace weft::launcher {

namespace {

using namespace gateway;

constexpr double microseconds_per_ms = 1000.0;

std::vector<double> ratios_of(const std::vector<std::uint32_t>& millionths) {
  std::vector<double> ratios;
  ratios.reserve(millionths.size());
  for (const auto value : millionths)
    ratios.push_back(value / 1e6);
  return ratios;
}

document_info to_rpc(const actors::document_summary& d) {
  return {.id = d.id,
          .name = d.name,
          .tokens = d.tokens,
          .blocks = d.blocks,
          .bytes = d.bytes,
          .holders = d.holders,
          .importance = d.importance,
          .band_ratios = ratios_of(d.band_millionths),
          .ms = static_cast<double>(d.microseconds) / microseconds_per_ms,
          .pinned = d.pinned,
          .served_ratio = d.served_millionths < 0 ? -1 : static_cast<double>(d.served_millionths) / 1e6,
          .band_bytes = d.band_bytes};
}

ask_result to_rpc(const actors::answer& a) {
  ask_result r;
  r.answer = a.text;
  r.tokens = a.tokens;
  r.prompt_tokens = a.prompt_tokens;
  r.recomputed_rows = a.recomputed_rows;
  r.ttft_ms = static_cast<double>(a.ttft_microseconds) / microseconds_per_ms;
  r.load_ms = static_cast<double>(a.load_microseconds) / microseconds_per_ms;
  r.rotate_ms = static_cast<double>(a.rotate_microseconds) / microseconds_per_ms;
  r.compute_ms = static_cast<double>(a.compute_microseconds) / microseconds_per_ms;
  const auto decoded = a.tokens.empty() ? 0 : a.tokens.size() - 1;
  if (a.decode_microseconds > 0) {
    r.decode_tokens_per_s = static_cast<double>(decoded) * 1e6 / static_cast<double>(a.decode_microseconds);
  }
  for (const auto& t : a.transfers)
    r.transfers.push_back({t.holder, t.transport, t.path, t.bytes});
  r.misses = a.misses;
  r.cache_bytes = a.cache_bytes;
  r.full_bytes = a.full_bytes;
  for (const auto& d : a.retrieved)
    r.retrieved.push_back({d.id, d.name, static_cast<double>(d.score_millionths) / 1e6});
  r.ranked_documents = a.ranked_documents;
  r.unranked_documents = a.unranked_documents;
  r.retrieve_ms = static_cast<double>(a.retrieve_microseconds) / microseconds_per_ms;
  r.judged_rows = a.judged_rows;
  r.dropped_rows = a.dropped_rows;
  r.computed_rows = a.computed_rows;
  r.reused_rows = a.reused_rows;
  if (const auto& s = a.sparse; s.cache_bytes > 0)
    r.sparse = {.middle_blocks = s.middle_blocks,
                .chosen_blocks = s.chosen_blocks,
                .retrieval_nodes = s.retrieval_nodes,
                .rankings = s.rankings,
                .blocks_moved = s.blocks_moved,
                .late_fetches = s.late_fetches,
                .stale_rankings = s.stale_rankings,
                .blocks_lost = s.blocks_lost,
                .cache_bytes = s.cache_bytes};
  return r;
}

node_status to_rpc(const actors::node_report& n) {
  node_status s;
  s.name = n.name;
  s.pid = n.pid;
  s.alive = n.alive;
  s.incarnation = n.incarnation;
  s.roles = n.roles;
  s.dram = {n.dram_used_bytes, n.dram_capacity_bytes};
  s.file = {n.file_used_bytes, n.file_capacity_bytes};
  for (const auto& p : n.peers) {
    const double gb_per_s =
        p.nanoseconds > 0 ? static_cast<double>(p.bytes) / static_cast<double>(p.nanoseconds) : 0;
    s.peers.push_back({p.name, p.transport, p.path, gb_per_s});
  }
  for (const auto& c : n.counters)
    s.counters.push_back({c.name, c.value});
  return s;
}

std::uint32_t millionths(double value) {
  return static_cast<std::uint32_t>(std::lround(std::clamp(value, 0.0, 4000.0) * 1e6));
}

constexpr double default_sparse_ratio = 0.25;

std::vector<id128> documents_of(const ask_request& r) {
  auto documents = r.documents;
  for (const auto& part : r.parts)
    if (const auto* document = std::get_if<id128>(&part)) documents.push_back(*document);
  return documents;
}

std::vector<actors::text_between> texts_of(const ask_request& r) {
  std::vector<actors::text_between> texts;
  std::uint32_t documents = 0;
  for (const auto& part : r.parts)
    if (const auto* text = std::get_if<std::string>(&part))
      texts.push_back({documents, *text});
    else
      ++documents;
  return texts;
}

actors::question to_message(const ask_request& r) {
  return {.text = r.question,
          .system = r.system,
          .documents = documents_of(r),
          .stitch = r.stitch,
          .max_tokens = r.max_tokens,
          .temperature_millionths = millionths(r.temperature),
          .top_p_millionths = millionths(r.top_p),
          .seed = r.seed,
          .ratio_millionths = r.ratio ? std::max(1u, millionths(*r.ratio)) : 0,
          .retrieval = r.retrieval,
          .sparse_ratio_millionths = millionths(r.sparse_ratio.value_or(default_sparse_ratio)),
          .retrieve = r.retrieve,
          .stride = r.stride,
          .scale = r.scale,
          .judge = r.judge,
          .threshold_millionths = std::llround(r.threshold.value_or(0) * 1e6),
          .texts = texts_of(r)};
}

std::chrono::milliseconds time_left(const call_context& context) {
  const auto left = context.deadline - std::chrono::steady_clock::now();
  return std::max(std::chrono::duration_cast<std::chrono::milliseconds>(left), std::chrono::milliseconds{1});
}

std::optional<error> refuse_unserved(const ask_request& r) {
  if (r.sparse_ratio && r.retrieval.empty())
    return error{errc::invalid_argument,
                 "a sparse ratio says how many blocks a retrieval policy chooses; name one, such as "
                 "kvstar_ahead, or leave the ratio out"};
  if (r.sparse_ratio && !(*r.sparse_ratio > 0 && *r.sparse_ratio <= 1))
    return error{errc::invalid_argument, "sparse ratio " + shortest_decimal(*r.sparse_ratio) +
                                             " is not in (0, 1]; 0.25 attends a quarter of the blocks"};
  if (r.retrieval.empty() && (r.stride > 0 || !r.scale.empty()))
    return error{errc::invalid_argument, "a stride and a scale belong to a retrieval policy; name one"};
  return std::nullopt;
}

// One for each band, as block::codec.
result<std::vector<std::uint8_t>> codecs_of(const std::vector<std::string>& names, std::size_t bands) {
  std::vector<std::uint8_t> codecs;
  for (const auto& name : names) {
    const auto coding = kernels::row_codec_from_name(name);
    if (!coding) return fail(errc::unsupported, "codec `" + name + "`; there are raw, int8 and int4");
    codecs.push_back(static_cast<std::uint8_t>(*coding));
  }
  if (codecs.size() == 1) codecs.resize(bands, codecs.front());
  if (codecs.empty() || codecs.size() == bands) return codecs;
  return fail(errc::invalid_argument, std::to_string(codecs.size()) + " codecs for " + std::to_string(bands) +
                                          " bands; name one for all of them, or one for each");
}

result<actors::scoring_wish> scoring_of(const ingest_request& r) {
  actors::scoring_wish wish;
  if (r.importance.empty() || r.importance == "none") {
    if ((!r.ratio || *r.ratio == 1) && r.bands.empty() && r.codecs.empty()) return wish;
    return fail(errc::invalid_argument,
                "rows are cut into bands, which have codecs, by their importance; say which policy scores "
                "them, such as kvzip");
  }
  std::vector<policies::decimal_ratio> wanted;
  for (const double band : r.bands) {
    const auto ratio = policies::decimal_ratio::from(millionths(band) / 1e6);
    if (!ratio) return tl::unexpected(ratio.error());
    wanted.push_back(*ratio);
  }
  const auto kept = policies::decimal_ratio::from(millionths(r.ratio.value_or(1)) / 1e6);
  if (!kept) return tl::unexpected(kept.error());
  const auto ratios = policies::band_ratios(wanted, *kept);
  if (!ratios) return tl::unexpected(ratios.error());
  wish.importance = r.importance;
  for (const auto& ratio : *ratios)
    wish.band_millionths.push_back(millionths(ratio.value()));
  auto codecs = codecs_of(r.codecs, ratios->size());
  if (!codecs) return tl::unexpected(codecs.error());
  wish.band_codecs = std::move(*codecs);
  return wish;
}

// Takes the pieces of one answer and its end. Ends itself with the answer, or when the client went away.
class asking_state {
 public:
  static inline const char* name = "asking";
  std::optional<std::stop_callback<std::function<void()>>> on_cancel;
};

actors::answer_listener::behavior_type ask_and_listen(
    actors::answer_listener::stateful_pointer<asking_state> self, const actors::gateway_actor& gateway,
    const ask_request& request, const call_context& context, const completion<ask_result>& done) {
  self->state.on_cancel.emplace(context.cancelled, [me = caf::actor_cast<caf::actor_addr>(self)] {
    if (auto alive = caf::actor_cast<caf::strong_actor_ptr>(me))
      caf::anon_send_exit(alive, caf::exit_reason::user_shutdown);
  });
  self->request(gateway, time_left(context), actors::ask_atom_v, to_message(request),
                actors::answer_listener{self})
      .then(
          [self, done](const actors::answer& a) {
            done(to_rpc(a));
            self->quit();
          },
          [self, done](const caf::error& e) {
            done(tl::make_unexpected(actors::from_caf(e, "answering the question")));
            self->quit();
          });
  return {[on_token = request.on_token](actors::token_atom, const actors::answer_piece& piece) {
    if (on_token) on_token({piece.token, piece.text});
  }};
}

class actor_backend final : public backend {
 public:
  actor_backend(caf::actor_system& system, actors::gateway_actor gateway, actors::node_actor node)
      : system_(system), gateway_(std::move(gateway)), node_(std::move(node)) {}

  void ingest(ingest_request request, call_context context, completion<document_info> done) override {
    auto scoring = scoring_of(request);
    if (!scoring) return done(tl::make_unexpected(scoring.error()));
    auto text = std::make_shared<const std::string>(std::move(request.text));
    call<actors::document_summary>(
        gateway_, context, std::move(done), [](const actors::document_summary& d) { return to_rpc(d); },
        actors::encode_atom_v, request.name, actors::text_ptr{std::move(text)}, std::move(*scoring));
  }

  void documents(call_context context, completion<std::vector<document_info>> done) override {
    call<actors::document_list>(
        gateway_, context, std::move(done),
        [](const actors::document_list& list) {
          std::vector<document_info> all;
          for (const auto& d : list.documents)
            all.push_back(to_rpc(d));
          return all;
        },
        actors::list_atom_v);
  }

  void drop(id128 document, call_context context, completion<void> done) override {
    call_for_nothing<std::uint64_t>(gateway_, context, std::move(done), actors::drop_atom_v, document);
  }

  void pin(id128 document, call_context context, completion<void> done) override {
    call_for_nothing<std::uint64_t>(gateway_, context, std::move(done), actors::pin_atom_v, true, document);
  }

  void unpin(id128 document, call_context context, completion<void> done) override {
    call_for_nothing<std::uint64_t>(gateway_, context, std::move(done), actors::pin_atom_v, false, document);
  }

  void ask(ask_request request, call_context context, completion<ask_result> done) override {
    if (auto refused = refuse_unserved(request)) return done(tl::make_unexpected(*refused));
    system_.spawn(ask_and_listen, gateway_, request, context, done);
  }

  void lookup(std::vector<id128> keys, call_context context,
              completion<std::vector<block_info>> done) override {
    call<actors::block_list>(
        gateway_, context, std::move(done),
        [](const actors::block_list& list) {
          std::vector<block_info> all;
          for (const auto& b : list.blocks)
            all.push_back({b.key, b.present, b.bytes, b.holders});
          return all;
        },
        actors::locate_atom_v, actors::key_list{std::move(keys)});
  }

  void put(block_put block, call_context context, completion<void> done) override {
    auto owner = std::make_shared<const std::vector<std::byte>>(std::move(block.bytes));
    auto message = std::make_shared<actors::opaque_block>();
    message->key = block.key;
    message->layout = std::move(block.layout.descriptor);
    message->fingerprint = block.layout.fingerprint;
    message->tokens = block.layout.tokens;
    message->bytes = *owner;
    message->owner = std::move(owner);
    call_for_nothing<id128>(gateway_, context, std::move(done), actors::put_atom_v,
                            actors::opaque_block_ptr{std::move(message)});
  }

  void get(id128 key, call_context context, completion<block_payload> done) override {
    call<actors::opaque_block_ptr>(
        gateway_, context, std::move(done),
        [](const actors::opaque_block_ptr& b) {
          return block_payload{
              .layout = {b->layout, b->fingerprint, b->tokens}, .bytes = b->bytes, .owner = b};
        },
        actors::get_atom_v, key);
  }

  void status(call_context context, completion<cluster_status> done) override {
    call<actors::cluster_report>(
        node_, context, std::move(done),
        [](const actors::cluster_report& report) {
          cluster_status status{.epoch = report.epoch, .nodes = {}};
          for (const auto& n : report.nodes)
            status.nodes.push_back(to_rpc(n));
          return status;
        },
        actors::status_atom_v, actors::cluster_atom_v);
  }

 private:
  // One request, one small actor: it lives until its answer is there.
  template <class Answer, class Actor, class Value, class Convert, class... Ts>
  void call(const Actor& whom, const call_context& context, completion<Value> done, Convert convert,
            Ts... message) {
    system_.spawn([whom, timeout = time_left(context), done = std::move(done), convert,
                   message...](caf::event_based_actor* self) {
      self->request(whom, timeout, message...)
          .then([done, convert](const Answer& a) { done(convert(a)); },
                [done](const caf::error& e) {
                  done(tl::make_unexpected(actors::from_caf(e, "asking the node")));
                });
    });
  }

  template <class Answer, class Actor, class... Ts>
  void call_for_nothing(const Actor& whom, const call_context& context, completion<void> done,
                        Ts... message) {
    system_.spawn([whom, timeout = time_left(context), done = std::move(done),
                   message...](caf::event_based_actor* self) {
      self->request(whom, timeout, message...)
          .then([done](const Answer&) { done({}); },
                [done](const caf::error& e) {
                  done(tl::make_unexpected(actors::from_caf(e, "asking the node")));
                });
    });
  }

  caf::actor_system& system_;
  actors::gateway_actor gateway_;
  actors::node_actor node_;
};

}  // namespace

std::shared_ptr<gateway::backend> make_actor_backend(caf::actor_system& system, actors::gateway_actor gateway,
                                                     actors::node_actor node) {
  return std::make_shared<actor_backend>(system, std::move(gateway), std::move(node));
}

}  // namespace weft::launcher
