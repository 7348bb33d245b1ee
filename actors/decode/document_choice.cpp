#include "document_choice.hpp"

#include <weft/actors/document_keys.hpp>
#include <weft/actors/errors.hpp>
#include <weft/policies/retrieval/document_ranking.hpp>

#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "../float_bytes.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

namespace weft::actors {

namespace {

namespace retrieval = policies::retrieval;

constexpr std::size_t manifests_at_once = 256;

using self_pointer = local_decode_actor::pointer;

struct ranked_document {
  manifest_ptr manifest;
  std::vector<retrieval_actor> nodes;  // that have not failed it, nearest to its keys first
  std::vector<float> best;             // by line; empty: not known yet
};

struct choice {
  const work_parts& parts;
  cluster_ptr now;
  manifest_cache& manifests;
  choice_order order;
  std::function<void(result<choice_outcome>)> done;
  std::vector<id128> unread = {};  // keys of manifests
  std::vector<ranked_document> documents = {};
  std::uint64_t stored = 0;  // manifests in the pool
  std::uint32_t rows = 0;
  query_outcome queries = nullptr;
  std::size_t open = 0;  // messages to retrieval nodes

  std::size_t lines() const { return std::size_t{rows} * parts.context->config.query_heads; }
};
using choice_ptr = std::shared_ptr<choice>;

auto fail_with(const choice_ptr& job, const char* doing) {
  return [job, doing](const caf::error& e) { job->done(tl::make_unexpected(from_caf(e, doing))); };
}

void finish(const choice_ptr& job) {
  std::vector<float> best;
  std::vector<const ranked_document*> known;
  for (const auto& document : job->documents) {
    if (document.best.empty()) continue;
    known.push_back(&document);
    best.insert(best.end(), document.best.begin(), document.best.end());
  }
  if (known.empty())
    return job->done(fail(errc::not_found,
                          "none of the " + std::to_string(job->stored) +
                              " documents of the pool can be ranked; what ranks them is made at ingest where "
                              "the cluster has nodes with the role `retrieval`: ingest them again"));
  const auto scores = retrieval::document_scores(best, job->lines());
  choice_outcome outcome{.best = {}, .ranked = known.size(), .unranked = job->stored - known.size()};
  for (const auto i : retrieval::best_documents(scores, job->order.documents))
    outcome.best.push_back({known[i]->manifest, scores[i]});
  job->done(std::move(outcome));
}

void ask_nodes(self_pointer self, const choice_ptr& job);

void take_products(choice& job, const std::vector<std::size_t>& documents,
                   const document_products& products) {
  const auto best = floats_of(products.best);
  std::size_t next = 0;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    auto& document = job.documents[documents[i]];
    if (i >= products.known.size() || products.known[i] == 0 || next + job.lines() > best.size()) continue;
    const auto from = best.begin() + static_cast<std::ptrdiff_t>(next);
    next += job.lines();
    std::vector<float> lines(from, from + static_cast<std::ptrdiff_t>(job.lines()));
    if (std::ranges::all_of(lines, [](float value) { return std::isfinite(value); }))
      document.best = std::move(lines);
  }
}

void ask_node(self_pointer self, const choice_ptr& job, const retrieval_actor& node,
              std::vector<std::size_t> documents) {
  const auto& config = job->parts.context->config;
  document_queries asked{.fingerprint = job->parts.context->scope.fingerprint,
                         .layer = retrieval::ranking_layer({}, config.layers),
                         .query_heads = config.query_heads,
                         .kv_heads = job->parts.context->shape.kv_heads,
                         .head_dim = config.head_dim,
                         .queries = bytes_of(std::span<const float>(*job->queries)),
                         .documents = {}};
  for (const auto i : documents) {
    asked.documents.push_back(job->documents[i].manifest->document);
    std::erase(job->documents[i].nodes, node);
  }
  const auto close_one = [self, job] {
    if (--job->open == 0) ask_nodes(self, job);
  };
  ++job->open;
  self->request(node, job->order.timeout, rank_atom_v, std::move(asked))
      .then(
          [job, documents = std::move(documents), close_one](const document_products& products) {
            take_products(*job, documents, products);
            close_one();
          },
          [close_one](const caf::error&) { close_one(); });
}

// Each document at the next node that has not failed it, until all are known or nobody is left.
void ask_nodes(self_pointer self, const choice_ptr& job) {
  const std::size_t most = most_documents_ranked_at_once(job->lines());
  std::map<retrieval_actor, std::vector<std::size_t>> by_node;
  for (std::size_t i = 0; i < job->documents.size(); ++i) {
    const auto& document = job->documents[i];
    if (document.best.empty() && !document.nodes.empty()) by_node[document.nodes.front()].push_back(i);
  }
  if (by_node.empty()) return finish(job);
  ++job->open;
  for (const auto& [node, all] : by_node)
    for (std::size_t first = 0; first < all.size(); first += most) {
      const auto last = std::min(all.size(), first + most);
      ask_node(self, job, node,
               {all.begin() + static_cast<std::ptrdiff_t>(first),
                all.begin() + static_cast<std::ptrdiff_t>(last)});
    }
  if (--job->open == 0) ask_nodes(self, job);
}

// Those that hold a document's keys first; always the same, so that they keep what they have read.
void assign_nodes(choice& job, const std::vector<located_key>& located) {
  std::vector<std::pair<id128, retrieval_actor>> all;
  for (const auto& [node, handles] : job.now->handles)
    if (handles.retrieval) all.emplace_back(node, handles.retrieval);
  std::ranges::sort(all, {}, [](const auto& node) { return node.first; });
  for (std::size_t i = 0; i < job.documents.size(); ++i) {
    auto& document = job.documents[i];
    const auto turn = static_cast<std::size_t>(document.manifest->document.low) % all.size();
    std::set<id128> holders;
    if (i < located.size())
      for (const auto& holder : located[i].holders)
        holders.insert(holder.node);
    for (const bool holding : {true, false})
      for (std::size_t n = 0; n < all.size(); ++n) {
        const auto& [node, handle] = all[(turn + n) % all.size()];
        if (holders.contains(node) == holding) document.nodes.push_back(handle);
      }
  }
}

void locate_documents(self_pointer self, const choice_ptr& job) {
  key_list keys;
  for (const auto& document : job->documents)
    keys.keys.push_back(policies::document_keys_key(document.manifest->document));
  self->request(job->parts.pool, caf::infinite, locate_atom_v, std::move(keys))
      .then(
          [self, job](const locate_reply& located) {
            assign_nodes(*job, located.keys);
            ask_nodes(self, job);
          },
          fail_with(job, "locating documents"));
}

void compute_question(self_pointer self, const choice_ptr& job) {
  const auto& context = *job->parts.context;
  auto prompt = std::make_shared<std::vector<engine::token_id>>(job->order.opening);
  const auto& question = job->order.question;
  prompt->insert(prompt->end(), question.begin(), question.end());
  const retrieval::document_ranking how;
  job->rows = retrieval::ranking_rows(how, question.size(), context.format.question_suffix().size());
  query_order order{.tokens = std::move(prompt),
                    .layer = retrieval::ranking_layer(how, context.config.layers),
                    .rows = job->rows};
  self->request(job->parts.engine, caf::infinite, rank_atom_v, std::move(order))
      .then(
          [self, job](const query_outcome& queries) {
            job->queries = queries;
            locate_documents(self, job);
          },
          fail_with(job, "computing the question"));
}

void read_manifests_on(self_pointer self, const choice_ptr& job) {
  if (job->unread.empty()) {
    if (job->documents.empty())
      return job->done(
          fail(errc::not_found, "the pool holds no document of this model; `weft ingest` puts some there"));
    return compute_question(self, job);
  }
  read_order order{
      .keys = {}, .fingerprint = job->parts.context->scope.fingerprint, .timeout = job->order.timeout};
  const auto count = std::min(job->unread.size(), manifests_at_once);
  const auto first = job->unread.end() - static_cast<std::ptrdiff_t>(count);
  order.keys.assign(first, job->unread.end());
  job->unread.erase(first, job->unread.end());
  self->request(job->parts.pool, caf::infinite, read_atom_v, std::move(order))
      .then(
          [self, job](const read_outcome& read) {
            for (const auto& block : read->blocks) {
              if (!block.outcome) continue;
              auto m = open_manifest(block.bytes->bytes());
              if (!m) continue;
              job->documents.push_back({*m, {}, {}});
              job->manifests.insert(std::move(*m));
            }
            read_manifests_on(self, job);
          },
          fail_with(job, "reading manifests"));
}

void take_list(self_pointer self, const choice_ptr& job, key_list stored) {
  std::ranges::sort(stored.keys);
  stored.keys.erase(std::unique(stored.keys.begin(), stored.keys.end()), stored.keys.end());
  job->stored = stored.keys.size();
  for (const auto& key : stored.keys) {
    if (auto known = job->manifests.find_stored(key))
      job->documents.push_back({std::move(known), {}, {}});
    else
      job->unread.push_back(key);
  }
  read_manifests_on(self, job);
}

}  // namespace

void choose_documents(local_decode_actor::pointer self, const work_parts& parts, const cluster_ptr& now,
                      manifest_cache& manifests, choice_order order,
                      std::function<void(result<choice_outcome>)> done) {
  const bool ranked =
      std::ranges::any_of(now->handles, [](const auto& h) { return bool(h.second.retrieval); });
  if (!ranked)
    return done(fail(errc::unreachable,
                     "documents are ranked by nodes with the role `retrieval`, and no live node has it; name "
                     "the documents, or give a node that role"));
  auto job = std::make_shared<choice>(choice{.parts = parts,
                                             .now = now,
                                             .manifests = manifests,
                                             .order = std::move(order),
                                             .done = std::move(done)});
  self->request(parts.pool, caf::infinite, list_atom_v)
      .then([self, job](key_list stored) { take_list(self, job, std::move(stored)); },
            fail_with(job, "listing the pool's documents"));
}

}  // namespace weft::actors
