#include <weft/policies/keys.hpp>

#include <caf/send.hpp>

#include "../document_bands.hpp"
#include "../transfers.hpp"
#include "decode_asking.hpp"

#include <utility>

namespace weft::actors::decoding {

namespace {

void load_runs(self_pointer self, const asking_ptr& job, std::size_t first, std::size_t last,
               const read_results& read) {
  for (const auto& t : read.transfers)
    add_transfer(job->result.transfers, t);
  load_order order{.session = job->session, .documents = {}};
  std::size_t next_block = 0;
  for (auto i = first; i < last; ++i) {
    const auto& run = job->runs[i];
    document_to_load piece{.blocks = {},
                           .tokens = {},
                           .bands = job->bands[run.document],
                           .start_position = run.start_position,
                           .segment = run.segment};
    for (std::uint32_t b = 0; b < run.blocks; ++b) {
      const auto& block = read.blocks[next_block++];
      if (!block.outcome) return answer_densely(self, job);
      piece.blocks.push_back(block.bytes);
    }
    order.documents.push_back(std::move(piece));
  }
  self->request(self->state.parts.engine, caf::infinite, load_atom_v, std::move(order))
      .then(
          [self, job](const load_outcome& loaded) {
            job->result.rotate_microseconds += loaded.rotate_microseconds;
            load_next_runs(self, job);
          },
          on_error(self, job, "loading documents"));
}

}  // namespace

// As many as fit into half of staging, at least one.
void load_next_runs(self_pointer self, const asking_ptr& job) {
  if (job->next_run == job->runs.size()) return generate(self, job);
  auto& state = self->state;
  const auto first = job->next_run;
  read_order order{
      .keys = {}, .fingerprint = state.parts.context->scope.fingerprint, .timeout = state.read_deadline};
  std::uint64_t bytes = 0;
  while (job->next_run < job->runs.size()) {
    const auto& run = job->runs[job->next_run];
    const auto& m = *job->documents[run.document];
    bytes += bytes_of(*job, run.document) / m.block_keys.size() * run.blocks;
    if (job->next_run > first && bytes > state.parts.room->capacity_bytes() / 2) break;
    for (std::uint32_t b = run.first_block; b < run.first_block + run.blocks; ++b) {
      order.keys.push_back(m.block_keys[b]);
      order.front_bytes.push_back(front_bytes(m, b, job->bands[run.document]));
    }
    ++job->next_run;
  }
  const auto asked_at = state.parts.clock();
  self->request(state.parts.pool, caf::infinite, read_atom_v, std::move(order))
      .then(
          [self, job, first, last = job->next_run, asked_at](const read_outcome& read) {
            job->result.load_microseconds += microseconds(self->state.parts.clock() - asked_at);
            load_runs(self, job, first, last, *read);
          },
          on_error(self, job, "reading documents from the pool"));
}

namespace {

void open_context(self_pointer self, const asking_ptr& job, std::vector<sparse_index_ptr> indexes) {
  auto& state = self->state;
  const auto plan = plan_context(*state.parts.context, *job->retrieval, job->documents, job->bands,
                                 std::move(indexes), *job->plan);
  if (!plan) return give_up(self, job, plan.error());
  job->runs = resident_runs(**plan, job->documents, *job->plan);
  job->remote = std::make_shared<remote_context>(*plan, state.retrieval_patience);
  job->context = spawn_context(self->home_system(),
                               {.pool = state.parts.pool,
                                .fabric = state.parts.fabric,
                                .room = state.parts.room,
                                .calls = state.parts.calls,
                                .now = state.now,
                                .read_timeout = state.read_deadline,
                                .owner = self->address()},
                               job->remote, state.next_context++);
  job->remote->attach(job->context);
  const auto asked_at = state.parts.clock();
  self->request(job->context, caf::infinite, open_atom_v)
      .then(
          [self, job, asked_at](std::uint64_t nodes) {
            job->retrieval_nodes = nodes;
            job->result.load_microseconds += microseconds(self->state.parts.clock() - asked_at);
            const auto added = static_cast<std::uint32_t>(job->plan->rows.size()) + job->asked.max_tokens;
            open_engine(self, job,
                        {.capacity_rows = resident_rows(job->remote->plan(), job->documents, added),
                         .base = {},
                         .plan = job->plan,
                         .remote = job->remote});
          },
          on_error(self, job, "opening the documents' blocks"));
}

// Scored in the background meanwhile: it has other blocks, and another index.
void look_again(self_pointer self, const asking_ptr& job) {
  job->looked_again = true;
  end_session(self, *job);
  for (const auto& document : job->asked.documents)
    self->state.manifests.erase(document);
  job->documents.clear();
  job->bands.clear();
  job->stored.clear();
  read_named(self, job);
}

error no_index(const decode_state& state, const schema::manifest& m) {
  const bool ranked =
      state.now && !machines::with_role(state.now->view, static_cast<unsigned>(role::retrieval)).empty();
  return {errc::not_found,
          "document `" + m.name +
              "` has no index for sparse decoding, which its ingest makes where a node has " +
              "the role `retrieval`; " +
              (ranked ? "ingest it again" : "give it to nodes that store and ingest the document again") +
              ", or ask without --retrieval"};
}

}  // namespace

void open_sparsely(self_pointer self, const asking_ptr& job) {
  auto& state = self->state;
  if (const auto good = check_stored_rows(*job->retrieval, job->documents); !good)
    return give_up(self, job, good.error());
  read_order order{
      .keys = {}, .fingerprint = state.parts.context->scope.fingerprint, .timeout = state.read_deadline};
  for (const auto& m : job->documents) {
    order.keys.push_back(policies::sparse_index_key(m->block_keys.front()));
    job->reading.push_back(m->block_keys.front());
  }
  state.reading.insert(job->reading.begin(), job->reading.end());
  self->request(state.parts.pool, caf::infinite, read_atom_v, std::move(order))
      .then(
          [self, job](const read_outcome& read) {
            std::vector<sparse_index_ptr> indexes;
            for (std::size_t i = 0; i < read->blocks.size(); ++i) {
              if (!read->blocks[i].outcome && !job->looked_again) return look_again(self, job);
              if (!read->blocks[i].outcome)
                return give_up(self, job, no_index(self->state, *job->documents[i]));
              auto index = open_sparse_index(read->blocks[i].bytes->bytes());
              if (!index) return give_up(self, job, index.error());
              indexes.push_back(std::move(*index));
            }
            open_context(self, job, std::move(indexes));
          },
          on_error(self, job, "reading the documents' indexes"));
}

}  // namespace weft::actors::decoding
