#include <weft/actors/cluster.hpp>
#include <weft/actors/remote_context.hpp>
#include <weft/actors/work.hpp>
#include <weft/engine/link_tokens.hpp>
#include <weft/policies/stitch.hpp>

#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "../document_bands.hpp"
#include "../manifests.hpp"
#include "../row_judges.hpp"
#include "../transfers.hpp"
#include "decode_asking.hpp"
#include "document_choice.hpp"
#include "session_rows.hpp"
#include "sparse_plan.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

namespace weft::actors {

namespace decoding {

void end_session(self_pointer self, asking& job) {
  if (job.session != 0) self->send(self->state.parts.engine, close_atom_v, std::exchange(job.session, 0));
  if (job.context) self->send_exit(job.context, caf::exit_reason::user_shutdown);
  job.context = nullptr;
  job.remote.reset();
  auto& reading = self->state.reading;
  for (const auto& first_block : std::exchange(job.reading, {}))
    if (const auto one = reading.find(first_block); one != reading.end()) reading.erase(one);
}

void give_up(self_pointer self, const asking_ptr& job, const error& why) {
  end_session(self, *job);
  job->promise.deliver(to_caf(why));
}

namespace {

result<policies::stitch_plan> plan_of(const asking& job) {
  std::vector<policies::prompt_document> documents;
  for (std::size_t i = 0; i < job.documents.size(); ++i)
    documents.push_back({job.documents[i]->tokens, job.stored[i]});
  return policies::plan_stitch(job.policy, {.opening = job.opening,
                                            .documents = documents,
                                            .question = job.question_tokens,
                                            .inserted = job.links,
                                            .texts = job.texts});
}

// -- from the cache to the answer --

void answer_with(self_pointer self, const asking_ptr& job, const generate_outcome& generated,
                 std::uint64_t before_prefill) {
  const auto& context = *self->state.parts.context;
  auto& r = job->result;
  r.tokens = generated.tokens;
  r.text = context.format.answer(context.tokens, r.tokens);
  r.prompt_tokens = job->plan->prompt_tokens;
  r.recomputed_rows = job->plan->recomputed_rows;
  r.cache_bytes = generated.cache_bytes;
  r.judged_rows = generated.judged_rows;
  r.dropped_rows = generated.dropped_rows;
  r.computed_rows = generated.computed_rows;
  r.reused_rows = generated.reused_rows;
  r.compute_microseconds = generated.prefill_microseconds + job->encode_microseconds;
  r.ttft_microseconds = before_prefill + generated.prefill_microseconds;
  r.decode_microseconds = generated.decode_microseconds;
  if (!job->context) {
    job->promise.deliver(std::move(r));
    return;
  }
  r.sparse = generated.sparse;
  r.sparse.retrieval_nodes = job->retrieval_nodes;
  const auto finish = [self, job](const transfer_list& moved) {
    for (const auto& t : moved.transfers)
      add_transfer(job->result.transfers, t);
    job->promise.deliver(std::move(job->result));
    end_session(self, *job);
  };
  self->request(job->context, caf::infinite, status_atom_v).then(finish, [finish](const caf::error&) {
    finish({});
  });
}

// Blocks that nobody delivers are computed anew, which takes the whole prompt.
void prompt_failed(self_pointer self, const asking_ptr& job, const error& why) {
  if (job->retrieval && why.code == errc::unreachable) return answer_densely(self, job);
  give_up(self, job, why);
}

}  // namespace

void generate(self_pointer self, const asking_ptr& job) {
  auto plan = plan_of(*job);
  if (!plan) return give_up(self, job, plan.error());
  job->plan = std::make_shared<const policies::stitch_plan>(std::move(*plan));
  constexpr float millionths = 1e-6F;
  generate_order order{
      .session = job->session,
      .plan = job->plan,
      .how = {.temperature = static_cast<float>(job->asked.temperature_millionths) * millionths,
              .top_p = static_cast<float>(job->asked.top_p_millionths) * millionths,
              .seed = job->asked.seed},
      .max_tokens = job->asked.max_tokens,
      .listener = job->listener,
      .judging = job->judging};
  const auto before_prefill = microseconds(self->state.parts.clock() - job->started);
  self->request(self->state.parts.engine, caf::infinite, generate_atom_v, std::move(order))
      .then([self, job,
             before_prefill](const generate_outcome& g) { answer_with(self, job, g, before_prefill); },
            [self, job](const caf::error& e) { prompt_failed(self, job, from_caf(e, "generating")); });
}

namespace {

// -- documents into the cache --

void load_next(self_pointer self, const asking_ptr& job);

// The documents of one read, with the blocks of those that came completely.
load_order order_for(asking& job, const std::vector<std::size_t>& documents, const read_results& read) {
  load_order order{.session = job.session, .documents = {}};
  std::size_t next_block = 0;
  for (const auto i : documents) {
    const auto& m = job.documents[i];
    document_to_load document{.blocks = {},
                              .tokens = {m, &m->tokens},
                              .scoring = banding_of(*m).value_or(std::nullopt),
                              .parameters = {},
                              .bands = job.bands[i],
                              .start_position = job.plan->documents[i].start_position,
                              .segment = job.plan->documents[i].segment};
    for (const auto& parameter : m->meaning.parameters)
      document.parameters.push_back({parameter.name, parameter.value});
    std::uint64_t missing = 0;
    for (std::size_t b = 0; b < m->block_keys.size(); ++b) {
      const auto& block = read.blocks[next_block++];
      if (!block.outcome) ++missing;
      document.blocks.push_back(block.bytes);
    }
    job.stored[i] = missing == 0;
    job.result.misses += missing;
    if (missing > 0) document.blocks.clear();
    order.documents.push_back(std::move(document));
  }
  return order;
}

void read_documents(self_pointer self, const asking_ptr& job, std::vector<std::size_t> documents,
                    bool in_place);

void note_loaded(self_pointer self, const asking_ptr& job, const std::vector<std::size_t>& documents,
                 const load_outcome& loaded) {
  job->result.rotate_microseconds += loaded.rotate_microseconds;
  job->encode_microseconds += loaded.encode_microseconds;
  for (const auto i : loaded.computed) {
    job->stored[documents[i]] = false;
    job->result.misses += job->documents[documents[i]]->block_keys.size();
  }
  if (loaded.to_read_again.empty()) return load_next(self, job);
  std::vector<std::size_t> again;
  for (const auto i : loaded.to_read_again)
    again.push_back(documents[i]);
  read_documents(self, job, std::move(again), false);
}

void load_read(self_pointer self, const asking_ptr& job, const std::vector<std::size_t>& documents,
               const read_results& read) {
  for (const auto& t : read.transfers) {
    add_transfer(job->result.transfers, t);
    self->state.report.bytes_read += t.bytes;
  }
  self->request(self->state.parts.engine, caf::infinite, load_atom_v, order_for(*job, documents, read))
      .then([self, job, documents](const load_outcome& loaded) { note_loaded(self, job, documents, loaded); },
            on_error(self, job, "loading documents"));
}

void read_documents(self_pointer self, const asking_ptr& job, std::vector<std::size_t> documents,
                    bool in_place) {
  auto& state = self->state;
  read_order order{.keys = {},
                   .fingerprint = state.parts.context->scope.fingerprint,
                   .timeout = state.read_deadline,
                   .in_place = in_place,
                   .on_device = in_place && job->on_device};
  for (const auto i : documents) {
    const auto& m = *job->documents[i];
    order.keys.insert(order.keys.end(), m.block_keys.begin(), m.block_keys.end());
    for (std::size_t b = 0; b < m.block_keys.size(); ++b)
      order.front_bytes.push_back(front_bytes(m, b, job->bands[i]));
  }
  const auto asked_at = state.parts.clock();
  self->request(state.parts.pool, caf::infinite, read_atom_v, std::move(order))
      .then(
          [self, job, documents = std::move(documents), asked_at](const read_outcome& read) {
            job->result.load_microseconds += microseconds(self->state.parts.clock() - asked_at);
            load_read(self, job, documents, *read);
          },
          on_error(self, job, "reading documents from the pool"));
}

}  // namespace

std::uint64_t bytes_of(const asking& job, std::size_t document) {
  const auto& m = *job.documents[document];
  const auto bytes = band_bytes(m);
  return bytes.empty() ? m.creation.block_bytes : bytes[job.bands[document] - 1];
}

namespace {

// As many documents as fit into half of staging, so that two questions can load side by side; at least one.
std::size_t end_of_wave(const decode_state& state, const asking& job) {
  std::uint64_t bytes = 0;
  auto last = job.next_document;
  while (last < job.documents.size() &&
         job.plan->documents[last].source != policies::document_source::compute) {
    bytes += bytes_of(job, last);
    if (last > job.next_document && bytes > state.parts.room->capacity_bytes() / 2) break;
    ++last;
  }
  return last;
}

void load_next(self_pointer self, const asking_ptr& job) {
  // What the plan computes from its first to its last row is not worth a transfer.
  const auto& placed = job->plan->documents;
  while (job->next_document < placed.size() &&
         placed[job->next_document].source == policies::document_source::compute)
    ++job->next_document;
  if (job->next_document == job->documents.size()) return generate(self, job);
  std::vector<std::size_t> documents(end_of_wave(self->state, *job) - job->next_document);
  std::iota(documents.begin(), documents.end(), job->next_document);
  job->next_document += documents.size();
  for (const auto i : documents) {
    const auto whole = job->documents[i]->creation.block_bytes;
    job->result.full_bytes += whole;
    self->state.report.bytes_left_out += whole - bytes_of(*job, i);
  }
  read_documents(self, job, std::move(documents), true);
}

}  // namespace

void open_engine(self_pointer self, const asking_ptr& job, session_order order) {
  self->request(self->state.parts.engine, caf::infinite, open_atom_v, std::move(order))
      .then(
          [self, job](const opened_session& opened) {
            job->session = opened.number;
            job->encode_microseconds += opened.compute_microseconds;
            ++self->state.report.sessions;
            if (job->remote) return load_next_runs(self, job);
            if (!opened.loaded) return load_next(self, job);
            ++self->state.report.shared_sessions;
            generate(self, job);
          },
          on_error(self, job, "opening a session"));
}

namespace {

// -- from the question to an open session --

// Policies that compare or compute all rows of a document have no use for some of them.
result<void> check_ratio(const asking& job) {
  using policies::stitch_kind;
  const bool compressed = job.asked.ratio_millionths != 0 && job.asked.ratio_millionths < 1'000'000;
  if (!compressed || (job.policy.kind != stitch_kind::blend && job.policy.kind != stitch_kind::full))
    return {};
  return fail(errc::unsupported,
              policies::name_of(job.policy) +
                  " computes all rows of the documents, which a ratio leaves out; ask with "
                  "stitch policy none, link, epic or random, or without a ratio");
}

void open_session(self_pointer self, const asking_ptr& job) {
  auto plan = plan_of(*job);
  if (!plan) return give_up(self, job, plan.error());
  job->plan = std::make_shared<const policies::stitch_plan>(std::move(*plan));
  const auto& context = *self->state.parts.context;
  const auto longest = context.config.max_context_tokens;
  const auto prompt = job->plan->prompt_tokens;
  if (prompt >= longest) {
    return give_up(self, job,
                   {errc::invalid_argument, "the prompt has " + std::to_string(prompt) +
                                                " tokens, the model's context is " + std::to_string(longest) +
                                                "; ask about fewer documents or shorten the " +
                                                (job->texts.empty() ? "question" : "question or the texts")});
  }
  job->asked.max_tokens = std::min(job->asked.max_tokens, longest - prompt);
  if (job->retrieval) return open_sparsely(self, job);
  auto order =
      session_for({job->documents, job->bands, job->plan, job->asked.max_tokens, job->policy, context.scope},
                  context.shape, !self->state.parts.grouped);
  job->on_device = order.base && order.base->is_read_by_passes();
  open_engine(self, job, std::move(order));
}

}  // namespace

void answer_densely(self_pointer self, const asking_ptr& job) {
  end_session(self, *job);
  job->retrieval.reset();
  job->next_document = 0;
  open_session(self, job);
}

namespace {

void take_manifests(self_pointer self, const asking_ptr& job, std::vector<result<manifest_ptr>> found) {
  const auto& scope = self->state.parts.context->scope;
  for (auto& m : found) {
    if (!m) return give_up(self, job, m.error());
    if ((*m)->fingerprint != scope.fingerprint) {
      return give_up(self, job,
                     {errc::invalid_argument, "document " + to_hex((*m)->document) +
                                                  " was encoded by another model; ingest it with this one"});
    }
    const auto bands = bands_for(**m, job->asked.ratio_millionths);
    if (!bands) return give_up(self, job, bands.error());
    job->bands.push_back(*bands);
    job->documents.push_back(std::move(*m));
    job->stored.push_back(true);
  }
  open_session(self, job);
}

// By their places among the documents.
result<std::vector<std::vector<engine::token_id>>> text_tokens(const model_context& context,
                                                               const question& asked) {
  std::vector<std::vector<engine::token_id>> places;
  if (asked.texts.empty()) return places;
  if (asked.retrieve > 0)
    return fail(
        errc::invalid_argument,
        "documents that are chosen have no places that a text could be put between; name the documents, "
        "or put the text into the question or the system text");
  places.resize(asked.documents.size() + 1);
  for (std::size_t i = 0; i < asked.texts.size(); ++i) {
    const auto& [place, text] = asked.texts[i];
    if (text.empty())
      return fail(errc::invalid_argument,
                  "text " + std::to_string(i + 1) + " of the prompt is empty; leave it out");
    if (place >= places.size())
      return fail(errc::invalid_argument, "text " + std::to_string(i + 1) + " stands behind " +
                                              std::to_string(place) + " documents and the prompt has " +
                                              std::to_string(asked.documents.size()));
    const auto tokens = context.format.document(context.tokens, text);
    places[place].insert(places[place].end(), tokens.begin(), tokens.end());
  }
  return places;
}

result<void> prepare(self_pointer self, asking& job) {
  const auto& context = *self->state.parts.context;
  if (job.asked.text.empty()) return fail(errc::invalid_argument, "the question is empty");
  if (job.asked.retrieve > 0 && !job.asked.documents.empty())
    return fail(errc::invalid_argument, "documents are either named or chosen, not both");
  if (job.asked.max_tokens == 0) return fail(errc::invalid_argument, "max tokens is 0; ask for at least 1");
  const auto policy = policies::stitch_policy_from_name(job.asked.stitch.empty() ? "none" : job.asked.stitch);
  if (!policy) return tl::make_unexpected(policy.error());
  job.policy = *policy;
  if (auto fits = check_ratio(job); !fits) return fits;
  if (policy->kind == policies::stitch_kind::blend && policy->layer >= context.config.layers)
    return fail(errc::invalid_argument,
                policies::name_of(*policy) + ": the model has " + std::to_string(context.config.layers) +
                    " layers; choose rows at layer 0 to " + std::to_string(context.config.layers - 1));
  const auto documents = std::max<std::size_t>(job.asked.documents.size(), job.asked.retrieve);
  if (policy->kind == policies::stitch_kind::link) {
    auto links = engine::link_tokens(context.config, policy->tokens, documents);
    if (!links) return tl::make_unexpected(links.error());
    job.links = std::move(*links);
  }
  if (self->state.parts.grouped && !job.asked.retrieval.empty())
    return fail(
        errc::unsupported,
        "a group of nodes decodes densely; ask without --retrieval, or give the cluster a decode node "
        "without `group`");
  if (!job.asked.retrieval.empty()) {
    const auto how = retrieval_options(job.asked, job.policy, context.cut.block_tokens);
    if (!how) return tl::make_unexpected(how.error());
    job.retrieval = *how;
  }
  const auto judging = judging_of(job.asked, job.policy, self->state.parts.grouped);
  if (!judging) return tl::make_unexpected(judging.error());
  job.judging = *judging;
  auto texts = text_tokens(context, job.asked);
  if (!texts) return tl::make_unexpected(texts.error());
  job.texts = std::move(*texts);
  job.opening = context.format.opening(context.tokens, job.asked.system);
  job.question_tokens = context.format.question(context.tokens, job.asked.text);
  job.started = self->state.parts.clock();
  return {};
}

}  // namespace

void read_named(self_pointer self, const asking_ptr& job) {
  auto& state = self->state;
  read_manifests(
      self, state.manifests, state.parts.pool, state.parts.context->scope.fingerprint, state.read_deadline,
      job->asked.documents,
      [self, job](std::vector<result<manifest_ptr>> found) { take_manifests(self, job, std::move(found)); });
}

namespace {

// In the prompt they stand as they were ingested: what is said later is nearer to the question.
void take_choice(self_pointer self, const asking_ptr& job, choice_outcome chosen) {
  auto& r = job->result;
  r.ranked_documents = chosen.ranked;
  r.unranked_documents = chosen.unranked;
  r.retrieve_microseconds = microseconds(self->state.parts.clock() - job->started);
  for (const auto& [m, score] : chosen.best)
    r.retrieved.push_back({m->document, m->name, std::llround(double{score} * 1e6)});
  std::ranges::stable_sort(chosen.best, {}, [](const auto& d) { return d.manifest->creation.unix_ms; });
  for (const auto& d : chosen.best)
    job->asked.documents.push_back(d.manifest->document);
  job->links.resize(std::min(job->links.size(), chosen.best.size()));
  read_named(self, job);
}

void choose(self_pointer self, const asking_ptr& job) {
  auto& state = self->state;
  if (!state.now) return give_up(self, job, {errc::unreachable, "this node has not joined its cluster yet"});
  choose_documents(self, state.parts, state.now, state.manifests,
                   {.documents = job->asked.retrieve,
                    .opening = job->opening,
                    .question = job->question_tokens,
                    .timeout = state.read_deadline},
                   [self, job](result<choice_outcome> chosen) {
                     if (!chosen) return give_up(self, job, chosen.error());
                     take_choice(self, job, std::move(*chosen));
                   });
}

local_decode_actor::behavior_type behave(self_pointer self, const node_config& config, work_parts parts) {
  self->state.parts = std::move(parts);
  self->state.read_deadline = config.read_deadline;
  self->state.retrieval_patience = config.retrieval_patience;
  return {
      [self](ask_atom, const question& asked, const answer_listener& listener) -> caf::result<answer> {
        auto job = std::make_shared<asking>();
        job->asked = asked;
        job->listener = listener;
        if (const auto good = prepare(self, *job); !good) return to_caf(good.error());
        job->promise = self->make_response_promise<answer>();
        auto promise = job->promise;
        if (asked.retrieve > 0)
          choose(self, job);
        else
          read_named(self, job);
        return promise;
      },
      [self](drop_atom, const id128& document) { self->state.manifests.erase(document); },
      [self](size_atom, const id128& first_block) -> caf::result<std::uint64_t> {
        return std::uint64_t{self->state.reading.count(first_block)};
      },
      [self](cluster_atom, const cluster_ptr& now) { self->state.now = now; },
      [self](status_atom) -> caf::result<decode_report> { return self->state.report; },
  };
}

}  // namespace

}  // namespace decoding

local_decode_actor spawn_decode(caf::actor_system& system, const node_config& config, work_parts parts) {
  return system.spawn(decoding::behave, config, std::move(parts));
}

}  // namespace weft::actors
